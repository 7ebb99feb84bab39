"""A decision in the milter protocol's words, so that no text of it can break out of its reply.

Addresses and header names that cannot be sent as they are make the whole decision a fault: a mail
must not go to another address than was decided. Values of headers and texts of replies are cleaned.
"""

from __future__ import annotations

import re
from typing import Final

from nodeagent.policy import model
from nodeagent.policy.codecs import milter_packets as wire
from nodeagent.policy.codecs.milter import Actions, Packet
from nodeagent.policy.model import Decision, Reply, Verdict

LONGEST_TEXT: Final = 400
"""An SMTP reply line has at most 512 bytes (RFC 5321, 4.5.3.1.5)."""
LONGEST_REASON: Final = 100
"""Postfix logs no more of a reason to hold a message."""
REFUSALS: Final = {
    Verdict.REJECT: Reply(550, "5.7.1", "Refused by this relay's policy"),
    Verdict.TEMPFAIL: Reply(451, "4.7.1", "Refused for now by this relay's policy"),
}
FAULT: Final = Reply(451, "4.3.0", "This cannot be judged now; try again later")
_CLASS_OF: Final = {Verdict.REJECT: "5", Verdict.TEMPFAIL: "4"}
_ENHANCED: Final = re.compile(r"[45]\.[0-9]{1,3}\.[0-9]{1,3}")
_CODE: Final = re.compile(r"[45][0-9]{2}")
_NOT_PRINTABLE: Final = re.compile(r"[^ -~]+")
_NAME: Final = re.compile(r"[!-9;-~]{1,200}")
_LINE_BREAK: Final = re.compile(r"\r\n|\r|\n")
_QUOTED: Final = re.compile(r'"(?:[^"\\]|\\.)*"')
_NOT_IN_ADDRESS: Final = re.compile(r"[\0-\x1f\x7f]")
_NOT_UNQUOTED: Final = re.compile(r'[<>,;()"\s]')


class Inexpressible(Exception):
    """The decision asks for what cannot be said in the milter protocol, or to this MTA."""


def printable(text: str, longest: int) -> str:
    """Return a text as one line of printable ASCII of limited length."""
    return _NOT_PRINTABLE.sub("?", text)[:longest].strip()


def refusal(verdict: Verdict, reply: Reply | None) -> wire.ReplyCode:
    """Return the packet that refuses, as REJECT or TEMPFAIL; codes of another class are replaced.

    Postfix undoes the doubling of "%", and answers 451 4.3.5 to a reply that it finds malformed.
    """
    default, wanted = REFUSALS[verdict], reply or REFUSALS[verdict]
    code, enhanced = str(wanted.code), wanted.enhanced
    if not (_CODE.fullmatch(code) and code.startswith(_CLASS_OF[verdict])):
        code = str(default.code)
    if not (_ENHANCED.fullmatch(enhanced) and enhanced.startswith(_CLASS_OF[verdict])):
        enhanced = default.enhanced
    text = printable(wanted.text, LONGEST_TEXT) or default.text
    return wire.ReplyCode(f"{code} {enhanced} {text}".replace("%", "%%"))


def header_value(value: str, *, has_leading_space: bool) -> str:
    """Return a header's value with folds as LF and white space, and without NUL.

    `has_leading_space`: the MTA writes what stands behind the colon as it is; else it puts a space.
    """
    first, *others = _LINE_BREAK.split(value.replace("\0", ""))
    folded = [line if line[0] in " \t" else f" {line}" for line in others if line.strip()]
    text = "\n".join([first, *folded])
    if not has_leading_space:
        return text.removeprefix(" ")
    return text if text[:1] in {" ", "\t"} else f" {text}"


