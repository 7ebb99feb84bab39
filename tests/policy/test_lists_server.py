"""The lists' LMTP server between a real Postfix's LMTP client and its port without milters."""

from __future__ import annotations

import asyncio
import contextlib
import smtplib
import socket
import stat
import subprocess
import time
import tracemalloc
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import uvloop

from nodeagent.errors import BrokenState
from nodeagent.policy.codecs.list_headers import Subscriber
from nodeagent.policy.document import Category
from nodeagent.policy.doors import lists_server
from nodeagent.policy.doors.keeper import SmtpKeeper
from nodeagent.policy.doors.lists_server import ListsServer
from nodeagent.policy.model import Envelope, Header, Message
from nodeagent.policy.ports import MailKeeper, NotKept
from tests.fakes.http_hook import LoopThread
from tests.fakes.policy_desk import KeeperTwin
from tests.fakes.policy_postfix import PolicyPostfix, Stored

NEWS = Category(id=2, address="news@example.com", name="The news")
BRIEF = Message(
    headers=(Header("From", " a@b.test"), Header("List-Id", " <foreign.list>")),
    body=b"hello\r\n.\r\n..x\r\n",
    size_bytes=15,
)
TOKEN = "abcdefghijklmnop"


class Book:
    """Subscribers 1 to 9 of category 2; those in `gone` have left."""

    def __init__(self) -> None:
        self.gone: set[int] = set()
        self.dropped: list[tuple[Envelope, bytes, int]] = []
        self.is_full = False  # the disk of the log

    def find(self, subscription_id: int, category_id: int) -> Subscriber | None:
        """Return one of them."""
        if category_id != NEWS.id or subscription_id > 9 or subscription_id in self.gone:
            return None
        return Subscriber(f"s{subscription_id}@deliver.test", f"{TOKEN}{subscription_id}", NEWS)

    def has_ended(self, subscription_id: int) -> bool:
        """Tell of 1 to 9 that they were there."""
        return subscription_id <= 9

    def write_dropped(self, envelope: Envelope, message: Message, category_id: int) -> None:
        """Keep what is discarded."""
        if self.is_full:
            raise BrokenState("log.db cannot be used: disk is full.")
        self.dropped.append((envelope, message.body, category_id))


class BrokenKeeper(KeeperTwin):
    """Has a defect."""

    async def send(self, _envelope: Envelope, _message: Message) -> str:
        """Raise what no keeper may."""
        raise RuntimeError("a defect")


@pytest.fixture
def loop() -> Iterator[LoopThread]:
    """Give an event loop in a thread."""
    with LoopThread(uvloop.new_event_loop()) as thread:
        yield thread


class Lists:
    """The server at a path, to be started with a keeper."""

    def __init__(self, loop: LoopThread, path: Path, keeper: MailKeeper) -> None:
        self.loop, self.path, self.book = loop, path, Book()
        self._keeper = keeper
        self.server = loop.run(self._start())

    async def _start(self) -> ListsServer:
        url = "https://relay.example.com/unsubscribe"
        server = ListsServer(self.path, self.book, self._keeper, lambda: url)
        await server.start()
        return server

    def close(self) -> None:
        """Stop it."""
        self.loop.run(self.server.close())


@pytest.fixture
def keeper_twin() -> KeeperTwin:
    """Give a keeper without Postfix."""
    return KeeperTwin()


@pytest.fixture
def lists(loop: LoopThread, keeper_twin: KeeperTwin, tmp_path: Path) -> Iterator[Lists]:
    """Give the server without Postfix."""
    server = Lists(loop, tmp_path / "l.sock", keeper_twin)
    yield server
    server.close()


def lmtp(lists: Lists) -> smtplib.LMTP:
    """Return a client of it that has said LHLO."""
    client = smtplib.LMTP(str(lists.path))
    client.ehlo()
    return client


def transfer(
    client: smtplib.LMTP, raw: bytes, *recipients: str, sender: str = "a@b.test"
) -> list[str]:
    """Return the answers to a mail, one a recipient."""
    assert client.docmd("MAIL", f"FROM:<{sender}>")[0] == 250
    for one in recipients:
        assert client.docmd("RCPT", f"TO:<{one}>")[0] == 250
    assert client.docmd("DATA")[0] == 354
    client.send(raw + b".\r\n")
    answers = [client.getreply() for _ in recipients]
    return [f"{code} {text.decode()}" for code, text in answers]


