"""A message as bytes and back, and what the engine's changes make of it and of its envelope.

Header fields keep every byte: names and values are UTF-8 with "surrogateescape", and a message that
was read and is written again is the same, byte for byte, if its header was well formed.
"""

from __future__ import annotations

import re
from dataclasses import replace
from typing import Final

from nodeagent.policy.model import (
    AddHeader,
    AddRecipient,
    Change,
    ChangeHeader,
    ChangeSender,
    DeleteRecipient,
    Envelope,
    Header,
    Message,
)

_LINE: Final = re.compile(rb"\r?\n")
_BREAK: Final = re.compile(r"\r*\n")
_NO_FOLD: Final = re.compile(r"\r\n(?![ \t])")
_FOLDS: Final = b" \t"


def to_bytes(message: Message) -> bytes:
    """Return the message as it goes over SMTP: CR LF behind each header, an empty line, the body.

    The caller sees to it that the message is whole.
    """
    return head_of(message) + message.body


def head_of(message: Message) -> bytes:
    """Return what stands before the body: the headers and an empty line."""
    head = "".join(f"{name}:{value}\r\n" for name, value in message.headers)
    return head.encode("utf-8", "surrogateescape") + b"\r\n"


def from_bytes(raw: bytes, *, queue_id: str | None = None) -> Message:
    """Return the message that these bytes are.

    A line that is no header field ends the header and belongs to the body, as with Postfix.
    """
    fields: list[list[bytes]] = []
    start = 0
    while start < len(raw):
        found = _LINE.search(raw, start)
        end, after = (found.start(), found.end()) if found else (len(raw), len(raw))
        line = raw[start:end]
        if not line:
            start = after
            break
        if line[:1] in _FOLDS and fields:
            fields[-1].append(line)
        elif b":" in line and line[:1] not in _FOLDS:
            fields.append([line])
        else:
            break
        start = after
    body = raw[start:]
    headers = tuple(_header(b"\r\n".join(lines)) for lines in fields)
    return Message(headers=headers, body=body, size_bytes=len(body), queue_id=queue_id)


def _header(field: bytes) -> Header:
    name, _, value = field.decode("utf-8", "surrogateescape").partition(":")
    return Header(name, value)


def folded(value: str) -> str:
    """Return a header's value with CR LF for its folds, and spaces for all other line breaks."""
    if "\n" not in value and "\r" not in value:
        return value
    return _NO_FOLD.sub(" ", with_crlf(value))


def with_crlf(value: str) -> str:
    """Return a header's value with CR LF for its line breaks and a space for each bare CR."""
    return _BREAK.sub("\n", value).replace("\r", " ").replace("\n", "\r\n")


def has_foreign_line(value: str) -> bool:
    """Tell whether a value that `with_crlf` gave would begin a header of its own."""
    return _NO_FOLD.search(value) is not None


def without(headers: tuple[Header, ...], *names: str) -> tuple[Header, ...]:
    """Return the headers but those of these names, given in lower case."""
    return tuple(one for one in headers if one.name.strip().lower() not in names)


def changed_envelope(envelope: Envelope, changes: tuple[Change, ...]) -> Envelope:
    """Return the envelope after the changes, in their order; nobody is in it twice."""
    sender, recipients = envelope.sender, list(envelope.recipients)
    for change in changes:
        match change:
            case ChangeSender(address):
                sender = address
            case AddRecipient(address):
                recipients.append(address)
            case DeleteRecipient(address):
                gone = address.lower()
                recipients = [one for one in recipients if one.lower() != gone]
            case AddHeader() | ChangeHeader():
                pass
    return Envelope(sender=sender, recipients=tuple(dict.fromkeys(recipients)))


def changed_message(message: Message, changes: tuple[Change, ...]) -> Message:
    """Return the message after the header changes; each counts what those before it left."""
    headers = list(message.headers)
    for change in changes:
        match change:
            case AddHeader(name, value):
                headers.append(_written(name, value))
            case ChangeHeader():
                _change(headers, change)
            case AddRecipient() | DeleteRecipient() | ChangeSender():
                pass
    return replace(message, headers=tuple(headers))


def _written(name: str, value: str) -> Header:
    text = folded(value)
    return Header(name, text if text[:1] in {" ", "\t"} else f" {text}")


def _change(headers: list[Header], change: ChangeHeader) -> None:
    wanted = change.name.lower()
    places = [at for at, one in enumerate(headers) if one.name.strip().lower() == wanted]
    if len(places) < change.index:
        if change.value:
            headers.append(_written(change.name, change.value))
        return
    at = places[max(change.index, 1) - 1]
    if change.value:
        headers[at] = _written(headers[at].name, change.value)
    else:
        del headers[at]
