"""A real Postfix, the real door, the real desk: what was answered is what the log says."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nodeagent.policy.desk import Desk
from nodeagent.policy.document import Badword, Category, Posting, Subscription
from nodeagent.policy.doors.milter_server import Limits
from nodeagent.policy.engine.authentication import AuthenticationResults
from nodeagent.policy.engine.outcome import MOST_FORGED
from nodeagent.policy.engine.plugins import Plugin, Plugins
from nodeagent.policy.log_wire import Door, LogEntry, LogKind
from nodeagent.policy.log_writer import LogSpool, LogWriter
from nodeagent.policy.model import (
    AddHeader,
    ChangeHeader,
    Decision,
    DeleteRecipient,
    Envelope,
    Message,
    RuleKind,
    Session,
    Severity,
    Stage,
    Verdict,
)
from tests.fakes.milter_door import DoorThread
from tests.fakes.milter_postfix import Arrivals, Delivered, MilterPostfix, wait_for
from tests.policy.policies import policy_of

MIB = 1024 * 1024
MAIL = b"Subject: hello\r\nFrom: a@x.example\r\n\r\nbody\r\n"
NEWS, EMPTY = "news@lists.example", "empty@lists.example"
PILLS = Badword(id=7, pattern="cheap pills", severity=Severity.HIGH)
ENTRIES = (
    Category(id=1, address=NEWS, posting=Posting.ANYBODY),
    Category(id=4, address=EMPTY, posting=Posting.ANYBODY),
    Subscription(id=11, category=1, address="anna@y.example", token="t" * 16),
)


class NoLookups:
    """Authentication that is switched off in these policies."""

    async def check(self, *_about: object) -> AuthenticationResults:
        """Fail: nobody may ask."""
        raise AssertionError


class DeskOf:
    """A real desk behind the door; a test gives it plugins, or a defect."""

    def __init__(self, path: Path) -> None:
        self.spool = LogSpool(path, MIB)
        self.writer = LogWriter(self.spool)
        self.begin()

    def begin(self, *plugins: Plugin, **settings: Any) -> None:
        """Begin anew with these plugins and settings."""
        self.desk = Desk(self.writer, NoLookups(), Plugins(before=plugins))
        policy = policy_of(*ENTRIES, PILLS, **{"high": Verdict.QUARANTINE} | settings)
        self.desk.use(policy)
        self.breaks_at: Stage | None = None
        self.takes_s = 0.0
        self.ended: list[tuple[Session, int]] = []
        self.writer.flush()
        for number, _ in self.stored():
            self.spool.acknowledge(number)

    @property
    def settings(self) -> Any:
        """Return the desk's."""
        return self.desk.settings

    def decide_now(self, door: Door, stage: Stage, *about: Any, **how: Any) -> Decision | None:
        """Break, take time, or ask the desk."""
        if stage is self.breaks_at:
            raise ZeroDivisionError("the engine has a defect")
        if stage is Stage.DATA and self.takes_s:
            return None
        return self.desk.decide_now(door, stage, *about, **how)

    async def decide(self, door: Door, stage: Stage, *about: Any, **how: Any) -> Decision:
        """Ask the desk, later."""
        await asyncio.sleep(self.takes_s)
        return await self.desk.decide(door, stage, *about, **how)

    def note_held(self, *about: Any) -> None:
        """Postfix itself holds what came by milter."""
        raise AssertionError(about)

    def note_unjudged(
        self,
        door: Door,
        stage: Stage,
        session: Session,
        envelope: Envelope,
        message: Message | None,
        *,
        answered: Decision,
    ) -> None:
        """Have the desk write it down."""
        self.desk.note_unjudged(door, stage, session, envelope, message, answered=answered)

    def end_connection(self, door: Door, session: Session, messages: int) -> None:
        """Have the desk write it down."""
        self.desk.end_connection(door, session, messages)

    def stored(self) -> list[tuple[int, LogEntry]]:
        """Return what is on the disk, with its numbers."""
        batch = self.spool.read()
        return [] if batch is None else [(one.number, one.entry) for one in batch.entries]

    def lines(self, count: int = 1) -> list[LogEntry]:
        """Wait for so many decisions in the log."""

        def found() -> list[LogEntry]:
            self.writer.flush()
            return [one for _, one in self.stored() if one.kind is LogKind.MESSAGE]

        wait_for(lambda: len(found()) >= count)
        return found()


@dataclass
class Relay:
    """A Postfix with the door before it and a next hop behind it."""

    postfix: MilterPostfix
    desk: DeskOf
    door: DoorThread
    arrivals: Arrivals

    def send(self, *recipients: str, mail: bytes = MAIL) -> None:
        """Send one mail, or raise what smtplib raises."""
        with smtplib.SMTP("127.0.0.1", self.postfix.port, "mail.x.example", timeout=60) as client:
            client.sendmail("a@x.example", recipients or ("b@y.example",), mail)

    def refusal(self, *recipients: str, mail: bytes = MAIL) -> str:
        """Send a mail that is refused at its end; return the reply, nothing is queued."""
        with pytest.raises(smtplib.SMTPDataError) as refused:
            self.send(*recipients, mail=mail)
        assert self.postfix.ids() == set()
        return f"{refused.value.smtp_code} {refused.value.smtp_error.decode()}"

    def arrived(self) -> Delivered:
        """Wait for the one mail at the next hop."""
        wait_for(lambda: self.arrivals.mails)
        (mail,) = self.arrivals.mails
        return mail