def eventually(condition: Callable[[], bool]) -> None:
    """Wait for what the server's thread does in its own time."""
    until_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until_s
        time.sleep(0.01)


RAW = b"From: a@b.test\r\nSubject: x\r\n\r\nbody\r\n"


def test_each_subscriber_gets_an_answer_and_a_copy(lists: Lists, keeper_twin: KeeperTwin) -> None:
    """With his own way out of the list; the sender stays."""
    with lmtp(lists) as client:
        got = transfer(client, RAW, "1.2@list.relay.invalid", "2.2@list.relay.invalid")
    assert [one[:9] for one in got] == ["250 2.0.0", "250 2.0.0"]
    found = {
        mail.envelope.recipients[0]: dict(mail.message.headers)["List-Unsubscribe"]
        for mail in keeper_twin.kept
    }
    link = f"https://relay.example.com/unsubscribe/{TOKEN}"
    assert found == {"s1@deliver.test": f" <{link}1>", "s2@deliver.test": f" <{link}2>"}
    assert {mail.envelope.sender for mail in keeper_twin.kept} == {"a@b.test"}


def test_who_is_gone_gets_no_copy(lists: Lists, keeper_twin: KeeperTwin) -> None:
    """250 for him, so that Postfix lets the copy go; the others are not touched."""
    lists.book.gone = {1}
    recipients = ("1.2@list.relay.invalid", "2.2@list.relay.invalid", "2.3@list.relay.invalid")
    with lmtp(lists) as client:
        got = transfer(client, RAW, *recipients)
    assert [one[:3] for one in got] == ["250", "250", "250"]
    assert "ended" in got[0]
    assert lists.book.dropped == [
        (Envelope("a@b.test", (recipients[0],)), b"body\r\n", 2),
        (Envelope("a@b.test", (recipients[2],)), b"body\r\n", 3),
    ]
    assert [mail.envelope.recipients for mail in keeper_twin.kept] == [("s2@deliver.test",)]


def test_a_copy_is_not_dropped_without_a_line_in_the_log(
    lists: Lists, keeper_twin: KeeperTwin
) -> None:
    """Postfix keeps it until the disk takes the line; the others are not touched."""
    lists.book.gone, lists.book.is_full = {1}, True
    with lmtp(lists) as client:
        got = transfer(client, RAW, "1.2@list.relay.invalid", "2.2@list.relay.invalid")
        assert [one[:3] for one in got] == ["451", "250"]
        lists.book.is_full = False
        assert transfer(client, RAW, "1.2@list.relay.invalid")[0].startswith("250 2.1.5 ")
    assert len(lists.book.dropped) == 1
    assert len(keeper_twin.kept) == 1


def test_who_is_not_known_yet_has_to_wait(lists: Lists, keeper_twin: KeeperTwin) -> None:
    """Another node has a newer policy, and took the mail by it."""
    with lmtp(lists) as client:
        got = transfer(client, RAW, "10.2@list.relay.invalid", "9.2@list.relay.invalid")
    assert [one[:9] for one in got] == ["451 4.3.0", "250 2.0.0"]
    assert lists.book.dropped == []
    assert [mail.envelope.recipients for mail in keeper_twin.kept] == [("s9@deliver.test",)]


def test_a_mail_of_this_list_is_refused(lists: Lists, keeper_twin: KeeperTwin) -> None:
    """5.4.6: it would go round for ever."""
    with lmtp(lists) as client:
        raw = b"List-Id: <news.example.com>\r\n" + RAW
        assert transfer(client, raw, "1.2@list.relay.invalid")[0].startswith("554 5.4.6 ")
    assert keeper_twin.kept == []


def test_the_null_sender_stays(lists: Lists, keeper_twin: KeeperTwin) -> None:
    """A bounce that is for a list is a bounce for each subscriber."""
    with lmtp(lists) as client:
        transfer(client, RAW, "1.2@list.relay.invalid", sender="")
        transfer(client, RAW, "2.2@list.relay.invalid", sender="")
    assert [mail.envelope.sender for mail in keeper_twin.kept] == ["", ""]


