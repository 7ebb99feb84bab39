"""The headers that accepted and quarantined mail gets, and the forged ones that it loses."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from typing import Final

from nodeagent.policy.engine.authentication import HEADER_NAME
from nodeagent.policy.engine.verdicts import fit_rule
from nodeagent.policy.model import AddHeader, ChangeHeader, Fired, Message, Verdict

RELAY_POLICY: Final = "X-Relay-Policy"
MOST_RULES: Final = 12  # 12 names of at most 60 characters keep below RFC 5322's 998 a line
MOST_RULE_LENGTH: Final = 60
_FORGED_LENGTH: Final = 1024  # of a header's value: an authserv-id stands at its beginning

_NAME: Final = re.compile(r"[!-9;-~]{1,100}")  # RFC 5322, 3.6.8: printable, no colon
_BREAKS: Final = re.compile("[\r\n\0]")
_ID: Final = re.compile(r'"((?:[^"\\]|\\.)*)"|([^\s;()"]+)', re.DOTALL)
_ESCAPED: Final = re.compile(r"\\(.)", re.DOTALL)


def policy_header(verdict: Verdict, fired: Iterable[Fired]) -> AddHeader:
    """Return what the next hop is told: verdict, rules' names and score, nothing personal."""
    all_fired = tuple(fired)
    names = [fit_rule(one.rule)[:MOST_RULE_LENGTH] for one in all_fired[:MOST_RULES]]
    more = len(all_fired) - len(names)
    if more:
        names.append(f"and-{more}-more")
    score = sum(one.score for one in all_fired)
    rules = ",".join(names) if names else "none"
    return AddHeader(RELAY_POLICY, f"verdict={verdict}; rules={rules}; score={score:.1f}")


def without_forged(message: Message, own_ids: frozenset[str]) -> Iterator[ChangeHeader]:
    """Give the changes that delete what only we may write; the last of a name comes first.

    In that order no deletion moves a header that is still to be deleted, whether or not an MTA
    counts deleted ones.
    """
    seen: dict[str, int] = {}
    found: list[ChangeHeader] = []
    for header in message.headers:
        key = header.name.strip().lower()
        if key not in _OURS:
            continue
        seen[key] = index = seen.get(key, 0) + 1
        if key == _OURS_ALWAYS or _claims(header.value, own_ids):
            found.append(ChangeHeader(_OURS[key], index, ""))
    return reversed(found)


def _claims(value: str, own_ids: frozenset[str]) -> bool:
    """Tell whether a header may be read as ours; one that hides whose it is may be."""
    found = authserv_id(value)
    return found in own_ids or (not found and len(value) > _FORGED_LENGTH)


_OURS_ALWAYS: Final = RELAY_POLICY.lower()
_OURS: Final = {name.lower(): name for name in (RELAY_POLICY, HEADER_NAME)}


def authserv_id(value: str) -> str:
    """Return who claims to have authenticated (RFC 8601, 2.2) in lower case, "" where unclear."""
    found = _ID.match(_without_comments(value[:_FORGED_LENGTH]))
    if found is None:
        return ""
    quoted, plain = found.groups()
    return (plain if quoted is None else _ESCAPED.sub(r"\1", quoted)).lower().removesuffix(".")


def _without_comments(text: str) -> str:
    """Return the text behind leading spaces and comments, which may be nested (RFC 5322, 3.2.2)."""
    depth = 0
    letters = iter(enumerate(text))
    for place, letter in letters:
        if letter == "\\" and depth:
            next(letters, None)
        elif letter == "(":
            depth += 1
        elif letter == ")" and depth:
            depth -= 1
        elif not depth and not letter.isspace():
            return text[place:]
    return ""


def header_problem(name: str, value: str) -> str | None:
    """Return why this may not be written into a mail, or None."""
    if not _NAME.fullmatch(name):
        return "a header's name has printable ASCII characters and no colon"
    if _BREAKS.search(value):
        return "a header's value has no line break and no NUL"
    return None
