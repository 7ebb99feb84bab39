"""Carries out a setup: step by step on the host, each reported while it runs.

Every step looks first and repeats without harm, so a setup that failed or was cancelled is started
again. What was done on the host stays there.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import structlog

from controlplane.errors import Conflict, ControlPlaneError
from controlplane.node_setup.recipe import (
    PACKAGES,
    POSTFIX_ANSWERS,
    SUPPORTED,
    Recipe,
    SetupStep,
    missing_packages,
    read_os_release,
)
from controlplane.node_setup.remote_host import Finished, Login, RemoteHost

log = structlog.get_logger()

INSTALL_LIMIT_S: Final = 1800.0
REPORT_LIMIT_S: Final = 120.0
REPORT_POLL_S: Final = 1.0
TAIL_LINES: Final = 8
LINE_CHARACTERS: Final = 200
HIDDEN: Final = "(hidden)"


class Cancelled(ControlPlaneError):
    """The setup was cancelled; what was done on the host so far stays there."""


class Progress(Protocol):
    """Where a setup is noted; each call raises `Cancelled` once somebody cancelled it."""

    def begin(self, step: SetupStep) -> None:
        """Note that a step runs now."""

    def show(self, output: Sequence[str]) -> None:
        """Note the last lines that the step's command wrote."""

    def done(self, text: str) -> None:
        """Note what the step led to, in one sentence."""

    def finish(self, *, is_ok: bool, text: str) -> None:
        """Note how the setup ended; never raises `Cancelled`."""


@dataclass(frozen=True)
class Order:
    """What is to be set up, and with what; never stored."""

    node: str
    address: str
    port: int
    host_key: str
    login: Login
    url: str
    issue_token: Callable[[], str]
    has_reported: Callable[[], bool]


