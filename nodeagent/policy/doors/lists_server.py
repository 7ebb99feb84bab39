"""The LMTP server that Postfix hands the mails of categories to, a recipient a subscriber.

Theory of operation. The hook replaced a category's address by one recipient a subscriber,
"SUBSCRIPTION.CATEGORY@list.relay.invalid", so Postfix's queue keeps track of each of them. Postfix
brings them here over LMTP (RFC 2033) on a UNIX socket; each gets an answer of its own: 250 only
after Postfix took that subscriber's copy, with his own headers, on the port without milters; 4xx
when it did not, so that Postfix tries that one again. The copy of a subscriber who is gone
meanwhile is discarded with 250, and the log says so first. Whom the policy in force does not know
yet, another node knows already: 4xx. The envelope sender stays: bounces go where the mail came
from.

Postfix brings many mails at once, and a stranger chose their lines: a mail is received in one piece
and quoted in pieces, and of all together no more is held than there is room for.
"""

from __future__ import annotations

import asyncio
import collections
import contextlib
import logging
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

import structlog
from aiosmtpd.lmtp import LMTP
from aiosmtpd.smtp import SMTP, Session
from aiosmtpd.smtp import Envelope as Transaction

from nodeagent.errors import AgentError
from nodeagent.policy.codecs.list_headers import (
    Subscriber,
    for_subscriber,
    is_from,
    subscriber_ids,
)
from nodeagent.policy.codecs.smtp_data import DataStream, received
from nodeagent.policy.doors.listening import unix_listener
from nodeagent.policy.model import NULL_SENDER, Envelope, Message
from nodeagent.policy.ports import MailKeeper, NotKept
from nodeagent.policy.raw_message import from_bytes

MIB: Final = 1024 * 1024
COPIES_AT_ONCE: Final = 8
MOST_MAIL_BYTES: Final = 128 * MIB
MOST_HELD_BYTES: Final = 192 * MIB
"""Of all mails that are being received or handed over; for a moment one takes three times that."""
BACKLOG: Final = 128

_PATH: Final = re.compile(r'\s*<((?:[^<>"]|"(?:[^"\\]|\\.)*")*)>\s*(.*)', re.DOTALL)
_LINE_BYTES: Final = 1024 * 1024
_COMMAND_BYTES: Final = 8192
_READ_BYTES: Final = 64 * 1024
_TOO_LONG: Final = "552 5.3.4 The mail is too large for a list"
_NO_ROOM: Final = "452 4.3.1 There is no room for the mail now"
_TRY_AGAIN: Final = "451 4.3.0 The copy cannot be handed over now"
_NOT_YET: Final = "451 4.3.0 The subscription is not known here yet"
_UNKNOWN: Final = "550 5.1.1 This is no subscriber's address"

log = structlog.get_logger()


class SubscriberBook(Protocol):
    """Who subscribes to what, in the policy that is in force now."""

    def find(self, subscription_id: int, category_id: int) -> Subscriber | None:
        """Return the subscriber; None when he, or the category, is not there."""

    def has_ended(self, subscription_id: int) -> bool:
        """Tell of one that is not there whether it was: ids rise, and none is given twice."""

    def write_dropped(self, envelope: Envelope, message: Message, category_id: int) -> None:
        """Write down on the disk that the copy of who has left is discarded; may block.

        Raises AgentError; then it must be kept.
        """


class _Lmtp(LMTP):
    """The library's LMTP, for what Postfix sends: long lines, and any address between <>."""

    command_size_limit = _COMMAND_BYTES
    line_length_limit = _LINE_BYTES

    def __init__(self, lists: ListsServer, loop: asyncio.AbstractEventLoop) -> None:
        self._lists = lists
        self.command_size_limits = collections.defaultdict(lambda: _COMMAND_BYTES)
        super().__init__(
            _Handler(),
            data_size_limit=None,
            enable_SMTPUTF8=True,
            hostname="localhost",
            ident="lists",
            loop=loop,
        )

    def _getaddr(self, arg: str) -> tuple[str | None, str | None]:
        """Return the address and the parameters behind it: Postfix knows what an address is.

        The null sender is "<>", as the library has it.
        """
        found = _PATH.fullmatch(arg)
        if found is None:
            return None, None
        return found[1] or "<>", found[2]

    async def smtp_DATA(self, arg: str) -> None:  # noqa: N802 (the library's name)
        """Take a mail and answer for each recipient.

        The library's own would keep each line by itself: 170 MiB for two of empty lines.
        """
        if self.envelope is None or not self.envelope.rcpt_tos:
            await self.push("503 5.5.1 RCPT has to come first")
            return
        if arg:
            await self.push("501 5.5.4 DATA stands alone")
            return
        await self.push("354 End data with <CR><LF>.<CR><LF>")
        answers = await self._lists.receive(self._reader, self.envelope)
        self._set_post_data_state()  # type: ignore[no-untyped-call]  # of the library
        await self.push("\r\n".join(answers))

    async def handle_exception(self, error: Exception) -> str:
        """End the session: Postfix waits for as many answers as it named recipients."""
        log.warning("a mail to subscribers met a defect", why=repr(error))
        if self.transport is not None:
            self.loop.call_soon(self.transport.close)
        return "421 4.3.0 The lists are not available now"


