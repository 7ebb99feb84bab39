"""The milter door and a real Postfix: each verdict at each stage, and what arrives."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path

import pytest

from nodeagent.policy.doors.milter_server import Limits
from nodeagent.policy.model import (
    ACCEPT,
    AddHeader,
    AddRecipient,
    Change,
    ChangeHeader,
    ChangeSender,
    Decision,
    DeleteRecipient,
    Fired,
    Header,
    Reply,
    RuleKind,
    Stage,
    Verdict,
)
from tests.fakes.milter_dialogue import judging
from tests.fakes.milter_door import DoorThread, Question, ScriptedPolicy, accept_all
from tests.fakes.milter_postfix import Arrivals, Delivered, MilterPostfix, wait_for

MAIL = b"Subject: hello\r\nFrom: a@x.example\r\nTo: b@y.example\r\n\r\nbody\r\n"


@dataclass
class Relay:
    """A Postfix with our door before it and a next hop behind it."""

    postfix: MilterPostfix
    door: DoorThread
    arrivals: Arrivals

    @property
    def policy(self) -> ScriptedPolicy:
        """Return the scripted policy."""
        return self.door.policy

    def client(self) -> smtplib.SMTP:
        """Return a client that has connected and not said HELO."""
        return smtplib.SMTP("127.0.0.1", self.postfix.port, "client.example", timeout=60)

    def send(self, mail: bytes = MAIL, *recipients: str, options: tuple[str, ...] = ()) -> None:
        """Send one mail, or raise what smtplib raises."""
        with self.client() as client:
            client.sendmail("a@x.example", recipients or ("b@y.example",), mail, options)

    def arrived(self, count: int = 1) -> list[Delivered]:
        """Wait for this many mails at the next hop."""
        wait_for(lambda: len(self.arrivals.mails) >= count)
        assert len(self.arrivals.mails) == count
        return self.arrivals.mails


@pytest.fixture(scope="module")
def whole_relay(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Relay]:
    """Give one Postfix to all tests of this file."""
    root = tmp_path_factory.mktemp("milter")
    socket_file = root / "milter.sock"
    settings = (
        f"smtpd_milters = unix:{socket_file}",
        "milter_default_action = reject",
        "milter_command_timeout = 6s",
        "message_size_limit = 50000000",
        "smtputf8_enable = yes",
        "inet_protocols = all",
        "mynetworks = 127.0.0.0/8 [2001:db8::]/32",
        "smtpd_authorized_xclient_hosts = 127.0.0.0/8",
        "smtpd_client_connection_count_limit = 0",
    )
    (root / "postfix").mkdir()
    postfix = MilterPostfix(root / "postfix", settings=settings)
    arrivals = Arrivals()
    with DoorThread(socket_file, limits=Limits(progress_s=1.0)) as door:
        postfix.start()
        controller = arrivals.start(postfix.next_hop)
        yield Relay(postfix, door, arrivals)
        postfix.stop()
        controller.stop()


@pytest.fixture
def relay(whole_relay: Relay) -> Relay:
    """Give it as new."""
    policy = whole_relay.policy
    wait_for(lambda: not whole_relay.postfix.ids("incoming", "active"))
    policy.rule, policy.settings = accept_all, judging()
    policy.questions.clear()
    policy.ended.clear()
    whole_relay.arrivals.mails.clear()
    whole_relay.postfix.empty()
    whole_relay.door.door.answers_body = False
    return whole_relay


def refusing(stage: Stage, decision: Decision):
    """Return a policy that decides so at one stage."""
    return lambda asked: decision if asked.stage is stage else ACCEPT


def answers(relay: Relay, *commands: str) -> list[str]:
    """Return Postfix's greeting and its answers, each as "code text"."""
    client = smtplib.SMTP(timeout=60, source_address=("127.0.0.2", 0))
    said = [client.connect("127.0.0.1", relay.postfix.port)]
    try:
        for command in commands:
            said.append(client.docmd(command))  # noqa: PERF401  # what was said before it closes
    except smtplib.SMTPServerDisconnected:
        said.append((0, b"closed"))
    client.close()
    return [f"{code} {text.decode(errors='replace')}" for code, text in said]


