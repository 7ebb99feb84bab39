"""Brings text into the forms that words and patterns are searched in, in linear time.

Theory of operation. The plain form undoes what makes the same letters look different to a program:
compatibility forms (NFKC: full-width, mathematical, ligatures) and what nobody sees (soft hyphens,
zero-width and direction marks). The folded form is what words are compared in: no case, no loose
accents, and a space for every character beyond ASCII that is no part of a word, so that each byte
above 127 in its UTF-8 belongs to one.

Strangers choose the text. Python's `normalize` takes quadratic time for long runs of combining
marks (200,000 of them: half a minute), so those are cut short first; and of the characters that
NFKC makes many of, the two longest become a space.
"""

from __future__ import annotations

import re
import unicodedata
from typing import Final

MOST_MARKS: Final = 30
_LONG_RUN: Final = re.compile(
    rf"([^\w\x00-\x7f]{{{MOST_MARKS}}})[^\w\x00-\x7f]+"
)  # marks are no \w
_INVISIBLE: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e\u2060-\u206f"
    "\u3164\ufe00-\ufe0f\ufeff\uffa0\U000e0000-\U000e0fff]"
)
_LOOSE_ACCENT: Final = re.compile(
    "[\u0300-\u036f\u0483-\u0489\u1ab0-\u1aff\u1dc0-\u1dff\u20d0-\u20ff\ufe20-\ufe2f]"
)
_LONGEST: Final = ("\ufdfa", "\ufdfb")  # 18 and 8 characters in NFKC
_FEW: Final = 100


def text_forms(text: str) -> tuple[str, str]:
    """Return a text in its plain form (case is kept) and in its folded form."""
    if text.isascii():
        return text, text.lower()
    letters = set(text)  # looking at each kind of character is quicker than at each of them
    for letter in letters.intersection(_LONGEST):
        text = text.replace(letter, " ")
    if any(map(unicodedata.combining, letters)):
        text = _LONG_RUN.sub(r"\1", text)
    plain, letters = _normalized(text, letters)
    plain = _replaced(plain, {letter: "" for letter in letters if _INVISIBLE.match(letter)})
    folded, letters = _normalized(plain.casefold(), set("".join(letters).casefold()))
    odd = (letter for letter in letters if not (letter.isascii() or letter.isalnum()))
    return plain, _replaced(folded, {letter: _in_words(letter) for letter in odd})


def _normalized(text: str, letters: set[str]) -> tuple[str, set[str]]:
    """Return a text in NFKC, and which characters it may have."""
    normalized = unicodedata.normalize("NFKC", text)
    return normalized, letters if normalized == text else set(normalized)


def _in_words(letter: str) -> str:
    """Return what becomes of a character beyond ASCII that is no letter and no digit."""
    if _LOOSE_ACCENT.match(letter) or _INVISIBLE.match(letter):
        return ""
    return letter if unicodedata.category(letter).startswith("M") else " "


def _replaced(text: str, new: dict[str, str]) -> str:
    """Return the text with characters replaced; one by one is quicker as long as they are few."""
    if len(new) > _FEW:
        return text.translate({ord(old): letter for old, letter in new.items()})
    for old, letter in new.items():
        text = text.replace(old, letter)
    return text