def _header_name(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise Inexpressible("a header's name has characters that no name may have, or none")
    return name


def _bracketed(address: str) -> str:
    if _NOT_IN_ADDRESS.search(address) or _NOT_UNQUOTED.search(_QUOTED.sub("", address)):
        raise Inexpressible("an address has characters that would make it another one")
    return f"<{address}>"


def _recipient(address: str) -> str:
    if not address:
        raise Inexpressible("a recipient without an address")
    return _bracketed(address)


class Speaker:
    """Puts decisions about messages into packets, for one MTA and what was agreed with it."""

    def __init__(self, actions: int, *, has_leading_space: bool) -> None:
        self._actions = actions
        self._has_leading_space = has_leading_space

    def message(self, decision: Decision, recipients: tuple[str, ...] = ()) -> tuple[Packet, ...]:
        """Return the packets that carry out what was decided about a message to these recipients.

        Raises `Inexpressible`; then nothing of it may be sent.
        """
        verdict = decision.verdict
        if verdict is Verdict.REJECT or verdict is Verdict.TEMPFAIL:
            return (refusal(verdict, decision.reply),)
        if verdict is Verdict.DISCARD:
            return (wire.Discard(),)
        changes = _without_doubles(decision.changes, recipients)
        packets = self._changes(changes) if changes else []
        if verdict is Verdict.QUARANTINE:
            self._require(Actions.QUARANTINE)
            packets.append(wire.Quarantine(_reason(decision)))
        packets.append(wire.Accept())
        return tuple(packets)

    def _changes(self, changes: tuple[model.Change, ...]) -> list[Packet]:
        """Return changes of headers from the last of each name to the first, then all others.

        Postfix counts anew after each one, and a decision counts in the message as it came.
        """
        edits = [change for change in changes if isinstance(change, model.ChangeHeader)]
        edits.sort(key=lambda edit: -edit.index)
        others = [change for change in changes if not isinstance(change, model.ChangeHeader)]
        return [self._change(change) for change in (*edits, *others)]

    def _change(self, change: model.Change) -> Packet:
        match change:
            case model.AddHeader(name, value):
                self._require(Actions.ADD_HEADERS)
                return wire.AddHeader(_header_name(name), self._value(value))
            case model.ChangeHeader(name, index, value):
                self._require(Actions.CHANGE_HEADERS)
                if not 1 <= index < 1 << 31:
                    raise Inexpressible("headers are counted from 1")
                new = self._value(value) if value else ""
                return wire.ChangeHeader(index, _header_name(name), new)
            case model.AddRecipient(address):
                self._require(Actions.ADD_RECIPIENTS)
                return wire.AddRecipient(_recipient(address))
            case model.DeleteRecipient(address):
                self._require(Actions.DELETE_RECIPIENTS)
                return wire.DeleteRecipient(_recipient(address))
            case model.ChangeSender(address):
                self._require(Actions.CHANGE_SENDER)
                return wire.ChangeSender(_bracketed(address))

    def _value(self, value: str) -> str:
        return header_value(value, has_leading_space=self._has_leading_space)

    def _require(self, action: Actions) -> None:
        if not self._actions & action:
            raise Inexpressible(f"the MTA did not offer {action.name}")


def _without_doubles(
    changes: tuple[model.Change, ...], recipients: tuple[str, ...]
) -> tuple[model.Change, ...]:
    """Leave out added recipients that are there already: Postfix would deliver to them twice."""
    if not any(isinstance(change, model.AddRecipient) for change in changes):
        return changes
    deleted = {one.address for one in changes if isinstance(one, model.DeleteRecipient)}
    present = set(recipients) - deleted
    kept = []
    for change in changes:
        if isinstance(change, model.AddRecipient):
            if change.address in present:
                continue
            present.add(change.address)
        kept.append(change)
    return tuple(kept)


def _reason(decision: Decision) -> str:
    fired = next((one for one in decision.fired if one.verdict is Verdict.QUARANTINE), None)
    text = f"{fired.rule}: {fired.text}" if fired else ""
    return printable(text, LONGEST_REASON) or "held by this relay's policy"
