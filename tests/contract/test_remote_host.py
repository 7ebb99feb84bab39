"""A host over paramiko against a real sshd: its key, logins, commands, and what cannot be done."""

from __future__ import annotations

import os
import socket
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import paramiko
import pytest

from controlplane.errors import Conflict, Invalid
from controlplane.node_setup.remote_host import Login, RemoteHost, parse_key
from nodeagent.core.ssh_wire import fingerprint
from tests.fakes.postfix_instance import free_port
from tests.fakes.relay_host import RelayHost

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="sshd lets root in only as root")


@pytest.fixture
def host(tmp_path: Path) -> Iterator[RelayHost]:
    """Run a host to be set up."""
    made = RelayHost(tmp_path / "h")
    made.start()
    yield made
    made.stop()


@pytest.fixture
def remote(host: RelayHost) -> Iterator[RemoteHost]:
    """Give a connection that is logged in."""
    with RemoteHost("127.0.0.1", host.port) as remote:
        remote.log_in(Login("root", key=parse_key(host.private_key(), None)))
        yield remote


def ignore(_output: str) -> None:
    """Watch nothing."""


def make_key(path: Path, kind: str, passphrase: str = "") -> str:
    """Return a private key as ssh-keygen makes it."""
    command = ["ssh-keygen", "-q", "-t", kind, "-N", passphrase, "-f", str(path)]
    subprocess.run(command, check=True)
    return path.read_text()


@as_root
class TestConnection:
    """Before anything is sent, and the login."""

    def test_the_key_is_shown_before_any_login(self, host: RelayHost) -> None:
        """The same fingerprint as on the host itself, for Ed25519, which it has alone."""
        with RemoteHost("127.0.0.1", host.port) as remote:
            assert remote.host_key.type == "ssh-ed25519"
            own = (host.root / "host_key.pub").read_text()
            assert remote.host_key.fingerprint == fingerprint(own)

    def test_nobody_or_somebody_else_at_the_port(self) -> None:
        """One sentence each."""
        with pytest.raises(Conflict, match="does not answer: "):
            RemoteHost("127.0.0.1", free_port())
        with socket.create_server(("127.0.0.1", 0)) as listener:
            port = listener.getsockname()[1]

            def greet() -> None:
                with listener.accept()[0] as connection:
                    connection.sendall(b"220 mx.test ESMTP\r\n" * 300)

            greeter = threading.Thread(target=greet)
            greeter.start()
            with pytest.raises(Conflict, match="does not answer as an SSH server does"):
                RemoteHost("127.0.0.1", port)
            greeter.join()

    def test_a_key_that_is_not_let_in(self, host: RelayHost, tmp_path: Path) -> None:
        """Another key, and a password where none is taken."""
        other = parse_key(make_key(tmp_path / "other", "ed25519"), None)
        with RemoteHost("127.0.0.1", host.port) as remote:
            with pytest.raises(Conflict, match="does not let root in"):
                remote.log_in(Login("root", key=other))
            with pytest.raises(Conflict, match="does not take this way to log in; it takes: pub"):
                remote.log_in(Login("root", password="secret"))


