"""Names that lead elsewhere once they were looked at: nothing is sent to a reserved address."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import closing
from ipaddress import ip_address
from typing import Any

import pytest

from controlplane.integrations import reserved_addresses
from controlplane.integrations.notifications import Notifier
from controlplane.integrations.reserved_addresses import ReservedAddress, guarded, is_reserved
from tests.fakes.receivers import MailServer, WebHook

HARMLESS, RESERVED = "127.0.0.2", "127.0.0.1"
SENTENCE = f"{RESERVED} is a link-local or reserved address; alerts do not go there."


class Dns:
    """Answers for `moving.test`: the first time with one address, and then with another."""

    def __init__(self, *answers: str) -> None:
        self._answers: Iterator[str] = iter(answers)
        self._real = socket.getaddrinfo
        self._last = ""

    def __call__(self, host: Any, *arguments: Any, **more: Any) -> Any:
        """Resolve as `socket.getaddrinfo` does."""
        if host != "moving.test":
            return self._real(host, *arguments, **more)
        self._last = next(self._answers, self._last)
        return self._real(self._last, *arguments, **more)


@pytest.fixture
def reserved(monkeypatch: pytest.MonkeyPatch) -> str:
    """Make the address of the receivers one that hands out credentials."""
    monkeypatch.setattr(reserved_addresses, "METADATA", frozenset({ip_address(RESERVED)}))
    return RESERVED


def test_a_webhook_whose_name_moves_gets_nothing(
    reserved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Looked at it was harmless; what is connected to counts."""
    with WebHook().serve() as hook:
        monkeypatch.setattr(socket, "getaddrinfo", Dns(HARMLESS, reserved))
        outcome = Notifier().send(f"json://moving.test:{hook.port}/x", "t", "b")
    assert (outcome.is_ok, outcome.text, hook.paths) == (False, SENTENCE, [])


def test_a_mail_server_whose_name_moves_gets_nothing(
    reserved: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same for SMTP."""
    with MailServer().serve() as server:
        monkeypatch.setattr(socket, "getaddrinfo", Dns(HARMLESS, reserved))
        url = server.url.replace("127.0.0.1", "moving.test")
        outcome = Notifier().send(url, "t", "b")
    assert (outcome.is_ok, outcome.text, server.got) == (False, SENTENCE, [])


def test_a_name_that_moves_to_an_address_like_any_other_is_followed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Hosts do move."""
    with WebHook().serve() as hook:
        monkeypatch.setattr(socket, "getaddrinfo", Dns(HARMLESS, "127.0.0.1"))
        assert Notifier().send(f"json://moving.test:{hook.port}/x", "t", "b").is_ok
    assert hook.paths == ["/x"]


@pytest.mark.parametrize(
    ("address", "is_refused"),
    [
        ("169.254.169.254", True),
        ("169.255.0.1", False),
        ("fe80::1", True),
        ("fec0::1", False),
        ("::ffff:169.254.169.254", True),
        ("::ffff:192.0.2.1", False),
        ("64:ff9b::a9fe:a9fe", True),
        ("64:ff9b::c000:201", False),
        ("64:ff9b:0:1::a9fe:a9fe", False),
        ("2002:a9fe:a9fe::1", True),
        ("2002:c000:201::1", False),
        ("100.100.100.200", True),
        ("100.100.100.201", False),
        ("192.0.0.192", True),
        ("fd00:ec2::254", True),
        ("fd00:ec2::255", False),
        ("fd20:ce::254", True),
        ("::ffff:100.100.100.200", True),
        ("224.0.0.1", True),
        ("ff02::1", True),
        ("0.0.0.0", True),
        ("::", True),
        ("127.0.0.1", False),
        ("10.0.0.1", False),
        ("fd12::1", False),
    ],
)
def test_which_addresses_are_reserved(address: str, is_refused: bool) -> None:
    """Those of metadata services however they are written; an own network is none of them."""
    assert is_reserved(ip_address(address)) is is_refused


def test_only_the_guarded_thread_is_refused(reserved: str) -> None:
    """All else in the process connects as ever, also while somebody is guarded."""
    with closing(socket.create_server((reserved, 0))) as listener:
        place = listener.getsockname()

        def connect() -> None:
            socket.create_connection(place, timeout=30).close()

        with guarded() as refused:
            with pytest.raises(ReservedAddress):
                connect()
            other = threading.Thread(target=connect)
            other.start()
            other.join(60)
            assert listener.accept()[0] is not None
        assert refused == [reserved]
        connect()


def test_a_guard_ends_with_its_block_also_by_an_exception(reserved: str) -> None:
    """A thread that is used again is not guarded by what went wrong before."""
    with pytest.raises(RuntimeError, match="x"), guarded():
        raise RuntimeError("x")
    with closing(socket.create_server((reserved, 0))) as listener:
        socket.create_connection(listener.getsockname(), timeout=30).close()


def test_names_are_not_looked_up_behind_the_guards_back() -> None:
    """`connect` takes names as well, and nobody would see where they lead."""
    with closing(socket.socket()) as client, guarded() as refused:
        with pytest.raises(ReservedAddress):
            client.connect(("localhost", 9))
        assert client.connect_ex(("127.0.0.1", 9)) != 0  # an address, where nobody listens
    assert refused == ["localhost"]


def test_sockets_of_this_host_alone_are_not_its_business() -> None:
    """A path is no address."""
    with (
        closing(socket.socket(socket.AF_UNIX)) as client,
        guarded() as refused,
        pytest.raises(FileNotFoundError),
    ):
        client.connect("/nonexistent/socket")
    assert refused == []
