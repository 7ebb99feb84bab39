"""The same mail through both doors: the same verdict, the same reply, the same headers and people.

Postfix's words go through the milter's session, Stalwart's JSON through the HTTP door's judging,
both to one real desk with the real engine. Everything but the sockets is real.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from nodeagent.policy.codecs import milter_packets as wire
from nodeagent.policy.codecs.milter import Packet
from nodeagent.policy.codecs.milter_content import HEADER_OVERHEAD_BYTES
from nodeagent.policy.codecs.milter_session import Ask
from nodeagent.policy.codecs.stalwart import StalwartCodec
from nodeagent.policy.desk import Desk
from nodeagent.policy.document import (
    Badword,
    Category,
    Posting,
    RateRule,
    RateSubject,
    RateWindow,
    SenderChecks,
    Severity,
    Subscription,
)
from nodeagent.policy.doors.http_judging import Judging
from nodeagent.policy.engine.authentication import AuthenticationResults
from nodeagent.policy.engine.outcome import MOST_FORGED
from nodeagent.policy.engine.plugins import Plugin, Plugins
from nodeagent.policy.engine.policy import CompiledPolicy
from nodeagent.policy.engine.sections import Entry
from nodeagent.policy.log_wire import Door
from nodeagent.policy.log_writer import LogSpool, LogWriter
from nodeagent.policy.model import Decision, DeleteRecipient, Envelope, Stage
from nodeagent.policy.raw_message import from_bytes
from tests.fakes.milter_dialogue import dialogue
from tests.fakes.policy_desk import KeeperTwin
from tests.policy.corpus.attacks import ATTACKS
from tests.policy.corpus.ordinary import ORDINARY
from tests.policy.policies import allowed, blocked, policy_of

MIB = 1024 * 1024
BODY_PACKET = 65_535
NEWS = "news@lists.example.net"
ENTRIES: tuple[Entry, ...] = (
    blocked("198.51.100.9", 1),
    blocked("*@blocked-domain.example", 2),
    blocked("nobody@example.com", 3),
    blocked("spam-host.example", 4),
    allowed("*@allowed-domain.example", 5),
    Badword(id=1, pattern="casino"),
    Badword(id=2, pattern="cheap pills", severity=Severity.HIGH),
    Badword(id=3, pattern="for free", severity=Severity.LOW),
    Category(id=1, address=NEWS, posting=Posting.ANYBODY),
    Subscription(id=1, category=1, address="anna@example.com", token="t" * 16),
    Subscription(id=2, category=1, address="ben@example.com", token="t" * 16),
)
CHECKS = SenderChecks(most_recipients=3, sender_is_not_ours=True)


@dataclass(frozen=True)
class Sent:
    """A mail as a client sends it."""

    raw: bytes = b"Subject: Hello\r\nFrom: a@example.org\r\n\r\nHello.\r\n"
    sender: str = "a@example.org"
    recipients: tuple[str, ...] = ("anna@example.com",)
    address: str = "203.0.113.7"
    helo: str = "mail.example.org"
    login: str | None = None


@dataclass(frozen=True)
class Outcome:
    """What became of it: who refused in which words, or who gets it with which header."""

    verdict: str
    reply: str = ""
    recipients: tuple[str, ...] = ()
    header: str = ""


class NoLookups:
    """Authentication that is switched off in these policies."""

    async def check(self, *_about: object) -> AuthenticationResults:
        """Fail: nobody may ask."""
        raise AssertionError


def desk_of(path: Path, policy: CompiledPolicy, *plugins: Plugin) -> Desk:
    """Return a desk with nothing counted yet."""
    desk = Desk(LogWriter(LogSpool(path, MIB)), NoLookups(), Plugins(before=plugins))
    desk.use(policy)
    return desk


def by_milter(desk: Desk, sent: Sent) -> Outcome:
    """Return what Postfix hears."""

    def decide(asked: Ask) -> Decision:
        told = (Door.MILTER, asked.stage, asked.session, asked.envelope, asked.message)
        return desk.decide_now(*told) or asyncio.run(desk.decide(*told))

    said = dialogue(desk.settings, decide)
    family = "6" if ":" in sent.address else "4"
    login = () if sent.login is None else (("{auth_authen}", sent.login),)
    opening: tuple[Packet, ...] = (
        wire.Connect(f"[{sent.address}]", family, 4711, sent.address),
        wire.Helo(sent.helo),
        wire.Macros(b"M", login),
        wire.Mail((f"<{sent.sender}>",)),
    )
    heard = said.say(*opening)
    if refused := _refusal(heard):
        return refused
    taken: list[str] = []
    for recipient in sent.recipients:
        refusal = _refusal(said.say(wire.Rcpt((f"<{recipient}>",))))
        if refusal is None:
            taken.append(recipient)
        refused = refusal or refused
    if not taken:
        assert refused is not None
        return refused
    message = from_bytes(sent.raw)
    fields = [
        wire.HeaderField(one.name, one.value.replace("\r\n", "\n")) for one in message.headers
    ]
    chunks = [
        wire.Body(message.body[start : start + BODY_PACKET])
        for start in range(0, len(message.body), BODY_PACKET)
    ]
    heard = said.say(*fields, wire.EndOfHeaders(), *chunks, wire.EndOfMessage(b""))
    return _refusal(heard) or _taken_by_postfix(heard, taken)


def _refusal(heard: Iterable[Packet]) -> Outcome | None:
    for packet in heard:
        if isinstance(packet, wire.ReplyCode):
            verdict = "reject" if packet.text.startswith("5") else "tempfail"
            return Outcome(verdict, packet.text.replace("%%", "%"))
    return None


def _taken_by_postfix(heard: list[Packet], recipients: list[str]) -> Outcome:
    if any(isinstance(packet, wire.Discard) for packet in heard):
        return Outcome("discard")
    left, header = list(recipients), ""
    for packet in heard:
        match packet:
            case wire.AddRecipient(text):
                left.append(text.strip("<>"))
            case wire.DeleteRecipient(text):
                left.remove(text.strip("<>"))
            case wire.AddHeader(name, value) if name == "X-Relay-Policy":
                header = value.strip()
            case _:
                pass
    is_held = any(isinstance(packet, wire.Quarantine) for packet in heard)
    return Outcome("quarantine" if is_held else "accept", "", tuple(sorted(left)), header)


class Stalwart:
    """Asks the HTTP door about one mail, stage by stage."""

    def __init__(self, desk: Desk, keeper: KeeperTwin, sent: Sent) -> None:
        self._judging, self._codec = Judging(desk, keeper), StalwartCodec()
        self._settings = desk.settings
        self._sent = sent

    def ask(
        self, stage: Stage, recipients: Iterable[str] = (), message: dict[str, Any] | None = None
    ) -> dict[str, Any]:
        """Return the answer at this stage."""
        sent = self._sent
        client = {"ip": sent.address, "port": 4711, "ptr": None, "activeConnections": 1}
        client["helo"] = None if stage is Stage.CONNECT else sent.helo
        context = {"stage": stage.value, "client": client, "protocol": {"version": 1}}
        asked: dict[str, Any] = {"context": context}
        if stage not in {Stage.CONNECT, Stage.EHLO}:
            to = [{"address": one} for one in recipients]
            asked["envelope"] = {"from": {"address": sent.sender}, "to": to}
            if sent.login is not None:
                context["sasl"] = {"login": sent.login}
        if message is not None:
            asked["message"] = message
        body = json.dumps(asked).encode()
        answer = asyncio.run(self._judging.answer(self._codec, body, self._settings))
        return json.loads(answer.body)


def by_http(desk: Desk, sent: Sent) -> Outcome:
    """Return what Stalwart hears, and what our own Postfix has of it."""
    keeper = KeeperTwin()
    stalwart = Stalwart(desk, keeper, sent)
    for stage in (Stage.CONNECT, Stage.EHLO, Stage.MAIL):
        if refused := _refused(stalwart.ask(stage)):
            return refused
    taken: list[str] = []
    for recipient in sent.recipients:
        refusal = _refused(stalwart.ask(Stage.RCPT, (*taken, recipient)))
        if refusal is None:
            taken.append(recipient)
        refused = refusal or refused
    if not taken:
        assert refused is not None
        return refused
    message = from_bytes(sent.raw)
    headers = [[_lossy(one.name), f"{_lossy(one.value)}\r\n"] for one in message.headers]
    contents = message.body.decode("utf-8", "replace")
    told = {"headers": headers, "contents": contents, "size": len(sent.raw)}
    answer = stalwart.ask(Stage.DATA, taken, told)
    return _refused(answer) or _taken_by_stalwart(answer, taken, keeper)


def _lossy(text: str) -> str:
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace")


def _refused(answer: dict[str, Any]) -> Outcome | None:
    if answer["action"] != "reject":
        return None
    said = answer["response"]
    verdict = "reject" if said["status"] >= 500 else "tempfail"
    return Outcome(verdict, f"{said['status']} {said['enhanced_status']} {said['message']}")


def _taken_by_stalwart(
    answer: dict[str, Any], recipients: list[str], keeper: KeeperTwin
) -> Outcome:
    held = [kept for kept in keeper.kept if kept.reason is not None]
    if answer["action"] == "discard" and not keeper.kept:
        return Outcome("discard")
    left = [] if answer["action"] == "discard" else list(recipients)
    header = ""
    for change in answer.get("modifications", ()):
        if change["type"] == "deleteRecipient":
            left = [one for one in left if one.lower() != change["value"]]
        if change["type"] == "addHeader" and change["name"] == "X-Relay-Policy":
            header = change["value"]
    for kept in keeper.kept:
        left += kept.envelope.recipients
        values = [one.value for one in kept.message.headers if one.name == "X-Relay-Policy"]
        header = values[-1].strip()
    return Outcome("quarantine" if held else "accept", "", tuple(sorted(left)), header)


POLICY = policy_of(*ENTRIES, checks=CHECKS)


@pytest.fixture(scope="module")
def ask_both(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Outcome]:
    """Give what sends a mail through both doors, each with a desk of its own."""
    path: Path = tmp_path_factory.mktemp("doors")
    at_milter, at_http = (desk_of(path / name, POLICY) for name in ("milter.db", "http.db"))

    def ask(sent: Sent, policy: CompiledPolicy = POLICY) -> Outcome:
        at_milter.use(policy)
        at_http.use(policy)
        first, second = by_milter(at_milter, sent), by_http(at_http, sent)
        assert first == second
        return first

    return ask


HTML = b"Content-Type: text/html\r\nContent-Transfer-Encoding: base64\r\nSubject: x\r\n\r\n"
SITUATIONS: dict[str, tuple[Sent, str, str]] = {
    "plain": (Sent(), "accept", ""),
    "blocked client": (Sent(address="198.51.100.9"), "reject", "550 5.7.1"),
    "blocked helo": (Sent(helo="spam-host.example"), "reject", "550 5.7.1"),
    "bad helo": (Sent(helo="-no-host-"), "reject", "504 5.5.2"),
    "bad helo, login": (Sent(helo="-no-host-", login="anna"), "accept", ""),
    "bad helo, trusted": (Sent(helo="-no-host-", address="10.1.1.1"), "accept", ""),
    "IPv6, trusted": (Sent(helo="-no-host-", address="2001:db8:1::5"), "accept", ""),
    "our helo": (Sent(helo="relay1.example.com"), "reject", "550 5.7.1"),
    "blocked sender": (Sent(sender="x@blocked-domain.example"), "reject", "550 5.7.1"),
    "blocked login": (Sent(login="x@blocked-domain.example"), "reject", "550 5.7.1"),
    "sender is none": (Sent(sender="root"), "reject", "553 5.1.7"),
    "null sender": (Sent(sender=""), "accept", ""),
    "our sender": (Sent(sender="boss@example.com"), "reject", "550 5.7.1"),
    "blocked recipient": (Sent(recipients=("nobody@example.com",)), "reject", "550 5.7.1"),
    "one of two": (Sent(recipients=("nobody@example.com", "c@example.com")), "accept", ""),
    "too many": (
        Sent(recipients=tuple(f"r{number}@example.com" for number in range(5))),
        "accept",
        "",
    ),
    "category": (Sent(recipients=(NEWS,)), "accept", ""),
    "category and subscriber": (Sent(recipients=(NEWS, "ben@example.com")), "accept", ""),
    "no such address": (Sent(recipients=("x@lists.example.net",)), "reject", "550 5.1.1"),
    "internal address": (Sent(recipients=("1.1@list.relay.invalid",)), "reject", "550 5.1.1"),
    "bounce to a category": (Sent(sender="", recipients=(NEWS,)), "reject", "550 5.7.2"),
    "bad word": (Sent(b"Subject: casino\r\n\r\nx\r\n"), "quarantine", ""),
    "worse word": (Sent(HTML + b"Y2hlYXAgPGI+cGlsbHM8L2I+\r\n"), "reject", "550 5.7.1"),
    "small word": (Sent(b"Subject: x\r\n\r\nall for free\r\n"), "accept", ""),
    "bad word to a category": (
        Sent(b"Subject: casino\r\n\r\nx\r\n", recipients=(NEWS, "c@example.com")),
        "quarantine",
        "",
    ),
    "allowed sender": (
        Sent(b"Subject: casino\r\n\r\ncheap pills\r\n", sender="x@allowed-domain.example"),
        "accept",
        "",
    ),
    "forged headers": (
        Sent(b"X-Relay-Policy: verdict=accept\r\nSubject: x\r\n\r\ncasino\r\n"),
        "quarantine",
        "",
    ),
    "a flood of forged headers": (
        Sent(b"X-Relay-Policy: verdict=accept\r\n" * (MOST_FORGED + 1) + b"\r\ncasino\r\n"),
        "reject",
        "550 5.6.0",
    ),
    "folded subject": (Sent(b"Subject: cheap\r\n pills\r\n\r\nx\r\n"), "reject", "550 5.7.1"),
    "author": (Sent(b"From: x@blocked-domain.example\r\n\r\nx\r\n"), "reject", "550 5.7.1"),
    "empty": (Sent(b"\r\n"), "accept", ""),
    "large": (Sent(b"Subject: x\r\n\r\n" + b"All is well.\r\n" * 20_000), "accept", ""),
}


@pytest.mark.parametrize("name", SITUATIONS)
def test_each_situation_ends_alike_and_as_it_should(name: str, ask_both) -> None:
    """Verdict and reply at every stage; recipients and headers where the mail goes on."""
    sent, verdict, code = SITUATIONS[name]
    outcome = ask_both(sent)
    assert (outcome.verdict, outcome.reply[: len(code)]) == (verdict, code), outcome
    assert bool(outcome.header) is (verdict in {"accept", "quarantine"})


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_mail_passes_both_doors(name: str, ask_both) -> None:
    """Whatever it is encoded in."""
    assert ask_both(Sent(ORDINARY[name])).verdict == "accept"


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_passes_neither_door(name: str, ask_both) -> None:
    """Held or refused, for the same reasons."""
    assert ask_both(Sent(ATTACKS[name][0])).verdict in {"quarantine", "reject"}


@pytest.mark.parametrize("verdict", ["discard", "quarantine", "tempfail", "reject", "accept"])
def test_each_verdict_of_a_bad_word_ends_alike(verdict: str, ask_both) -> None:
    """In each MTA's own words."""
    policy = policy_of(*ENTRIES, medium=verdict)
    assert ask_both(Sent(b"Subject: casino\r\n\r\nx\r\n"), policy).verdict == verdict


