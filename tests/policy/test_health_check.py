"""Keepalived's check of a real Postfix: whatever the policy says, it takes the VIP from nobody."""

from __future__ import annotations

import smtplib
import subprocess
import threading
import time
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from nodeagent.policy.codecs import milter_packets as wire
from nodeagent.policy.codecs.milter import Packet
from nodeagent.policy.desk import Desk
from nodeagent.policy.engine.plugins import Plugin, Plugins
from nodeagent.policy.log_wire import LogEntry, LogKind
from nodeagent.policy.model import Decision, Reply, Stage, Verdict
from tests.fakes.milter_dialogue import dialogue
from tests.fakes.milter_door import DoorThread
from tests.fakes.milter_postfix import MilterPostfix, wait_for
from tests.policy.policies import SENDER, blocked, policy_of
from tests.policy.test_desk import World

TEMPLATE = Path(__file__).resolve().parents[2] / "templates/keepalived/check_smtp.j2"
NO = Decision(Verdict.REJECT, Reply(554, "5.7.1", "no"))
BYE = Decision(Verdict.TEMPFAIL, Reply(421, "4.7.0", "bye"))


class Relay:
    """A Postfix with the real door and desk before it."""

    def __init__(self, root: Path) -> None:
        (root / "postfix").mkdir()
        socket_file = root / "milter.sock"
        settings = (f"smtpd_milters = unix:{socket_file}", "milter_default_action = reject")
        self.postfix = MilterPostfix(root / "postfix", settings=settings)
        self.world = World(root)
        self.door = DoorThread(socket_file, self.world.desk)  # type: ignore[arg-type]
        text = TEMPLATE.read_text(encoding="utf-8")
        self.script = root / "check_smtp"
        assert text.count("/127.0.0.1/25") == 1
        at = f"/127.0.0.1/{self.postfix.port}"
        assert text.count("patience_s=2\n") == 1
        text = text.replace("patience_s=2\n", "patience_s=30\n")  # a busy machine is no fault
        self.script.write_text(text.replace("/127.0.0.1/25", at), encoding="utf-8")

    def use(self, *values: str, before: tuple[Plugin, ...] = (), **settings: object) -> None:
        """Put a policy with this blocklist and these plugins in force, and forget the log."""
        desk = Desk(self.world.writer, self.world.lookups, Plugins(before=before))
        entries = [blocked(value, number) for number, value in enumerate(values, 1)]
        desk.use(policy_of(*entries, **settings))
        self.door.door.decides = desk
        self.lines()
        batch = self.world.spool.read()
        if batch is not None:
            self.world.spool.acknowledge(batch.entries[-1].number)

    def is_well(self) -> bool:
        """Tell what keepalived's script says."""
        done = subprocess.run(["bash", str(self.script)], check=False, timeout=60)
        return done.returncode == 0

    def lines(self) -> list[LogEntry]:
        """Return the lines about answers."""
        return [one for one in self.world.lines() if one.kind is LogKind.MESSAGE]

    def client(self, source: str) -> smtplib.SMTP:
        """Return a client with this address."""
        where = ("127.0.0.1", self.postfix.port)
        return smtplib.SMTP(*where, "mail.x.example", 60, source_address=(source, 0))


@pytest.fixture(scope="module")
def relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """Give one Postfix to all tests of this file."""
    made = Relay(tmp_path_factory.mktemp("check"))
    with made.door:
        made.postfix.start()
        yield made
        made.postfix.stop()


LISTS = ["127.0.0.1", "127.0.0.0/8", "0.0.0.0/0", "localhost"]


@pytest.mark.parametrize("value", LISTS)
def test_a_blocklist_that_covers_the_node_itself_does_not_take_the_vip(
    relay: Relay, value: str
) -> None:
    """Somebody imports a list with too large a network, and every node has it two seconds later."""
    relay.use(value)
    assert relay.is_well()
    assert relay.lines() == []


