"""Sends notifications through Apprise: to mail, webhooks and chat services.

Theory of operation. A channel's URL holds its secret, so no log, error or answer of ours repeats
it: Apprise's own log goes nowhere, and of what went wrong only our sentence and a status come back.
Of Apprise's some 150 services those that make sense here are allowed, none that acts on this host;
options that read files, follow redirects or change time-outs are refused. An administrator may name
any host, also one of the own network, but none that is link-local: there are the clouds' metadata
services, which hand out credentials to whoever asks. The address is looked at just before sending,
as the name may lead somewhere else by then, and in the moment of connecting (`reserved_addresses`).

Sending runs in a thread of its own with a deadline; a thread that a service keeps busy beyond it
ends by its own time-outs, and at most `MOST_AT_ONCE` of them can exist.
"""

from __future__ import annotations

import logging
import re
import socket
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from contextlib import contextmanager
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import apprise

from controlplane.errors import Invalid
from controlplane.integrations.reserved_addresses import Address, guarded, is_reserved

CONNECT_TIMEOUT_S: Final = 5.0
READ_TIMEOUT_S: Final = 10.0
DEADLINE_S: Final = 20.0
MOST_AT_ONCE: Final = 16
MOST_URL: Final = 2000

WITH_AND_WITHOUT_TLS: Final = (
    *("mailto", "json", "mmost", "rocket"),
    *("matrix", "ntfy", "gotify", "signal"),
)
OWN_HOST: Final = frozenset(
    (*WITH_AND_WITHOUT_TLS, *(f"{name}s" for name in WITH_AND_WITHOUT_TLS))
) | {"workflow", "workflows"}
"""Services on a host that the URL names."""
FIXED_HOST: Final = frozenset(("slack", "discord", "tgram", "pover"))
SCHEMES: Final = OWN_HOST | FIXED_HOST
HTTPS: Final = "https"
"""The address that a chat service shows for a webhook; Apprise knows whose it is."""
REFUSED_OPTIONS: Final = frozenset(
    (
        *("template", "attach", "pgp", "pgppub", "pgpprv", "wkd"),
        *("redirect", "cto", "rto", "retry", "wait", "store"),
    )
)
NO_PLACE: Final = "Too many notifications are under way; try again in a minute."
BROKE_OFF: Final = "Sending broke off; the control plane's log says more."
NOT_TAKEN: Final = "It could not be reached, or did not take the message."
TAKEN: Final = "The message was taken."
_STATUS: Final = re.compile(r"\berror[ =:]+([1-5][0-9]{2})\b")
_STORAGE: Final = "memory"


@dataclass(frozen=True)
class Channel:
    """What may be shown of a channel's URL: the service, and the host where it names one."""

    service: str
    host: str


@dataclass(frozen=True)
class Outcome:
    """How a notification went, in one sentence."""

    is_ok: bool
    text: str


LATE: Final = Outcome(is_ok=False, text="There was no answer in time.")


def describe(url: str) -> Channel:
    """Return what may be shown of a URL; raises Invalid beside `url` when it cannot be used."""
    plugin = _load(url)
    hosts = _hosts(plugin)
    for host in hosts:
        _refuse_reserved(host, _literal(host))
    return Channel(service=str(plugin.service_name)[:60], host=hosts[0][:255] if hosts else "")


class Notifier:
    """Sends in threads of its own; one of them a process."""

    def __init__(self, deadline_s: float = DEADLINE_S) -> None:
        self.deadline_s = deadline_s
        self._places = threading.BoundedSemaphore(MOST_AT_ONCE)

    def begin(self, url: str, title: str, body: str) -> Future[Outcome]:
        """Begin to send; the future never raises."""
        begun: Future[Outcome] = Future()
        begun.set_running_or_notify_cancel()  # who stops waiting stops nothing
        if not self._places.acquire(blocking=False):
            begun.set_result(Outcome(is_ok=False, text=NO_PLACE))
            return begun
        arguments = (begun, url, title, body)
        threading.Thread(target=self._run, args=arguments, name="notify", daemon=True).start()
        return begun

    def wait(self, begun: Future[Outcome]) -> Outcome:
        """Return how it went, or that there was no answer in time."""
        try:
            return begun.result(self.deadline_s)
        except FutureTimeout:
            return LATE

    def send(self, url: str, title: str, body: str) -> Outcome:
        """Send and wait for the outcome."""
        return self.wait(self.begin(url, title, body))

    def _run(self, begun: Future[Outcome], url: str, title: str, body: str) -> None:
        outcome = Outcome(is_ok=False, text=BROKE_OFF)
        try:
            outcome = _deliver(url, title, body)
        finally:
            self._places.release()
            begun.set_result(outcome)


