"""Automata of expressions: read as RE2 reads them, counted exactly where that is known, bounded."""

from __future__ import annotations

import random

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.engine import automata
from nodeagent.policy.engine.automata import MOST_UNITS, work_of
from nodeagent.policy.engine.patterns import Atom, Choice, Node, Repeat, parse
from tests.fakes.hostile_patterns import ACCEPTED, REFUSED


def show(node: Node) -> str:
    """Return a tree as a line."""
    if isinstance(node, Atom):
        plain = node.expression in {node.letter, str(re2.escape(node.letter or ""))}
        return f"'{node.letter if plain else node.expression}'"
    if isinstance(node, Repeat):
        return f"{show(node.part)}{{{node.least},{'' if node.most is None else node.most}}}"
    sign = "|" if isinstance(node, Choice) else " "
    return f"({sign.join(map(show, node.parts))})"


@pytest.mark.parametrize(
    ("pattern", "tree"),
    [
        ("a", "'a'"),
        ("ab", "('a' 'b')"),
        ("a|bc|", "('a'|('b' 'c')|())"),
        ("a*b+c?", "('a'{0,} 'b'{1,} 'c'{0,1})"),
        ("a*?b+?c??", "('a'{0,} 'b'{1,} 'c'{0,1})"),
        ("a{3}b{2,}c{1,4}?", "('a'{3,3} 'b'{2,} 'c'{1,4})"),
        ("a{,3}", "('a' '{' ',' '3' '}')"),
        ("a{x}", "('a' '{' 'x' '}')"),
        ("(a)(?:b)(?P<n>c)(?<m>d)", "('a' 'b' 'c' 'd')"),
        ("(a|b)*", "('a'|'b'){0,}"),
        (r"^\ba\B\z$", "(() () 'a' () () ())"),
        (r"\Aa", "(() 'a')"),
        (r"[a-z][^]x][]]", "('[a-z]' '[^]x]' '[]]')"),
        (r"[\]\pL[:alpha:]\x{41}-]", r"'[\]\pL[:alpha:]\x{41}-]'"),
        (r"\pL\p{Greek}\P{L}", r"('\pL' '\p{Greek}' '\P{L}')"),
        (r"\x41\x{1F600}\101\d\.", r"('\x41' '\x{1F600}' '\101' '\d' '\.')"),
        (r"\Qa.*\Eb", "('a' '.' '*' 'b')"),
        (r"\Qab\E+", "('a' 'b'{1,})"),
        (r"\Q", "()"),
        ("(?i)a", "'a'"),
        ("(?s).", "'(?s:.)'"),
        ("(?s:.).", "('(?s:.)' '.')"),
        ("(?s-i:.a).", "(('(?s-i:.)' '(?s-i:a)') '.')"),
        ("((?s).).", "('(?s:.)' '.')"),
        ("(?is)(?-s).", "'.'"),
    ],
)
def test_expression_is_read_as_re2_means_it(pattern: str, tree: str) -> None:
    """Groups, classes, escapes, quotations, repetitions and flags give the tree."""
    re2.compile(pattern)
    assert show(parse(pattern).tree) == tree


@pytest.mark.parametrize(
    ("pattern", "is_anchored"),
    [("^a", True), (r"\Aa", True), ("a^", False), ("^a|b", False), ("(?m)^a", False)],
)
def test_anchored_expressions_are_told(pattern: str, *, is_anchored: bool) -> None:
    """Only what can begin at the start of the text alone is anchored; in doubt it is not."""
    assert parse(pattern).is_anchored is is_anchored


PIECES = st.recursive(
    st.sampled_from(["a", "b", "c", ".", "[ab]", "[^a]", r"\d", "é", r"\.", r"\Q+\E"]),
    lambda inner: st.one_of(
        st.tuples(inner, inner).map("".join),
        st.tuples(inner, inner).map("|".join).map("(?:{})".format),
        st.tuples(inner, st.sampled_from(["*", "+", "?", "{2}", "{0,3}", "{2,}"])).map(
            lambda pair: f"({pair[0]}){pair[1]}"
        ),
    ),
    max_leaves=6,
)


def matches(pattern: str, text: str) -> bool:
    """Walk the positions of an expression over a text, from any place in it."""
    machine = automata._Automaton(10_000)
    can_be_empty, first, last = machine._build(parse(pattern).tree)
    if can_be_empty:
        return True
    active = 0
    for letter in text:
        reads = sum(
            mask
            for atom, mask in machine.atoms.items()
            if letter in automata._read_by(atom, letter)
        )
        active = (first | automata._next(machine, active)) & reads
        if active & last:
            return True
    return False


