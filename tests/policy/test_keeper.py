"""The keeper and a real Postfix: what it says is kept is in its queue, whole and exact."""

from __future__ import annotations

import asyncio
import smtplib
from collections.abc import Callable, Coroutine, Iterator
from typing import Any

import pytest

from nodeagent.policy.doors import keeper as keeper_module
from nodeagent.policy.doors.keeper import SmtpKeeper
from nodeagent.policy.model import Envelope, Header, Message
from nodeagent.policy.ports import NotKept
from tests.fakes.next_hop import NextHop
from tests.fakes.policy_postfix import REFUSED, PolicyPostfix
from tests.fakes.postfix_instance import free_port

ENVELOPE = Envelope("John+x@example.test", ("Bob@deliver.test", "eve@deliver.test"))
BODY = b"line\r\n.\r\n..two\r\n\r\nbytes \xff\xe9\r\nlast without end"


def message(body: bytes = BODY, *headers: Header) -> Message:
    """Return a mail."""
    given = headers or (Header("From", " a@b.test"), Header("Subject", " one\r\n two"))
    return Message(headers=given, body=body, size_bytes=len(body))


@pytest.fixture
def postfix(policy_postfix: PolicyPostfix) -> Iterator[PolicyPostfix]:
    """Give the instance, and empty it afterwards."""
    yield policy_postfix
    policy_postfix.empty()


@pytest.fixture
def keeper(postfix: PolicyPostfix) -> SmtpKeeper:
    """Give a keeper for it, with time for many recipients."""
    return SmtpKeeper(hold_port=postfix.hold_port, send_port=postfix.send_port, timeout_s=250)


def hold(keeper: SmtpKeeper, mail: Message, envelope: Envelope = ENVELOPE, why: str = "x") -> str:
    """Hold a mail."""
    return asyncio.run(keeper.hold(envelope, mail, why))


def refusal(work: Coroutine[Any, Any, str]) -> str:
    """Return why a mail was not kept."""
    with pytest.raises(NotKept) as refused:
        asyncio.run(work)
    return str(refused.value)


def test_a_held_mail_is_in_the_hold_queue(keeper: SmtpKeeper, postfix: PolicyPostfix) -> None:
    """Under the id that was returned, and in no other queue."""
    queue_id = hold(keeper, message())
    assert postfix.ids("hold") == {queue_id}
    assert postfix.ids() == {queue_id}


def test_a_kept_mail_is_exact(keeper: SmtpKeeper, postfix: PolicyPostfix) -> None:
    """Sender, recipients, headers, dots, and bytes of no charset; only its end is completed."""
    stored = postfix.stored(hold(keeper, message()))
    assert stored.sender == ENVELOPE.sender
    assert stored.recipients == ENVELOPE.recipients
    assert stored.values("Subject") == ["one two"]
    body = BODY.decode("utf-8", "surrogateescape").replace("\r\n", "\n") + "\n"
    assert stored.body.removeprefix("\n") == body


def test_the_reason_stands_in_a_header(keeper: SmtpKeeper, postfix: PolicyPostfix) -> None:
    """One line of it, and no header that the sender made up."""
    mail = message(b"x\r\n", Header("x-relay-quarantine", " forged"), Header("From", " a@b.test"))
    stored = postfix.stored(hold(keeper, mail, why="badword:17\r\nBcc: x\x00 für " + "y" * 900))
    (value,) = stored.values("X-Relay-Quarantine")
    assert value.startswith("badword:17 Bcc: x  f r yyy")
    assert len(value) == 500
    assert stored.values("Bcc") == []


@pytest.mark.parametrize("why", ["", " ", "\x00\r\n"])
def test_a_reason_is_never_empty(keeper: SmtpKeeper, postfix: PolicyPostfix, why: str) -> None:
    """The header would not be one."""
    stored = postfix.stored(hold(keeper, message(), why=why))
    assert stored.values("X-Relay-Quarantine") == ["policy"]


