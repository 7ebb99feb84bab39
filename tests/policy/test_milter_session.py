"""The milter session: what packets mean, what is asked, and what the MTA is told to leave out."""

from __future__ import annotations

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.codecs import milter_packets as wire
from nodeagent.policy.codecs.milter import (
    Actions,
    BadPacket,
    MilterError,
    OutOfOrder,
    Packet,
    Steps,
)
from nodeagent.policy.codecs.milter_content import address_in, client_of
from nodeagent.policy.codecs.milter_packets import COMMANDS
from nodeagent.policy.codecs.milter_session import STATES, Ask, Ended, MilterSession
from nodeagent.policy.document import PolicySettings
from nodeagent.policy.model import (
    ACCEPT,
    AddHeader,
    Client,
    Decision,
    Envelope,
    Header,
    Message,
    Reply,
    RuleKind,
    Session,
    Stage,
    Verdict,
)
from nodeagent.policy.ports import Unjudged, unjudged
from tests.fakes.milter_dialogue import (
    CLIENT,
    MESSAGE,
    POSTFIX_OFFERS,
    Dialogue,
    dialogue,
    envelope,
    judging,
    whole,
)
from tests.policy.test_milter_packets import ANY_COMMAND

GO_ON = [wire.Continue()]
REFUSED = Decision(Verdict.REJECT, Reply(550, "5.7.1", "no"))
LATER = unjudged(Unjudged.MEMORY, Verdict.TEMPFAIL, Reply(451, "4.3.2", "later"))


def refusing(*stages: Stage, decision: Decision = REFUSED):
    """Return a policy that refuses at these stages."""
    return lambda asked: decision if asked.stage in stages else ACCEPT


# Negotiation


def terms(settings: PolicySettings, offers: wire.Negotiate = POSTFIX_OFFERS) -> wire.Negotiate:
    """Return what is agreed."""
    (agreed,) = Dialogue(MilterSession(settings)).say(offers)
    assert isinstance(agreed, wire.Negotiate)
    return agreed


def test_a_policy_that_judges_everywhere_is_answered_at_each_stage() -> None:
    """CONNECT, MAIL and RCPT wait for a reply; HELO, headers and body never do."""
    steps = Steps(terms(judging()).steps)
    waits = Steps.NO_REPLY_CONNECT | Steps.NO_REPLY_MAIL
    assert Steps.NO_REPLY_HELO in steps
    assert not steps & (waits | Steps.NO_REPLY_RCPT | Steps.NO_BODY | Steps.NO_HEADERS)
    assert Steps.NO_REPLY_HEADER in steps
    assert Steps.NO_REPLY_BODY in steps
    assert Steps.LEADING_SPACE in steps
    assert Steps.NO_DATA | Steps.NO_UNKNOWN | Steps.NO_END_OF_HEADERS in steps


@pytest.mark.parametrize(
    ("stage", "step"),
    [
        (Stage.CONNECT, Steps.NO_REPLY_CONNECT),
        (Stage.RCPT, Steps.NO_REPLY_RCPT),
        (Stage.DATA, Steps.NO_BODY | Steps.NO_HEADERS),
    ],
)
def test_a_stage_that_is_not_judged_costs_no_round_trip(stage: Stage, step: Steps) -> None:
    """The MTA is told not to wait, or not to send at all."""
    others = [one for one in Stage if one is not stage]
    assert step in Steps(terms(judging(*others)).steps)
    assert not step & Steps(terms(judging(stage)).steps)


def test_mail_waits_when_helo_or_login_or_sender_are_judged() -> None:
    """The login is known from MAIL on, and a refused HELO is answered there."""
    waiting = {Stage.EHLO, Stage.AUTH, Stage.MAIL}
    for stages, waits in (((stage,), stage in waiting) for stage in Stage):
        assert (Steps.NO_REPLY_MAIL not in Steps(terms(judging(*stages)).steps)) is waits


