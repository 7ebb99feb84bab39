"""What `relayctl` prints: JSON for programs, tables and sentences for people."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stdout
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.relayctl import output
from controlplane.relayctl.errors import CtlError

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
Shown = pytest.CaptureFixture[str]


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "never"),
        (0.25, "0.2 s ago"),
        (9.96, "10.0 s ago"),
        (59.9, "59.9 s ago"),
        (60.0, "1 min ago"),
        (90.0, "2 min ago"),
        (151.0, "3 min ago"),
        (7200.0, "120 min ago"),
    ],
)
def test_an_age_is_seconds_below_a_minute(seconds: float | None, words: str) -> None:
    """A heartbeat that is seconds late shows; nobody counts the seconds of an hour."""
    assert output.age(seconds) == words


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (None, "-"),
        (True, "yes"),
        (False, "no"),
        (1, "1"),
        (0, "0"),
        ("", ""),
        ([], "none"),
        ((), "none"),
        (["a", True, None], "a, yes, -"),
        ([["a", "b"], []], "a, b, none"),
        (2.5, "2.5"),
    ],
)
def test_a_cell_says_what_a_value_is(value: object, words: str) -> None:
    """Nothing, yes and no are words; 1 is no yes."""
    assert output.cell(value) == words


@given(st.text())
def test_no_text_orders_a_terminal(text: str) -> None:
    """Colours, bells and turned writing are shown as what they are; lines and tabs stay."""
    shown = output.visible(text)
    assert len(shown) == len(text)
    assert all(one.isprintable() or one in "\t\n" or ord(one) > 0x9F for one in shown)
    assert output.visible(shown) == shown
    if text.isprintable():
        assert shown == text


def test_letters_signs_tabs_and_lines_are_shown() -> None:
    """What is no order stays as a stranger wrote it."""
    assert output.visible("a\tb\n\u00e4\U0001f4a9") == "a\tb\n\u00e4\U0001f4a9"
    assert output.visible("a\x1b[2Jb") == "a\ufffd[2Jb"


@pytest.mark.parametrize("sign", ["\x1b", "\x07", "\r", "\x9b", "\u202e", "\u2066", "\x00", "\x7f"])
def test_every_way_of_printing_takes_the_orders_out(sign: str, capsys: Shown) -> None:
    """Sentences, tables, headings of facts, notes and errors."""
    text = f"a{sign}b"
    output.print_line(text)
    output.print_table(("name",), [(text,)], "None.")
    output.print_facts({"name": text})
    output.print_one({"name": text}, as_json=False)
    output.print_note(text)
    output.print_error(CtlError(text, {"name": f"No {text}."}))
    shown = capsys.readouterr()
    assert sign not in shown.out + shown.err
    assert shown.out.count("a\ufffdb") == 4
    assert shown.err.count("a\ufffdb") == 3


@given(VALUES)
def test_json_is_what_the_api_answered(value: Any) -> None:
    """Whatever it is, read again it is the same, in one line or in many."""
    lines = io.StringIO()
    with redirect_stdout(lines):
        output.print_json(value, is_one_line=True)
        output.print_json(value)
    short, rest = lines.getvalue().split("\n", maxsplit=1)
    assert json.loads(short) == json.loads(rest) == value


def test_json_keeps_letters_as_they_are_typed(capsys: Shown) -> None:
    """With two spaces a level for who reads it; one line for who counts lines."""
    output.print_json({"name": "Bücher"})
    output.print_json({"name": ["Bücher"]}, is_one_line=True)
    assert capsys.readouterr().out == '{\n  "name": "Bücher"\n}\n{"name": ["Bücher"]}\n'


def test_a_list_is_a_table_for_people_and_whole_for_programs(capsys: Shown) -> None:
    """A column is a field or what is worked out of the item; JSON has also what no column shows."""
    nodes = [
        {"name": "node-a", "age_s": 2.0, "vips": ["198.51.100.100"], "more": 1},
        {"name": "node-b", "age_s": None, "vips": [], "more": 2},
    ]
    columns: output.Columns = {
        "Node": "name",
        "Seen": lambda one: output.age(one["age_s"]),
        "VIPs": "vips",
    }
    output.print_list(nodes, columns, "There are no nodes.", as_json=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert lines == [
        ["Node", "Seen", "VIPs"],
        ["node-a", "2.0", "s", "ago", "198.51.100.100"],
        ["node-b", "never", "none"],
    ]
    output.print_list(nodes, columns, "There are no nodes.", as_json=True)
    assert json.loads(capsys.readouterr().out) == nodes


def test_an_empty_list_says_so(capsys: Shown) -> None:
    """For people in a sentence, without headings; for programs as a list."""
    output.print_list([], {"Node": "name"}, "There are no nodes.", as_json=False)
    assert capsys.readouterr().out == "There are no nodes.\n"
    output.print_list([], {"Node": "name"}, "There are no nodes.", as_json=True)
    assert capsys.readouterr().out == "[]\n"


def test_nothing_is_cut_in_a_pipe(capsys: Shown) -> None:
    """`grep` finds a long value whole in a sentence, and all of it in a table."""
    long = "x" * 500
    output.print_line(f"a {long} b")
    assert capsys.readouterr().out == f"a {long} b\n"
    output.print_table(("name", "text"), [("n", long)], "None.")
    assert capsys.readouterr().out.count("x") == 500 + "text".count("x")
    output.print_facts({"name": "y" * 150})
    assert "y" * 150 in capsys.readouterr().out


@pytest.mark.parametrize("markup", ["[bold]", "[/]", "[red]a[/red]", ":smile:", "http://a b"])
def test_no_text_is_taken_for_markup(markup: str, capsys: Shown) -> None:
    """A subject may hold anything."""
    output.print_line(markup)
    output.print_facts({"subject": markup})
    output.print_table(("subject",), [(markup,)], "None.")
    assert capsys.readouterr().out.count(markup) == 3


def test_a_change_says_what_it_led_to(capsys: Shown) -> None:
    """The sentence or the answer, never both."""
    output.print_done({"version": 3}, "Version 3 is live.", as_json=False)
    assert capsys.readouterr().out == "Version 3 is live.\n"
    output.print_done({"version": 3}, "Version 3 is live.", as_json=True)
    assert json.loads(capsys.readouterr().out) == {"version": 3}
    output.print_one({"version": 3}, as_json=True)
    assert json.loads(capsys.readouterr().out) == {"version": 3}


def test_what_was_not_given_is_not_sent() -> None:
    """An empty text, a zero and a no are given."""
    values = {"a": None, "b": "", "c": 0, "d": False, "e": []}
    assert output.given(**values) == {"b": "", "c": 0, "d": False, "e": []}


@pytest.mark.parametrize(
    ("detail", "fields", "printed"),
    [
        ("No.", {}, ["relayctl: No."]),
        ("Bad port.", {"port": "Bad port."}, ["relayctl: Bad port."]),
        ("No.", {"port": "Bad port."}, ["relayctl: No.", "  port: Bad port."]),
        (
            "Bad port.",
            {"port": "Bad port.", "name": "Bad name."},
            ["relayctl: Bad port.", "  port: Bad port.", "  name: Bad name."],
        ),
    ],
)
def test_an_error_is_a_sentence_and_one_for_each_field(
    detail: str, fields: dict[str, str], printed: list[str], capsys: Shown
) -> None:
    """On standard error, and once: a field alone that says the same adds nothing."""
    output.print_error(CtlError(detail, fields))
    shown = capsys.readouterr()
    assert (shown.out, shown.err.splitlines()) == ("", printed)


def test_a_note_is_no_part_of_the_answer(capsys: Shown) -> None:
    """It goes to standard error, so a pipe gets the answer alone."""
    output.print_note("The session has ended.")
    assert capsys.readouterr() == ("", "The session has ended.\n")