SESSION = ("EHLO client.example", "MAIL FROM:<a@x.example>", "RCPT TO:<b@y.example>", "DATA")
NO = "550 5.7.1 no, 100% sure"
LATER = "451 4.7.1 later"
REFUSALS = [
    (Decision(Verdict.REJECT, Reply(550, "5.7.1", "no, 100% sure")), NO),
    (Decision(Verdict.TEMPFAIL, Reply(451, "4.7.1", "later")), LATER),
]


@pytest.mark.parametrize(("decision", "text"), REFUSALS, ids=["reject", "tempfail"])
@pytest.mark.parametrize(("stage", "place"), [(Stage.MAIL, 2), (Stage.RCPT, 3)])
def test_a_refusal_is_the_answer_to_its_command(
    relay: Relay, stage: Stage, place: int, decision: Decision, text: str
) -> None:
    """Code, enhanced code and text as decided; a percent sign comes out once."""
    relay.policy.rule = refusing(stage, decision)
    said = answers(relay, *SESSION)
    assert [one[:3] for one in said[:place]] == ["220", "250", "250"][:place]
    assert said[place] == text


def test_a_client_that_is_rejected_is_told_at_the_greeting(relay: Relay) -> None:
    """Postfix says 554 in its own words; the text of the decision comes at MAIL."""
    relay.policy.rule = refusing(Stage.CONNECT, REFUSALS[0][0])
    greeting, _, mail, *_ = answers(relay, *SESSION)
    assert greeting.startswith("554 test.invalid ESMTP not accepting connections")
    assert mail == NO


@pytest.mark.parametrize(
    ("stage", "decision", "text"),
    [(Stage.CONNECT, *REFUSALS[1]), (Stage.EHLO, *REFUSALS[0]), (Stage.EHLO, *REFUSALS[1])],
)
def test_other_refused_clients_are_told_at_mail(
    relay: Relay, stage: Stage, decision: Decision, text: str
) -> None:
    """The greeting is 220 and EHLO 250 all the same."""
    relay.policy.rule = refusing(stage, decision)
    said = answers(relay, SESSION[0], "HELO other.example", *SESSION[1:2])
    assert [one[:3] for one in said[:3]] == ["220", "250", "250"]
    assert said[3] == text
    assert relay.policy.asked(Stage.MAIL) == []


def test_421_ends_the_session(relay: Relay) -> None:
    """Postfix closes the connection behind it, at any command."""
    bye = Decision(Verdict.TEMPFAIL, Reply(421, "4.7.0", "bye"))
    relay.policy.rule = refusing(Stage.RCPT, bye)
    assert answers(relay, *SESSION[:3], "NOOP")[3:] == ["421 4.7.0 bye", "0 closed"]


@pytest.mark.parametrize(("decision", "text"), REFUSALS, ids=["reject", "tempfail"])
def test_a_message_is_refused_at_its_end(relay: Relay, decision: Decision, text: str) -> None:
    """The client keeps it; nothing is in the queue. The session goes on."""
    relay.policy.rule = refusing(Stage.DATA, decision)
    with relay.client() as client:
        with pytest.raises(smtplib.SMTPDataError) as refused:
            client.sendmail("a@x.example", ["b@y.example"], MAIL)
        assert f"{refused.value.smtp_code} {refused.value.smtp_error.decode()}" == text
        relay.policy.rule = accept_all
        client.sendmail("a@x.example", ["b@y.example"], MAIL)
    relay.arrived()


def test_line_breaks_in_a_reply_make_no_second_line(relay: Relay) -> None:
    """Postfix takes a reply of several lines; ours never is one."""
    reply = Reply(550, "5.7.1", "no\r\n250 ok\0 %s %%")
    relay.policy.rule = refusing(Stage.RCPT, Decision(Verdict.REJECT, reply))
    assert answers(relay, *SESSION)[3] == "550 5.7.1 no?250 ok? %s %%"


def test_a_discarded_message_is_taken_and_gone(relay: Relay) -> None:
    """The client hears 250, Postfix logs it, and nothing is queued."""
    relay.policy.rule = refusing(Stage.DATA, Decision(Verdict.DISCARD))
    relay.send()
    relay.postfix.wait_for_log("milter-discard: END-OF-MESSAGE")
    assert relay.postfix.ids() == set()
    assert relay.arrivals.mails == []


