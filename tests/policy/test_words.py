"""Bad words: which are found in which text, and what is refused or left out with which sentence."""

from __future__ import annotations

import re

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.document import Badword
from nodeagent.policy.engine import words as words_module
from nodeagent.policy.engine.folding import text_forms
from nodeagent.policy.engine.words import (
    BadwordSet,
    ScanFailed,
    compile_badwords,
    pattern_problem,
)

HOSTILE = st.text() | st.text(alphabet="aAäß\u0301\u200b\ufdfa \n€ж", max_size=60)


def words_of(*patterns: str, is_regex: bool = False) -> BadwordSet:
    """Return a set of words numbered from 1."""
    return compile_badwords(
        Badword(id=number, pattern=pattern, is_regex=is_regex)
        for number, pattern in enumerate(patterns, start=1)
    )


def found(pattern: str, text: str, *, is_regex: bool = False) -> bool:
    """Tell whether one word is found in a text."""
    compiled = words_of(pattern, is_regex=is_regex)
    assert compiled.problems == ()
    return len(compiled.find(text)) == 1


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("viagra", "viagra"),
        ("viagra", "Buy VIAGRA!"),
        ("Viagra", "(viagra)"),
        ("viagra", "x\nviagra\n"),
        ("viagra", "vi\u00adag\u200bra"),
        ("viagra", "\uff56\uff49\uff41\uff47\uff52\uff41"),
        ("viagra", "v\u0336i\u0336a\u0336g\u0336r\u0336a\u0336"),
        ("viagra", "\u201cviagra\u201d"),
        ("viagra", "now\u2014viagra\u2014here"),
        ("größe", "Die GRÖSSE zählt"),
        ("größe", "gro\u0308\u00dfe"),
        ("GRÖSSE", "größe"),
        ("привет", "Привет, мир"),
        ("ПРИВЕТ", "«привет»"),
        ("i", "\u0130"),
        ("हिन्दी", "यह हिन्दी है"),
        ("無料", "《無料》"),
        ("free money", "FREE\r\n \tmoney"),
        ("free money", "free\u00a0\u2003money"),
        ("free  money", "free money"),
        ("c++", "I write C++."),
        ("c++", "c++"),
        ("100%", "100% off"),
        ("100%", "100%off"),
        ("make-money", "make-money"),
        ("$$$", "a$$$b"),
        ("a.b", "a.b"),
        ("\\d", "a \\d b"),
        ("x\x00y", "x\x00y"),
        ("fi", "\ufb01"),
    ],
)
def test_word_is_found_however_it_is_written(word: str, text: str) -> None:
    """Case, accents as marks, full width, invisible characters and white space do not hide it."""
    assert found(word, text)


@pytest.mark.parametrize(
    ("word", "text"),
    [
        ("viagra", "viagras"),
        ("viagra", "xviagra"),
        ("viagra", "viagra_"),
        ("viagra", "viagra1"),
        ("ass", "class assets"),
        ("größe", "größen"),
        ("größe", "übergröße"),
        ("große", "größe"),
        ("привет", "приветик"),
        ("viagra", "viagraü"),
        ("viagra", "жviagra"),
        ("free money", "freemoney"),
        ("free money", "free, money"),
        ("free money", "free moneys"),
        ("a.b", "axb"),
        ("c++", "xc++"),
        ("hello", ""),
        ("हिन्दी", "हिन्दीय"),
    ],
)
def test_word_is_not_found_within_others(word: str, text: str) -> None:
    """A word ends where letters, digits and underscores of any script end."""
    assert not found(word, text)


@pytest.mark.parametrize(
    ("pattern", "text", "is_found"),
    [
        (r"v[i1]agra", "V1AGRA", True),
        (r"free\s+money", "free \n money", True),
        (r"^subject", "subject: x", True),
        (r"^subject", "a\nsubject: x", False),
        (r"(?m)^subject", "a\nsubject: x", True),
        (r"end$", "the end", True),
        (r"\p{Cyrillic}{3}", "приз", True),
        (r"größe", "GRÖßE", True),
        (r"a.b", "a\nb", False),
        (r"(?s)a.b", "a\nb", True),
        (r"(?-i:ABC)", "abc", False),
        (r"viagra", "vi\u200bagra", True),
        (r"\x{1F600}", "\U0001f600", True),
        (r"\Qa.b\E", "a.b", True),
        (r"\Qa.b\E", "axb", False),
    ],
)
def test_regular_expressions_are_those_of_re2_in_any_case(
    pattern: str, text: str, *, is_found: bool
) -> None:
    """They see the text in NFKC and without invisible characters."""
    assert found(pattern, text, is_regex=True) is is_found


