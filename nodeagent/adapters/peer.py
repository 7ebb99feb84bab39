"""The kept-open SSH connection to one peer: the control session, and a way for rsync(1) beside it.

One ssh(1) process is both the control session and the master of a shared connection (ssh_config(5),
ControlMaster); a push's rsync goes through its socket, without another handshake. The peer's host
key must be known, nobody is ever asked for anything. After any trouble the connection is given up
and the next request opens another.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Final

from nodeagent.adapters.line_channel import LineChannel
from nodeagent.core.rsync_command import SENDER_OPTIONS, SESSION_COMMAND, StagingPlace
from nodeagent.errors import Refused, Unreachable

ANSWER_LIMIT_S: Final = 60.0
END_LIMIT_S: Final = 2.0
COMPLAINT_LIMIT_S: Final = 0.2
RSYNC_LIMIT_S: Final = 600.0


class PeerRefused(Refused):
    """The peer refused the request; `reason` is its word for it."""

    def __init__(self, reason: str, text: str) -> None:
        super().__init__(text)
        self.reason = reason


@dataclass(frozen=True)
class PeerAddress:
    """How to reach a peer."""

    name: str
    address: str
    user: str = "root"
    port: int = 22


@dataclass(frozen=True)
class SshFiles:
    """What ssh(1) works with; sockets are in `run_directory`, so its path is short."""

    identity: Path
    known_hosts: Path
    run_directory: Path
    connect_timeout_s: int = 3


class PeerLink:
    """The connection to one peer; not for two threads at once."""

    def __init__(self, peer: PeerAddress, files: SshFiles) -> None:
        self.peer = peer
        self._files = files
        name = hashlib.blake2s(peer.name.encode(), digest_size=6).hexdigest()
        self._socket = files.run_directory / f"ssh-{name}"
        self._process: subprocess.Popen[bytes] | None = None
        self._channel: LineChannel | None = None
        self._complaints: IO[bytes] | None = None
        self._identity: IO[bytes] | None = None

    @property
    def is_open(self) -> bool:
        """Whether a connection stands; the next request may still find it broken."""
        return self._process is not None and self._process.poll() is None

    def _options(self, identity: IO[bytes] | None, socket: Path) -> list[str]:
        """Name the opened key: ssh(1) opens it twice, and it may be replaced in between."""
        key = f"/proc/{os.getpid()}/fd/{identity.fileno()}" if identity else "none"
        settings = (
            "BatchMode=yes",
            "StrictHostKeyChecking=yes",
            "IdentitiesOnly=yes",
            "PreferredAuthentications=publickey",
            f"UserKnownHostsFile={self._files.known_hosts}",
            "GlobalKnownHostsFile=/dev/null",
            f"ConnectTimeout={self._files.connect_timeout_s}",
            "ServerAliveInterval=2",
            "ServerAliveCountMax=3",
            "LogLevel=ERROR",
            "ForwardAgent=no",
            "ClearAllForwardings=yes",
        )
        options = ["-F", "/dev/null", "-T", "-p", str(self.peer.port)]
        options += ["-i", key, "-S", str(socket)]
        for setting in settings:
            options += ["-o", setting]
        return options

    def _host(self) -> str:
        address = self.peer.address
        return f"{self.peer.user}@[{address}]" if ":" in address else f"{self.peer.user}@{address}"

    def open(self) -> None:
        """Start a connection; whether it stands shows at the first request."""
        self.close()
        try:
            self._start()
        except OSError as error:
            self.close()
            raise Unreachable(f"{self.peer.name} cannot be reached: {error}.") from error

    def _start(self) -> None:
        self._files.run_directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        self._socket.unlink(missing_ok=True)
        destination = f"{self.peer.user}@{self.peer.address}"
        self._identity = self._files.identity.open("rb")
        options = self._options(self._identity, self._socket)
        command = ["ssh", "-M", *options, destination, SESSION_COMMAND]
        self._complaints = tempfile.TemporaryFile()  # noqa: SIM115 - lives with the connection
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._complaints
        )
        assert self._process.stdin is not None  # noqa: S101 - asked for above
        assert self._process.stdout is not None  # noqa: S101 - asked for above
        self._channel = LineChannel(self._process.stdout.fileno(), self._process.stdin.fileno())

    def log_in(self, limit_s: float) -> None:
        """Log in and out again, running nothing; raises `Unreachable` with what ssh(1) said."""
        socket = self._socket.with_name(f"{self._socket.name}-in")
        self._files.run_directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        socket.unlink(missing_ok=True)
        try:
            with self._files.identity.open("rb") as identity:
                self._log_in_and_out(self._options(identity, socket), limit_s)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise Unreachable(f"{self.peer.name} did not let us in in time.") from error

    def _log_in_and_out(self, options: list[str], limit_s: float) -> None:
        destination = f"{self.peer.user}@{self.peer.address}"
        with tempfile.TemporaryFile() as complaints:
            # -f: it goes to the background once it is logged in, and is ended by its socket
            done = subprocess.run(
                ["ssh", "-f", "-N", "-M", *options, destination],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=complaints,
                timeout=limit_s,
                check=False,
            )
            if done.returncode != 0:
                reason = _last_line(complaints) or f"ssh ended with {done.returncode}"
                raise Unreachable(f"{self.peer.name} lets nobody in: {reason}")
        command = ["ssh", *options, "-O", "exit", destination]
        subprocess.run(command, capture_output=True, check=False)

    def close(self) -> None:
        """End the connection and everything that runs over it."""
        process, self._process, self._channel = self._process, None, None
        if process is not None:
            for pipe in (process.stdin, process.stdout):
                if pipe is not None:
                    pipe.close()
            process.terminate()
            try:
                process.wait(END_LIMIT_S)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
        for file in (self._complaints, self._identity):
            if file is not None:
                file.close()
        self._complaints = self._identity = None

    def ask(self, request: Mapping[str, Any], limit_s: float = ANSWER_LIMIT_S) -> dict[str, Any]:
        """Return the answer; raises `PeerRefused`, or `Unreachable` when the outcome is unknown."""
        if not self.is_open:
            self.open()
        if self._channel is None:
            raise Unreachable
        try:
            self._channel.send(request, limit_s)
            answer = self._channel.receive(limit_s)
        except Unreachable as error:
            raise self._give_up(str(error)) from error
        if answer is None:
            raise self._give_up("The connection was closed.")
        if answer.get("ok") is not True:
            reason, text = str(answer.get("reason", "")), str(answer.get("text", ""))
            raise PeerRefused(reason, text or "The peer refused.")
        return answer

    def _give_up(self, reason: str) -> Unreachable:
        complaint = self._last_complaint()
        self.close()
        return Unreachable(f"{self.peer.name} cannot be reached: {complaint or reason}")

    def _last_complaint(self) -> str:
        """Return the last line that ssh(1) or the receiver wrote on standard error."""
        if self._complaints is None:
            return ""
        if self._process is not None:
            try:
                self._process.wait(COMPLAINT_LIMIT_S)
            except subprocess.TimeoutExpired:
                return ""  # it hangs: whoever waits for a promise has no time to lose
        return _last_line(self._complaints)

    def send_files(self, source: Path, place: StagingPlace) -> None:
        """Copy everything below `source` to the session's staging place."""
        options = self._options(self._identity, self._socket)
        shell = " ".join(["ssh", *options, "-o", "ControlMaster=no"])
        command = ["rsync", *SENDER_OPTIONS, "--rsh", shell, f"{source}/"]
        command.append(f"{self._host()}:{place}")
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, timeout=RSYNC_LIMIT_S, check=False
            )
        except subprocess.TimeoutExpired as error:
            self.close()
            raise Unreachable(f"rsync to {self.peer.name} did not end in time.") from error
        except OSError as error:
            raise Unreachable(f"rsync to {self.peer.name} cannot be run: {error}.") from error
        if done.returncode != 0:
            self.close()
            lines = done.stderr.strip().splitlines() or [f"it ended with {done.returncode}"]
            raise Unreachable(f"rsync to {self.peer.name} failed: {lines[0]}")


def _last_line(complaints: IO[bytes]) -> str:
    complaints.seek(0)
    lines = complaints.read().decode(errors="replace").strip().splitlines()
    return lines[-1] if lines else ""