def test_a_policy_that_is_not_active_wants_nothing() -> None:
    """No content, no waiting; each message is accepted at its end."""
    said = dialogue(PolicySettings(is_active=False))
    assert said.say(CLIENT, wire.Helo("h"), *envelope(), wire.EndOfMessage(b"")) == [wire.Accept()]
    assert said.asked == []
    assert Steps.NO_BODY | Steps.NO_HEADERS in Steps(terms(PolicySettings()).steps)


@given(st.integers(0, 2**32 - 1), st.integers(0, 2**32 - 1), st.integers(2, 100))
def test_nothing_is_agreed_that_was_not_offered(actions: int, steps: int, version: int) -> None:
    """Postfix closes the connection when a filter wants an action that it did not offer."""
    agreed = terms(judging(), wire.Negotiate(version, actions, steps))
    assert agreed.actions & ~actions == 0
    assert agreed.steps & ~steps == 0
    assert agreed.version == min(6, version)
    assert bool(agreed.macros) is bool(actions & Actions.SET_MACROS)


def test_a_protocol_that_is_too_old_is_refused() -> None:
    """Version 1 is from another century."""
    with pytest.raises(OutOfOrder, match="version 1"):
        terms(judging(), wire.Negotiate(1, 0x1FF, 0))


def test_an_mta_that_waits_for_everything_is_answered_everywhere() -> None:
    """An MTA that offers no flags gets a reply to each packet but macros and abort."""
    said = dialogue(offers=wire.Negotiate(2, 0x1F, 0))
    packets = [CLIENT, wire.Helo("h"), *envelope(), wire.Data(), *MESSAGE[:2]]
    packets += [wire.EndOfHeaders(), wire.Body(b"x"), wire.UnknownCommand("XYZ")]
    for packet in packets:
        assert said.say(wire.Macros(packet.code)) == []
        assert said.say(packet) == GO_ON, packet
    assert said.say(wire.Abort()) == []


# The client


@pytest.mark.parametrize(
    ("packet", "client"),
    [
        (CLIENT, Client(ip_address("192.0.2.7"), 4711, "client.example")),
        (wire.Connect("[192.0.2.7]", "4", 1, "192.0.2.7"), Client(ip_address("192.0.2.7"), 1)),
        (wire.Connect("v6", "6", 2, "2001:db8::1"), Client(ip_address("2001:db8::1"), 2, "v6")),
        (wire.Connect("v6", "6", 2, "IPv6:2001:db8::1"), Client(ip_address("2001:db8::1"), 2,
                                                                "v6")),
        (wire.Connect("v6", "6", 2, "ipv6:fe80::1%eth0"), Client(ip_address("fe80::1"), 2, "v6")),
        (wire.Connect("m", "6", 3, "::ffff:192.0.2.7"), Client(ip_address("192.0.2.7"), 3, "m")),
        (wire.Connect("localhost", "L", 0, "/run/x"), Client(None, 0, "localhost")),
        (wire.Connect("unknown"), Client(None, 0, None)),
    ],
)  # fmt: skip
def test_a_client_is_known_by_its_address(packet: wire.Connect, client: Client) -> None:
    """IPv4, IPv6 as Postfix and as Sendmail write it, UNIX sockets, and unknown ones."""
    said = dialogue()
    assert said.say(packet) == GO_ON
    assert said.asked == [Ask(Stage.CONNECT, Session(client), Envelope())]


@pytest.mark.parametrize("address", ["", "unknown", "192.0.2", "IPv6:", "2001:db8::1::"])
def test_an_address_that_is_none_is_an_error(address: str) -> None:
    """A blocklist must not be passed by an address that cannot be read."""
    with pytest.raises(BadPacket, match="no IP address"):
        client_of(wire.Connect("x", "6", 0, address))


