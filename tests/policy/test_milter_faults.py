"""What a real Postfix does when the milter is gone, stands still or dies in the middle.

That is the administrator's choice: `milter_default_action`, as postconf(5) has it.
"""

from __future__ import annotations

import signal
import smtplib
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fakes.milter_client import MilterClient
from tests.fakes.milter_dialogue import CLIENT
from tests.fakes.milter_postfix import Arrivals, MilterPostfix, wait_for
from tests.fakes.milter_process import milter_process
from tests.fakes.postfix_instance import free_port

ACTIONS = ("accept", "reject", "tempfail", "quarantine")
MAIL = b"Subject: hello\r\n\r\nbody\r\n"
OUTCOMES = {
    "accept": "delivered",
    "reject": "550 5.5.0 Service unavailable",
    "tempfail": "451 4.7.1 Service unavailable - try again later",
    "quarantine": "held",
}
TIMES = "-o milter_connect_timeout=5s -o milter_command_timeout=5s -o milter_content_timeout=5s"


@dataclass
class Relay:
    """One Postfix that listens on a port for each default action."""

    postfix: MilterPostfix
    arrivals: Arrivals
    socket_file: Path
    ports: dict[str, int]

    def send(self, action: str) -> str:
        """Send a mail and return what became of it."""
        try:
            with smtplib.SMTP("127.0.0.1", self.ports[action], "client", timeout=60) as client:
                client.sendmail("a@x.example", ["b@y.example"], MAIL)
        except (smtplib.SMTPSenderRefused, smtplib.SMTPDataError) as refused:
            return f"{refused.smtp_code} {_text(refused.smtp_error)}"
        except smtplib.SMTPConnectError as refused:
            return f"{refused.smtp_code} {_text(refused.smtp_error)}"
        wait_for(lambda: self.arrivals.mails or self.postfix.ids("hold"))
        return "delivered" if self.arrivals.mails else "held"


def _text(raw: bytes | str) -> str:
    return raw.decode() if isinstance(raw, bytes) else raw


@pytest.fixture(scope="module")
def whole_relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """Give one Postfix to all tests of this file."""
    root = tmp_path_factory.mktemp("faults")
    socket_file = root / "milter.sock"
    ports = {action: free_port() for action in ACTIONS}
    services = tuple(
        f"127.0.0.1:{port} inet n - n - - smtpd -o milter_default_action={action} {TIMES}"
        for action, port in ports.items()
    )
    (root / "postfix").mkdir()
    settings = (f"smtpd_milters = unix:{socket_file}",)
    postfix = MilterPostfix(root / "postfix", settings=settings, services=services)
    arrivals = Arrivals()
    with milter_process(socket_file):
        postfix.start()
    controller = arrivals.start(postfix.next_hop)
    yield Relay(postfix, arrivals, socket_file, ports)
    postfix.stop()
    controller.stop()


@pytest.fixture
def relay(whole_relay: Relay) -> Relay:
    """Give it as new."""
    wait_for(lambda: not whole_relay.postfix.ids("incoming", "active"))
    whole_relay.arrivals.mails.clear()
    whole_relay.postfix.empty()
    whole_relay.socket_file.unlink(missing_ok=True)
    return whole_relay


def expected(action: str, *, at_connect: bool) -> str:
    """Return what postconf(5) promises; a client that is rejected hears it at the greeting."""
    if action == "reject" and at_connect:
        return "554 test.invalid ESMTP not accepting connections"
    return OUTCOMES[action]


@pytest.mark.parametrize("action", ACTIONS)
def test_a_door_that_is_gone(relay: Relay, action: str) -> None:
    """No socket, or one that nobody listens on: known at the connection."""
    assert relay.send(action) == expected(action, at_connect=True)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_door_that_stands_still(relay: Relay, action: str) -> None:
    """The kernel takes the connection; Postfix waits `milter_command_timeout` and goes on."""
    with milter_process(relay.socket_file) as milter:
        milter.process.send_signal(signal.SIGSTOP)
        assert relay.send(action) == expected(action, at_connect=True)


@pytest.mark.parametrize("action", ACTIONS)
@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "stopped"])
def test_a_door_that_fails_while_it_judges(relay: Relay, action: str, how: signal.Signals) -> None:
    """The message is at its end: Postfix answers the final dot as its default action says."""
    with milter_process(relay.socket_file, "data") as milter:
        outcome: list[str] = []
        sender = threading.Thread(target=lambda: outcome.append(relay.send(action)))
        sender.start()
        milter.wait_for("data")
        milter.process.send_signal(how)
        sender.join(60)
        assert outcome == [expected(action, at_connect=False)]


def test_a_door_that_comes_back_is_asked_again(relay: Relay) -> None:
    """Without a reload of Postfix: each session connects anew."""
    assert relay.send("tempfail") == OUTCOMES["tempfail"]
    with milter_process(relay.socket_file) as milter:
        assert relay.send("tempfail") == "delivered"
        milter.wait_for("data")


def test_a_killed_door_leaves_a_socket_that_its_successor_takes(relay: Relay) -> None:
    """Nobody has to clean up."""
    with milter_process(relay.socket_file) as first:
        first.process.kill()
        first.process.wait(30)
        assert relay.socket_file.is_socket()
        with milter_process(relay.socket_file), MilterClient(relay.socket_file) as client:
            assert client.begin(CLIENT)