def _deliver(url: str, title: str, body: str) -> Outcome:
    try:
        plugin = _load(url)
        for host in _hosts(plugin):
            _refuse_reserved(host, _resolve(host))
    except Invalid as refused:
        return Outcome(is_ok=False, text=refused.fields.get("url", refused.detail))
    with _heard() as heard, guarded() as refused_addresses:
        is_ok = bool(plugin.notify(body=body, title=title, body_format="text"))
    if is_ok:
        return Outcome(is_ok=True, text=TAKEN)
    if refused_addresses:
        return Outcome(is_ok=False, text=_reserved(refused_addresses[0]))
    statuses = [found[1] for line in heard for found in _STATUS.finditer(line)]
    return Outcome(
        is_ok=False, text=f"It answered with the status {statuses[-1]}." if statuses else NOT_TAKEN
    )


def _load(url: str) -> Any:
    """Return Apprise's plugin for a URL; raises Invalid."""
    _refuse_odd(url)
    with _heard():
        plugin = apprise.Apprise.instantiate(url, asset=_asset())
    known = {*_names(getattr(plugin, "protocol", ())), *_names(_secure(plugin))}
    if plugin is None or not known & SCHEMES:
        raise _invalid("Apprise cannot use this URL; see its documentation of the service.")
    plugin.redirects = False
    plugin.socket_connect_timeout = CONNECT_TIMEOUT_S
    plugin.socket_read_timeout = READ_TIMEOUT_S
    return plugin


def _secure(plugin: Any) -> Any:
    """Return the scheme, or schemes, of a plugin over TLS."""
    return getattr(plugin, "secure_protocol", ())


def _refuse_odd(url: str) -> None:
    if len(url) > MOST_URL or not url.isprintable() or " " in url:
        raise _invalid("This is no URL: it is too long, or has spaces or control characters.")
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise _invalid("This is no URL.") from error
    if parts.scheme not in SCHEMES | {HTTPS}:
        names = ", ".join(sorted(name for name in SCHEMES if f"{name}s" not in SCHEMES))
        raise _invalid(f"The URL must begin with one of: {names}.")
    options = {
        name.lower().lstrip("+-:") for name, _ in parse_qsl(parts.query, keep_blank_values=True)
    }
    refused = sorted(options & REFUSED_OPTIONS)
    if refused:
        raise _invalid(f'The option "{refused[0]}" cannot be used here.')


def _names(value: str | Sequence[str] | None) -> Sequence[str]:
    return (value,) if isinstance(value, str) else (value or ())


def _asset() -> Any:
    asset = apprise.AppriseAsset(storage_mode=_STORAGE, allow_templates=False)
    asset.app_id = asset.app_desc = "Mail-Relay HA"
    asset.http_redirects = asset.pgp_autogen = asset.pem_autogen = False
    asset.async_mode = False
    return asset


def _hosts(plugin: Any) -> list[str]:
    """Return the hosts of the URL that are connected to; none for a service of fixed place."""
    schemes = {*_names(plugin.protocol), *_names(_secure(plugin))}
    is_ntfy_sh = "ntfy" in schemes and plugin.mode == "cloud"
    if not schemes & OWN_HOST or is_ntfy_sh:
        return []
    smtp = getattr(plugin, "smtp_host", None)
    return [str(host) for host in (smtp or plugin.host,) if host]


def _literal(host: str) -> list[Address]:
    try:
        return [ip_address(host.strip("[]").partition("%")[0])]
    except ValueError:
        return []


def _resolve(host: str) -> list[Address]:
    """Return the addresses of a host; raises Invalid when it has none."""
    try:
        found = socket.getaddrinfo(host.strip("[]"), None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise _invalid(f"The host {host} has no address.") from error
    return [ip_address(str(entry[4][0]).partition("%")[0]) for entry in found]


def _refuse_reserved(host: str, addresses: Sequence[Address]) -> None:
    if any(map(is_reserved, addresses)):
        raise _invalid(_reserved(host))


def _reserved(host: str) -> str:
    return f"{host} is a link-local or reserved address; alerts do not go there."


def _invalid(sentence: str) -> Invalid:
    return Invalid(sentence, {"url": sentence})


class _Ear(logging.Handler):
    """Keeps Apprise's warnings for the thread that made them; nobody else hears of them."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.heard = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one line, while somebody in this thread listens."""
        lines: list[str] | None = getattr(self.heard, "lines", None)
        if lines is not None:
            lines.append(record.getMessage())


def _silence() -> _Ear:
    """Take Apprise's log away from everybody: its lines may hold parts of URLs."""
    logger = logging.getLogger("apprise")
    logger.propagate = False
    logger.setLevel(logging.WARNING)
    ear = _Ear()
    logger.handlers = [ear]
    logging.getLogger("urllib3").setLevel(logging.ERROR)  # at finer levels it writes down paths
    return ear


_EAR: Final = _silence()


@contextmanager
def _heard() -> Iterator[list[str]]:
    lines: list[str] = []
    _EAR.heard.lines = lines
    try:
        yield lines
    finally:
        _EAR.heard.lines = None