def test_encryption_and_login_come_from_macros() -> None:
    """TLS is known at HELO, the login at MAIL; AUTH is judged there once a login."""
    said = dialogue()
    tls = ("{tls_version}", "TLSv1.3")
    said.say(CLIENT, wire.Helo("h"), wire.Macros(b"H", (tls,)), wire.Helo("h2"))
    login = wire.Macros(b"M", (("{auth_authen}", "jane"), tls))
    for _ in range(2):
        said.say(login, *whole())
    assert said.stages() == [
        *(Stage.CONNECT, Stage.EHLO, Stage.EHLO),
        *(Stage.AUTH, Stage.MAIL, Stage.RCPT, Stage.DATA),
        *(Stage.MAIL, Stage.RCPT, Stage.DATA),
    ]
    assert said.asked[1].session.is_encrypted is False
    assert said.asked[2].session.is_encrypted is True
    assert said.asked[2].session.helo == "h2"
    assert said.asked[3].session.login == "jane"
    assert said.asked[3].envelope == Envelope()


def test_a_login_that_was_refused_is_judged_again() -> None:
    """Each MAIL of that session is refused until the policy accepts the login."""
    said = dialogue(judging(Stage.AUTH), refusing(Stage.AUTH))
    said.say(CLIENT, wire.Helo("h"))
    login = wire.Macros(b"M", (("{auth_authen}", "jane"),))
    for _ in range(2):
        assert said.say(login, wire.Mail(("<a@x>",))) == [wire.ReplyCode("550 5.7.1 no")]
    assert said.stages() == [Stage.AUTH, Stage.AUTH]
    assert said.say(wire.Mail(("<a@x>",))) == GO_ON


# The envelope


@pytest.mark.parametrize(
    ("argument", "address"),
    [
        ("<a@x.example>", "a@x.example"),
        ("a@x.example", "a@x.example"),
        ("<>", ""),
        ('<"a b>"@x.example>', '"a b>"@x.example'),
        ("<grün@exämple.org>", "grün@exämple.org"),
        ("<a@x.example", "<a@x.example"),
    ],
)
def test_an_address_loses_its_angle_brackets_and_nothing_else(argument: str, address: str) -> None:
    """It is judged as the client wrote it."""
    assert address_in(argument) == address


def test_a_recipient_is_judged_with_those_before_it() -> None:
    """At RCPT the accepted ones come first and the current one last; refused ones are gone."""
    rejected = "no@y.example"
    said = dialogue(decides=lambda asked: REFUSED if rejected in asked.envelope.recipients[-1:]
                    else ACCEPT)  # fmt: skip
    said.say(CLIENT, wire.Helo("h"))
    sent = said.say(*envelope("b@y.example", rejected, "c@y.example"))
    assert sent == [*GO_ON, *GO_ON, wire.ReplyCode("550 5.7.1 no"), *GO_ON]
    at_rcpt = [asked.envelope for asked in said.asked if asked.stage is Stage.RCPT]
    assert [one.recipients for one in at_rcpt] == [
        ("b@y.example",),
        ("b@y.example", rejected),
        ("b@y.example", "c@y.example"),
    ]
    said.say(*MESSAGE, wire.EndOfMessage(b""))
    assert said.asked[-1].envelope == Envelope("a@x.example", ("b@y.example", "c@y.example"))


def test_a_refused_sender_begins_no_message() -> None:
    """After that a recipient comes out of order, another sender does not."""
    said = dialogue(decides=refusing(Stage.MAIL))
    said.say(CLIENT, wire.Helo("h"))
    assert said.say(wire.Mail(("<a@x>",))) == [wire.ReplyCode("550 5.7.1 no")]
    with pytest.raises(OutOfOrder, match="Rcpt came in the state SESSION"):
        said.say(wire.Rcpt(("<b@y>",)))
    said = dialogue(decides=refusing(Stage.MAIL))
    said.say(CLIENT, wire.Mail(("<a@x>",)), wire.Mail(("<b@x>",)))
    assert said.asked[-1].envelope == Envelope("b@x")


