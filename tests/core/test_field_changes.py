"""Changes field by field: what a person reads of a row of the audit log."""

from __future__ import annotations

import pytest

from controlplane.core.attention import Severity
from controlplane.core.csv_cells import csv_lines, guarded
from controlplane.core.event_severity import SEVERITIES, severity_of
from controlplane.core.field_changes import FieldChange, field_changes
from nodeagent.core.actions import failure_kinds
from nodeagent.core.event_kinds import CONTROL_PLANE_KINDS, NODE_KINDS


@pytest.mark.parametrize(
    ("before", "after", "lines"),
    [
        (None, None, []),
        ({"role": "Admin"}, {"role": "Admin"}, []),
        ({"role": "Admin"}, {"role": "Operator"}, ["role: Admin -> Operator"]),
        (None, {"port": 25, "is_disabled": False}, ["port: 25", "is_disabled: no"]),
        ({"port": 25}, None, ["port: 25 -> (gone)"]),
        ({"a": None}, {"a": ""}, []),
        (
            {"q": {"retry_s": 5, "x": 1}},
            {"q": {"retry_s": 9, "x": 1}},
            ["q.retry_s: 5 -> 9"],
        ),
        ({"nets": ["a", "b"]}, {"nets": ["a"]}, ["nets: a, b -> a"]),
        ({"nodes": [{"n": "a"}]}, {"nodes": [{"n": "b"}]}, ["nodes: n=a -> n=b"]),
        ({"a": {}}, {"a": {"b": True}}, ["a: (none) -> (gone)", "a.b: yes"]),
    ],
)
def test_what_differs_is_one_line_a_field(
    before: dict[str, object] | None, after: dict[str, object] | None, lines: list[str]
) -> None:
    """Nothing else is said."""
    assert [change.text() for change in field_changes(before, after)] == lines


def test_long_values_and_many_fields_are_cut() -> None:
    """A list of 100,000 domains does not become a page of them."""
    (change,) = field_changes(None, {"domains": ["example.com"] * 100_000})
    assert change.after is not None
    assert len(change.after) < 600
    assert len(field_changes(None, {f"f{number}": number for number in range(5000)})) == 100
    assert field_changes({"a": 1}, {"a": 2}) == (FieldChange("a", "1", "2"),)


@pytest.mark.parametrize("start", ["=", "+", "-", "@", "\t", "\r", "\n", "'"])
def test_no_cell_is_a_formula(start: str) -> None:
    """Whatever a stranger made it begin with; numbers stay numbers."""
    assert guarded(f"{start}1+1") == f"'{start}1+1"
    assert (guarded(-0.5), guarded(None), guarded("plain")) == ("-0.5", "", "plain")


def test_pages_become_lines_as_they_come() -> None:
    """The columns first, an empty page leaves nothing, a line break stays within its cell."""
    lines = csv_lines(("a", "b"), [[("x", 1)], [], [("two\nlines", "=1")]])
    assert list(lines) == ["a,b\r\n", "x,1\r\n", '"two\nlines",\'=1\r\n']


def test_every_listed_severity_is_of_a_known_kind() -> None:
    """Else the table keeps what nothing reports any more."""
    assert set(SEVERITIES) <= {*NODE_KINDS, *CONTROL_PLANE_KINDS}


def test_a_failed_action_is_a_warning() -> None:
    """Of whatever action; what is not listed is information."""
    assert {severity_of(kind) for kind in failure_kinds()} == {Severity.WARN}
    assert "push-failed" in failure_kinds()
    assert "apply-config-failed" in failure_kinds()
    assert severity_of("fence-failed") is Severity.BAD
    assert severity_of("role") is Severity.INFO