def test_a_quarantined_message_is_in_the_hold_queue(relay: Relay) -> None:
    """With its changes, under the queue id that the policy was told."""
    fired = Fired(RuleKind.BADWORD, "badword:17", "a bad word", Verdict.QUARANTINE)
    decision = Decision(Verdict.QUARANTINE, None, (AddHeader("X-Held", "yes"),), (fired,))
    relay.policy.rule = refusing(Stage.DATA, decision)
    relay.send()
    (asked,) = relay.policy.asked(Stage.DATA)
    assert asked.message is not None
    wait_for(lambda: relay.postfix.ids("hold"))
    assert relay.postfix.ids("hold") == {asked.message.queue_id}
    relay.postfix.wait_for_log(f"{asked.message.queue_id}: milter-hold: END-OF-MESSAGE")
    (held,) = (relay.postfix.queue / "hold").rglob(asked.message.queue_id or "none")
    assert b"X-Held: yes" in held.read_bytes()


def changed(relay: Relay, *changes: Change, mail: bytes = MAIL) -> Delivered:
    """Send a mail that the policy changes, and return what arrives."""
    relay.policy.rule = refusing(Stage.DATA, Decision(changes=changes))
    relay.send(mail, "b@y.example", "c@y.example")
    return relay.arrived()[0]


def test_headers_are_added_changed_and_taken_away(relay: Relay) -> None:
    """Counted in the message as it came, whatever the order of the changes."""
    mail = b"X-A: 1\r\nX-A: 2\r\nX-A: 3\r\nSubject: old\r\n\r\nbody\r\n"
    arrived = changed(
        relay,
        ChangeHeader("X-A", 1, ""),
        ChangeHeader("X-A", 3, "drei"),
        ChangeHeader("Subject", 1, "new\r\n\tfolded"),
        AddHeader("X-B", "a\r\nBcc: victim@y.example"),
        AddHeader("X-B", "grün"),
        mail=mail,
    ).message
    assert arrived.get_all("X-A") == ["2", "drei"]
    assert b"Subject: new\r\n\tfolded\r\n" in relay.arrivals.mails[0].raw
    assert b"X-B: a\r\n Bcc: victim@y.example\r\n" in relay.arrivals.mails[0].raw
    assert "X-B: grün\r\n".encode() in relay.arrivals.mails[0].raw
    assert arrived["Bcc"] is None


def test_recipients_and_sender_are_changed(relay: Relay) -> None:
    """One taken off, two added, of which one was there already."""
    arrived = changed(
        relay,
        DeleteRecipient("b@y.example"),
        AddRecipient("d@y.example"),
        AddRecipient("c@y.example"),
        ChangeSender("bounces@x.example"),
    )
    assert arrived.recipients == ("c@y.example", "d@y.example")
    assert arrived.sender == "bounces@x.example"


def test_the_null_sender_can_be_set(relay: Relay) -> None:
    """As for a notice that must not bounce."""
    assert changed(relay, ChangeSender("")).sender == "<>"


def test_a_message_may_lose_all_its_recipients(relay: Relay) -> None:
    """Postfix says 250 and keeps nothing: as good as a discard, but its log does not say so."""
    relay.policy.rule = refusing(Stage.DATA, Decision(changes=(DeleteRecipient("b@y.example"),)))
    relay.send()
    (asked,) = relay.policy.asked(Stage.DATA)
    assert asked.message is not None
    relay.postfix.wait_for_log(f"{asked.message.queue_id}: removed")
    assert relay.postfix.ids() == set()
    assert "discard" not in relay.postfix.log.split(asked.message.queue_id or "?", 1)[1]


def test_a_decision_that_cannot_be_said_is_451(relay: Relay) -> None:
    """None of its changes are made."""
    changes = (AddHeader("X-A", "1"), AddRecipient("a@x> <b@y"))
    relay.policy.rule = refusing(Stage.DATA, Decision(changes=changes))
    with pytest.raises(smtplib.SMTPDataError, match="cannot be judged now"):
        relay.send()
    assert relay.postfix.ids() == set()