@pytest.fixture(scope="module")
def whole_relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """Give one Postfix to all tests of this file."""
    root = tmp_path_factory.mktemp("edges")
    socket_file = root / "milter.sock"
    (root / "postfix").mkdir()
    settings = (f"smtpd_milters = unix:{socket_file}", "header_size_limit = 10000000")
    postfix = MilterPostfix(root / "postfix", settings=settings)
    arrivals = Arrivals()
    desk = DeskOf(root / "log.db")
    with DoorThread(socket_file, desk, Limits(progress_s=1.0)) as door:  # type: ignore[arg-type]
        postfix.start()
        controller = arrivals.start(postfix.next_hop)
        yield Relay(postfix, desk, door, arrivals)
        postfix.stop()
        controller.stop()


@pytest.fixture
def relay(whole_relay: Relay) -> Iterator[Relay]:
    """Give it as new."""
    wait_for(lambda: not whole_relay.postfix.ids("incoming", "active"))
    wait_for(lambda: not whole_relay.door.door.conversations)  # they count, and they log their ends
    whole_relay.arrivals.mails.clear()
    whole_relay.postfix.empty()
    whole_relay.desk.begin()
    limits = whole_relay.door.door.limits
    yield whole_relay
    whole_relay.door.door.limits = limits


def plugin(decision: Decision) -> Plugin:
    """Return a plugin that decides so at the end of each message."""

    def decide(stage: Stage) -> Decision | None:
        return decision if stage is Stage.DATA else None

    return Plugin("own", decide, ("stage",))


def taking_off(*addresses: str, verdict: Verdict = Verdict.ACCEPT) -> Plugin:
    """Return a plugin that takes these recipients off."""
    return plugin(Decision(verdict, changes=tuple(map(DeleteRecipient, addresses))))


def rules(line: LogEntry) -> list[str]:
    """Return the names of the rules that fired."""
    return [fired.rule for fired in line.fired]


def test_a_mail_that_a_plugin_leaves_to_nobody_is_a_discard_in_both_logs(relay: Relay) -> None:
    """250, as Postfix says anyway; but now Postfix's log and ours say what became of it."""
    relay.desk.begin(taking_off("b@y.example", "c@y.example"))
    relay.send("b@y.example", "c@y.example")
    stored = [entry for _, entry in relay.desk.stored()]  # without a flush
    (line,) = [one for one in stored if one.stage is Stage.DATA]
    assert (line.verdict, rules(line)[0]) == (Verdict.DISCARD, "plugin:own")
    assert line.recipient_count == 2
    relay.postfix.wait_for_log(f"{line.queue_id}: milter-discard: END-OF-MESSAGE")
    assert relay.postfix.ids() == set()
    assert relay.arrivals.mails == []


def test_a_category_without_subscribers_is_refused_or_discarded_by_name(relay: Relay) -> None:
    """The engine rejects it at RCPT; a plugin that lets it pass makes it a discard."""
    with pytest.raises(smtplib.SMTPRecipientsRefused):
        relay.send(EMPTY)
    allows = Plugin("own", Decision, ())
    relay.desk.begin(allows)
    relay.send(EMPTY)
    (line,) = relay.desk.lines()
    assert (line.verdict, rules(line)[0]) == (Verdict.DISCARD, "category:4")
    relay.postfix.wait_for_log(f"{line.queue_id}: milter-discard: END-OF-MESSAGE")
    assert relay.postfix.ids() == set()


def test_whoever_is_left_gets_the_mail(relay: Relay) -> None:
    """One of two is taken off."""
    relay.desk.begin(taking_off("b@y.example"))
    relay.send("b@y.example", "c@y.example")
    assert relay.arrived().recipients == ("c@y.example",)
    assert relay.desk.lines()[-1].verdict is Verdict.ACCEPT


def test_a_held_mail_that_nobody_would_get_is_in_the_hold_queue(relay: Relay) -> None:
    """With its recipients: nothing of the quarantine is lost."""
    relay.desk.begin(taking_off("b@y.example", verdict=Verdict.QUARANTINE))
    relay.send()
    (line,) = relay.desk.lines()
    assert line.verdict is Verdict.QUARANTINE
    wait_for(lambda: relay.postfix.ids("hold"))
    assert relay.postfix.ids("hold") == {line.queue_id}
    (held,) = (relay.postfix.queue / "hold").rglob(line.queue_id or "none")
    assert b"b@y.example" in held.read_bytes()


