"""Laws of the bad words: what a set finds is what a naive reading of the text finds."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeagent.policy.document import Badword
from nodeagent.policy.engine import words as words_module
from nodeagent.policy.engine.words import BadwordSet, compile_badwords, pattern_problem

# letters that have one form in both cases, digits, and what stands between words; no marks
LETTERS = "abzABZ09_äÄжЖéÉ"
BETWEEN = " \t\n.,;:!?-—«»„“()<>/@#"
texts = st.text(alphabet=LETTERS + BETWEEN, max_size=40)
# a dash or quotation mark beyond ASCII is a space to us, and would join a phrase as well
plain_texts = st.text(alphabet=LETTERS + BETWEEN.encode("ascii", "ignore").decode(), max_size=40)
tokens = st.text(alphabet=LETTERS, min_size=1, max_size=3)
phrases = st.lists(tokens, min_size=1, max_size=3).map(" ".join)
BOUNDED = "{} not possible in a search of bounded time"
some = settings(max_examples=40)


def set_of(patterns: Sequence[str], *, is_regex: bool = False) -> BadwordSet:
    """Return a set of words numbered from 1."""
    compiled = compile_badwords(
        Badword(id=number, pattern=pattern, is_regex=is_regex)
        for number, pattern in enumerate(patterns, 1)
    )
    assert compiled.problems == ()
    return compiled


def ids(compiled: BadwordSet, text: str) -> list[int]:
    """Return the ids of what is found."""
    return [word.id for word in compiled.find(text)]


def folded(text: str) -> str:
    """Return a text without its case, in the plainest way."""
    return unicodedata.normalize("NFKC", text.casefold())


@some
@given(texts, st.lists(tokens, max_size=6))
def test_words_are_found_as_a_naive_reading_finds_them(text: str, patterns: list[str]) -> None:
    """A word is there if it is one of those that all other characters leave."""
    present = set(re.findall(r"\w+", folded(text)))
    expected = [n for n, word in enumerate(patterns, 1) if folded(word) in present]
    assert ids(set_of(patterns), text) == expected


@some
@given(plain_texts, st.lists(phrases, max_size=4))
def test_phrases_are_found_as_a_naive_reading_finds_them(text: str, patterns: list[str]) -> None:
    """The words of a phrase follow each other with nothing but white space in between."""
    expected = []
    for number, phrase in enumerate(patterns, 1):
        parts = r"\s+".join(map(re.escape, folded(phrase).split()))
        if re.search(rf"(?<!\w){parts}(?!\w)", folded(text)):
            expected.append(number)
    assert ids(set_of(patterns), text) == expected


@some
@given(texts, st.lists(phrases, min_size=1, max_size=5))
def test_a_set_finds_what_its_words_find_alone(text: str, patterns: list[str]) -> None:
    """No word hides another one, in whatever tables they are kept."""
    alone = [n for n, word in enumerate(patterns, 1) if set_of([word]).find(text)]
    assert ids(set_of(patterns), text) == alone


@some
@given(texts, texts, st.lists(phrases, min_size=1, max_size=4))
def test_more_text_never_hides_a_word(text: str, more: str, patterns: list[str]) -> None:
    """What is in a part, with a line's end behind it, is in the whole."""
    compiled = set_of(patterns)
    whole = set(ids(compiled, f"{text}\n{more}"))
    assert set(ids(compiled, text)) | set(ids(compiled, more)) <= whole