def test_each_recipient_is_judged_by_itself(relay: Relay) -> None:
    """The refused one does not hinder the others."""
    relay.policy.rule = lambda asked: (
        REFUSALS[0][0] if asked.envelope.recipients[-1:] == ("no@y.example",) else ACCEPT
    )
    with relay.client() as client:
        refused = client.sendmail(
            "a@x.example", ["b@y.example", "no@y.example", "c@y.example"], MAIL
        )
    assert list(refused) == ["no@y.example"]
    assert relay.arrived()[0].recipients == ("b@y.example", "c@y.example")
    (asked,) = relay.policy.asked(Stage.DATA)
    assert asked.envelope.recipients == ("b@y.example", "c@y.example")


def test_what_the_client_says_is_what_is_judged(relay: Relay) -> None:
    """SMTPUTF8 addresses, 8-bit text, quoted local parts, parameters that are none of ours."""
    mail = "Subject: grün\r\n\r\nkörper\r\n".encode()
    with relay.client() as client:
        client.ehlo()
        client.mail("grün@exämple.org", ("SMTPUTF8", "BODY=8BITMIME", f"SIZE={len(mail)}"))
        client.docmd('RCPT TO:<"a b"@y.example> NOTIFY=NEVER')
        client.data(mail)
    (asked,) = relay.policy.asked(Stage.DATA)
    assert asked.envelope.sender == "grün@exämple.org"
    assert asked.envelope.recipients == ('"a b"@y.example',)
    assert asked.message is not None
    assert asked.message.headers[0] == Header("Subject", " grün")
    assert asked.message.body == "körper\r\n".encode()
    assert relay.arrived()[0].sender == "grün@exämple.org"


def test_bytes_that_are_no_utf8_go_through(relay: Relay) -> None:
    """Latin-1 in a header and NUL in the body are judged, and arrive as they were."""
    changed(relay, AddHeader("X-B", "y"), mail=b"Subject: gr\xfcn\r\n\r\na\0b\xff\r\n")
    (asked,) = relay.policy.asked(Stage.DATA)
    assert asked.message is not None
    subject = asked.message.headers[0].value.encode("utf-8", "surrogateescape")
    assert (subject, asked.message.body) == (b" gr\xfcn", b"a\0b\xff\r\n")
    assert b"Subject: gr\xfcn\r\n" in relay.arrivals.mails[0].raw


def test_a_header_ends_at_a_nul_for_everybody(relay: Relay) -> None:
    """What stands behind it neither reaches the policy nor arrives, so nothing hides there."""
    relay.send(b"Subject: harmless\0 badword\r\nX-C: c\r\n\r\nbody\r\n")
    (asked,) = relay.policy.asked(Stage.DATA)
    assert asked.message is not None
    assert asked.message.headers[0] == Header("Subject", " harmless")
    assert b"badword" not in relay.arrived()[0].raw


def test_white_space_before_a_value_is_kept(relay: Relay) -> None:
    """Otherwise no DKIM signature over such a header could be verified, before or behind us."""
    relay.send(b"Subject:none\r\nX-T:\ttab\r\nX-D:  two\r\nX-F:\r\n folded\r\n\r\nbody\r\n")
    (asked,) = relay.policy.asked(Stage.DATA)
    assert asked.message is not None
    values = {header.name: header.value for header in asked.message.headers}
    assert [values[name] for name in ("Subject", "X-T", "X-D", "X-F")] == [
        *("none", "\ttab", "  two"),
        "\r\n folded",
    ]


@pytest.mark.parametrize("answers_body", [False, True], ids=["silent", "skipping"])
def test_a_big_mail_is_inspected_in_part_and_arrives_whole(
    relay: Relay, answers_body: bool
) -> None:
    """Its size is known where all of it was sent, and known to be more where it was skipped."""
    relay.policy.settings = judging(inspected_bytes=65_536)
    relay.door.door.answers_body = answers_body
    line = b"0123456789" * 7 + b"\r\n"
    body = line * 100_000
    relay.send(b"Subject: big\r\n\r\n" + body)
    (asked,) = relay.policy.asked(Stage.DATA)
    assert asked.message is not None
    assert asked.message.body == body[:65_536]
    if answers_body:
        assert 65_536 < asked.message.size_bytes < len(body)
    else:
        assert asked.message.size_bytes == len(body)
    assert relay.arrived()[0].raw.endswith(line * 3)
    assert relay.arrivals.mails[0].raw.count(line) == 100_000


