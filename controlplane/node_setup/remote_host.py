"""A host reached over SSH with paramiko: its key first, then a login, then commands.

Connecting exchanges keys and nothing else: no name and no secret goes out before the caller has
looked at `host_key`. Commands are argument lists; each word is quoted for the shell that sshd(8)
starts.
"""

from __future__ import annotations

import io
import shlex
import socket
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final, Self

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm

from controlplane.errors import Conflict, Invalid
from nodeagent.core.ssh_wire import fingerprint

CONNECT_LIMIT_S: Final = 10.0
LOGIN_LIMIT_S: Final = 20.0
POLL_S: Final = 0.5
CHUNK_BYTES: Final = 65_536
KEPT_CHARACTERS: Final = 20_000
KEY_TYPES: Final[tuple[type[paramiko.PKey], ...]] = (
    paramiko.Ed25519Key,
    paramiko.ECDSAKey,
    paramiko.RSAKey,
)


@dataclass(frozen=True)
class HostKey:
    """The key that a host shows."""

    type: str
    fingerprint: str


@dataclass(frozen=True)
class Login:
    """Who logs in, with a password or a private key; kept in memory only."""

    user: str
    password: str | None = None
    key: paramiko.PKey | None = None

    def __repr__(self) -> str:
        return f"Login({self.user!r})"


@dataclass(frozen=True)
class Finished:
    """How a command ended, and what it wrote (the end of it)."""

    code: int
    output: str


def parse_key(text: str, passphrase: str | None) -> paramiko.PKey:
    """Return a private key from its text; raises Invalid beside the field at fault."""
    needs_passphrase = False
    for key_type in KEY_TYPES:
        try:
            return key_type.from_private_key(io.StringIO(text.strip() + "\n"), passphrase or None)
        except paramiko.PasswordRequiredException:
            needs_passphrase = True
        except (paramiko.SSHException, ValueError, TypeError, IndexError, UnsupportedAlgorithm):
            continue
    if needs_passphrase and not passphrase:
        raise Invalid(None, {"passphrase": "This private key has a passphrase; give it, too."})
    if passphrase:
        sentence = "This is no private key that the passphrase opens (Ed25519, ECDSA or RSA)."
    else:
        sentence = "This is not a private key that can be used: Ed25519, ECDSA or RSA."
    raise Invalid(None, {"private_key": sentence})


class RemoteHost:
    """One connection; `close` ends it."""

    def __init__(self, address: str, port: int) -> None:
        """Connect and exchange keys; raises Conflict when no SSH server answers."""
        self._where = f"{address} port {port}"
        self._prefix: tuple[str, ...] = ()
        try:
            connection = socket.create_connection((address, port), timeout=CONNECT_LIMIT_S)
        except OSError as error:
            raise Conflict(f"{self._where} does not answer: {error}.") from error
        try:
            self._transport = paramiko.Transport(connection)
            self._transport.auth_timeout = LOGIN_LIMIT_S
            self._transport.start_client(timeout=CONNECT_LIMIT_S)
            key = self._transport.get_remote_server_key()
        except (paramiko.SSHException, OSError, EOFError) as error:
            connection.close()
            raise Conflict(f"{self._where} does not answer as an SSH server does.") from error
        shown = fingerprint(f"{key.get_name()} {key.get_base64()}") or ""
        self.host_key = HostKey(key.get_name(), shown)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the connection; a command that runs on the host may go on there."""
        self._transport.close()

    def log_in(self, login: Login) -> None:
        """Log in; raises Conflict when the host refuses."""
        try:
            if login.key is not None:
                self._transport.auth_publickey(login.user, login.key)
            else:
                self._transport.auth_password(login.user, login.password or "")
        except paramiko.BadAuthenticationType as error:
            ways = ", ".join(error.allowed_types) or "none"
            raise Conflict(
                f"{self._where} does not take this way to log in; it takes: {ways}."
            ) from error
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise Conflict(f"{self._where} does not let {login.user} in.") from error

    def use_sudo(self) -> None:
        """Run every further command as root by sudo(8), which must not ask for a password."""
        self._prefix = ("sudo", "-n")

    def run(
        self,
        command: Sequence[str],
        watch: Callable[[str], None],
        *,
        stdin: bytes = b"",
        limit_s: float = 120.0,
    ) -> Finished:
        """Run a command to its end; `watch` gets what it wrote so far, twice a second.

        Raises Conflict when the connection breaks or the command takes longer than `limit_s`; what
        `watch` raises ends the waiting too.
        """
        name, began_s = command[0].rpartition("/")[2], time.monotonic()
        output, watched_s = "", began_s
        try:
            channel = self._transport.open_session(timeout=LOGIN_LIMIT_S)
            with channel:
                channel.set_combine_stderr(combine=True)
                channel.exec_command(shlex.join([*self._prefix, *command]))
                channel.settimeout(LOGIN_LIMIT_S)
                with suppress(OSError):  # a command that reads nothing may have ended by now
                    channel.sendall(stdin)
                    channel.shutdown_write()
                channel.settimeout(POLL_S)
                while (chunk := _receive(channel)) != b"":
                    output = (output + (chunk or b"").decode(errors="replace"))[-KEPT_CHARACTERS:]
                    now_s = time.monotonic()
                    if now_s - watched_s >= POLL_S:
                        watched_s = now_s
                        watch(output)
                    if now_s - began_s > limit_s:
                        raise Conflict(f"{name} did not end within {limit_s:.0f} s.")
                channel.status_event.wait(LOGIN_LIMIT_S)
                code = channel.exit_status
        except (paramiko.SSHException, OSError, EOFError) as error:
            raise Conflict(f"The connection to {self._where} broke while {name} ran.") from error
        if code < 0:
            raise Conflict(f"{name} has no result: it was killed, or the connection broke.")
        return Finished(code, output)


def _receive(channel: Any) -> bytes | None:
    """Return what came, nothing at the end, None when nothing came yet."""
    try:
        return bytes(channel.recv(CHUNK_BYTES))
    except TimeoutError:
        return None