def test_a_sent_mail_goes_its_way(keeper: SmtpKeeper, postfix: PolicyPostfix) -> None:
    """Nobody listens at the next hop of the test, so it is deferred."""
    queue_id = asyncio.run(keeper.send(ENVELOPE, message()))
    postfix.wait_until(lambda: postfix.ids("deferred") == {queue_id})
    stored = postfix.stored(queue_id)
    assert stored.values("X-Relay-Quarantine") == []
    assert stored.recipients == ENVELOPE.recipients


def test_a_bounce_keeps_its_null_sender(keeper: SmtpKeeper, postfix: PolicyPostfix) -> None:
    """<> is a sender like any other."""
    queue_id = hold(keeper, message(), Envelope("", ("bob@deliver.test",)))
    assert postfix.stored(queue_id).sender == ""


@pytest.mark.parametrize(
    "address",
    ['"odd name"@deliver.test', "jürgen@deliver.test", "a.b-c_d=e/f@deliver.test", "x@[192.0.2.1]"],
)
def test_odd_addresses_are_kept_as_they_are(
    keeper: SmtpKeeper, postfix: PolicyPostfix, address: str
) -> None:
    """Quoted, in UTF-8, with an address literal."""
    queue_id = hold(keeper, message(), Envelope(address, (address, "bob@deliver.test")))
    stored = postfix.stored(queue_id)
    unquoted = address.replace('"', "")  # as Postfix writes it into its queue
    assert stored.sender == unquoted
    assert stored.recipients == (unquoted, "bob@deliver.test")


def test_many_recipients_are_one_mail(keeper: SmtpKeeper, postfix: PolicyPostfix) -> None:
    """More than Postfix's default of 1,000 in one transaction: the port's own limit holds."""
    recipients = tuple(f"u{number}@deliver.test" for number in range(1500))
    queue_id = asyncio.run(keeper.send(Envelope("a@b.test", recipients), message()))
    postfix.wait_until(lambda: postfix.ids("deferred") == {queue_id})
    assert len(postfix.stored(queue_id).recipients) == 1500


def test_one_refused_recipient_refuses_the_mail(keeper: SmtpKeeper, postfix: PolicyPostfix) -> None:
    """All or nothing, no address named. What Postfix began, it drops a moment later."""
    envelope = Envelope("a@b.test", ("bob@deliver.test", REFUSED, "eve@deliver.test"))
    said = refusal(keeper.hold(envelope, message(), "x"))
    assert said == "Postfix refused recipient 2 of 3: 554 5.7.1"
    postfix.wait_until(lambda: postfix.ids() == set())


def test_a_mail_that_was_cut_off_is_not_kept(keeper: SmtpKeeper, postfix: PolicyPostfix) -> None:
    """Half a mail is no mail."""
    half = Message(headers=message().headers, body=b"half", size_bytes=8)
    assert refusal(keeper.send(ENVELOPE, half)) == "only 4 of 8 bytes are here"
    assert postfix.ids() == set()


def test_a_mail_that_postfix_finds_too_big_is_not_kept(
    keeper: SmtpKeeper, postfix: PolicyPostfix
) -> None:
    """It says so at MAIL already."""
    said = refusal(keeper.send(ENVELOPE, message(b"x" * 31_000_000)))
    assert said == "Postfix did not take the mail: 552 5.3.4"
    assert postfix.ids() == set()


BAD_ENVELOPES = [
    Envelope(None, ("bob@deliver.test",)),
    Envelope("a@b.test", ()),
    Envelope("a@b.test", ("",)),
    Envelope("a@b.test>\r\nRCPT TO:<x@y.test", ("bob@deliver.test",)),
    Envelope("a@b.test", ("bob@deliver.test\nDATA",)),
    Envelope("a@b.test", ("bob@deliver.test> NOTIFY=NEVER",)),
    Envelope("a\x00@b.test", ("bob@deliver.test",)),
]


@pytest.mark.parametrize("envelope", BAD_ENVELOPES)
def test_an_envelope_that_cannot_go_over_smtp_is_refused(
    keeper: SmtpKeeper, postfix: PolicyPostfix, envelope: Envelope
) -> None:
    """No address can bring a command of its own."""
    said = refusal(keeper.send(envelope, message()))
    assert "cannot be kept" in said or "no address can have" in said
    assert postfix.ids() == set()


