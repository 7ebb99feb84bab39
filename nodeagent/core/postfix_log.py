"""Reads lines of Postfix's log (3.7; maillog_file, postlogd(8), or syslog) into trace entries.

Theory of operation. A line is a stamp, a host, a service and a text. Texts of one queue id begin
with it. What a stranger wrote (addresses, HELO, replies) stands inside such a text, so a pattern
never looks for the next field beyond a quoted part or an angle bracket: Postfix quotes local parts
that hold either (info_log_addr_form), and a forged field inside one is part of the address.

The usual stamp has no year and no zone: it is read in the node's zone, in the year that puts it
nearest before `now`.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta, tzinfo
from typing import Any, Final

from nodeagent.core import trace_wire as wire
from nodeagent.core.trace_wire import DeliveryStatus, TraceEntry, TraceKind

LINE_LENGTH: Final = 4096
"""What a line has beyond that is not read."""
AHEAD: Final = timedelta(days=1)
"""How far a stamp without a year may lie in the future before it is taken for last year's."""

_ADDRESS: Final = r'<((?:"(?:[^"\\]|\\.)*"|[^">])*)>'
_PEER: Final = r"([^\[\s]*)\[([^\]\s]*)\](?::\d+)?"
_LINE = re.compile(
    r"([A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d|\d{4}-\d\d-\d\dT\S{1,40}) \S+ "
    r"(postfix[\w.-]*(?:/[\w./-]+)?)\[\d+\]: (.*)"
)
_ID = re.compile(r"([0-9A-Za-z]{5,40}): (.*)")
_LONG_ID = re.compile(r"[0-9BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz]{10,}")
_SHORT_ID = re.compile(r"[0-9A-F]{5,}")
_CLIENT = re.compile(rf"client={_PEER}(.*)")
_LOGIN = re.compile(r", sasl_username=(\S+)")
_PICKUP = re.compile(rf"uid=\d+ from={_ADDRESS}")
_MESSAGE_ID = re.compile(r"(?:resent-)?message-id=(.*)")
_QUEUED = re.compile(rf"from={_ADDRESS}, size=(\d{{1,18}}), nrcpt=(\d{{1,9}}) \(.*\)")
_EXPIRED = re.compile(rf"from={_ADDRESS}, status=(?:force-)?expired, .*")
_DELIVERY = re.compile(
    rf"to={_ADDRESS}, (?:orig_to={_ADDRESS}, )?relay=([^,]*), (?:conn_use=\d+, )?"
    r"delay=([\d.]{1,12}), delays=[\d./]+, dsn=(\d\.\d{1,3}\.\d{1,3}), status=([a-z]+)(?: .*)?"
)
_REJECT = re.compile(
    rf"(?:milter-)?(?:reject|discard): \S+(?: .*?)? from {_PEER}: "
    r'(?:"(?:[^"\\]|\\.)*"|[^";]|;(?! (?:from|to|proto)=))*'
    rf"(?:; (?:from={_ADDRESS} ?)?(?:to={_ADDRESS} ?)?(?:proto=\S+ ?)?(?:helo=<(.*)>)?)?"
)
_REFUSED_CLIENT = re.compile(rf"(?:milter-)?(?:reject|discard): \S+(?: .*?)? from {_PEER}: .*")
_NOTICE = re.compile(r"(?:sender|postmaster) [a-z -]{1,60}: ([0-9A-Za-z]{5,40})")
_CONNECT = re.compile(rf"connect from {_PEER}")
_DISCONNECT = re.compile(
    rf"(?:disconnect|lost connection after .*|timeout after .*) from {_PEER}.*"
)
_NO_QUEUE: Final = "NOQUEUE"


@dataclass(frozen=True)
class Clock:
    """The node's time, for stamps that say less."""

    now: datetime  # with a zone
    zone: tzinfo


def parse_line(line: str, clock: Clock) -> TraceEntry | None:
    """Return what a line says, None for one that is not Postfix's or names no message or client."""
    found = _LINE.fullmatch(_cleaned(line))
    if found is None:
        return None
    stamp, service, text = found.groups()
    at = _seconds(stamp, clock)
    if at is None:
        return None
    said = _read(service.rsplit("/", 1)[-1], text)
    if said is None:
        return None
    kind, fields = said
    text = fields.pop("text", text)
    return TraceEntry(
        at=at,
        kind=kind,
        service=service[: wire.NAME_LENGTH],
        text=text[: wire.TEXT_LENGTH],
        **fields,
    )


def _cleaned(line: str) -> str:
    """Return the line without its end, and without what no database or terminal should get."""
    shown = line[:LINE_LENGTH].rstrip("\r\n")
    if shown.isprintable():
        return shown
    return "".join(one if one.isprintable() else "\ufffd" for one in shown)


def _seconds(stamp: str, clock: Clock) -> float | None:
    try:
        at = _moment(stamp, clock)
        seconds = at.timestamp() if at is not None else -1.0
    except (ValueError, OverflowError):
        return None
    return seconds if 0 <= seconds < 2**33 else None