@some
@given(texts, st.lists(tokens, min_size=1, max_size=4), st.sampled_from([1, 2, 3, 5, 64]))
def test_where_a_text_is_split_does_not_matter(
    text: str, patterns: list[str], split_bytes: int
) -> None:
    """A split never falls into a word, and skips none."""
    compiled = set_of(patterns)
    expected = ids(compiled, text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(words_module, "SPLIT_BYTES", split_bytes)
        assert ids(compiled, text) == expected


@some
@given(texts, st.lists(tokens, min_size=1, max_size=4))
def test_case_is_no_disguise(text: str, patterns: list[str]) -> None:
    """Neither that of the text nor that of the word."""
    expected = ids(set_of(patterns), text)
    for change in (str.upper, str.lower, str.swapcase):
        assert ids(set_of(patterns), change(text)) == expected
        assert ids(set_of([change(word) for word in patterns]), text) == expected


@some
@given(st.text(alphabet=LETTERS, min_size=1, max_size=8), st.data())
def test_invisible_characters_are_no_disguise(word: str, data: st.DataObject) -> None:
    """Soft hyphens, zero-width spaces and joiners, marks of direction, between any letters."""
    hidden = data.draw(
        st.lists(st.sampled_from("\u00ad\u200b\u200d\u2060\u202e\ufeff"), max_size=5)
    )
    text = list(word)
    for one in hidden:
        text.insert(data.draw(st.integers(0, len(text))), one)
    assert ids(set_of([word]), f"- {''.join(text)} -") == [1]


@some
@given(st.lists(st.tuples(tokens, st.booleans()), max_size=6), texts)
def test_a_word_that_is_switched_off_is_as_if_it_were_not_there(
    rows: list[tuple[str, bool]], text: str
) -> None:
    """The others keep their ids."""
    words = [
        Badword(id=number, pattern=pattern, is_enabled=is_enabled)
        for number, (pattern, is_enabled) in enumerate(rows, 1)
    ]
    enabled = [word for word in words if word.is_enabled]
    both, alone = compile_badwords(words), compile_badwords(enabled)
    assert both.find(text) == alone.find(text)
    assert len(both) == len(alone) == len(enabled)


@some
@given(st.permutations([1, 2, 3, 4, 5]), texts)
def test_what_is_found_comes_by_its_id(order: list[int], text: str) -> None:
    """In whichever order the words came, and whichever of the tables they are in."""
    patterns = {1: "ab", 2: "a b", 3: "b[a-z]", 4: "ж", 5: "a-b"}
    words = [Badword(id=n, pattern=patterns[n], is_regex=n == 3) for n in order]
    found = ids(compile_badwords(words), f"{text} ab a b a-b bz ж")
    assert found == [1, 2, 3, 4, 5]


@some
@given(st.text(max_size=20).filter(bool), st.booleans())
def test_what_has_a_problem_is_left_out_and_nothing_else(pattern: str, is_regex: bool) -> None:
    """The sentence for the form is the reason why it is not in the set."""
    pattern = pattern.encode("utf-8", "replace").decode()
    problem = pattern_problem(pattern, is_regex)
    compiled = compile_badwords([Badword(id=7, pattern=pattern, is_regex=is_regex)])
    assert len(compiled) == (problem is None)
    expected = () if problem is None else (f"Bad word 7 is left out: {problem}",)
    assert compiled.problems == expected


@pytest.mark.parametrize(
    ("word", "text", "is_found"),
    [
        ("a.b", "a.b", True),
        ("a.b", "za.b", False),
        ("a.b", "a.bz", False),
        ("a.b", "(a.b)", True),
        (".b", "a.b", True),  # begins with what belongs to no word, so anything may stand before
        (".b", "a.bz", False),
        ("a.", "a.b", True),
        ("a.", "za.", False),
        ("--", "a--b", True),
        ("--", "a-b", False),
        ("@home", "me@home", True),
        ("@home", "me@homes", False),
        ("ab ", "ab", True),
        (" ab", "cab", False),
        ("a\tb", "a \n b", True),
        ("a b", "a\u3000b", True),
        ("a b", "a\x1cb", True),
        ("a b", "ab", False),
        ("a b", "a.b", False),
        ("a b", "a b_", False),
        ("a—b", "a—b", True),
        ("a—b", "a b", True),  # beyond ASCII a dash is a space, also in a word
        ("é", "e\u0301", True),
        ("e", "e\u0301", False),
        ("½", "1\u20442", True),
        ("ⅷ", "VIII", True),
        ("straße", "STRASSE", True),
        ("ﬀ", "FF", True),
        ("0", "10", False),
        ("0", "1.0", True),
    ],
)
def test_a_word_is_bounded_where_it_has_letters_at_its_ends(
    word: str, text: str, *, is_found: bool
) -> None:
    """And nowhere else."""
    assert bool(ids(set_of([word]), text)) is is_found


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        ("a)", "a ) closes no group; write \\) for the character"),
        ("[a", "a class that begins with [ has no ]"),
        ("a\\", "it ends with a backslash; write two for the character"),
        ("a**", "a repetition is repeated; put the first one into a group"),
        ("+a", "a repetition has nothing before it to repeat"),
        ("(?P<a-b>x)", "the name of a group cannot be used; ( ) without a name will do"),
        ("[[:nothing:]]", "a class in [ ] has a range or a name that does not exist"),
        ("a(?!b)", BOUNDED.format("look-ahead, look-behind and other extensions of Perl are")),
        (
            "(a)\\1",
            BOUNDED.format("it has an escape that does not exist here; back references are"),
        ),
        ("a{5,2}", "a repetition is too large, or its bounds are the wrong way round"),
    ],
)
def test_each_mistake_in_an_expression_has_its_own_sentence(pattern: str, sentence: str) -> None:
    """Word by word: it is what an administrator reads under the field."""
    expected = f"The regular expression cannot be used: {sentence}."
    assert pattern_problem(pattern, is_regex=True) == expected


@pytest.mark.parametrize(
    ("pattern", "sentence"),
    [
        *(
            (wide, "The regular expression matches the empty text, so it would match every mail.")
            for wide in ("a?", "(a|)", "\\s*", "(?:)", "$", "\\B")
        ),
        (
            "\\pL{60}",
            "The regular expression is too large; use smaller repetitions or fewer classes.",
        ),
    ],
)
def test_an_expression_for_every_mail_is_refused(pattern: str, sentence: str) -> None:
    """So is one that takes megabytes of its own."""
    assert pattern_problem(pattern, is_regex=True) == sentence