@pytest.mark.parametrize(
    "sender", ['"a b>"@c.test', "a..b@c.test", ".a@c.test", "x" * 300 + "@c.test", "a@[192.0.2.1]"]
)
def test_any_sender_that_postfix_takes_is_taken(
    lists: Lists, keeper_twin: KeeperTwin, sender: str
) -> None:
    """What an address is was decided when the mail came in; a refusal here would bounce it."""
    with lmtp(lists) as client:
        transfer(client, RAW, "1.2@list.relay.invalid", sender=sender)
    assert keeper_twin.kept[0].envelope.sender == sender


def test_a_utf8_sender_is_taken(lists: Lists, keeper_twin: KeeperTwin) -> None:
    """With SMTPUTF8 (RFC 6531)."""
    with lmtp(lists) as client:
        assert client.has_extn("smtputf8")
        client.command_encoding = "utf-8"
        assert client.docmd("MAIL", "FROM:<jürgen@b.test> SMTPUTF8")[0] == 250
        assert client.docmd("RCPT", "TO:<1.2@list.relay.invalid>")[0] == 250
        assert client.docmd("DATA")[0] == 354
        client.send(RAW + b".\r\n")
        assert client.getreply()[0] == 250
    assert keeper_twin.kept[0].envelope.sender == "jürgen@b.test"


def test_long_lines_and_odd_bytes_are_taken(lists: Lists, keeper_twin: KeeperTwin) -> None:
    """Lines of 100 kB, NUL, bytes of no charset: a refusal would bounce the mail."""
    body = b"x" * 100_000 + b"\r\n\x00\xff\r\n"
    with lmtp(lists) as client:
        assert transfer(client, RAW + body, "1.2@list.relay.invalid")[0].startswith("250")
    assert keeper_twin.kept[0].message.body == b"body\r\n" + body


@pytest.mark.parametrize("recipient", ["bob@list.relay.invalid", "1.2@other.invalid", "x"])
def test_who_is_no_subscriber_is_refused(lists: Lists, recipient: str) -> None:
    """At RCPT."""
    with lmtp(lists) as client:
        client.docmd("MAIL", "FROM:<a@b.test>")
        assert client.docmd("RCPT", f"TO:<{recipient}>")[0] == 550


@pytest.mark.parametrize("command", ["RCPT TO:1.2@list.relay.invalid", "RCPT TO:<a", "RCPT <>"])
def test_commands_that_are_none_are_refused(lists: Lists, command: str) -> None:
    """With 5xx, and the session goes on."""
    with lmtp(lists) as client:
        client.docmd("MAIL", "FROM:<a@b.test>")
        assert 500 <= client.docmd(command)[0] < 600
        assert client.docmd("RCPT", "TO:<1.2@list.relay.invalid>")[0] == 250


def test_what_postfix_does_not_take_is_tried_again(lists: Lists, keeper_twin: KeeperTwin) -> None:
    """4xx; once it takes it, 250."""
    keeper_twin.is_down = True
    with lmtp(lists) as client:
        assert transfer(client, RAW, "1.2@list.relay.invalid")[0].startswith("451 4.3.0 ")
        keeper_twin.is_down = False
        assert transfer(client, RAW, "1.2@list.relay.invalid")[0].startswith("250 ")


def test_a_defect_ends_the_session_with_4xx(loop: LoopThread, tmp_path: Path) -> None:
    """Nothing is bounced for a fault of ours, and nobody waits for more answers."""
    lists = Lists(loop, tmp_path / "l.sock", BrokenKeeper())
    client = lmtp(lists)
    got = transfer(client, RAW, "1.2@list.relay.invalid")
    assert got[0].startswith("421 4.3.0 ")
    with pytest.raises(smtplib.SMTPServerDisconnected):
        client.noop()
    lists.close()


@pytest.mark.parametrize(
    ("constant", "answer"), [("MOST_MAIL_BYTES", "552 5.3.4 "), ("MOST_HELD_BYTES", "452 4.3.1 ")]
)
def test_a_mail_without_room_is_answered_for_each_recipient(
    lists: Lists,
    keeper_twin: KeeperTwin,
    monkeypatch: pytest.MonkeyPatch,
    *,
    constant: str,
    answer: str,
) -> None:
    """Nothing of it is kept, and the next one in the same session is taken."""
    monkeypatch.setattr(lists_server, constant, 200_000)
    both = ("1.2@list.relay.invalid", "2.2@list.relay.invalid")
    with lmtp(lists) as client:
        got = transfer(client, RAW + b"\r\n" * 150_000, *both)
        assert [one[: len(answer)] for one in got] == [answer, answer]
        assert keeper_twin.kept == []
        assert all(one.startswith("250 ") for one in transfer(client, RAW, *both))
    assert lists.server._held_bytes == 0


