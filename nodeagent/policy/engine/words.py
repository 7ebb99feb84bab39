r"""Bad words: ten thousand of them found in one pass over a text, in time linear in its length.

Theory of operation. `text_forms` gives a text in two forms. Words and phrases are compared in the
folded one. A word that has letters, digits and "_" only is looked up among the words of the text,
which are what stands between all other characters. Phrases, and words with other characters in
them, become literals of one `re2.Set` over bytes: they are bounded by bytes that belong to no word,
where they begin or end with one that does; RE2's own "\b" knows ASCII only. White space in a phrase
is any white space.

Regular expressions are searched in the plain form, in any case. RE2 makes the states of its
automaton as the text asks for them, which takes some hundred times as long as a step to one that is
there; a pattern like "a.{30}b" has 2^30 of them, so each byte of a hostile text can ask for a new
one. So before a pattern is accepted its states are counted (`automata`), and patterns share a set
only as long as their common automaton stays small, too.

RE2 does not say so when it gives up a scan for want of memory: it finds nothing. So each set has a
pattern that always matches, and a scan without it raises `ScanFailed`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import re2

from nodeagent.policy.document import Badword
from nodeagent.policy.engine.automata import work_of
from nodeagent.policy.engine.folding import text_forms

PHRASES_MEMORY_BYTES: Final = 32 * 1024 * 1024  # 10,000 phrases' whole automaton fits
PHRASES_A_SET_BYTES: Final = 256 * 1024
MOST_PHRASE_SETS: Final = 8
SPLIT_BYTES: Final = 64 * 1024  # of a text at once: its words take ten times the memory
REGEX_MEMORY_BYTES: Final = 8 * 1024 * 1024
REGEXES_A_SET: Final = 128
LOOPS_A_SET: Final = 4  # each doubles the states of the others
MOST_REGEX_SETS: Final = 128
MOST_REGEXES: Final = 2_000
MOST_PROGRAM_SIZE: Final = 50_000  # of each: any character has 8, any letter 1,200
MOST_NAMED: Final = 5
FIRST_BEYOND_ASCII: Final = 0x80
_ALWAYS: Final = rb"\A"
_OUTSIDE: Final = rb"[^0-9A-Za-z_\x80-\xff]"
_BETWEEN_WORDS: Final = bytes(  # what belongs to no word becomes a space
    byte if byte >= FIRST_BEYOND_ASCII or chr(byte).isalnum() or byte == ord("_") else ord(" ")
    for byte in range(256)
)
_WHITE: Final = rb"[\t-\r\x1c- ]+"  # what `str.split` splits at
_WARMING_LEN: Final = 4_096
_EMPTY_PROBES: Final = ("", "a", " a ", "a\n")
_REASONS: Final = {  # by the beginnings of RE2's own words
    "invalid perl operator": "look-ahead, look-behind and other extensions of Perl are not possible"
    " in a search of bounded time",
    "invalid repetition size": "a repetition is too large, or its bounds are the wrong way round",
    "invalid escape sequence": "it has an escape that does not exist here; back references are not"
    " possible in a search of bounded time",
    "invalid character class": "a class in [ ] has a range or a name that does not exist",
    "missing ]": "a class that begins with [ has no ]",
    "missing )": "a group that begins with ( has no )",
    "unexpected )": "a ) closes no group; write \\) for the character",
    "trailing \\": "it ends with a backslash; write two for the character",
    "no argument for repetition operator": "a repetition has nothing before it to repeat",
    "bad repetition operator": "a repetition is repeated; put the first one into a group",
    "invalid named capture group": "the name of a group cannot be used; ( ) without a name will do",
    "pattern too large": "it is too large",
}


class ScanFailed(RuntimeError):
    """A text could not be searched to its end, so what it contains is not known."""


def pattern_problem(pattern: str, is_regex: bool) -> str | None:
    """Return one sentence about why a pattern cannot be taken, or None."""
    if not is_regex:
        return None if text_forms(pattern)[1].split() else "The word has no visible letter."
    try:
        compiled = re2.compile(pattern, _options(REGEX_MEMORY_BYTES))
    except (re2.error, UnicodeEncodeError) as error:
        return f"The regular expression cannot be used: {_reason(error)}."
    if any((found := compiled.search(probe)) and not found.group() for probe in _EMPTY_PROBES):
        return "The regular expression matches the empty text, so it would match every mail."
    if max(compiled.programsize, compiled.reverseprogramsize) > MOST_PROGRAM_SIZE:
        return "The regular expression is too large; use smaller repetitions or fewer classes."
    return work_of(pattern).problem


@dataclass(frozen=True)
class _Scanner:
    """One `re2.Set`, and what each of its patterns stands for."""

    patterns: re2.Set
    words: tuple[Badword, ...]

    def find(self, text: bytes) -> Iterator[Badword]:
        found = self.patterns.Match(text)
        if len(self.words) not in found:  # `_ALWAYS`, the last one
            raise ScanFailed("the search for bad words ran out of memory")
        return (self.words[index] for index in found if index < len(self.words))


@dataclass(frozen=True)
class BadwordSet:
    """The enabled words, compiled; immutable. `problems`: sentences about what is left out."""

    _words: Mapping[bytes, tuple[Badword, ...]] = field(default_factory=dict)
    _phrases: tuple[_Scanner, ...] = ()
    _regexes: tuple[_Scanner, ...] = ()
    problems: tuple[str, ...] = ()
    _keys: frozenset[bytes] = field(init=False)  # of `_words`: a set finds them quicker

    def __post_init__(self) -> None:
        object.__setattr__(self, "_keys", frozenset(self._words))

    def __len__(self) -> int:
        scanned = sum(len(scanner.words) for scanner in (*self._phrases, *self._regexes))
        return scanned + sum(map(len, self._words.values()))

    def find(self, text: str) -> tuple[Badword, ...]:
        """Return the words that the text contains, by their ids; raises `ScanFailed`."""
        plain, folded = text_forms(text)
        packed = folded.encode("utf-8", "replace")
        found = [word for key in self._words_in(packed) for word in self._words[key]]
        for scanner in self._phrases:
            found += scanner.find(b" %b " % packed)
        if self._regexes:
            packed = plain.encode("utf-8", "replace")
        for scanner in self._regexes:
            found += scanner.find(packed)
        return tuple(sorted(found, key=lambda word: word.id)) if found else ()

    def _words_in(self, packed: bytes) -> set[bytes]:
        """Return which of the words stand in a text, which is split some at a time."""
        spaced = packed.translate(_BETWEEN_WORDS)
        found: set[bytes] = set()
        start = 0
        while self._keys and start < len(spaced):
            end = spaced.find(b" ", start + SPLIT_BYTES)
            end = len(spaced) if end < 0 else end
            found |= self._keys.intersection(spaced[start:end].split())
            start = end
        return found


def compile_badwords(words: Iterable[Badword]) -> BadwordSet:
    """Return the set of those that are enabled; never raises: what cannot be used is named."""
    enabled = [word for word in words if word.is_enabled]
    problems: list[str] = []
    usable: list[Badword] = []
    for word in enabled:
        problem = pattern_problem(word.pattern, word.is_regex)
        if problem is None:
            usable.append(word)
        else:
            problems.append(f"Bad word {word.id} is left out: {problem}")
    words_of, phrases = _words_and_phrases(word for word in usable if not word.is_regex)
    literals = tuple(_phrase_scanners(phrases, problems))
    regexes = tuple(_regex_scanners([word for word in usable if word.is_regex], problems))
    more = len(problems) - MOST_NAMED
    named = problems[:MOST_NAMED] + ([f"{more} more problems with bad words."] if more > 0 else [])
    compiled = BadwordSet(words_of, literals, regexes, tuple(named))
    _warm(compiled, phrases)
    return compiled


def _words_and_phrases(
    literals: Iterable[Badword],
) -> tuple[dict[bytes, tuple[Badword, ...]], list[Badword]]:
    """Return the words by what is looked up of them, and what has to be searched for."""
    words: dict[bytes, tuple[Badword, ...]] = {}
    phrases: list[Badword] = []
    for one in literals:
        key = text_forms(one.pattern)[1].strip().encode()
        if b" " in key.translate(_BETWEEN_WORDS):
            phrases.append(one)
        else:
            words[key] = (*words.get(key, ()), one)
    return words, phrases


def _phrase_scanners(phrases: Sequence[Badword], problems: list[str]) -> Iterator[_Scanner]:
    """Give scanners of phrases, each of at most `PHRASES_A_SET_BYTES`."""
    options = _options(PHRASES_MEMORY_BYTES)
    options.encoding = re2.Options.Encoding.LATIN1
    options.case_sensitive = True
    waiting = [(word, _literal(word.pattern)) for word in phrases]
    for _ in range(MOST_PHRASE_SETS):
        size = count = 0
        while count < len(waiting) and size < PHRASES_A_SET_BYTES:
            size += len(waiting[count][1])
            count += 1
        if count:
            taken, waiting = waiting[:count], waiting[count:]
            yield _scanner([pattern for _, pattern in taken], [word for word, _ in taken], options)
    if waiting:
        problems.append(f"{len(waiting)} bad phrases are left out: all together are too long.")


def _regex_scanners(words: Sequence[Badword], problems: list[str]) -> Iterator[_Scanner]:
    """Give scanners of expressions whose common automaton is small enough."""
    taken = sorted(words[:MOST_REGEXES], key=lambda word: work_of(word.pattern).units)
    plain = [word for word in taken if not work_of(word.pattern).loops]
    loops = [word for word in taken if work_of(word.pattern).loops]
    groups = [*_cut(plain, REGEXES_A_SET), *_cut(loops, LOOPS_A_SET)]
    made = 0
    while groups and made < MOST_REGEX_SETS:
        group = groups.pop(0)
        if len(group) > 1 and work_of(*(word.pattern for word in group)).problem:
            half = len(group) // 2
            groups[:0] = [group[:half], group[half:]]
            continue
        made += 1
        patterns = [word.pattern.encode() for word in group]
        yield _scanner(patterns, group, _options(REGEX_MEMORY_BYTES))
    left_out = len(words) - len(taken) + sum(map(len, groups))
    if left_out:
        problems.append(f"{left_out} regular expressions are left out: all together are too much.")


def _cut(words: Sequence[Badword], length: int) -> list[Sequence[Badword]]:
    return [words[start : start + length] for start in range(0, len(words), length)]


def _scanner(patterns: Iterable[bytes], words: Iterable[Badword], options: Any) -> _Scanner:
    compiled = re2.Set.SearchSet(options)
    for pattern in (*patterns, _ALWAYS):
        compiled.Add(pattern)
    compiled.Compile()
    return _Scanner(compiled, tuple(words))


def _warm(compiled: BadwordSet, phrases: Sequence[Badword]) -> None:
    """Let RE2 make the states that nearly every text asks for."""
    text = " ".join(phrase.pattern for phrase in phrases[:_WARMING_LEN])
    compiled.find(text[:_WARMING_LEN] + " The quick brown fox, 0123456789 jumps\r\nover it.")


def _literal(word: str) -> bytes:
    """Return a word or phrase as an expression over the bytes of folded text."""
    parts = [part.encode() for part in text_forms(word)[1].split()]
    before = _OUTSIDE if _is_of_words(parts[0][0]) else b""
    behind = _OUTSIDE if _is_of_words(parts[-1][-1]) else b""
    return before + _WHITE.join(re2.escape(part) for part in parts) + behind


def _is_of_words(byte: int) -> bool:
    return _BETWEEN_WORDS[byte] == byte


def _options(memory_bytes: int) -> Any:
    options = re2.Options()
    options.log_errors = False
    options.case_sensitive = False
    options.never_capture = True
    options.max_mem = memory_bytes
    return options


def _reason(error: Exception) -> str:
    said = error.args[0] if error.args else b""
    text = said.decode("utf-8", "replace") if isinstance(said, bytes) else "it is not UTF-8"
    for beginning, reason in _REASONS.items():
        if text.startswith(beginning):
            return reason
    return text