@given(PIECES, st.text(alphabet="abcé1.+", max_size=12))
def test_the_automaton_accepts_what_re2_finds(pattern: str, text: str) -> None:
    """What is counted is the automaton of the expression, and not of another one."""
    options = re2.Options()
    options.case_sensitive = False
    assert matches(pattern, text) == (re2.search(pattern, text, options) is not None)


@pytest.mark.parametrize("gap", range(1, 10))
def test_states_of_a_gap_double_with_each_character(gap: int) -> None:
    """The automaton of "a.{n}c" has to remember where each "a" stood: 2^(n+1) states."""
    assert work_of(f"a.{{{gap}}}c").states == 2 ** (gap + 1)


@pytest.mark.parametrize(
    ("pattern", "states"),
    [("abc", 3), ("(?:a+)+$", 1), ("a.*b", 2), ("^a.{9}b", 12), (r"\bfree\s+money\b", 10)],
)
def test_ordinary_expressions_have_few_states(pattern: str, states: int) -> None:
    """As many as they have letters, more or less."""
    assert work_of(pattern).states == states


@pytest.mark.parametrize("pattern", ACCEPTED)
def test_expressions_that_any_text_searches_quickly_are_accepted(pattern: str) -> None:
    """Also those that take other engines for ever."""
    re2.compile(pattern)
    work = work_of(pattern)
    assert work.problem is None
    assert 0 < work.units <= MOST_UNITS


@pytest.mark.parametrize("pattern", REFUSED)
def test_expressions_that_some_text_makes_slow_are_refused(pattern: str) -> None:
    """RE2 takes them; the counting ends at the limit, and the sentence says what to do."""
    re2.compile(pattern)
    work = work_of(pattern)
    assert work.problem is not None
    assert "repetitions" in work.problem


@pytest.mark.parametrize("pattern", REFUSED)
def test_counting_itself_is_bounded(pattern: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who types in a hostile expression costs the server a bounded number of steps."""
    steps = 0

    def counted(machine: automata._Automaton, positions: int) -> int:
        nonlocal steps
        steps += 1
        return original(machine, positions)

    original = automata._next
    monkeypatch.setattr(automata, "_next", counted)
    automata.work_of.__wrapped__(pattern)
    assert steps <= 2 * automata.MOST_STEPS


def test_expressions_together_have_the_states_of_all() -> None:
    """Those of words add up; those of gaps multiply."""
    words = [f"{first}{second}xyz" for first in "abcde" for second in "fghij"]
    assert work_of(*words).states <= sum(work_of(word).states for word in words)
    gaps = [f"{letter}.{{5}}!" for letter in "abc"]
    assert work_of(gaps[0]).states == 64
    assert work_of(*gaps[:2]).states > 64 * 10
    assert work_of(*gaps).problem


def test_wide_loops_are_counted() -> None:
    """What remembers something as long as letters follow."""
    assert work_of(r"abc\w*d.*").loops == 2
    assert work_of(r"abc\s+\d*x").loops == 0


@pytest.mark.parametrize("depth", [10, 1000, 100_000])
def test_deep_nesting_is_no_crash(depth: int) -> None:
    """RE2 takes a thousand parentheses; we answer, whatever it takes."""
    work = work_of("(" * depth + "a" + ")" * depth)
    assert work.problem is None or "too large" in work.problem


@given(st.text(alphabet=r"ab.*+?{}()[]^$|\Q2,:-<>pLPx0", max_size=20))
def test_whatever_re2_takes_is_understood_or_refused(text: str) -> None:
    """No accepted expression makes the reader fail."""
    options = re2.Options()
    options.log_errors = False
    try:
        re2.compile(text, options)
    except re2.error:
        return
    work = work_of(text)
    assert work.problem or work.states > 0


def test_no_text_makes_re2_build_more_states_than_were_counted() -> None:
    """Random walks over the letters that matter see at most the counted states."""
    dice = random.Random(5)
    pattern = r"a.{6}[bc]"
    machine = automata._Automaton(1000)
    machine.add(parse(pattern))
    classes = automata._classes(machine)
    seen = {machine.first}
    state = machine.first
    for _ in range(20_000):
        state = machine.always | automata._next(machine, state & dice.choice(classes))
        seen.add(state)
    assert len(seen) <= work_of(pattern).states
