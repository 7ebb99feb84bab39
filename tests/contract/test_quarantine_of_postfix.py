"""The quarantine against a real Postfix: held by the milter, looked into, released or deleted."""

from __future__ import annotations

import asyncio
import os
import smtplib
import threading
import time
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from nodeagent.adapters.command_journal import CommandJournal
from nodeagent.adapters.queue_commands import CONTENT_BYTES, QueueCommands
from nodeagent.adapters.queue_scan import QueueScan, read_message
from nodeagent.core.queue_contract import (
    HeadersResult,
    HeadersWish,
    ItemState,
    QueueAnswer,
    QueueCommand,
    QueueName,
    QueueReport,
    QueueVerb,
)
from nodeagent.policy.document import PolicySettings
from nodeagent.policy.doors.milter_server import MilterDoor
from nodeagent.policy.log_wire import Door
from nodeagent.policy.model import ACCEPT, Decision, Envelope, Message, Session, Stage, Verdict
from nodeagent.policy.ports import CannotSay
from nodeagent.queue_reporter import QueueReporter
from tests.fakes.milter_postfix import MilterPostfix
from tests.fakes.postfix_instance import PostfixInstance

NONE: frozenset[str] = frozenset()
NOBODY = "4jWm8M3632zKH0Y"
LIMIT_S = 60.0

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Postfix is started by root only")


@dataclass
class HoldsEverything:
    """A policy that puts every message into quarantine, and notes which it was asked about."""

    settings: PolicySettings = field(default_factory=lambda: PolicySettings(is_active=True))
    judged: list[str | None] = field(default_factory=list)

    def decide_now(
        self,
        door: Door,
        stage: Stage,
        session: Session,
        envelope: Envelope,
        message: Message | None = None,
        *,
        cannot_say: CannotSay | None = None,
        stages: Collection[Stage] | None = None,
    ) -> Decision | None:
        """Hold what is whole."""
        del door, session, envelope, cannot_say, stages
        if stage is not Stage.DATA or message is None:
            return ACCEPT
        self.judged.append(message.queue_id)
        return Decision(Verdict.QUARANTINE)

    async def decide(self, *asked: Any) -> Decision:
        """Never needed: everything is decided at once."""
        raise NotImplementedError(asked)

    def end_connection(self, door: Door, session: Session, messages: int) -> None:
        """Nothing is written down."""


@dataclass
class Inbox:
    """Where released mail arrives."""

    bodies: list[bytes] = field(default_factory=list)

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802
        """Take it."""
        self.bodies.append(envelope.content)
        return "250 2.0.0 taken"


@dataclass
class Held:
    """A relay that holds all mail, and what lies behind it."""

    postfix: PostfixInstance
    policy: HoldsEverything
    inbox: Inbox

    @property
    def commands(self) -> QueueCommands:
        """Return the commands on this instance."""
        return QueueCommands(self.postfix.queue, self.postfix.config)

    def send(self, subject: str, content: bytes | None = None) -> str:
        """Send one message and return its queue id, once it is in hold."""
        before = self.postfix.ids("hold")
        with smtplib.SMTP("127.0.0.1", self.postfix.port, timeout=30) as client:
            mail = content or f"Subject: {subject}\r\n\r\nbody of {subject}\r\n".encode()
            client.sendmail("a@test.invalid", ["b@deliver.test"], mail)
        wait_for(lambda: len(self.postfix.ids("hold")) == len(before) + 1)
        (new,) = self.postfix.ids("hold") - before
        return new

    def do(self, verb: QueueVerb, *ids: str) -> dict[str, ItemState]:
        """Carry out one command; return what became of each message."""
        result = self.commands.execute(QueueCommand(action=1, verb=verb, ids=ids), NONE)
        assert result.error == ""
        return {one.id: one.state for one in result.items}

    def look_into(self, queue_id: str) -> HeadersResult:
        """Ask as the control plane does; return what the node's next batch says."""
        wish = HeadersWish(request=7, id=queue_id, has_preview=True)
        answers = [QueueAnswer(is_expected=True, headers=(wish,)), QueueAnswer(is_expected=True)]
        sent: list[QueueReport] = []

        def send(report: QueueReport) -> QueueAnswer:
            sent.append(report)
            return answers.pop(0)

        scan = QueueScan(self.postfix.queue, self.postfix.root / "relay")
        journal = CommandJournal(self.postfix.root / "journal.json")
        reporter = QueueReporter(scan, self.commands, journal, send)
        reporter.report()
        reporter.report()
        (result,) = sent[1].headers
        return HeadersResult.model_validate_json(result.model_dump_json())


def wait_for(is_so: Any) -> None:
    """Wait until it is so; the limit is generous."""
    until_s = time.monotonic() + LIMIT_S
    while not is_so():
        assert time.monotonic() < until_s
        time.sleep(0.05)


@contextmanager
def open_door(policy: HoldsEverything) -> Iterator[int]:
    """Serve milter connections on a free loopback port; give its number."""
    loop = asyncio.new_event_loop()
    thread = threading.Thread(target=loop.run_forever)
    thread.start()

    async def listen() -> tuple[MilterDoor, int]:
        door = MilterDoor(policy)
        return door, await door.listen_tcp("127.0.0.1", 0)

    try:
        door, port = asyncio.run_coroutine_threadsafe(listen(), loop).result(LIMIT_S)
        yield port
        asyncio.run_coroutine_threadsafe(door.close(grace_s=0.1), loop).result(LIMIT_S)
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join(LIMIT_S)
        loop.close()