def test_the_null_sender_is_not_no_sender() -> None:
    """A bounce has the empty sender, a session before MAIL has none."""
    said = dialogue()
    said.say(CLIENT, wire.Mail(("<>",)))
    assert said.asked[0].envelope.sender is None
    assert said.asked[1].envelope.sender == ""


# The message


def test_a_message_is_judged_as_it_came() -> None:
    """Leading spaces and folds of headers are kept for DKIM, the queue id comes by macro."""
    said = dialogue()
    said.say(CLIENT, wire.Helo("h"), *envelope())
    said.say(
        wire.HeaderField("Subject", " one\n\ttwo\r\n three"),
        wire.HeaderField("X", "none"),
        wire.Body(b"a\r\n"),
        wire.Body(b"b\r\n"),
        wire.Macros(b"E", (("i", "4fXz"),)),
    )
    assert said.say(wire.EndOfMessage(b"end")) == [wire.Accept()]
    assert said.asked[-1].message == Message(
        (Header("Subject", " one\r\n\ttwo\r\n three"), Header("X", "none")),
        b"a\r\nb\r\nend",
        9,
        "4fXz",
    )


def test_bytes_that_are_no_utf8_reach_the_policy() -> None:
    """They stand as surrogates in headers and as they are in the body."""
    said = dialogue()
    said.say(CLIENT, *envelope(), wire.HeaderField("S", " \udcfc"), wire.Body(b"\xfc\0"))
    said.say(wire.EndOfMessage(b""))
    message = said.asked[-1].message
    assert message is not None
    assert message.headers[0].value.encode("utf-8", "surrogateescape") == b" \xfc"
    assert message.body == b"\xfc\0"


@given(st.lists(st.integers(0, 40_000), max_size=8))
def test_a_long_body_is_cut_and_counted(sizes: list[int]) -> None:
    """`body` has at most `inspected_bytes`, `size_bytes` is what came."""
    limit = 65_536
    said = dialogue(judging(inspected_bytes=limit))
    said.say(CLIENT, *envelope(), *(wire.Body(b"x" * size) for size in sizes))
    assert said.session.held_bytes < limit + 1000
    said.say(wire.EndOfMessage(b""))
    message = said.asked[-1].message
    assert message is not None
    assert len(message.body) == min(limit, sum(sizes))
    assert message.size_bytes == sum(sizes)
    assert message.is_whole is (sum(sizes) <= limit)


def test_the_rest_of_a_long_body_is_skipped_where_the_mta_waits_for_answers() -> None:
    """SKIP answers the part that goes over the limit; what comes all the same is dropped."""
    said = dialogue(judging(inspected_bytes=65_536), answers_body=True)
    said.say(CLIENT, *envelope())
    assert said.say(wire.Body(b"x" * 65_536)) == GO_ON
    assert said.say(wire.Body(b"x")) == [wire.Skip()]
    assert said.say(wire.Body(b"x" * 100)) == [wire.Skip()]
    said.say(wire.EndOfMessage(b""))
    message = said.asked[-1].message
    assert message is not None
    assert not message.is_whole


def test_an_mta_that_cannot_skip_is_told_to_go_on() -> None:
    """SKIP is an offer, as everything is."""
    offers = wire.Negotiate(6, 0x1FF, 0x1FFFFF & ~Steps.SKIP)
    said = dialogue(judging(inspected_bytes=65_536), offers=offers, answers_body=True)
    said.say(CLIENT, *envelope())
    assert said.say(wire.Body(b"x" * 70_000)) == GO_ON


