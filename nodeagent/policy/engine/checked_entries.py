"""Why an entry cannot be stored, one sentence: what the control plane asks before it stores one.

What is found here is left out by a node that gets it all the same (`compile_policy`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from nodeagent.policy.document import (
    Badword,
    Category,
    ListEntry,
    RateRule,
    Subscription,
    ThreatSetting,
)
from nodeagent.policy.engine.categories import is_internal
from nodeagent.policy.engine.policy import RATE_VERDICTS
from nodeagent.policy.engine.sections import Entry
from nodeagent.policy.engine.threats import THREAT_RULES
from nodeagent.policy.engine.values import ANY_LOCAL_PART, canonical_address, list_value
from nodeagent.policy.engine.words import pattern_problem

_THREATS: Final = frozenset(rule.name for rule in THREAT_RULES)


def problem_of(entry: Entry) -> str | None:
    """Return what is wrong with an entry in one sentence, None if it can be stored.

    Each entry is looked at by itself: whether an address is given twice is the caller's to say.
    """
    match entry:
        case ListEntry():
            problem = _not_kept(entry.value, list_value)
        case Badword():
            problem = pattern_problem(entry.pattern, is_regex=entry.is_regex)
        case RateRule():
            is_fit = entry.verdict in RATE_VERDICTS
            problem = None if is_fit else "A rate can put mail off or reject it, nothing else"
        case ThreatSetting():
            is_known = entry.rule in _THREATS
            problem = None if is_known else f'There is no threat rule "{entry.rule}"'
        case Category():
            problem = _category(entry)
        case Subscription():
            problem = _address(entry.address)
    return None if problem is None else f"{problem.removesuffix('.')}."


def _category(category: Category) -> str | None:
    problem = _address(category.address)
    if problem is not None:
        return problem
    if not category.name.isprintable():
        return "The name has a character that cannot be shown"
    for sender in category.allowed_senders:
        check = list_value if sender.startswith(ANY_LOCAL_PART) else canonical_address
        problem = _not_kept(sender, check)
        if problem is not None:
            return problem
    return None


def _address(address: str) -> str | None:
    if is_internal(address):
        return f'"{address}" is in a domain that only the relay itself writes to'
    if address.startswith(ANY_LOCAL_PART):
        return f'"{address}" is no single address'
    return _not_kept(address, canonical_address)


def _not_kept(value: str, canonical: Callable[[str], str]) -> str | None:
    try:
        kept = canonical(value)
    except ValueError as error:
        return str(error)
    return None if kept == value else f'"{value}" has to be written as "{kept}"'
