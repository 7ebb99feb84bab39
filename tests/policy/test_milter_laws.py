"""Laws of a milter session: whatever comes and is decided, who waits gets one answer."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeagent.policy.codecs import milter_packets as wire
from nodeagent.policy.codecs.list_headers import list_id, subscriber_ids
from nodeagent.policy.codecs.milter import MilterError, Packet, Steps
from nodeagent.policy.codecs.milter_content import Content, address_in
from nodeagent.policy.codecs.milter_packets import REPLIES
from nodeagent.policy.codecs.milter_replies import (
    LONGEST_TEXT,
    Inexpressible,
    Speaker,
    header_value,
    printable,
    refusal,
)
from nodeagent.policy.codecs.milter_session import MilterSession
from nodeagent.policy.codecs.milter_stream import PacketStream, encode
from nodeagent.policy.codecs.milter_terms import NO_REPLY
from nodeagent.policy.document import Category
from nodeagent.policy.model import (
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    Decision,
    DeleteRecipient,
    Fired,
    Reply,
    RuleKind,
    Stage,
    Verdict,
)
from nodeagent.policy.places import LIST_DOMAIN
from tests.fakes.milter_dialogue import CLIENT, POSTFIX_OFFERS, Dialogue, judging

some = settings(max_examples=80)
ALL_ACTIONS = 0x1FF
wild = st.text(st.characters(codec=None), max_size=12)
texts = st.sampled_from(["", "no", "a\r\nb", "100%", "ä", "x\0y", " ", "\udcff", "z" * 600]) | wild
addresses = st.sampled_from(["b@y.example", "", "a b@x", '"a b"@x.example', "a>b@x", "ä@x.example"])
replies = st.none() | st.builds(
    Reply,
    st.sampled_from([550, 451, 421, 250, 0, 99, 5500, -1]),
    st.sampled_from(["5.7.1", "4.7.1", "2.0.0", "", "5.7", "5.7.1\r\n", "5.7.1000"]),
    texts,
)
names = st.sampled_from(["X-A", "Subject", "X A", "", "X:", "ä", "X" * 200, "X" * 201])
changes = st.one_of(
    st.builds(AddHeader, names, texts),
    st.builds(ChangeHeader, names, st.sampled_from([-1, 0, 1, 2, 2**31 - 1, 2**31]), texts),
    st.builds(AddRecipient, addresses),
    st.builds(DeleteRecipient, addresses),
    st.builds(ChangeSender, addresses),
)
fired = st.builds(Fired, st.just(RuleKind.PLUGIN), texts, texts, st.sampled_from(Verdict))
decisions = st.builds(
    Decision,
    st.sampled_from(Verdict),
    replies,
    st.lists(changes, max_size=3).map(tuple),
    st.lists(fired, max_size=2).map(tuple),
)
COMMANDS: tuple[Packet, ...] = (
    CLIENT,
    wire.Helo("client.example"),
    wire.Macros(b"M", (("{auth_authen}", "alice"),)),
    wire.Mail(("<a@x.example>", "SIZE=1")),
    wire.Mail(("<>",)),
    wire.Rcpt(("<b@y.example>",)),
    wire.Data(),
    wire.HeaderField("Subject", " hello\n\tyou"),
    wire.EndOfHeaders(),
    wire.Body(b"body\r\n"),
    wire.EndOfMessage(b"rest"),
    wire.Abort(),
    wire.QuitNewConnection(),
    wire.UnknownCommand("XYZZY"),
)
BEGINNINGS = ((), (COMMANDS[0],), (COMMANDS[0], COMMANDS[3]), (COMMANDS[0], *COMMANDS[3:6:2]))
packets = st.builds(
    lambda first, others: [*first, *others],
    st.sampled_from(BEGINNINGS),
    st.lists(st.sampled_from(COMMANDS), max_size=12),
)
stages = st.sets(st.sampled_from(Stage)).map(tuple)
offers = st.sampled_from(
    [POSTFIX_OFFERS, wire.Negotiate(6, 0, 0), wire.Negotiate(2, ALL_ACTIONS, 0)]
)
FINAL = (
    *(wire.Continue, wire.Accept, wire.Reject, wire.TempFail, wire.Discard, wire.ReplyCode),
    wire.Skip,
)
NEVER_ANSWERED = (wire.Macros, wire.Abort, wire.Quit, wire.QuitNewConnection)


@some
@given(packets, stages, offers, st.lists(decisions, min_size=1, max_size=4), st.booleans())
def test_who_waits_is_answered_once_and_nobody_else(
    said: list[Packet],
    judged: tuple[Stage, ...],
    offered: wire.Negotiate,
    decided: list[Decision],
    answers_body: bool,
) -> None:
    """For any order of packets and any decisions; what makes no sense is a `MilterError`."""
    queue = list(decided)

    def decide(_asked: object) -> Decision:
        queue.append(queue.pop(0))
        return queue[-1]

    settings_ = judging(*judged) if judged else judging().model_copy(update={"stages": ()})
    dialogue = Dialogue(MilterSession(settings_, answers_body=answers_body), decide)
    (agreed,) = dialogue.say(offered)
    assert isinstance(agreed, wire.Negotiate)
    silent = {kind for kind, step in NO_REPLY.items() if step & Steps(agreed.steps)}
    for packet in said:
        try:
            sent = dialogue.say(packet)
        except MilterError:
            continue
        if type(packet) in silent or isinstance(packet, NEVER_ANSWERED):
            assert sent == []
        else:
            assert [isinstance(one, FINAL) for one in sent] == [False] * (len(sent) - 1) + [True]
        if not isinstance(packet, wire.EndOfMessage):
            assert len(sent) <= 1  # changes are made at the end of a message only
        stream = PacketStream(REPLIES)
        stream.feed(b"".join(map(encode, sent)))
        assert list(stream) == sent
        assert dialogue.session.held_bytes >= 0


@some
@given(packets, st.sampled_from([wire.Abort(), wire.Quit(), wire.QuitNewConnection()]))
def test_nothing_is_held_of_a_message_that_is_over(said: list[Packet], last: Packet) -> None:
    """However far it had come."""
    dialogue = Dialogue(MilterSession(judging()))
    dialogue.say(POSTFIX_OFFERS)
    for packet in said:
        try:
            dialogue.say(packet)
        except MilterError:
            continue
    dialogue.say(last)
    assert dialogue.session.held_bytes == 0


@some
@given(packets)
def test_messages_are_counted_by_their_ends(said: list[Packet]) -> None:
    """Each session tells how many it brought, and who the client was."""
    dialogue = Dialogue(MilterSession(judging()))
    dialogue.say(POSTFIX_OFFERS)
    ends = 0
    for packet in (*said, wire.Quit()):
        try:
            dialogue.say(packet)
        except MilterError:
            continue
        ends += isinstance(packet, wire.EndOfMessage)
    assert sum(one.messages for one in dialogue.ended) == ends
    assert len([one for one in dialogue.asked if one.stage is Stage.DATA]) == ends
    assert all(one.session is None or one.session.client.port == 4711 for one in dialogue.ended)
    assert [one.goes_on for one in dialogue.ended][-1] is False


@given(st.sampled_from([Verdict.REJECT, Verdict.TEMPFAIL]), replies)
def test_a_refusal_is_one_reply_of_its_own_class(verdict: Verdict, reply: Reply | None) -> None:
    """Whatever a plugin put into it: Postfix gives 451 4.3.5 for what is malformed."""
    text = refusal(verdict, reply).text.replace("%%", "")
    digit = "5" if verdict is Verdict.REJECT else "4"
    assert re.fullmatch(rf"{digit}\d\d {digit}\.\d{{1,3}}\.\d{{1,3}} [ -~]+", text)
    assert "%" not in text
    assert len(text) <= LONGEST_TEXT + len("550 5.777.777 ")
    if reply is not None and str(reply.code).startswith(digit) and len(str(reply.code)) == 3:
        assert text.startswith(str(reply.code))


@given(texts, st.booleans())
def test_a_headers_value_stays_one_header(value: str, has_leading_space: bool) -> None:
    """No line break but a fold, no empty line, no NUL; cleaned twice it is the same."""
    clean = header_value(value, has_leading_space=has_leading_space)
    first, *folds = clean.split("\n")
    assert not set("\r\0") & set(clean)
    assert all(line[0] in " \t" and line.strip() for line in folds)
    if has_leading_space:
        assert first[:1] in {" ", "\t"}
        assert header_value(clean, has_leading_space=True) == clean


@given(st.lists(changes, max_size=4).map(tuple), st.integers(0, ALL_ACTIONS))
def test_changes_are_all_said_or_none_is(made: tuple[object, ...], actions: int) -> None:
    """What was not offered, or would be read as something else, fails as a whole."""
    speaker = Speaker(actions, has_leading_space=True)
    decision = Decision(changes=made)  # type: ignore[arg-type]
    try:
        *said, last = speaker.message(decision)
    except Inexpressible:
        return
    assert last == wire.Accept()
    additions = {one.address for one in made if isinstance(one, AddRecipient)}
    others = [one for one in made if not isinstance(one, AddRecipient)]
    assert len(said) == len(others) + len(additions)
    for packet in said:
        if isinstance(packet, wire.AddRecipient | wire.DeleteRecipient):
            assert re.fullmatch(r"<[^<>\r\n\0]+>", packet.text)
    edits = [one.index for one in said if isinstance(one, wire.ChangeHeader)]
    assert edits == sorted(edits, reverse=True)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (AddHeader("X A", "b"), "a header's name has characters that no name may have, or none"),
        (AddHeader("X:", "b"), "a header's name has characters that no name may have, or none"),
        (AddHeader("", "b"), "a header's name has characters that no name may have, or none"),
        (
            AddHeader("x" * 201, "b"),
            "a header's name has characters that no name may have, or none",
        ),
        (ChangeHeader("X", 0, "b"), "headers are counted from 1"),
        (ChangeHeader("X", 2**31, "b"), "headers are counted from 1"),
        (AddRecipient(""), "a recipient without an address"),
        (DeleteRecipient(""), "a recipient without an address"),
        *(
            (AddRecipient(address), "an address has characters that would make it another one")
            for address in (
                "a@x,b@x",
                "a>b@x",
                "a b@x",
                'a"@x',
                "a(b)@x",
                "a@x\n",
                "a;b@x",
                '"a\n"@x',
            )
        ),
        (ChangeSender("a b@x"), "an address has characters that would make it another one"),
    ],
)
def test_what_cannot_be_said_is_told_in_one_sentence(change: object, sentence: str) -> None:
    """It is logged, and the mail is put off."""
    with pytest.raises(Inexpressible) as caught:
        Speaker(ALL_ACTIONS, has_leading_space=True).message(
            Decision(changes=(change,))  # type: ignore[arg-type]
        )
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("change", "packet", "action", "name"),
    [
        (AddHeader("X-A", "b"), wire.AddHeader("X-A", " b"), 0, "ADD_HEADERS"),
        (ChangeHeader("X-A", 2, "b"), wire.ChangeHeader(2, "X-A", " b"), 4, "CHANGE_HEADERS"),
        (ChangeHeader("X-A", 1, ""), wire.ChangeHeader(1, "X-A", ""), 4, "CHANGE_HEADERS"),
        (AddRecipient("a@x"), wire.AddRecipient("<a@x>"), 2, "ADD_RECIPIENTS"),
        (AddRecipient('"a b"@x'), wire.AddRecipient('<"a b"@x>'), 2, "ADD_RECIPIENTS"),
        (DeleteRecipient("a@x"), wire.DeleteRecipient("<a@x>"), 3, "DELETE_RECIPIENTS"),
        (ChangeSender("a@x"), wire.ChangeSender("<a@x>"), 6, "CHANGE_SENDER"),
        (ChangeSender(""), wire.ChangeSender("<>"), 6, "CHANGE_SENDER"),
    ],
)
def test_each_change_needs_the_action_it_is(
    change: object, packet: Packet, action: int, name: str
) -> None:
    """With that bit alone it is said, with all others it is not."""
    decision = Decision(changes=(change,))  # type: ignore[arg-type]
    alone = Speaker(1 << action, has_leading_space=True)
    assert alone.message(decision) == (packet, wire.Accept())
    without = Speaker(ALL_ACTIONS & ~(1 << action), has_leading_space=True)
    with pytest.raises(Inexpressible, match=f"^the MTA did not offer {name}$"):
        without.message(decision)


@pytest.mark.parametrize(
    ("text", "longest", "shown"),
    [
        ("", 5, ""),
        ("  a  ", 5, "a"),
        ("abcdef", 5, "abcde"),
        ("abcd ef", 5, "abcd"),
        ("\r\n", 5, "?"),
        ("a\tb", 5, "a?b"),
        ("äöü", 5, "?"),
        ("ä ö", 5, "? ?"),
    ],
)
def test_a_text_is_cut_behind_its_cleaning(text: str, longest: int, shown: str) -> None:
    """So many bad characters in a row take the room of one."""
    assert printable(text, longest) == shown


@given(st.lists(st.binary(max_size=9), max_size=12), st.integers(0, 40))
def test_what_is_kept_of_a_body_is_its_beginning(parts: list[bytes], limit_bytes: int) -> None:
    """Up to the limit, however it was cut; all of it is counted."""
    content = Content()
    for part in parts:
        content.add_body(part, limit_bytes)
    whole = b"".join(parts)
    message = content.message("4Xyz")
    assert message.body == whole[:limit_bytes]
    assert message.size_bytes == len(whole)
    assert message.is_whole is (len(whole) <= limit_bytes)
    assert content.held_bytes == len(message.body)


@given(st.text(alphabet='ab<>@. "', max_size=8))
def test_one_pair_of_brackets_is_taken_off(address: str) -> None:
    """No more, and none where one of them is missing."""
    assert address_in(f"<{address}>") == address
    if not (address.startswith("<") and address.endswith(">")):
        assert address_in(address) == address


@pytest.mark.parametrize(
    ("local", "ids"),
    [
        ("1.1", (1, 1)),
        ("12.345", (12, 345)),
        ("9999999999999999.1", (9999999999999999, 1)),
        ("10000000000000000.1", None),
        *((wrong, None) for wrong in ("", "1", "1.", ".1", "0.1", "1.0", "01.1", "1.1.1", "-1.1")),
        *((wrong, None) for wrong in ("1.1 ", " 1.1", "1.1\n", "a.b", "1,1", "\u0661.\u0661")),
    ],
)
def test_a_recipient_of_the_list_transport_names_two_numbers(
    local: str, ids: tuple[int, int] | None
) -> None:
    """In one way each, so that no two recipients are the same subscription."""
    assert subscriber_ids(f"{local}@{LIST_DOMAIN}") == ids
    assert subscriber_ids(f"{local}@{LIST_DOMAIN.upper()}") == ids
    assert subscriber_ids(f"{local}@x{LIST_DOMAIN}") is None
    assert subscriber_ids(local) is None


@pytest.mark.parametrize(
    ("address", "identifier"),
    [
        ("news@example.com", "news.example.com"),
        ("News@Example.COM", "news.example.com"),
        ("a.b@example.com", "a.b.example.com"),
        ("a+b@example.com", "a-b.example.com"),
        ("a_b-c@example.com", "a_b-c.example.com"),
        ("größe@example.com", "gr-e.example.com"),
        ('"a b"@example.com', "-a-b-.example.com"),
        ('"a..b"@example.com', "-a.b-.example.com"),
        ('"."@example.com', "-.-.example.com"),
    ],
)
def test_a_list_has_an_identifier_of_labels(address: str, identifier: str) -> None:
    """RFC 2919, 3: nothing that a header could not hold."""
    assert list_id(Category(id=1, address=address)) == identifier