def test_room_is_for_all_sessions_together(
    lists: Lists, keeper_twin: KeeperTwin, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What one holds another does not have, until it is gone, also in the middle of its mail."""
    monkeypatch.setattr(lists_server, "MOST_HELD_BYTES", 200_000)
    first = lmtp(lists)
    for command in ("MAIL FROM:<a@b.test>", "RCPT TO:<1.2@list.relay.invalid>", "DATA"):
        assert first.docmd(command)[0] < 400
    first.send(RAW + b"x\r\n" * 50_000)
    eventually(lambda: lists.server._held_bytes > 150_000)
    with lmtp(lists) as second:
        mail = RAW + b"y\r\n" * 30_000
        assert transfer(second, mail, "2.2@list.relay.invalid")[0].startswith("452 4.3.1 ")
        first.close()
        eventually(lambda: lists.server._held_bytes == 0)
        assert transfer(second, mail, "2.2@list.relay.invalid")[0].startswith("250 ")
    assert [one.envelope.recipients for one in keeper_twin.kept] == [("s2@deliver.test",)]


def test_a_mail_of_empty_lines_takes_the_room_of_its_bytes(lists: Lists) -> None:
    """A list of its lines would take 85 times as much."""
    tracemalloc.start()
    try:
        with lmtp(lists) as client:
            mail = RAW + b"\r\n" * 1_000_000
            assert transfer(client, mail, "1.2@list.relay.invalid")[0].startswith("250 ")
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 10 * len(mail)  # the client's own copies are in it


def test_who_does_not_wait_for_the_answer_is_no_postfix(
    lists: Lists, keeper_twin: KeeperTwin
) -> None:
    """What comes behind the end of a mail ends the session, and nothing was taken."""
    client = lmtp(lists)
    for command in ("MAIL FROM:<a@b.test>", "RCPT TO:<1.2@list.relay.invalid>", "DATA"):
        assert client.docmd(command)[0] < 400
    client.send(RAW + b".\r\nMAIL FROM:<b@b.test>\r\n")
    assert client.getreply()[0] == 421
    assert keeper_twin.kept == []


def test_data_comes_behind_a_recipient_and_alone(lists: Lists) -> None:
    """Otherwise 5xx, and the session goes on."""
    with lmtp(lists) as client:
        assert client.docmd("DATA")[0] == 503
        client.docmd("MAIL", "FROM:<a@b.test>")
        assert client.docmd("DATA")[0] == 503
        client.docmd("RCPT", "TO:<1.2@list.relay.invalid>")
        assert client.docmd("DATA", "now")[0] == 501
        assert client.noop()[0] == 250


def test_the_socket_is_for_postfix_alone(lists: Lists) -> None:
    """Its group may connect, others may not; a stale one is replaced, a closed one is gone."""
    found = lists.path.stat()
    assert stat.S_IMODE(found.st_mode) == 0o660
    assert lists.path.group() == "postfix"
    lists.close()
    assert not lists.path.exists()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(lists.path))
    lists.loop.run(lists.server.start())
    with lmtp(lists) as client:
        assert client.noop()[0] == 250


@pytest.fixture
def postfix(policy_postfix: PolicyPostfix) -> Iterator[PolicyPostfix]:
    """Give the instance, and empty it afterwards."""
    yield policy_postfix
    policy_postfix.empty()


@pytest.fixture
def keeper(postfix: PolicyPostfix) -> SmtpKeeper:
    """Give a keeper for it."""
    return SmtpKeeper(hold_port=postfix.hold_port, send_port=postfix.send_port)


@pytest.fixture
def real(loop: LoopThread, postfix: PolicyPostfix, keeper: SmtpKeeper) -> Iterator[Lists]:
    """Give the server where Postfix hands the lists' mail to."""
    server = Lists(loop, postfix.lists_socket, keeper)
    yield server
    server.close()


def send(keeper: SmtpKeeper, message: Message, *ids: int, sender: str = "a@b.test") -> str:
    """Send a mail to these subscribers, as the HTTP door does."""
    recipients = tuple(f"{one}.2@list.relay.invalid" for one in ids)
    return asyncio.run(keeper.send(Envelope(sender, recipients), message))


def copies(postfix: PolicyPostfix) -> dict[str, Stored]:
    """Return the deferred copies by their only recipient, without what goes on meanwhile."""
    found = []
    for queue_id in postfix.ids("deferred"):
        with contextlib.suppress(subprocess.CalledProcessError):
            found.append(postfix.stored(queue_id))
    return {one.recipients[0]: one for one in found if len(one.recipients) == 1}


@pytest.mark.usefixtures("real")
def test_postfix_brings_each_subscriber_a_copy(postfix: PolicyPostfix, keeper: SmtpKeeper) -> None:
    """Once each: queue, transport, LMTP, and back through the port without milters."""
    first = send(keeper, BRIEF, 1, 2, 3)
    postfix.wait_until(lambda: len(copies(postfix)) == 3 and first not in postfix.ids())
    found = copies(postfix)
    assert set(found) == {f"s{number}@deliver.test" for number in (1, 2, 3)}
    for number in (1, 2, 3):
        copy = found[f"s{number}@deliver.test"]
        link = f"<https://relay.example.com/unsubscribe/{TOKEN}{number}>"
        assert copy.values("List-Unsubscribe") == [link]
        assert copy.values("List-Unsubscribe-Post") == ["List-Unsubscribe=One-Click"]
        assert copy.values("List-Id") == ['"The news" <news.example.com>']
        assert copy.sender == "a@b.test"
        assert copy.body.removeprefix("\n") == "hello\n.\n..x\n"


def test_postfix_lets_who_left_go_and_keeps_who_has_to_wait(
    real: Lists, postfix: PolicyPostfix, keeper: SmtpKeeper
) -> None:
    """Nothing bounces."""
    real.book.gone = {2}
    gone = send(keeper, BRIEF, 2)
    postfix.wait_until(lambda: not postfix.ids())
    postfix.wait_until(lambda: any("ended" in line for line in postfix.log_lines(gone)))


def test_postfix_keeps_the_mail_while_the_lists_are_away(
    loop: LoopThread, postfix: PolicyPostfix, keeper: SmtpKeeper
) -> None:
    """It is deferred, and brought when they are back."""
    waiting = send(keeper, BRIEF, 4)
    postfix.wait_until(lambda: postfix.ids("deferred") == {waiting})
    server = Lists(loop, postfix.lists_socket, keeper)

    def is_brought() -> bool:
        if waiting in postfix.ids("deferred"):
            postfix.retry()
        return set(copies(postfix)) == {"s4@deliver.test"}

    postfix.wait_until(is_brought)
    server.close()


@pytest.mark.usefixtures("real")
def test_a_copy_that_comes_back_is_bounced_to_its_sender(
    postfix: PolicyPostfix, keeper: SmtpKeeper
) -> None:
    """It does not go round: one failure notice, no second copy."""
    own = Message(headers=(*BRIEF.headers, Header("X-Relay-List", " <news.example.com>")))
    send(keeper, own, 5)
    postfix.wait_until(lambda: set(copies(postfix)) == {"a@b.test"})
    assert copies(postfix)["a@b.test"].sender == ""
    postfix.wait_until(lambda: bool(postfix.log_lines("dsn=5.4.6")))


@pytest.mark.usefixtures("real")
def test_a_mail_with_a_null_sender_reaches_subscribers(
    postfix: PolicyPostfix, keeper: SmtpKeeper
) -> None:
    """Its copy has a null sender, too."""
    send(keeper, BRIEF, 6, sender="")
    postfix.wait_until(lambda: "s6@deliver.test" in copies(postfix))
    assert copies(postfix)["s6@deliver.test"].sender == ""


def test_the_keeper_twin_refuses_as_the_real_one_does(keeper: SmtpKeeper) -> None:
    """A mail without recipients, and one that was cut off."""
    for one in (keeper, KeeperTwin()):
        with pytest.raises(NotKept):
            asyncio.run(one.send(Envelope("a@b.test"), BRIEF))
        half = Message(body=b"x", size_bytes=2)
        with pytest.raises(NotKept):
            asyncio.run(one.send(Envelope("a@b.test", ("b@c.test",)), half))