@as_root
class TestCommands:
    """What runs, and how it ends."""

    def test_words_input_output_and_code(self, remote: RemoteHost) -> None:
        """Each word arrives whole, whatever is in it; both outputs are one."""
        hostile = 'a b\'; echo no "$HOME" `id` \\ *'
        assert remote.run(["printf", "%s", hostile], ignore).output == hostile
        assert remote.run(["wc", "-c"], ignore, stdin=b"x" * 1_000_000).output.strip() == "1000000"
        done = remote.run(["sh", "-c", "echo out; echo err >&2; exit 3"], ignore)
        assert (done.code, sorted(done.output.split())) == (3, ["err", "out"])

    def test_output_is_seen_while_it_runs(self, remote: RemoteHost, tmp_path: Path) -> None:
        """The command waits for what the watcher does at its first line."""
        go, seen = tmp_path / "go", []

        def watch(output: str) -> None:
            seen.append(output)
            if "first" in output:
                go.touch()

        script = f"echo first; while [ ! -e {go} ]; do sleep 0.1; done; echo last"
        assert remote.run(["sh", "-c", script], watch, limit_s=120).output == "first\nlast\n"
        assert "first\n" in seen

    def test_a_command_that_does_not_end(self, remote: RemoteHost) -> None:
        """Given up after its limit; and ended by what the watcher raises."""
        with pytest.raises(Conflict, match="sleep did not end within 1 s"):
            remote.run(["sleep", "600"], ignore, limit_s=1)

        def watch(_output: str) -> None:
            raise Invalid("enough")

        with pytest.raises(Invalid, match="enough"):
            remote.run(["sleep", "600"], watch)

    def test_a_connection_that_breaks(self, remote: RemoteHost, host: RelayHost) -> None:
        """One sentence with the command."""

        def watch(_output: str) -> None:
            host.stop()

        with pytest.raises(
            Conflict, match="sleep has no result: it was killed, or the connection broke"
        ):
            remote.run(["sleep", "600"], watch, limit_s=120)

    def test_sudo_is_put_before_each_command(self, remote: RemoteHost, host: RelayHost) -> None:
        """It never asks."""
        remote.use_sudo()
        assert remote.run(["echo", "yes"], ignore).output == "yes\n"
        assert host.asked()[-1] == "sudo -n echo yes"


class TestKeys:
    """Private keys as people paste them."""

    @pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
    @pytest.mark.parametrize("passphrase", ["", "open sesame"])
    def test_each_type_with_and_without_passphrase(
        self, tmp_path: Path, kind: str, passphrase: str
    ) -> None:
        """The public half is that of the file beside it."""
        text = make_key(tmp_path / "key", kind, passphrase)
        key = parse_key(f"\r\n{text}\n\n" if not passphrase else text, passphrase)
        public = (tmp_path / "key.pub").read_text()
        assert key.get_base64() == public.split()[1]

    def test_what_is_no_key(self, tmp_path: Path) -> None:
        """One sentence beside the field at fault."""
        locked = make_key(tmp_path / "locked", "ed25519", "open sesame")
        public = (tmp_path / "locked.pub").read_text()
        for text, passphrase, field in (
            (locked, None, "passphrase"),
            (locked, "wrong", "private_key"),
            (public, None, "private_key"),
            ("", None, "private_key"),
            ("-----BEGIN OPENSSH PRIVATE KEY-----\nAAAA\n", None, "private_key"),
        ):
            with pytest.raises(Invalid) as refused:
                parse_key(text, passphrase)
            assert list(refused.value.fields) == [field], (text[:40], refused.value.fields)


class PasswordServer(paramiko.ServerInterface):
    """Takes one password of one user; sshd takes only those of this machine's users."""

    def check_auth_password(self, username: str, password: str) -> int:
        """Judge a login."""
        is_right = (username, password) == ("root", "right")
        return paramiko.AUTH_SUCCESSFUL if is_right else paramiko.AUTH_FAILED

    def get_allowed_auths(self, username: str) -> str:
        """Name the way."""
        del username
        return "password"


def test_a_password_lets_in_and_a_wrong_one_does_not(tmp_path: Path) -> None:
    """Against paramiko's own server side."""
    key = parse_key(make_key(tmp_path / "host", "ed25519"), None)
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            transport = paramiko.Transport(listener.accept()[0])
            transport.add_server_key(key)
            transport.start_server(server=PasswordServer())

        server = threading.Thread(target=serve)
        server.start()
        with RemoteHost("127.0.0.1", listener.getsockname()[1]) as remote:
            with pytest.raises(Conflict, match="does not let root in"):
                remote.log_in(Login("root", password="wrong"))
            remote.log_in(Login("root", password="right"))
        server.join()
    assert "right" not in repr(Login("root", password="right"))