@pytest.fixture(scope="module")
def held(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    """Run a Postfix whose every message is judged, whether it comes over SMTP or not."""
    policy, inbox = HoldsEverything(), Inbox()
    with open_door(policy) as port:
        milter = f"inet:127.0.0.1:{port}"
        settings = (f"smtpd_milters = {milter}", f"non_smtpd_milters = {milter}")
        postfix = MilterPostfix(tmp_path_factory.mktemp("postfix"), settings=settings)
        controller = Controller(inbox, hostname="127.0.0.1", port=postfix.next_hop)
        try:
            controller.start()
            postfix.start()
            yield Held(postfix, policy, inbox)
        finally:
            postfix.stop()
            controller.stop()


def listed(held: Held) -> dict[str, QueueName]:
    """Return the list as a node would send it."""
    found = QueueScan(held.postfix.queue, held.postfix.root / "relay").look()
    read = (read_message(name, stamp) for name, stamp in found.items())
    return {one.id: one.queue for one in read if one is not None}


def test_a_released_message_goes_out_at_once_and_is_not_judged_again(held: Held) -> None:
    """Judged once, held under the id that the milter was told, delivered whole on release."""
    queue_id = held.send("release me")
    assert held.policy.judged[-1] == queue_id
    assert listed(held)[queue_id] is QueueName.HOLD
    judged = len(held.policy.judged)
    assert held.do(QueueVerb.RELEASE, queue_id) == {queue_id: ItemState.DONE}
    wait_for(lambda: any(b"body of release me" in body for body in held.inbox.bodies))
    wait_for(lambda: queue_id not in held.postfix.ids())
    assert len(held.policy.judged) == judged
    assert held.do(QueueVerb.RELEASE, queue_id) == {queue_id: ItemState.NOT_FOUND}


def test_what_is_not_released_stays(held: Held) -> None:
    """The others are neither delivered nor touched."""
    one, other = held.send("stays"), held.send("goes")
    held.do(QueueVerb.RELEASE, other)
    wait_for(lambda: any(b"body of goes" in body for body in held.inbox.bodies))
    assert listed(held)[one] is QueueName.HOLD
    assert not any(b"body of stays" in body for body in held.inbox.bodies)
    held.do(QueueVerb.DELETE, one)


def test_a_deleted_message_is_gone(held: Held) -> None:
    """Nobody gets it."""
    queue_id = held.send("delete me")
    assert held.do(QueueVerb.DELETE, queue_id) == {queue_id: ItemState.DONE}
    assert queue_id not in held.postfix.ids()
    assert not any(b"delete me" in body for body in held.inbox.bodies)


def mail_with_attachments() -> bytes:
    """Return a mail as an attacker might write it."""
    mail = EmailMessage()
    mail["Subject"] = "An invoice"
    mail.set_content("Grüße\n\x1b[31mred\u202etxt.exe\n")
    mail.add_alternative("<p>Visible &amp; <b>bold</b></p><script>alert(1)</script>", "html")
    mail.add_attachment(b"MZ" + b"\0" * 98, "application", "octet-stream", filename="inv\u202e.exe")
    mail.add_attachment(b"%PDF-", "application", "pdf", filename="note.pdf")
    return mail.as_bytes(policy=mail.policy.clone(linesep="\r\n"))


def test_a_look_into_it_is_plain_text_and_names(held: Held) -> None:
    """Text of all parts without markup and control characters; of attachments no content."""
    queue_id = held.send("", mail_with_attachments())
    result = held.look_into(queue_id)
    assert result.headers is not None
    assert "Subject: An invoice" in result.headers
    preview = result.preview
    assert preview is not None
    assert "Grüße" in preview.text
    assert "Visible & bold" in preview.text
    assert not {"\x1b", "\u202e", "<"} & set(preview.text)
    assert "alert" not in preview.text
    assert [(one.name, one.type, one.size_bytes) for one in preview.attachments] == [
        ("inv\ufffd.exe", "application/octet-stream", 100),
        ("note.pdf", "application/pdf", 5),
    ]
    assert not preview.is_cut
    held.do(QueueVerb.DELETE, queue_id)


def test_a_big_mail_is_cut_and_says_so(held: Held) -> None:
    """No more than the limit is read, whatever the mail's size."""
    lines = (b"y" * 70 + b"\r\n") * (CONTENT_BYTES // 72 + 1000)
    queue_id = held.send("", b"Subject: big\r\n\r\nbegin\r\n" + lines)
    content = held.commands.content(queue_id)
    assert content is not None
    assert len(content) == CONTENT_BYTES + 1
    preview = held.look_into(queue_id).preview
    assert preview is not None
    assert preview.text.startswith("begin\nyyy")
    assert preview.is_cut
    held.do(QueueVerb.DELETE, queue_id)


def test_a_message_that_is_gone_has_no_preview(held: Held) -> None:
    """And no headers; nothing is made up."""
    result = held.look_into(NOBODY)
    assert (result.headers, result.preview) == (None, None)
    assert held.commands.content(NOBODY) is None