def test_a_policy_that_judges_nothing_lets_mail_through(relay: Relay) -> None:
    """Then Postfix sends neither headers nor bodies, and waits for one answer a message."""
    relay.policy.settings = judging(is_active=False)
    relay.send()
    assert relay.arrived()[0].message["Subject"] == "hello"
    assert relay.policy.questions == []


@pytest.mark.parametrize("stage", [Stage.MAIL, Stage.RCPT, Stage.DATA])
def test_a_policy_that_judges_at_one_stage_is_asked_there_alone(relay: Relay, stage: Stage) -> None:
    """Its refusal arrives although Postfix waits for nothing else."""
    relay.policy.settings = judging(stage)
    relay.policy.rule = refusing(stage, REFUSALS[0][0])
    with pytest.raises((smtplib.SMTPSenderRefused, smtplib.SMTPRecipientsRefused,
                        smtplib.SMTPDataError)):  # fmt: skip
        relay.send()
    assert {asked.stage for asked in relay.policy.questions} == {stage}


def test_a_session_brings_several_messages(relay: Relay) -> None:
    """One after the other, with one that was broken off in between."""
    with relay.client() as client:
        client.sendmail("a@x.example", ["b@y.example"], MAIL)
        client.mail("lost@x.example")
        client.rcpt("lost@y.example")
        client.rset()
        client.sendmail("c@x.example", ["d@y.example"], MAIL)
    relay.arrived(2)
    judged = [(asked.envelope.sender, asked.envelope.recipients)
              for asked in relay.policy.asked(Stage.DATA)]  # fmt: skip
    assert judged == [("a@x.example", ("b@y.example",)), ("c@x.example", ("d@y.example",))]
    # the session of a test before this one may end late, too
    wait_for(lambda: 2 in [messages for _session, messages in relay.policy.ended])


def test_the_client_is_who_postfix_says(relay: Relay) -> None:
    """IPv6, a verified name, a login: through XCLIENT, as a proxy gives them."""
    with relay.client() as client:
        client.ehlo()
        given = "ADDR=IPV6:2001:db8::7 NAME=mx.x.example PORT=4711 LOGIN=jane"
        assert client.docmd("XCLIENT", given)[0] == 220
        client.ehlo("other.example")
        client.sendmail("a@x.example", ["b@y.example"], MAIL)
    session = relay.policy.asked(Stage.DATA)[0].session
    assert session.client.ip == ip_address("2001:db8::7")
    assert (session.client.name, session.client.port) == ("mx.x.example", 4711)
    assert (session.login, session.helo) == ("jane", "other.example")
    assert [asked.session.login for asked in relay.policy.asked(Stage.AUTH)] == ["jane"]


def slow(asked: Question, stage: Stage, delay_s: float):
    """Decide after a while at one stage."""

    async def decide() -> Decision:
        await asyncio.sleep(delay_s)
        return Decision(Verdict.REJECT, Reply(550, "5.7.1", "no, after a while"))

    return decide() if asked.stage is stage else ACCEPT


@pytest.mark.parametrize("stage", [Stage.RCPT, Stage.DATA])
def test_a_slow_decision_outlasts_the_time_that_postfix_waits(relay: Relay, stage: Stage) -> None:
    """`milter_command_timeout` is 6 s here, the decision takes 8 s, progress comes each second."""
    relay.policy.rule = lambda asked: slow(asked, stage, 8.0)
    relay.policy.settings = judging(decision_timeout_s=60)
    with pytest.raises((smtplib.SMTPRecipientsRefused, smtplib.SMTPDataError), match="a while"):
        relay.send()


def test_the_door_is_found_where_postfix_looks(whole_relay: Relay) -> None:
    """A path of a socket, as main.cf has it."""
    assert Path(whole_relay.door.path).is_socket()