def test_endless_headers_are_refused() -> None:
    """Many small headers take memory beyond their text; the message is refused at its end."""
    said = dialogue(judging(inspected_bytes=65_536))
    said.say(CLIENT, *envelope())
    for _ in range(2000):
        said.say(wire.HeaderField("a", ""))
        assert said.session.held_bytes < 70_000
    (reply,) = said.say(wire.Body(b"x"), wire.EndOfMessage(b""))
    assert reply == wire.ReplyCode("552 5.3.4 The headers of this message are too long")
    (refused,) = said.refused
    assert refused.decision.fired[0].rule == "hook:headers"
    assert (refused.asked.stage, refused.asked.envelope.recipients) == (
        Stage.DATA,
        ("b@y.example",),
    )
    assert said.say(*whole()) == [*GO_ON, *GO_ON, wire.Accept()]


def test_a_message_that_is_given_up_is_refused_at_its_end() -> None:
    """Its memory is free at once, nobody judges it, and the next one is taken."""
    said = dialogue()
    said.say(CLIENT, *envelope(), *MESSAGE)
    assert said.session.held_bytes > 100
    said.session.give_up_message(LATER)
    assert said.session.held_bytes < 200
    assert said.say(wire.Body(b"y" * 1000)) == []
    assert said.refused == []
    queue_id = wire.Macros(b"E", (("i", "4AbC"),))
    assert said.say(queue_id, wire.EndOfMessage(b"")) == [wire.ReplyCode("451 4.3.2 later")]
    (refused,) = said.refused
    assert refused.decision is LATER
    message = refused.asked.message
    assert message is not None
    assert (message.queue_id, message.size_bytes, message.headers) == ("4AbC", 1006, ())
    assert Stage.DATA not in said.stages()
    assert said.say(*whole())[-1] == wire.Accept()


def test_recipients_of_a_given_up_message_are_refused_and_not_kept() -> None:
    """A client that sends nothing but recipients gets no further."""
    said = dialogue()
    said.say(CLIENT, *envelope())
    said.session.give_up_message(LATER)
    before = said.session.held_bytes
    assert said.say(wire.Rcpt(("<c@y>",))) == [wire.ReplyCode("451 4.3.2 later")]
    assert said.session.held_bytes == before
    (refused,) = said.refused
    assert (refused.asked.stage, refused.asked.message) == (Stage.RCPT, None)
    assert refused.asked.envelope.recipients[-1] == "c@y"


def test_what_was_given_up_and_then_ended_by_the_client_is_no_refusal() -> None:
    """Nobody was answered anything."""
    said = dialogue()
    said.say(CLIENT, *envelope(), *MESSAGE)
    said.session.give_up_message(LATER)
    said.say(wire.Abort())
    assert said.refused == []
    assert said.say(*whole())[-1] == wire.Accept()


def test_what_cannot_be_said_to_this_mta_is_told_apart_from_what_was_decided() -> None:
    """The decision was to accept, the answer is 451: the log needs to know."""
    said = dialogue(decides=lambda _asked: Decision(changes=(AddHeader("X A", "b"),)))
    assert said.say(CLIENT, *whole())[-1].text.startswith("451 4.3.0 ")
    (refused,) = said.refused
    assert refused.decision.verdict is Verdict.TEMPFAIL
    fired = refused.decision.fired[0]
    assert (fired.rule, fired.kind) == ("hook:unsayable", RuleKind.FAULT)
    assert "header's name" in (fired.matched or "")
    assert refused.asked.message is not None


def test_what_is_being_judged_counts_as_held() -> None:
    """Until the decision is there."""
    said = dialogue()
    said.say(CLIENT, *envelope(), *MESSAGE)
    held = said.session.held_bytes
    assert isinstance(said.session.receive(wire.EndOfMessage(b"")), Ask)
    assert said.session.held_bytes == held
    said.session.answer(ACCEPT)
    assert said.session.held_bytes == 0


# Several messages, several sessions


