"""Compiles the built-in threat rules as an administrator set them, and finds them in a mail.

Theory of operation. The beginnings of all patterns that read the same part of a mail are one
`re2.Set`: one pass over that part, whatever their number. A pattern itself is only run where its
beginning is; so no text makes RE2 build the states of many patterns together. RE2 takes time linear
in the text for any pattern and any text. It does not say so when a set runs out of memory, it finds
nothing: so each set has a pattern that always matches, and where that one is missing, each pattern
is run by itself (which RE2 can do without that memory).
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Final

import re2

from nodeagent.policy.document import ThreatSetting
from nodeagent.policy.engine.content import Content
from nodeagent.policy.engine.parts import necessary_part
from nodeagent.policy.engine.threat_evidence import Evidence
from nodeagent.policy.engine.threat_markup import LINK_RULES, MARKUP_RULES, STRUCTURE_RULES
from nodeagent.policy.engine.threat_rules import CODE_RULES, ThreatRule, Where
from nodeagent.policy.engine.threat_sql import SQL_RULES
from nodeagent.policy.model import Severity

__all__ = ["THREAT_RULES", "ThreatHit", "ThreatRule", "ThreatSet", "Where"]

THREAT_RULES: Final[tuple[ThreatRule, ...]] = (
    *CODE_RULES,
    *SQL_RULES,
    *MARKUP_RULES,
    *LINK_RULES,
    *STRUCTURE_RULES,
)
_IN_MARKUP: Final = frozenset({Where.MARKUP, Where.SCRIPT})
_MOST_MATCHED_CHARS: Final = 100
_ALWAYS: Final = r"\A"  # only once: each match costs
_MEMORY_BYTES: Final = 64 * 1024 * 1024  # at most, of one set's automaton


@dataclass(frozen=True, slots=True)
class ThreatHit:
    """One rule that fired, once a mail however often it matched."""

    rule: str
    score: float
    severity: Severity
    matched: str  # at most 100 characters of the mail


def _options() -> Any:
    """Return RE2's options: quiet, and with room for a large set."""
    options = re2.Options()
    options.log_errors = False
    options.max_mem = _MEMORY_BYTES
    return options


@cache
def _pattern(pattern: str) -> Any:
    """Return a built-in pattern compiled by itself."""
    return re2.compile(pattern, _options())


class _Place:
    """All patterns that read one part of a mail, and whose rule each is."""

    def __init__(self, rules: Sequence[ThreatRule]) -> None:
        self._owners: list[tuple[str, str]] = []
        options = _options()
        options.case_sensitive = False
        self._set = re2.Set.SearchSet(options)
        for rule in rules:
            for pattern in rule.patterns:
                self._set.Add(necessary_part(pattern))
                self._owners.append((rule.name, pattern))
        self._set.Add(_ALWAYS)
        self._set.Compile()

    def find(self, text: str) -> Iterator[tuple[str, str]]:
        """Yield the names of the rules that match, and what they matched."""
        matching: Sequence[int] = self._set.Match(text) or ()
        if len(self._owners) not in matching:
            matching = range(len(self._owners) + 1)
        for index in matching:
            if index < len(self._owners):
                name, pattern = self._owners[index]
                found = _pattern(pattern).search(text)
                if found is not None:
                    yield name, found[0]


class ThreatSet:
    """The rules that are on, compiled; it never changes, so threads may share it."""

    def __init__(self, rules: Sequence[ThreatRule], scores: Mapping[str, float]) -> None:
        self._rules = tuple(rules)
        self._scores = dict(scores)
        self._signs = tuple(rule for rule in rules if rule.sign is not None)
        self._signs_of_plain = tuple(
            rule for rule in self._signs if not _IN_MARKUP.issuperset(rule.where)
        )
        readers = {
            where: [rule for rule in rules if where in rule.where and rule.patterns]
            for where in Where
        }
        self._places = {where: _Place(those) for where, those in readers.items() if those}

    @classmethod
    def compile(cls, settings: Sequence[ThreatSetting] = ()) -> ThreatSet:
        """Compile all built-in rules but those switched off; unknown names are passed over."""
        chosen = {setting.rule: setting for setting in settings}
        rules = [
            rule for rule in THREAT_RULES if rule.name not in chosen or chosen[rule.name].is_enabled
        ]
        scores = {setting.rule: setting.score for setting in settings if setting.score is not None}
        return cls(rules, scores)

    def find(self, content: Content) -> tuple[ThreatHit, ...]:
        """Return the rules that fire, in the order of `THREAT_RULES`."""
        evidence = Evidence(content)
        found: dict[str, str] = {}
        for where, place in self._places.items():
            for text in _texts(evidence, where):
                for name, matched in place.find(text):
                    found.setdefault(name, matched)
        for rule in self._signs if content.markups else self._signs_of_plain:
            seen = rule.sign(evidence) if rule.sign is not None else None
            if seen is not None:
                found.setdefault(rule.name, seen)
        if not found:
            return ()
        return tuple(
            ThreatHit(
                rule.name,
                self._scores.get(rule.name, rule.score),
                rule.severity,
                found[rule.name][:_MOST_MATCHED_CHARS],
            )
            for rule in self._rules
            if rule.name in found
        )


def _texts(evidence: Evidence, where: Where) -> tuple[str, ...]:
    """Return the texts of one part of a mail."""
    content = evidence.content
    match where:
        case Where.SUBJECT:
            return (content.subject,)
        case Where.HEADERS:
            return (evidence.headers,)
        case Where.TEXT:
            return content.texts
        case Where.MARKUP:
            return content.markups
        case Where.SCRIPT:
            return evidence.scripts
        case Where.URLS:
            return (evidence.urls,) if evidence.urls else ()
        case Where.ATTACHMENT:
            return (evidence.names,) if evidence.names else ()
        case Where.STRUCTURE:
            return ()