@pytest.mark.parametrize(
    ("pattern", "reason"),
    [
        ("(", "has no )"),
        ("a)", "closes no group"),
        ("[a", "has no ]"),
        ("[z-a]", "a range or a name"),
        ("a\\", "ends with a backslash"),
        ("a**", "is repeated"),
        ("(?P<1", "name of a group"),
        ("a(?=b)", "look-ahead"),
        ("(?<!a)b", "look-ahead"),
        (r"(a)\1", "back references"),
        ("a{1001}", "repetition"),
        ("((a{100}){100}){100}", "repetition"),
        ("a{2,1}", "repetition"),
        ("*a", "nothing before it"),
        ("a*", "empty text"),
        ("", "empty text"),
        (r"\b", "empty text"),
        ("^", "empty text"),
        ("(?m)$", "empty text"),
        ("a|", "empty text"),
        ("x*|y", "empty text"),
        (r"\pL{1000}", "too large"),
        ("\udcff", "UTF-8"),
        ("a.{20}b", "take too long"),
        ("x{1000}", "take too long"),
    ],
)
def test_expression_is_refused_in_one_sentence(pattern: str, reason: str) -> None:
    """The sentence says what to change."""
    problem = pattern_problem(pattern, is_regex=True)
    assert problem is not None
    assert reason in problem
    assert problem.endswith(".")
    assert "\n" not in problem


@pytest.mark.parametrize("word", ["\u200b", "\u00ad\ufe0f", " \u2028 ", "\u0301", "\u2014"])
def test_word_without_anything_to_see_is_refused(word: str) -> None:
    """It would match everywhere."""
    assert pattern_problem(word, is_regex=False)
    compiled = words_of(word, "viagra")
    assert len(compiled) == 1
    assert "Bad word 1 is left out" in compiled.problems[0]


@pytest.mark.parametrize("word", ["viagra", "größe", "c++", "free money", "(", r"\1", "a" * 1000])
def test_words_are_taken_literally(word: str) -> None:
    """What would be no expression is still a word."""
    assert pattern_problem(word, is_regex=False) is None
    assert found(word, f"x {word} y")


@given(HOSTILE)
def test_every_word_that_is_taken_is_found_in_itself(text: str) -> None:
    """No text breaks the reading of a word, and each word is found between spaces."""
    if 1 <= len(text) <= 1000 and pattern_problem(text, is_regex=False) is None:
        pattern = text.encode("utf-8", "replace").decode()
        assert found(pattern, f"before {pattern} behind")


@given(HOSTILE)
def test_no_text_breaks_a_search(text: str) -> None:
    """Any text, also with half surrogates, is searched to its end."""
    compiled = compile_badwords(
        [
            Badword(id=1, pattern="needle"),
            Badword(id=2, pattern="needle", is_regex=True),
        ]
    )
    assert [word.id for word in compiled.find(f"{text} needle {text}")] in ([1, 2], [2])
    compiled.find(text + "\udcff")


@given(
    st.text(alphabet="abc_1 .-\n", max_size=40), st.text(alphabet="abc_1", min_size=1, max_size=3)
)
def test_boundaries_are_those_of_python_for_ascii(text: str, word: str) -> None:
    r"""For a word of ASCII letters the result is that of "\b" of Python's re."""
    expected = re.search(rf"\b{word}\b", text, re.ASCII) is not None
    assert found(word, text) is expected


def test_all_words_that_are_there_are_named_once_by_id() -> None:
    """Words that contain one another, and expressions, are all found."""
    compiled = compile_badwords(
        [
            Badword(id=7, pattern="money"),
            Badword(id=3, pattern="free money"),
            Badword(id=5, pattern="mon.y", is_regex=True),
            Badword(id=9, pattern="gold"),
            Badword(id=1, pattern="free", is_enabled=False),
        ]
    )
    assert [word.id for word in compiled.find("free money, free money")] == [3, 5, 7]
    assert len(compiled) == 4


def test_empty_set_finds_nothing() -> None:
    """No words are no fault."""
    assert compile_badwords([]).find("any text") == ()


def test_ten_thousand_words_are_each_found() -> None:
    """Every word of a long list is found, and none of those that are not in the text."""
    compiled = words_of(*(f"word{number}x" for number in range(10_000)))
    assert len(compiled) == 10_000
    text = " ".join(f"word{number}x" for number in range(0, 10_000, 2))
    assert [word.id for word in compiled.find(text)] == list(range(1, 10_001, 2))


def test_bad_patterns_are_named_and_the_others_in_force() -> None:
    """One that was accepted by another version spoils nothing; only a few are named."""
    compiled = words_of(*["("] * 10, "viagra", is_regex=True)
    assert len(compiled.find("viagra")) == 1
    assert compiled.problems[0] == (
        "Bad word 1 is left out: The regular expression cannot be used: a group that begins with ("
        " has no )."
    )
    assert compiled.problems[-1] == "5 more problems with bad words."
    assert len(compiled.problems) == 6