def test_a_session_brings_several_messages() -> None:
    """Nothing of one is in the next, also when it was aborted in the middle."""
    said = dialogue()
    said.say(CLIENT, wire.Helo("h"), *whole("one@y"), wire.Abort())
    said.say(*envelope("lost@y"), *MESSAGE, wire.Abort())
    said.say(*whole("two@y"), wire.Abort(), wire.Abort(), wire.Quit())
    judged = [asked for asked in said.asked if asked.stage is Stage.DATA]
    assert [one.envelope.recipients for one in judged] == [("one@y",), ("two@y",)]
    assert all(one.message and len(one.message.headers) == 2 for one in judged)
    (ended,) = said.ended
    assert (ended.messages, ended.goes_on) == (2, False)
    assert ended.session is not None
    assert ended.session.helo == "h"


def test_a_socket_brings_several_sessions() -> None:
    """QUIT_NC ends a session; the next client begins anew, with what was negotiated."""
    said = dialogue()
    login = wire.Macros(b"M", (("{auth_authen}", "jane"),))
    said.say(CLIENT, wire.Helo("h"), login, *whole(), wire.QuitNewConnection())
    said.say(wire.Connect("other", "4", 1, "192.0.2.9"), *whole(), wire.QuitNewConnection())
    assert [(one.messages, one.goes_on) for one in said.ended] == [(1, True), (1, True)]
    assert said.asked[-1].session == Session(Client(ip_address("192.0.2.9"), 1, "other"))


def test_macros_do_not_outlive_their_packet() -> None:
    """A login of one MAIL is not that of the next."""
    said = dialogue(judging(Stage.MAIL))
    said.say(CLIENT, wire.Macros(b"M", (("{auth_authen}", "jane"),)), *envelope(), wire.Abort())
    said.say(*envelope())
    assert [asked.session.login for asked in said.asked] == ["jane", None]


def test_the_end_of_a_connection_ends_its_session() -> None:
    """Without a client there was none."""
    said = dialogue()
    assert said.session.end() == Ended(None, 0, goes_on=False)
    said.say(CLIENT, wire.Helo("h"), *whole(), *envelope(), *MESSAGE)
    ended = said.session.end()
    assert ended.session is not None
    assert ended.messages == 1
    assert said.session.end() == Ended(None, 0, goes_on=False)


def test_a_crowded_door_refuses_each_client() -> None:
    """It waits for the connection's answer even when the policy does not judge there."""
    session = MilterSession(judging(Stage.DATA), LATER)
    said = Dialogue(session)
    (agreed,) = said.say(POSTFIX_OFFERS)
    assert isinstance(agreed, wire.Negotiate)
    assert Steps.NO_REPLY_CONNECT not in Steps(agreed.steps)
    assert said.say(CLIENT) == [wire.ReplyCode("451 4.3.2 later")]
    (refused,) = said.refused
    assert (refused.asked.stage, refused.asked.session.client.port) == (Stage.CONNECT, 4711)
    assert said.session.end().session is None


# Order


@given(st.lists(ANY_COMMAND, max_size=12), st.booleans())
def test_any_order_of_packets_is_taken_or_named(packets: list[Packet], negotiates: bool) -> None:
    """Nothing but `MilterError` comes out, whatever an MTA sends."""
    said = dialogue() if negotiates else Dialogue(MilterSession(judging()))
    try:
        for packet in packets:
            said.say(packet)
    except MilterError:
        return
    assert said.session.end().goes_on is False


@pytest.mark.parametrize("packet", [CLIENT, *whole(), wire.Helo("h"), wire.Abort(), wire.Data()])
def test_nothing_comes_before_the_negotiation(packet: Packet) -> None:
    """Without terms nobody knows which packets are answered."""
    with pytest.raises(OutOfOrder, match="NEW"):
        Dialogue(MilterSession(judging())).say(packet)