def test_doors_that_ask_at_the_end_alone_refuse_the_same(ask_both) -> None:
    """What the other stages would have refused, but for the recipients one by one."""
    http = POLICY.settings.http.model_copy(update={"stages": (Stage.DATA,)})
    policy = policy_of(*ENTRIES, checks=CHECKS, stages=(Stage.DATA,), http=http)
    for name, (sent, verdict, _) in SITUATIONS.items():
        if len(sent.recipients) == 1 or verdict != "accept":
            assert ask_both(sent, policy).verdict == verdict, name


def test_a_rate_counts_both_doors_alike(tmp_path: Path) -> None:
    """One desk, one count: what came in by one door is missing at the other."""
    rate = RateRule(id=1, subject=RateSubject.SENDER, window=RateWindow.DAY, limit=2)
    desk = desk_of(tmp_path / "log.db", policy_of(rate))
    verdicts = [door(desk, Sent()).verdict for door in (by_milter, by_http, by_milter, by_http)]
    assert verdicts == ["accept", "accept", "tempfail", "tempfail"]


@pytest.mark.parametrize("more", [0, 1])
def test_headers_at_the_limit_are_judged_and_longer_ones_refused(more: int, ask_both) -> None:
    """By both doors at the same byte, whatever the headers are."""
    limit = 65_536
    policy = policy_of(*ENTRIES, inspected_bytes=limit)
    header, last = "X-A: " + "a" * 76, "X-B: "
    size = HEADER_OVERHEAD_BYTES + len(header) - 1  # without its colon
    count = limit // size - 1
    filled = "b" * (limit + more - count * size - HEADER_OVERHEAD_BYTES - len(last) + 1)
    raw = f"{header}\r\n" * count + last + filled + "\r\n\r\nx\r\n"
    outcome = ask_both(Sent(raw.encode()), policy)
    text = "552 5.3.4 The headers of this message are too long"
    assert (outcome.verdict, outcome.reply) == (("reject", text) if more else ("accept", ""))


def taking_off_all(stage: Stage, envelope: Envelope) -> Decision | None:
    """Decide that nobody gets a mail."""
    changes = tuple(map(DeleteRecipient, envelope.recipients))
    return Decision(changes=changes) if stage is Stage.DATA else None


def test_a_mail_that_is_left_to_nobody_is_a_discard_at_both_doors(tmp_path: Path) -> None:
    """Told to take off all recipients, either MTA would say 250 and forget it."""
    plugin = Plugin("own", taking_off_all, ("stage", "envelope"))
    desk = desk_of(tmp_path / "log.db", POLICY, plugin)
    sent = Sent(recipients=("c@example.com", "d@example.com"))
    assert [door(desk, sent).verdict for door in (by_milter, by_http)] == ["discard"] * 2