class Installer:
    """One setup of one host."""

    def __init__(self, order: Order, recipe: Recipe, progress: Progress) -> None:
        self._order = order
        self._recipe = recipe
        self._progress = progress
        self._secrets = [secret for secret in (order.login.password,) if secret]

    def start(self) -> None:
        """Run in a thread of its own, which a stop of the control plane ends."""
        threading.Thread(target=self.run, name=f"setup-{self._order.node}", daemon=True).start()

    def run(self) -> None:
        """Do all steps; how it ends is noted, and a failure is one sentence."""
        try:
            self._run()
        except ControlPlaneError as error:
            self._finish(is_ok=False, text=error.detail)
        except OSError as error:
            self._finish(is_ok=False, text=f"A file of the control plane cannot be read: {error}.")
        else:
            text = f"{self._order.node} is set up; it takes part once a configuration is applied."
            self._finish(is_ok=True, text=text)

    def _finish(self, *, is_ok: bool, text: str) -> None:
        try:
            self._progress.finish(is_ok=is_ok, text=self._masked(text))
        except ControlPlaneError as error:
            log.warning("the end of a setup is not noted", node=self._order.node, reason=str(error))

    def _run(self) -> None:
        order, progress = self._order, self._progress
        progress.begin(SetupStep.CONNECT)
        with RemoteHost(order.address, order.port) as host:
            if host.host_key.fingerprint != order.host_key:
                raise Conflict(
                    f"The host shows the key {host.host_key.fingerprint} now, not the one that was "
                    "confirmed; nothing was sent to it."
                )
            progress.done(f"It shows the key that was confirmed: {order.host_key}.")
            progress.begin(SetupStep.LOGIN)
            host.log_in(order.login)
            progress.done(f"{order.login.user} is logged in.")
            for step, carry_out in (
                (SetupStep.SYSTEM, self._system),
                (SetupStep.PACKAGES, self._packages),
                (SetupStep.PROGRAM, self._program),
                (SetupStep.SPOOL, self._spool),
                (SetupStep.UNITS, self._units),
                (SetupStep.ENROL, self._enrol),
                (SetupStep.START, self._agent),
            ):
                progress.begin(step)
                progress.done(carry_out(host))
        progress.begin(SetupStep.REPORT)
        progress.done(self._report())

    def _do(
        self,
        host: RemoteHost,
        *command: str,
        stdin: bytes = b"",
        limit_s: float = 120.0,
    ) -> str:
        """Run a command that must succeed; return what it wrote."""
        done = self._try(host, *command, stdin=stdin, limit_s=limit_s)
        if done.code != 0:
            lines = self._tail(done.output)
            words = [word for word in command if word != "env" and "=" not in word]
            name = " ".join(words[:2])
            said = lines[-1] if lines else "it said nothing"
            raise Conflict(self._masked(f"`{name}` ended with {done.code}: {said}"))
        return done.output

    def _try(
        self, host: RemoteHost, *command: str, stdin: bytes = b"", limit_s: float = 120.0
    ) -> Finished:
        def watch(output: str) -> None:
            self._progress.show(self._tail(output))

        done = host.run(command, watch, stdin=stdin, limit_s=limit_s)
        watch(done.output)
        return done

    def _tail(self, output: str) -> list[str]:
        shown = self._masked(output).splitlines()[-TAIL_LINES:]
        printable = ("".join(c if c.isprintable() else " " for c in line) for line in shown)
        return [line[:LINE_CHARACTERS] for line in printable]

    def _masked(self, text: str) -> str:
        for secret in self._secrets:
            text = text.replace(secret, HIDDEN)
        return text

    def _put(self, host: RemoteHost, path: str, content: bytes) -> None:
        command = ("install", "-D", "-m", "644", "/dev/stdin", path)
        self._do(host, *command, stdin=content)

    def _system(self, host: RemoteHost) -> str:
        name, version = read_os_release(self._do(host, "cat", "/etc/os-release"))
        if (name, version) != SUPPORTED:
            shown = f"{name or 'unknown'} {version}".strip()
            raise Conflict(f"The host runs {shown}; Debian 12 is needed.")
        if self._do(host, "id", "-u").strip() == "0":
            return "Debian 12, as root."
        if self._try(host, "sudo", "-n", "true").code != 0:
            user = self._order.login.user
            raise Conflict(f"{user} is not root and sudo asks for a password; log in as root.")
        host.use_sudo()
        return "Debian 12, as root by sudo."

    def _packages(self, host: RemoteHost) -> str:
        show = ("dpkg-query", "--show", "--showformat", "${Package} ${db:Status-Status}\\n")
        missing = missing_packages(self._try(host, *show, *PACKAGES).output)
        if not missing:
            return "All packages are there."
        if "postfix" in missing:
            self._do(host, "debconf-set-selections", stdin=POSTFIX_ANSWERS)
        self._do(host, "apt-get", "update", limit_s=INSTALL_LIMIT_S)
        install = ("env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "install", "--yes")
        self._do(host, *install, *missing, limit_s=INSTALL_LIMIT_S)
        return f"Installed: {', '.join(missing)}."

    def _program(self, host: RemoteHost) -> str:
        recipe = self._recipe
        if self._try(host, "test", "-x", recipe.agent).code == 0:
            return f"{recipe.agent} is there."
        if recipe.wheel is None:
            raise Conflict(
                f"{recipe.agent} is not on the host: install the program there, or set "
                "RELAY_NODE_WHEEL on the control plane."
            )
        places = {name: f"{recipe.prefix}/wheel/{name}" for name in recipe.wheel_files()}
        for name, content in recipe.wheel_files().items():
            self._put(host, places[name], content)
        self._do(host, "python3", "-m", "venv", recipe.prefix, limit_s=INSTALL_LIMIT_S)
        command = [f"{recipe.prefix}/bin/pip", "install"]
        if "constraints.txt" in places:
            command += ["--constraint", places["constraints.txt"]]
        self._do(host, *command, places[recipe.wheel.name], limit_s=INSTALL_LIMIT_S)
        return f"{recipe.wheel.name} is installed."

    def _spool(self, host: RemoteHost) -> str:
        spool, queue = self._recipe.spool, self._recipe.queue
        self._do(host, "install", "-d", "-m", "755", spool)
        devices = self._do(host, "stat", "-c", "%d", spool, queue).split()
        if len(set(devices)) != 1:
            raise Conflict(f"{spool} and {queue} lie on two file systems; they must share one.")
        return f"{spool} and {queue} lie on one file system."

    def _units(self, host: RemoteHost) -> str:
        for name, content in self._recipe.unit_files().items():
            self._put(host, f"{self._recipe.unit_directory}/{name}", content)
        self._do(host, "systemctl", "daemon-reload")
        self._do(host, "systemctl", "enable", "--now", "relay-guard")
        units = ("postfix", "keepalived", "relay-keepalived.path")
        self._do(host, "systemctl", "enable", "--now", *units)
        self._do(host, "systemctl", "restart", "postfix@-")
        return "The guard, Postfix and keepalived are enabled."

    def _enrol(self, host: RemoteHost) -> str:
        order = self._order
        token = order.issue_token()
        self._secrets += [token, token.partition(".")[0]]
        enrol = (self._recipe.agent, "enrol", "--url", order.url, "--token", token)
        self._do(host, *enrol, "--node", order.node)
        return f"The host is enrolled as {order.node}."

    def _agent(self, host: RemoteHost) -> str:
        self._do(host, "systemctl", "enable", "--now", "relay-policy", "relay-agent")
        return "The agent and the policy hook are enabled."

    def _report(self) -> str:
        until_s = time.monotonic() + REPORT_LIMIT_S
        while not self._order.has_reported():
            if time.monotonic() > until_s:
                raise Conflict(
                    f"{self._order.node} has not reported within {REPORT_LIMIT_S:.0f} s: look on "
                    "the host with `journalctl -u relay-agent`."
                )
            self._progress.show([])
            time.sleep(REPORT_POLL_S)
        return f"{self._order.node} reports."