def test_a_mail_from_there_is_refused_all_the_same(relay: Relay) -> None:
    """At its end: the blocklist holds for the node's own programs as well."""
    relay.use("127.0.0.0/8")
    with relay.client("127.0.0.1") as client, pytest.raises(smtplib.SMTPDataError) as refused:
        client.sendmail("a@x.example", ["b@y.example"], b"Subject: x\r\n\r\nx\r\n")
    assert refused.value.smtp_code == 550
    assert b"blocklist:1" in refused.value.smtp_error
    assert relay.postfix.ids() == set()
    (line,) = relay.lines()
    assert (line.stage, line.fired[0].rule) == (Stage.DATA, "blocklist:1")


def test_every_other_client_is_told_at_the_greeting(relay: Relay) -> None:
    """The exception is one address, and no network."""
    relay.use("127.0.0.0/8")
    with pytest.raises(smtplib.SMTPConnectError) as refused:
        relay.client("127.0.0.2")
    assert refused.value.smtp_code == 554
    wait_for(relay.lines)
    assert [line.stage for line in relay.lines()] == [Stage.CONNECT]


@pytest.mark.parametrize("decision", [NO, BYE], ids=["reject", "421"])
def test_a_plugin_that_refuses_everybody_does_not_take_the_vip(
    relay: Relay, decision: Decision
) -> None:
    """It is not asked before the first mail of such a client."""
    asked: list[Stage] = []

    def decide(stage: Stage) -> Decision:
        asked.append(stage)
        return decision

    relay.use(before=(Plugin("own", decide, ("stage",)),))
    assert relay.is_well()
    assert Stage.CONNECT not in asked
    with relay.client("127.0.0.1") as client:
        client.ehlo()
        code, _ = client.mail("a@x.example")
        assert code == decision.reply.code


def test_a_plugin_that_never_returns_does_not_take_the_vip(relay: Relay) -> None:
    """The check waits two seconds for its greeting, the policy ten for a decision (30, 60 here)."""
    may_return = threading.Event()

    def decide() -> None:
        assert may_return.wait(120)

    relay.use(before=(Plugin("own", decide, ()),), decision_timeout_s=60)
    try:
        began_s = time.monotonic()
        assert relay.is_well()
        assert time.monotonic() - began_s < 60
    finally:
        may_return.set()


def broken(*_about: object) -> object:
    """Fail as nothing should."""
    raise ZeroDivisionError("a defect")


def test_a_defect_at_the_connection_does_not_take_the_vip(
    relay: Relay, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Even with `milter_default_action = reject` for a filter that fails."""
    relay.use()
    monkeypatch.setattr(Desk, "_judge", broken)
    assert relay.is_well()


# The codec


def connected(address: str) -> tuple[list[Packet], list[Stage]]:
    """Connect as a client with this address; return what was sent and what was asked."""
    said = dialogue(decides=lambda _asked: NO)
    sent = said.say(wire.Connect("localhost", "6" if ":" in address else "4", 4711, address))
    return sent, said.stages()


@pytest.mark.parametrize("address", ["127.0.0.1", "::ffff:127.0.0.1", "IPv6:::ffff:127.0.0.1"])
def test_the_checks_address_is_not_judged_before_mail(address: str) -> None:
    """However the MTA writes it."""
    sent, asked = connected(address)
    assert (sent, asked) == ([wire.Continue()], [])


@pytest.mark.parametrize("address", ["127.0.0.2", "127.0.1.1", "128.0.0.1", "10.0.0.1", "::1"])
def test_others_are(address: str) -> None:
    """Also on the loopback: nothing else is needed."""
    sent, asked = connected(address)
    assert asked == [Stage.CONNECT]
    assert [type(one) for one in sent] == [wire.ReplyCode]


def test_a_session_from_there_is_judged_from_mail_on() -> None:
    """As the same client's that was accepted at the connection."""
    said = dialogue(decides=lambda _asked: NO)
    said.say(wire.Connect("localhost", "4", 4711, "127.0.0.1"), wire.Helo("localhost"))
    (refused,) = said.say(wire.Mail((f"<{SENDER}>",)))
    assert isinstance(refused, wire.ReplyCode)
    assert said.asked[-1].session.client.ip == ip_address("127.0.0.1")
