"""Puts mail into this node's own Postfix over SMTP, past the hook: to hold it, or to send it.

Postfix has a loopback port for each, without milters; the one for the quarantine answers every
client with HOLD. A mail is kept only when Postfix said 250 to the end of its data, for all of its
recipients; anything else is `NotKept`, and the sender keeps it. Where the connection breaks between
the final dot and Postfix's answer, the mail may be there twice in the end, but it is never lost.
What comes after that answer changes nothing about it.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
from dataclasses import replace
from itertools import chain
from typing import Final, cast

import aiosmtplib
from aiosmtplib import SMTPException, SMTPResponse

from nodeagent.policy.codecs.smtp_data import PIECE_BYTES, pieces, quoted
from nodeagent.policy.model import Envelope, Header, Message
from nodeagent.policy.places import HOLD_PORT, SEND_PORT
from nodeagent.policy.ports import NotKept
from nodeagent.policy.raw_message import head_of, without

TIMEOUT_S: Final = 25.0
QUIT_S: Final = 1.0
"""How long a goodbye may take; nothing depends on it."""
REASON_HEADER: Final = "X-Relay-Quarantine"

_QUEUED: Final = re.compile(r"queued as ([0-9A-Za-z]+)")
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")
_NO_ADDRESS: Final = re.compile(r"[\x00-\x1f\x7f<>]")
_MOST_REASON: Final = 500
_OK: Final = 250
_WILL_FORWARD: Final = 251
_GO_ON: Final = 354
_PACE_S: Final = 0.002


class SmtpKeeper:
    """The `MailKeeper` of a node; one connection a mail, any number of them at once."""

    def __init__(
        self,
        *,
        hold_port: int = HOLD_PORT,
        send_port: int = SEND_PORT,
        host: str = "127.0.0.1",
        timeout_s: float = TIMEOUT_S,
    ) -> None:
        """Take the ports, and how long one mail may take; an MTA waits 30 s for its answer."""
        self._hold_port = hold_port
        self._send_port = send_port
        self._host = host
        self._timeout_s = timeout_s

    async def hold(self, envelope: Envelope, message: Message, reason: str) -> str:
        """Put the mail into the hold queue, with a header that says why; return its queue id."""
        said = _UNPRINTABLE.sub(" ", reason).strip()[:_MOST_REASON] or "policy"
        headers = without(message.headers, REASON_HEADER.lower())
        marked = replace(message, headers=(Header(REASON_HEADER, f" {said}"), *headers))
        return await self._keep(self._hold_port, envelope, marked)

    async def send(self, envelope: Envelope, message: Message) -> str:
        """Put the mail into the queue; return its queue id. Raises `NotKept`."""
        return await self._keep(self._send_port, envelope, message)

    async def _keep(self, port: int, envelope: Envelope, message: Message) -> str:
        addresses = _addresses(envelope)
        if not message.is_whole:
            raise NotKept(f"only {len(message.body)} of {message.size_bytes} bytes are here")
        client = aiosmtplib.SMTP(
            hostname=self._host,
            port=port,
            use_tls=False,
            start_tls=False,
            local_hostname="localhost",
            timeout=self._timeout_s,
        )
        try:
            async with asyncio.timeout(self._timeout_s):
                await client.connect()
                answer = await _transaction(client, addresses, message)
            await _quit(client)
        except TimeoutError as error:
            raise NotKept(f"Postfix took more than {self._timeout_s:g} s") from error
        except (SMTPException, OSError) as error:
            raise NotKept(f"Postfix did not take the mail: {_sentence(error)}") from error
        finally:
            client.close()
        found = _QUEUED.search(answer.message)
        return found[1] if found else ""


def _is_full(transport: asyncio.WriteTransport) -> bool:
    return transport.get_write_buffer_size() > PIECE_BYTES and not transport.is_closing()


def _addresses(envelope: Envelope) -> tuple[bytes, ...]:
    """Return sender and recipients as they go over SMTP; raises `NotKept` for what cannot."""
    if envelope.sender is None or not envelope.recipients:
        raise NotKept("a mail without a sender or without recipients cannot be kept")
    addresses = (envelope.sender, *envelope.recipients)
    if any(_NO_ADDRESS.search(one) for one in addresses) or "" in envelope.recipients:
        raise NotKept("an address has a character that no address can have")
    return tuple(one.encode("utf-8", "surrogateescape") for one in addresses)


async def _transaction(
    client: aiosmtplib.SMTP, addresses: tuple[bytes, ...], message: Message
) -> SMTPResponse:
    """Return Postfix's answer to the mail; a refused recipient ends it for all of them."""
    head = head_of(message)
    await client.ehlo()
    sender, *recipients = addresses
    options = _options(client, addresses, head, message.body)
    _expect(await client.execute_command(b"MAIL", b"FROM:<" + sender + b">", *options))
    for number, recipient in enumerate(recipients, 1):
        answer = await client.execute_command(b"RCPT", b"TO:<" + recipient + b">")
        if answer.code not in {_OK, _WILL_FORWARD}:
            await _quit(client)
            said = f"recipient {number} of {len(recipients)}: {_shown(answer)}"
            raise NotKept(f"Postfix refused {said}")
    _expect(await client.execute_command(b"DATA"), _GO_ON)
    await _send(client, head, message.body)
    answer = await client.execute_command(b".")
    _expect(answer)
    return answer


async def _send(client: aiosmtplib.SMTP, head: bytes, body: bytes) -> None:
    """Send a mail without its last dot, at the pace at which Postfix takes it.

    The library's own would quote all of it at once: 60 ms a MiB of empty lines, in which nothing
    else runs, and some copies of each mail.
    """
    transport = cast("asyncio.WriteTransport", client.transport)
    for piece in chain(pieces(head), pieces(body)):
        transport.write(quoted(piece))
        await asyncio.sleep(0)
        while _is_full(transport):  # noqa: ASYNC110 - the library says nothing when it is not
            await asyncio.sleep(_PACE_S)
        if transport.is_closing():
            raise NotKept("Postfix closed the connection in the middle of the mail")
    if body and not body.endswith((b"\n", b"\r")):
        transport.write(b"\r\n")


async def _quit(client: aiosmtplib.SMTP) -> None:
    """End the session in order, if the server lets it."""
    with contextlib.suppress(SMTPException, OSError):
        async with asyncio.timeout(QUIT_S):
            await client.quit()


def _options(
    client: aiosmtplib.SMTP, addresses: tuple[bytes, ...], head: bytes, body: bytes
) -> tuple[bytes, ...]:
    options = []
    if client.supports_extension("size"):
        options.append(b"SIZE=%d" % (len(head) + len(body)))
    if not (head.isascii() and body.isascii()) and client.supports_extension("8bitmime"):
        options.append(b"BODY=8BITMIME")
    if not all(one.isascii() for one in addresses):
        if not client.supports_extension("smtputf8"):
            raise NotKept("an address is not ASCII, and Postfix does not take SMTPUTF8")
        options.append(b"SMTPUTF8")
    return tuple(options)


def _expect(answer: SMTPResponse, code: int = _OK) -> None:
    if answer.code != code:
        raise NotKept(f"Postfix did not take the mail: {_shown(answer)}")


def _shown(answer: SMTPResponse) -> str:
    """Return the codes of an answer; its text may name an address."""
    first = answer.message.partition(" ")[0]
    return f"{answer.code} {first}" if re.fullmatch(r"[245]\.\d+\.\d+", first) else f"{answer.code}"


def _sentence(error: Exception) -> str:
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return _shown(SMTPResponse(error.code, error.message))
    return str(error) or type(error).__name__