def test_long_phrases_are_spread_over_sets_and_the_rest_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """More than fits into all sets is left out with a sentence, and what fits is found."""
    monkeypatch.setattr(words_module, "PHRASES_A_SET_BYTES", 2_000)
    monkeypatch.setattr(words_module, "MOST_PHRASE_SETS", 3)
    patterns = [f"{number:03} " + "x" * 200 for number in range(40)]
    compiled = words_of(*patterns)
    left_out = len(patterns) - len(compiled)
    assert 0 < left_out < len(patterns)
    assert compiled.problems == (
        f"{left_out} bad phrases are left out: all together are too long.",
    )
    assert len(compiled.find(" ".join(patterns))) == len(compiled)


@pytest.mark.parametrize("between", [" ", "-", "\u3000", "." + "x" * 100 + "\n"])
@pytest.mark.parametrize("length", [1, 7, 8, 9, 15, 16, 17, 300])
def test_a_word_is_found_wherever_a_long_text_is_split(
    monkeypatch: pytest.MonkeyPatch, between: str, length: int
) -> None:
    """No split falls into a word, and a text without any space is one."""
    monkeypatch.setattr(words_module, "SPLIT_BYTES", 8)
    word = "b" * length
    compiled = words_of(word, "bb-bb")
    for before in range(20):
        text = f"{'a' * before}{between}{word}{between}{'a' * 20}"
        assert [one.pattern for one in compiled.find(text)] == [word]
        assert compiled.find(text.replace(word, f"{word}c")) == ()


def test_words_that_fold_to_one_are_both_named() -> None:
    """Two entries for one word, and a phrase that has it: whatever is there is named."""
    compiled = words_of("Casino", "CASINO", "casino now", "now")
    assert [word.id for word in compiled.find("casino")] == [1, 2]
    assert [word.id for word in compiled.find("in the casino\tnow")] == [1, 2, 3, 4]
    assert len(compiled) == 4


@given(st.text(alphabet="ab_0-. \nä\u0301ß", max_size=40), st.text(alphabet="ab_0äß", min_size=1))
def test_a_word_is_bounded_by_what_belongs_to_no_word(text: str, word: str) -> None:
    """Letters beyond ASCII and their accents belong to words, also where a word is looked up."""
    letter = "[0-9a-z_\x80-\U0010ffff]"
    (_, folded), (_, wanted) = text_forms(text), text_forms(word)
    expected = re.search(f"(?<!{letter}){re.escape(wanted)}(?!{letter})", folded) is not None
    assert found(word, text) is expected


def test_expressions_that_multiply_are_kept_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each is searched, as long as there are sets; the rest is named."""
    patterns = [f"{letter}.{{8}}[{letter}]" for letter in "abcdefgh"]
    compiled = words_of(*patterns, is_regex=True)
    assert compiled.problems == ()
    text = " ".join(f"{letter}12345678{letter}" for letter in "abcdefgh")
    assert len(compiled.find(text)) == len(patterns)
    monkeypatch.setattr(words_module, "MOST_REGEX_SETS", 2)
    few = words_of(*patterns, is_regex=True)
    assert "left out: all together are too much" in few.problems[0]
    assert len(few.find(text)) == len(few) < len(patterns)


def test_too_many_expressions_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit they are left out, not half compiled."""
    monkeypatch.setattr(words_module, "MOST_REGEXES", 3)
    compiled = words_of("a1", "b1", "c1", "d1", is_regex=True)
    assert len(compiled) == 3
    assert compiled.problems == ("1 regular expressions are left out: all together are too much.",)


REAL_SET = re2.Set


class SilentSet:
    """A set of RE2 that has run out of memory: it says that nothing matched."""

    def __init__(self, options: re2.Options) -> None:
        self._set = REAL_SET.SearchSet(options)

    @classmethod
    def SearchSet(cls, options: re2.Options) -> SilentSet:  # noqa: N802 - RE2's name
        """Return a set that fails on long texts."""
        return cls(options)

    def __getattr__(self, name: str) -> object:
        return getattr(self._set, name)

    def Match(self, text: bytes) -> list[int]:  # noqa: N802 - RE2's name
        """Find nothing in a long text."""
        return [] if len(text) > 10_000 else self._set.Match(text)


def test_a_search_that_gave_up_is_no_search_without_findings(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """RE2 finds nothing when it runs out of memory; that is told from a clean mail."""
    monkeypatch.setattr(words_module.re2, "Set", SilentSet)
    compiled = words_of("buy now")
    assert compiled.find("clean") == ()
    with pytest.raises(ScanFailed, match="out of memory"):
        compiled.find("buy now " * 5_000)
