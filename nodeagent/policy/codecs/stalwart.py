"""Stalwart's MTA hooks, as its code speaks them: JSON questions to the model, decisions to JSON.

Theory of operation. Stalwart's documentation and its code differ; this follows the code, takes what
the documentation says as well, and writes answers that both would read:

* a reply carries `enhanced_status` (which the code reads) and `enhancedStatus` (the documentation),
  and always status and message together: Stalwart ignores either alone;
* there is no "tempfail": it is "reject" with a status of 4xx;
* "quarantine" loses the mail or delivers it, by version, so it is never written: whoever calls
  has put the mail away before, and writes a DISCARD;
* "discard" before the end of the message breaks the session, so it is accepted until then;
* modifications count only at DATA, with "accept"; none carries `parameters`, since null or an
  integer in them makes Stalwart drop the whole answer;
* `deleteRecipient` is compared with the address in lower case, so it is written that way;
* `index` counts the headers of that name from 1, as in the model.

The name that Stalwart found in the DNS (`client.ptr`) is not checked against the address there, so
it is not used: anybody can have any name.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Final

from pydantic_core import from_json

from nodeagent.policy.codecs.hook_request import HookRequest, InvalidRequest
from nodeagent.policy.codecs.milter_content import HEADER_OVERHEAD_BYTES
from nodeagent.policy.model import (
    NULL_SENDER,
    AddHeader,
    AddRecipient,
    Change,
    ChangeHeader,
    ChangeSender,
    Client,
    Decision,
    DeleteRecipient,
    Envelope,
    Header,
    Message,
    Reply,
    Session,
    Stage,
    Verdict,
)
from nodeagent.policy.raw_message import folded, has_foreign_line, with_crlf

REJECTED: Final = Reply(550, "5.7.1", "The mail was rejected")
TRY_AGAIN: Final = Reply(451, "4.7.1", "The mail cannot be taken now, try again later")
DISCARDED: Final = Reply(250, "2.0.0", "The mail was taken")

MOST_HEADERS: Final = 64 * 1024 * 1024 // HEADER_OVERHEAD_BYTES + 1
"""So many are refused for their length in any case, whatever `inspected_bytes` is."""
_STAGES: Final = {stage.value: stage for stage in Stage}
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_NO_NAME: Final = re.compile(r"[\x00\r\n:]")
_UNPRINTABLE: Final = re.compile(r"[^\x20-\x7e]+")
_PAIR: Final = 2
_SHOWN: Final = 60
_QUEUE_ID: Final = 64
_CLOSING: Final = 421
_ACCEPT: Final = b'{"action":"accept"}'

Json = Mapping[str, object]


class StalwartCodec:
    """Stalwart 0.11 to 0.16, `POST /mta-hook`."""

    name = "stalwart-v1"
    path = "/mta-hook"

    def read(self, body: bytes) -> HookRequest:
        """Return the question; raises `InvalidRequest`."""
        root = _parsed(body)
        context = _object(root, "context", "context")
        if context is None:
            raise InvalidRequest("context is missing")
        stage = _stage(context.get("stage"))
        return HookRequest(
            stage=stage,
            session=_session(context),
            envelope=_envelope(root),
            message=_message(root, context) if stage is Stage.DATA else None,
        )

    def write(self, decision: Decision, stage: Stage | None) -> bytes:
        """Return the body of the answer.

        A QUARANTINE is written as a TEMPFAIL: nobody has kept the mail, so its sender has to.
        """
        at_data = stage is Stage.DATA
        match decision.verdict:
            case Verdict.REJECT:
                return _dump(_refusal(decision.reply or REJECTED))
            case Verdict.TEMPFAIL:
                return _dump(_refusal(decision.reply or TRY_AGAIN))
            case Verdict.QUARANTINE if at_data:
                return _dump(_refusal(TRY_AGAIN))
            case Verdict.DISCARD if at_data:
                return _dump({"action": "discard", "response": _reply(DISCARDED)})
            case _ if not (at_data and decision.changes):
                return _ACCEPT
            case _:
                modifications = [_modification(change) for change in decision.changes]
                return _dump({"action": "accept", "modifications": modifications})


def _parsed(body: bytes) -> Json:
    root: object
    try:
        root = from_json(body, cache_strings="keys")
    except ValueError:
        root = _parsed_again(body)
    if not isinstance(root, dict):
        raise InvalidRequest("the body is no JSON object")
    return root


def _parsed_again(body: bytes) -> object:
    """Return what the fast parser does not take (halves of surrogate pairs), or say what is wrong.

    The standard library's parser is a third as fast, and its sentences are better.
    """
    try:
        return json.loads(body)
    except RecursionError as error:
        raise InvalidRequest("the body is nested too deep") from error
    except UnicodeDecodeError as error:
        raise InvalidRequest("the body is no UTF-8") from error
    except json.JSONDecodeError as error:
        where = f"line {error.lineno}, column {error.colno}"
        raise InvalidRequest(f"the body is no JSON ({error.msg}, {where})") from error
    except ValueError as error:
        raise InvalidRequest("the body has a number that is too long") from error


def _object(parent: Json, key: str, where: str) -> Json | None:
    value = parent.get(key)
    if value is None or isinstance(value, dict):
        return value
    raise InvalidRequest(f"{where} is {_shown(value)}, not an object")


def _text(parent: Json, key: str, where: str) -> str | None:
    value = parent.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise InvalidRequest(f"{where} is {_shown(value)}, not a string")
    return _clean(value)


def _clean(text: str) -> str:
    """Return the text with U+FFFD for halves of surrogate pairs, which no mail can carry."""
    if text.isascii():
        return text
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    return text


def _shown(value: object) -> str:
    """Return a short form of a wrong value, by its kind only where it is long."""
    kinds = {dict: "an object", list: "an array", str: "a string", type(None): "null"}
    kind = kinds.get(type(value))
    return kind or _UNPRINTABLE.sub("?", json.dumps(value))[:_SHOWN]


def _stage(value: object) -> Stage:
    if not isinstance(value, str):
        raise InvalidRequest(f"context.stage is {_shown(value)}, not a string")
    stage = _STAGES.get(value.lower())
    if stage is None:
        known = ", ".join(_STAGES)
        raise InvalidRequest(f"context.stage is none of {known}")
    return stage


def _session(context: Json) -> Session:
    client = _object(context, "client", "context.client") or {}
    sasl = _object(context, "sasl", "context.sasl") or {}
    protocol = _object(context, "protocol", "context.protocol") or {}
    version = protocol.get("version")
    if isinstance(version, dict | list):
        raise InvalidRequest(f"context.protocol.version is {_shown(version)}, not a number")
    helo = _line(client, "helo", "context.client") or _line(client, "ehlo", "context.client")
    return Session(
        client=Client(ip=_ip(client), port=_port(client)),
        helo=helo or None,
        login=_line(sasl, "login", "context.sasl") or None,
        is_encrypted=_object(context, "tls", "context.tls") is not None,
    )


def _line(parent: Json, key: str, where: str) -> str | None:
    """Return a text that has no line breaks and no other control characters."""
    text = _text(parent, key, f"{where}.{key}")
    if text is not None and _CONTROL.search(text):
        raise InvalidRequest(f"{where}.{key} has a control character")
    return text


def _ip(client: Json) -> IPv4Address | IPv6Address | None:
    text = _text(client, "ip", "context.client.ip")
    return _address_of(text) if text else None


@lru_cache(maxsize=4096)
def _address_of(text: str) -> IPv4Address | IPv6Address:
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError as error:
        raise InvalidRequest("context.client.ip is no IP address") from error
    if isinstance(found, IPv6Address) and found.ipv4_mapped is not None:
        return found.ipv4_mapped
    return found


def _port(client: Json) -> int:
    value = client.get("port")
    if value is None:
        return 0
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**16:
        raise InvalidRequest(f"context.client.port is {_shown(value)}, not a port number")
    return value


def _envelope(root: Json) -> Envelope:
    envelope = _object(root, "envelope", "envelope")
    if envelope is None:
        return Envelope()
    sender = _object(envelope, "from", "envelope.from")
    found = envelope.get("to")
    if found is None:
        found = []
    if not isinstance(found, list):
        raise InvalidRequest(f"envelope.to is {_shown(found)}, not an array")
    return Envelope(
        sender=None if sender is None else _address(sender, "envelope.from") or NULL_SENDER,
        recipients=tuple(_recipient(one, number) for number, one in enumerate(found)),
    )


def _recipient(value: object, number: int) -> str:
    where = f"envelope.to[{number}]"
    if not isinstance(value, dict):
        raise InvalidRequest(f"{where} is {_shown(value)}, not an object")
    address = _address(value, where)
    if not address:
        raise InvalidRequest(f"{where}.address is missing")
    return address


def _address(parent: Json, where: str) -> str | None:
    text = _line(parent, "address", where)
    if text and text.startswith("<") and text.endswith(">"):
        return text[1:-1]
    return text


def _message(root: Json, context: Json) -> Message:
    found = _object(root, "message", "message")
    if found is None:
        raise InvalidRequest("message is missing, and the stage is data")
    headers = found.get("headers")
    if headers is None:
        headers = []
    if not isinstance(headers, list):
        raise InvalidRequest(f"message.headers is {_shown(headers)}, not an array")
    body = (_text(found, "contents", "message.contents") or "").encode()
    queue = _object(context, "queue", "context.queue") or {}
    queue_id = _line(queue, "id", "context.queue")
    return Message(
        headers=tuple(_header(one, number) for number, one in enumerate(headers[:MOST_HEADERS])),
        body=body,
        size_bytes=len(body),
        queue_id=queue_id[:_QUEUE_ID] if queue_id else None,
    )


def _header(pair: object, number: int) -> Header:
    where = f"message.headers[{number}]"
    if not isinstance(pair, list) or len(pair) != _PAIR:
        raise InvalidRequest(f"{where} is no array of a name and a value")
    name, value = pair
    if not isinstance(name, str) or not isinstance(value, str):
        raise InvalidRequest(f"{where} is no array of two strings")
    if not name or _NO_NAME.search(name):
        raise InvalidRequest(f"{where} has a name that no header can have")
    return Header(_clean(name), _clean(_unended(value, where)))


def _unended(value: str, where: str) -> str:
    """Return a raw value without its line end; line breaks within are folds, or it is refused."""
    value = value.removesuffix("\n").removesuffix("\r")
    if "\n" not in value and "\r" not in value:
        return value
    value = with_crlf(value)
    if has_foreign_line(value):
        raise InvalidRequest(f"{where} has a line break that is no fold")
    return value


def _dump(answer: object) -> bytes:
    return json.dumps(answer, separators=(",", ":")).encode()


def _refusal(reply: Reply) -> Json:
    return {"action": "reject", "response": _reply(reply)}


def _reply(reply: Reply) -> Json:
    return {
        "status": reply.code,
        "enhanced_status": reply.enhanced,
        "enhancedStatus": reply.enhanced,
        "message": _UNPRINTABLE.sub(" ", reply.text).strip() or "Refused",
        "disconnect": reply.code == _CLOSING,  # RFC 5321, 3.8
    }


def _modification(change: Change) -> Json:
    match change:
        case ChangeSender(address):
            return {"type": "changeFrom", "value": _wire(address)}
        case AddRecipient(address):
            return {"type": "addRecipient", "value": _wire(address)}
        case DeleteRecipient(address):
            return {"type": "deleteRecipient", "value": _wire(address).lower()}
        case AddHeader(name, value):
            return {"type": "addHeader", "name": name, "value": _wire(value).lstrip(" \t")}
        case ChangeHeader(name, index, ""):
            return {"type": "deleteHeader", "index": max(index, 1), "name": name}
        case ChangeHeader(name, index, value):
            text = _wire(value).lstrip(" \t")
            return {"type": "changeHeader", "index": max(index, 1), "name": name, "value": text}


def _wire(text: str) -> str:
    """Return a text that JSON can carry and that starts no header or command of its own."""
    return folded(text.encode("utf-8", "surrogateescape").decode("utf-8", "replace"))
