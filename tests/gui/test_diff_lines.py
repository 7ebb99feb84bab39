"""Lines of a unified diff as pages show them: each with what it is, nothing lost."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.diff import diff
from controlplane.gui.diffs import DiffLine, diff_lines
from nodeagent.core.contract import ConfigFile


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("@@ -1,2 +1,2 @@", DiffLine("place", "@@ -1,2 +1,2 @@")),
        ("+added", DiffLine("add", "added")),
        ("-gone", DiffLine("remove", "gone")),
        (" kept", DiffLine("same", "kept")),
        ("+", DiffLine("add", "")),
        ("mode 0600 root -> 0644 root", DiffLine("same", "mode 0600 root -> 0644 root")),
        ("(12 more lines)", DiffLine("same", "(12 more lines)")),
        ("+@@ x", DiffLine("add", "@@ x")),
    ],
)
def test_each_line_says_what_it_is(line: str, shown: DiffLine) -> None:
    """The marker becomes a kind; a sentence of ours is shown as it stands."""
    assert diff_lines(line) == (shown,)


def test_only_the_first_two_lines_name_the_files() -> None:
    """A removed line that begins with dashes looks like a name, and is content."""
    text = "--- a/x\n+++ b/x\n@@ -1 +1 @@\n--- not a name\n+++ nor this"
    assert [(one.kind, one.text) for one in diff_lines(text)] == [
        ("place", "@@ -1 +1 @@"),
        ("remove", "-- not a name"),
        ("add", "++ nor this"),
    ]


def test_a_changed_mode_stands_before_the_lines() -> None:
    """It comes first in the text, so the names behind it are still left out."""
    old = ConfigFile(path="/x", content="a\n", mode="0644")
    new = ConfigFile(path="/x", content="b\n", mode="0755")
    (found,) = diff((old,), (new,))
    assert [one.kind for one in diff_lines(found.text)] == ["same", "place", "remove", "add"]


LINES = st.lists(
    st.sampled_from(["", "a", "-- a", "++ a", "@@ a"]), max_size=3
)  # with its end, each file is one hunk


@given(LINES, LINES)
def test_every_line_of_both_files_is_shown_as_what_it_is(old: list[str], new: list[str]) -> None:
    """Kept and removed lines are the old file, kept and added ones the new file, in order."""
    before = ConfigFile(path="/x", content="\n".join([*old, "end"]), mode="0644")
    after = ConfigFile(path="/x", content="\n".join([*new, "end"]), mode="0644")
    shown = [one for file in diff((before,), (after,)) for one in diff_lines(file.text)]
    if shown:
        assert [one.text for one in shown if one.kind in {"same", "remove"}] == [*old, "end"]
        assert [one.text for one in shown if one.kind in {"same", "add"}] == [*new, "end"]
    assert bool(shown) is (old != new)