def test_without_postfix_nothing_is_kept() -> None:
    """Nobody listens."""
    keeper = SmtpKeeper(hold_port=free_port(), send_port=free_port())
    assert refusal(keeper.hold(ENVELOPE, message(), "x")).startswith("Postfix did not take")


@pytest.mark.parametrize(
    ("answers", "said"),
    [
        ({"MAIL": "451 4.3.1 no space"}, "Postfix did not take the mail: 451 4.3.1"),
        ({"RCPT": "250 2.1.5 ok", "DATA": "451 4.3.0 no"}, "Postfix did not take the mail: 451"),
        ({"EHLO": "421 4.3.2 going down"}, "Postfix did not take the mail: 421"),
        ({"RCPT": "421 bye"}, "Postfix refused recipient 1 of 2: 421"),
    ],
)
def test_each_refusal_of_a_server_is_not_kept(answers: dict[str, str], said: str) -> None:
    """At each step of the transaction."""
    with NextHop(answers=answers).serve() as server:
        keeper = SmtpKeeper(send_port=server.port)
        assert refusal(keeper.send(ENVELOPE, message())).startswith(said)


def test_a_server_that_says_nothing_is_given_up(
    silent_port: Callable[[], int],
) -> None:
    """After the keeper's time, so that the MTA gets an answer before it gives up."""
    keeper = SmtpKeeper(send_port=silent_port(), timeout_s=0.3)
    assert refusal(keeper.send(ENVELOPE, message())) == "Postfix took more than 0.3 s"


class Taker:
    """Takes each mail with a queue id, and does at QUIT what it was given."""

    def __init__(self, at_quit: str | None) -> None:
        self.at_quit = at_quit
        self.taken = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Serve one client."""
        writer.write(b"220 taker\r\n")
        while line := (await reader.readline()).decode().strip():
            verb = line.partition(" ")[0].upper()
            if verb == "QUIT" and self.at_quit is not None:
                writer.write(self.at_quit.encode())
                break
            if verb == "DATA":
                writer.write(b"354 go on\r\n")
                await reader.readuntil(b"\r\n.\r\n")
                self.taken += 1
                writer.write(b"250 2.0.0 Ok: queued as 4bXyz1\r\n")
            elif verb != "QUIT":  # at which it says nothing, and stays
                writer.write(b"250 ok\r\n")
        writer.close()

    async def keep(self, keeper_of: Callable[[int], SmtpKeeper]) -> str:
        """Return what the keeper says of a mail that it hands over here."""
        server = await asyncio.start_server(self, "127.0.0.1", 0)
        try:
            return await keeper_of(server.sockets[0].getsockname()[1]).send(ENVELOPE, message())
        finally:
            server.close()


@pytest.mark.parametrize("at_quit", [None, "", "421 4.3.2 going down\r\n", "no reply\r\n"])
def test_a_mail_that_was_taken_is_kept_whatever_comes_at_quit(
    at_quit: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The answer to the mail counts: the sender would send a second one otherwise."""
    monkeypatch.setattr(keeper_module, "QUIT_S", 0.1)
    taker = Taker(at_quit)
    # without an end of its own the goodbye would use up the mail's time
    assert (
        asyncio.run(taker.keep(lambda port: SmtpKeeper(send_port=port, timeout_s=60))) == "4bXyz1"
    )
    assert taker.taken == 1


def test_postfix_stays_usable_after_refusals(keeper: SmtpKeeper, postfix: PolicyPostfix) -> None:
    """Sessions were ended in order: by QUIT, no broken connection in its log."""
    before = len(postfix.log_lines("lost connection"))
    refusal(keeper.hold(Envelope("a@b.test", (REFUSED,)), message(), "x"))
    hold(keeper, message())
    with smtplib.SMTP("127.0.0.1", postfix.hold_port, timeout=30) as client:
        assert client.noop()[0] == 250
    assert len(postfix.log_lines("lost connection")) == before