class _Handler:
    """Takes recipients (the hooks of aiosmtpd's controller)."""

    async def handle_RCPT(  # noqa: N802 (the library's name)
        self, _server: SMTP, _session: Session, envelope: Transaction, address: str, _options: Any
    ) -> str:
        if subscriber_ids(address) is None:
            return _UNKNOWN
        envelope.rcpt_tos.append(address)
        return "250 2.1.5 OK"


class ListsServer:
    """Listens on a UNIX socket; all of it on one event loop."""

    def __init__(
        self,
        path: Path,
        book: SubscriberBook,
        keeper: MailKeeper,
        unsubscribe_url: Callable[[], str | None],
    ) -> None:
        """Take where to listen, and what gives the URL in force at the time of each mail."""
        self._path = path
        self._book = book
        self._keeper = keeper
        self._unsubscribe_url = unsubscribe_url
        self._turns = asyncio.Semaphore(COPIES_AT_ONCE)
        self._held_bytes = 0
        self._server: asyncio.Server | None = None

    async def start(self, *, group: str | None = "postfix", mode: int = 0o660) -> None:
        """Listen; the socket belongs to this group, so that Postfix's LMTP client gets in.

        Raises `CannotListen`, and LookupError when there is no such group.
        """
        logging.getLogger("mail.log").setLevel(logging.WARNING)  # it logs addresses and contents
        listener, _ = unix_listener(self._path, mode, BACKLOG)
        if group is not None:
            shutil.chown(self._path, group=group)
        loop = asyncio.get_running_loop()
        self._server = await loop.create_unix_server(self._session, sock=listener, backlog=BACKLOG)

    async def close(self) -> None:
        """Stop listening, and take the socket away."""
        if self._server is not None:
            self._server.close()
            self._server = None
            with contextlib.suppress(FileNotFoundError):
                self._path.unlink()

    def _session(self) -> _Lmtp:
        return _Lmtp(self, asyncio.get_running_loop())

    async def receive(self, reader: asyncio.StreamReader, transaction: Transaction) -> list[str]:
        """Read a mail and hand it over; return the LMTP answer for each of its recipients.

        Raises ValueError when the client does not wait for them, OSError when it is gone.
        """
        stream, held_bytes, refusal = DataStream(MOST_MAIL_BYTES), 0, _TOO_LONG
        try:
            while not stream.feed(await _read(reader)):
                more_bytes = stream.held_bytes - held_bytes
                held_bytes += more_bytes
                self._held_bytes += more_bytes
                if self._held_bytes > MOST_HELD_BYTES and not stream.is_too_long:
                    stream.give_up()
                    refusal = _NO_ROOM
            if stream.is_too_long:
                log.warning("a mail to subscribers was not taken", why=refusal)
                return [refusal] * len(transaction.rcpt_tos)
            message = await _message(stream.take())
            sender = transaction.mail_from or NULL_SENDER
            sender = NULL_SENDER if sender == "<>" else sender
            answers = [self.deliver(sender, one, message) for one in transaction.rcpt_tos]
            return list(await asyncio.gather(*answers))
        finally:
            self._held_bytes -= held_bytes

    async def deliver(self, sender: str, recipient: str, message: Message) -> str:
        """Return the LMTP answer for one recipient, whom `handle_RCPT` took."""
        ids = subscriber_ids(recipient)
        if ids is None:
            return _UNKNOWN
        subscriber = self._book.find(*ids)
        if subscriber is None:
            return await self._without_subscriber(Envelope(sender, (recipient,)), message, *ids)
        if is_from(message, subscriber.category):
            log.warning("a copy was refused: it came from this list", recipient=recipient)
            return "554 5.4.6 This mail went through this list before"
        copy = for_subscriber(message, subscriber, self._unsubscribe_url())
        envelope = Envelope(sender=sender, recipients=(subscriber.address,))
        try:
            async with self._turns:
                queue_id = await self._keeper.send(envelope, copy)
        except NotKept as error:
            log.warning("a copy was not taken", recipient=recipient, why=str(error))
            return _TRY_AGAIN
        return f"250 2.0.0 OK: queued as {queue_id}"

    async def _without_subscriber(
        self, envelope: Envelope, message: Message, subscription_id: int, category_id: int
    ) -> str:
        recipient = envelope.recipients[0]
        if not self._book.has_ended(subscription_id):
            log.warning("a copy waits: the subscription is not known yet", recipient=recipient)
            return _NOT_YET
        try:
            await asyncio.to_thread(self._book.write_dropped, envelope, message, category_id)
        except AgentError as error:
            log.warning("a copy is not dropped without a log", why=str(error))
            return _TRY_AGAIN
        log.info("a copy was dropped: the subscription has ended", recipient=recipient)
        return "250 2.1.5 The subscription has ended, dropped"


async def _read(reader: asyncio.StreamReader) -> bytes:
    data = await reader.read(_READ_BYTES)
    if not data:
        raise ConnectionResetError("the client is gone")
    return data


async def _message(data: bytes) -> Message:
    """Return the mail that was received; others have their turn meanwhile."""
    raw = bytearray()
    for piece in received(data):
        raw += piece
        await asyncio.sleep(0)
    return from_bytes(bytes(raw))