def test_headers_above_the_limit_are_refused_and_logged(relay: Relay) -> None:
    """552, with the rule, the queue id and the recipients."""
    relay.desk.begin(inspected_bytes=65_536)
    headers = b"".join(b"X-%d: x\r\n" % number for number in range(900))
    said = relay.refusal(mail=headers + MAIL)
    assert said == "552 5.3.4 The headers of this message are too long"
    (line,) = relay.desk.lines()
    assert (line.kind, line.stage) == (LogKind.MESSAGE, Stage.DATA)
    assert (line.verdict, line.code) == (Verdict.REJECT, 552)
    assert (line.fired[0].kind, rules(line)) == (RuleKind.FAULT, ["hook:headers"])
    assert line.queue_id is not None
    relay.postfix.wait_for_log(line.queue_id)
    assert line.recipient_count == 1


def test_a_mail_for_which_there_is_no_memory_is_put_off_and_logged(relay: Relay) -> None:
    """451, and the size that it had."""
    relay.door.door.limits = Limits(held_bytes=100_000)
    body = b"x" * 70 + b"\r\n"
    said = relay.refusal(mail=MAIL + body * 10_000)
    assert said.startswith("451 4.3.2 Too much mail is being judged at once")
    (line,) = relay.desk.lines()
    assert (line.verdict, line.code, rules(line)) == (Verdict.TEMPFAIL, 451, ["hook:memory"])
    assert line.size_bytes is not None
    assert line.size_bytes >= 720_000


def test_a_client_too_many_is_put_off_and_logged(relay: Relay) -> None:
    """At the greeting, or at MAIL, as Postfix words it; the log has the client's line."""
    relay.door.door.limits = Limits(connections=1)
    with smtplib.SMTP("127.0.0.1", relay.postfix.port, "first.x.example", timeout=60) as first:
        first.ehlo()
        with smtplib.SMTP("127.0.0.1", relay.postfix.port, "mail.x.example", timeout=60) as client:
            client.ehlo()
            code, text = client.mail("a@x.example")
            assert (code, text[:5]) == (451, b"4.3.2")
    (line,) = relay.desk.lines()
    assert (line.stage, line.verdict, line.code) == (Stage.CONNECT, Verdict.TEMPFAIL, 451)
    assert rules(line) == ["hook:sessions"]


@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA])
def test_a_defect_of_the_engine_puts_the_mail_off_and_is_logged(relay: Relay, stage: Stage) -> None:
    """451 at that stage, a line of the kind FAULT, nothing queued."""
    relay.desk.breaks_at = stage
    with pytest.raises((smtplib.SMTPResponseException, smtplib.SMTPRecipientsRefused)):
        relay.send()
    (line,) = relay.desk.lines()
    assert (line.stage, line.verdict, line.code) == (stage, Verdict.TEMPFAIL, 451)
    assert (line.fired[0].kind, rules(line)) == (RuleKind.FAULT, ["hook:defect"])
    assert relay.postfix.ids() == set()
    relay.desk.breaks_at = None
    relay.send()
    relay.arrived()


def test_a_decision_that_takes_too_long_puts_the_mail_off_and_is_logged(relay: Relay) -> None:
    """Once: what is decided afterwards is no decision any more."""
    relay.desk.begin(decision_timeout_s=0.5)
    relay.desk.takes_s = 600
    assert relay.refusal().startswith("451 4.3.0 This cannot be judged now")
    (line,) = relay.desk.lines()
    assert (line.verdict, rules(line)) == (Verdict.TEMPFAIL, ["hook:timeout"])


UNSAYABLE = ChangeHeader("Subject", 2**31, "x")  # no number of a header in the protocol


@pytest.mark.parametrize("verdict", [Verdict.ACCEPT, Verdict.QUARANTINE])
def test_changes_that_cannot_be_said_have_one_line_with_what_was_answered(
    relay: Relay, verdict: Verdict
) -> None:
    """451 in Postfix's log and in ours, with what was decided behind it; nothing is queued."""
    relay.desk.begin(plugin(Decision(verdict, changes=(AddHeader("X-A", "x"), UNSAYABLE))))
    assert relay.refusal().startswith("451 4.3.0 The mail cannot be handled now")
    (line,) = relay.desk.lines()
    assert (line.stage, line.verdict, line.code) == (Stage.DATA, Verdict.TEMPFAIL, 451)
    assert rules(line) == ["hook:unsayable", "plugin:own"]
    assert [fired.verdict for fired in line.fired] == [Verdict.TEMPFAIL, verdict]
    assert line.queue_id is not None
    relay.postfix.wait_for_log(line.queue_id)
    relay.desk.begin()
    relay.send()
    assert relay.arrived().message["X-A"] is None


@pytest.mark.parametrize("count", [1, MOST_FORGED, MOST_FORGED + 1, 3_000])
def test_no_forged_header_survives_however_many_there_are(relay: Relay, count: int) -> None:
    """Few are taken away, many make the mail go back."""
    mail = b"X-Relay-Policy: verdict=accept; rules=forged\r\n" * count + MAIL
    if count > MOST_FORGED:
        assert relay.refusal(mail=mail).startswith("550 5.6.0 ")
        (line,) = relay.desk.lines()
        assert (line.verdict, rules(line)) == (Verdict.REJECT, ["hook:forged-headers"])
        return
    relay.send(mail=mail)
    values = relay.arrived().message.get_all("X-Relay-Policy")
    assert values == ["verdict=accept; rules=none; score=0.0"]
