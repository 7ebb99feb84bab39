"""Each threat rule by itself: what fires it, and what is near to it and honest."""

from __future__ import annotations

from dataclasses import replace

import pytest

from nodeagent.policy.engine.content import Content
from nodeagent.policy.engine.threats import THREAT_RULES, ThreatSet
from tests.policy.corpus.markup_samples import RULES

ALL = ThreatSet.compile()


def fired(content: Content) -> list[str]:
    """Return the rules that fire."""
    return [hit.rule for hit in ALL.find(content)]


def test_every_rule_has_samples_and_every_sample_a_rule():
    """Every rule has samples and every sample a rule."""
    assert set(RULES) == {rule.name for rule in THREAT_RULES}
    for name, samples in RULES.items():
        assert samples.fires, name
        assert samples.passes, name


@pytest.mark.parametrize(
    ("name", "content"), [(name, one) for name, found in RULES.items() for one in found.fires]
)
def test_a_sample_fires_its_rule(name: str, content: Content):
    """A sample fires its rule."""
    assert name in fired(content)


@pytest.mark.parametrize(
    ("name", "content"), [(name, one) for name, found in RULES.items() for one in found.passes]
)
def test_what_is_near_to_it_does_not(name: str, content: Content):
    """What is near to it does not."""
    assert name not in fired(content)


@pytest.mark.parametrize(
    ("name", "pattern"), [(rule.name, one) for rule in THREAT_RULES for one in rule.patterns]
)
def test_every_pattern_is_needed_by_a_sample(name: str, pattern: str):
    """Each pattern matches by itself in some sample, so none of them is dead."""
    (rule,) = (one for one in THREAT_RULES if one.name == name)
    alone = ThreatSet([replace(rule, patterns=(pattern,))], {})
    assert any(alone.find(content) for content in RULES[name].fires)