@pytest.mark.parametrize(
    ("before", "packet"),
    [
        ((), POSTFIX_OFFERS),
        ((), wire.Helo("h")),
        ((), wire.Mail(("<a@x>",))),
        ((CLIENT,), CLIENT),
        ((CLIENT,), wire.Rcpt(("<b@y>",))),
        ((CLIENT,), MESSAGE[0]),
        ((CLIENT,), wire.Body(b"x")),
        ((CLIENT,), wire.EndOfMessage(b"")),
        ((CLIENT, *envelope(), wire.Body(b"x")), MESSAGE[0]),
        ((CLIENT, *envelope(), wire.EndOfHeaders()), MESSAGE[0]),
        ((CLIENT, *envelope(), MESSAGE[0]), wire.Rcpt(("<c@y>",))),
        ((CLIENT, *envelope(), MESSAGE[0]), wire.Mail(("<c@y>",))),
    ],
)
def test_a_packet_out_of_order_is_named(before: tuple[Packet, ...], packet: Packet) -> None:
    """The error says which packet, and in which state."""
    said = dialogue()
    said.say(*before)
    with pytest.raises(OutOfOrder, match=type(packet).__name__):
        said.say(packet)


def test_nothing_is_taken_while_a_decision_is_pending() -> None:
    """The door waits; and an answer needs a question."""
    said = dialogue()
    assert isinstance(said.session.receive(CLIENT), Ask)
    with pytest.raises(OutOfOrder):
        said.session.receive(wire.Helo("h"))
    said.session.answer(ACCEPT)
    with pytest.raises(OutOfOrder, match="nobody asked for"):
        said.session.answer(ACCEPT)


def test_every_command_has_its_place_in_the_order() -> None:
    """The table of states names all commands, and the session takes each of them."""
    assert set(STATES) == set(COMMANDS.values()) == set(MilterSession.TAKES)


# Decisions before the message


@pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.EHLO, Stage.MAIL, Stage.RCPT])
@pytest.mark.parametrize("verdict", [Verdict.ACCEPT, Verdict.DISCARD, Verdict.QUARANTINE])
def test_only_refusals_act_before_the_message(stage: Stage, verdict: Verdict) -> None:
    """DISCARD and QUARANTINE are for messages; before that the session goes on."""
    said = dialogue(decides=refusing(stage, decision=Decision(verdict)))
    sent = said.say(CLIENT, wire.Helo("h"), *envelope())
    assert sent == GO_ON * 3


@pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.EHLO, Stage.MAIL, Stage.RCPT, Stage.DATA])
@pytest.mark.parametrize(
    ("verdict", "reply", "text"),
    [
        (Verdict.REJECT, Reply(550, "5.7.1", "no"), "550 5.7.1 no"),
        (Verdict.REJECT, None, "550 5.7.1 Refused by this relay's policy"),
        (Verdict.TEMPFAIL, Reply(450, "4.2.0", "later"), "450 4.2.0 later"),
        (Verdict.TEMPFAIL, None, "451 4.7.1 Refused for now by this relay's policy"),
    ],
)
def test_refusals_act_at_every_stage(
    stage: Stage, verdict: Verdict, reply: Reply | None, text: str
) -> None:
    """With code, enhanced code and text of the decision."""
    said = dialogue(decides=refusing(stage, decision=Decision(verdict, reply)))
    place = (Stage.CONNECT, Stage.MAIL, Stage.RCPT, Stage.DATA).index(
        Stage.MAIL if stage is Stage.EHLO else stage
    )
    sent: list[Packet] = []
    for packet in (CLIENT, wire.Helo("h"), *whole()):
        sent += said.say(packet)
        if len(sent) > place:
            break
    assert sent[-1] == wire.ReplyCode(text)


def test_a_refused_helo_is_answered_at_each_mail_until_another_one() -> None:
    """Nothing else of such a message is judged."""
    said = dialogue(decides=lambda asked: REFUSED if asked.session.helo == "bad" else ACCEPT)
    assert said.say(CLIENT, wire.Helo("bad")) == GO_ON
    for _ in range(2):
        assert said.say(wire.Mail(("<a@x>",))) == [wire.ReplyCode("550 5.7.1 no")]
    assert said.stages() == [Stage.CONNECT, Stage.EHLO]
    assert said.say(wire.Helo("good"), *whole())[-1] == wire.Accept()