def _moment(stamp: str, clock: Clock) -> datetime | None:
    if stamp[0].isdigit():
        at = datetime.fromisoformat(stamp)
        return at if at.tzinfo is not None else at.replace(tzinfo=clock.zone)
    this_year = clock.now.astimezone(clock.zone).year
    for year in range(this_year + 1, this_year - 5, -1):  # 29 February comes every fourth
        try:
            read = datetime.strptime(f"{year} {stamp} +0000", "%Y %b %d %H:%M:%S %z")
        except ValueError:
            continue
        at = read.replace(tzinfo=clock.zone)
        if at <= clock.now + AHEAD:
            return at
    return None


Said = tuple[TraceKind, dict[str, Any]]


def _read(program: str, text: str) -> Said | None:
    split = _ID.fullmatch(text)
    if split is None:
        return _read_session(text) if program == "smtpd" else None
    queue_id, rest = split.groups()
    if queue_id == _NO_QUEUE:
        said = _reject(rest)
        return said if said is None else (said[0], {**said[1], "text": rest})
    if not (_LONG_ID.fullmatch(queue_id) or _SHORT_ID.fullmatch(queue_id)):
        return None
    kind, fields = _read_message(program, rest)
    return kind, {**fields, "queue_id": queue_id, "text": rest}


def _read_session(text: str) -> Said | None:
    for kind, pattern in ((TraceKind.CONNECT, _CONNECT), (TraceKind.DISCONNECT, _DISCONNECT)):
        found = pattern.fullmatch(text)
        if found is not None:
            return kind, _client(found[1], found[2])
    return None


def _read_message(program: str, rest: str) -> Said:
    if program == "postsuper" and rest == "removed":
        return TraceKind.DELETED, {}
    readers = _READERS.get(program, (_delivery,))
    for reader in readers:
        said = reader(rest)
        if said is not None:
            return said
    return TraceKind.NOTE, {}


def _client(name: str, address: str) -> dict[str, Any]:
    return {"client_name": name[: wire.NAME_LENGTH], "client_address": address[: wire.NAME_LENGTH]}


def _address(text: str | None) -> str | None:
    return None if text is None else text[: wire.ADDRESS_LENGTH]


def _began(rest: str) -> Said | None:
    found = _CLIENT.fullmatch(rest)
    if found is None:
        return None
    login = _LOGIN.search(found[3])
    fields = _client(found[1], found[2])
    if login is not None:
        fields["login"] = login[1][: wire.NAME_LENGTH]
    return TraceKind.CLIENT, fields


def _picked_up(rest: str) -> Said | None:
    found = _PICKUP.fullmatch(rest)
    return None if found is None else (TraceKind.CLIENT, {"sender": _address(found[1])})


def _message_id(rest: str) -> Said | None:
    found = _MESSAGE_ID.fullmatch(rest)
    if found is None:
        return None
    text = found[1].strip().removeprefix("<").removesuffix(">")
    return TraceKind.MESSAGE_ID, {"message_id": text[: wire.TEXT_LENGTH]}


def _queued(rest: str) -> Said | None:
    found = _QUEUED.fullmatch(rest)
    if found is None:
        return None
    size, recipients = int(found[2]), int(found[3])
    fields = {"sender": _address(found[1]), "size_bytes": size, "recipients": recipients}
    return TraceKind.QUEUED, fields


def _expired(rest: str) -> Said | None:
    found = _EXPIRED.fullmatch(rest)
    return None if found is None else (TraceKind.EXPIRED, {"sender": _address(found[1])})


def _removed(rest: str) -> Said | None:
    return (TraceKind.REMOVED, {}) if rest == "removed" else None


def _delivery(rest: str) -> Said | None:
    found = _DELIVERY.fullmatch(rest)
    if found is None:
        return None
    recipient, _original, relay, delay, dsn, status = found.groups()
    try:
        fields = {
            "recipient": _address(recipient),
            "relay": relay[: wire.NAME_LENGTH],
            "delay_s": float(delay),
            "dsn": dsn,
            "status": DeliveryStatus(status),
        }
    except ValueError:
        return None
    return (TraceKind.DELIVERY, fields) if dsn[0] in "245" else None


def _reject(rest: str) -> Said | None:
    found = _REJECT.fullmatch(rest)
    if found is None:  # a quote that is never closed: who it was is certain, the rest is not
        client = _REFUSED_CLIENT.fullmatch(rest)
        return None if client is None else (TraceKind.REJECTED, _client(client[1], client[2]))
    name, address, sender, recipient, helo = found.groups()
    fields = {
        **_client(name, address),
        "sender": _address(sender),
        "recipient": _address(recipient),
        "helo": None if helo is None else helo[: wire.NAME_LENGTH],
    }
    return TraceKind.REJECTED, fields


def _notice(rest: str) -> Said | None:
    found = _NOTICE.fullmatch(rest)
    return None if found is None else (TraceKind.NOTICE, {"child": found[1]})


_READERS: Final[dict[str, tuple[Callable[[str], Said | None], ...]]] = {
    "smtpd": (_began, _reject),
    "pickup": (_picked_up,),
    "cleanup": (_message_id, _reject),
    "qmgr": (_queued, _removed, _expired),
    "bounce": (_notice, _delivery),
    "postsuper": (),
}
