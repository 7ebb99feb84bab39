"""Kinds of events: what the program reports is what the filter takes and the reference lists."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator

import pytest

from docs.generate import REPOSITORY
from nodeagent.core import actions as act
from nodeagent.core.event_kinds import CONTROL_PLANE_KINDS, KIND_PATTERN, NODE_KINDS

REPORTERS = {"event", "append", "add_event", "_report", "_complain"}
CONSTANTS = {"REFUSED": "push-refused", "QUARANTINED": "quarantined"}
ACTIONS = [
    one
    for _name, one in inspect.getmembers(act, inspect.isclass)
    if issubclass(one, act.Action) and one is not act.Action
]


def kinds_reported(package: str) -> Iterator[str]:
    """Yield each literal kind that a call of a reporter in this package is given."""
    for path in (REPOSITORY / package).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.Call) or len(node.args) < 2:
                continue
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            for given in node.args[:2] if name in REPORTERS else ():
                if isinstance(given, ast.Constant) and re.match(KIND_PATTERN, str(given.value)):
                    yield str(given.value)
                elif isinstance(given, ast.Name) and given.id in CONSTANTS:
                    yield CONSTANTS[given.id]


@pytest.mark.parametrize(
    ("package", "listed"), [("nodeagent", NODE_KINDS), ("controlplane", CONTROL_PLANE_KINDS)]
)
def test_every_kind_that_is_reported_is_listed(package, listed):
    """An operator who meets an event finds it in the reference."""
    found = set(kinds_reported(package))
    assert len(found) > 8
    assert found <= set(listed) | set(NODE_KINDS)


@pytest.mark.parametrize("action", ACTIONS)
def test_a_failure_is_named_after_its_action_and_can_be_filtered_by(action):
    """Capitals would be refused by the filter of the API."""
    blank = action.__new__(action)
    kind = act.failure_kind(blank)
    assert re.fullmatch(KIND_PATTERN, kind)
    assert kind.replace("-", "") == f"{action.__name__.lower()}failed"


def test_words_of_an_action_are_joined_by_hyphens():
    """As the documentation spells them."""
    assert act.failure_kind(act.ApplyConfig(3)) == "apply-config-failed"
    assert act.failure_kind(act.DropVip(())) == "drop-vip-failed"


def test_every_listed_kind_can_be_filtered_by():
    """The pattern is the API's own."""
    for kind in (*NODE_KINDS, *CONTROL_PLANE_KINDS):
        assert re.fullmatch(KIND_PATTERN, kind), kind
