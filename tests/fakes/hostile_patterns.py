"""Regular expressions that are ordinary, odd or hostile, and texts that ask the most of them."""

from __future__ import annotations

import random
from collections.abc import Iterator

ACCEPTED = [
    r"v[i1!|]agr[a@4]",
    r"\bfree\s+(?:money|cash|bitcoins?)\b",
    r"[\w.+-]+@[\w.-]+\.ru",
    r"https?://[^\s/]{1,60}\.(?:xyz|top)/",
    r"\d{4}[ -]?\d{4}[ -]?\d{4}[ -]?\d{4}",
    r"(?:a+)+$",
    r"(?:a*)*b",
    r"(x+x+)+y",
    r"(?:a|a|a)*b",
    r"(?:a.*){30}c",
    r"(?:a?){200}a{200}",
    r"invoice.*payment",
    r"invoice.{0,20}payment",
    r"(?s)-----BEGIN.*PRIVATE KEY",
    r"\pL{1,10}\d",
    r"a.{9}c",
    r"(?:привет|größe).{3}ü",
    r"^a.{60}c",
    r"(?:.?){300}a",
    r"((a{1,30}){1,30})b{0,999}c",
    "|".join(f"word{number}" for number in range(110)),
]
REFUSED = [
    r"a.{14}c",
    r"a.{100}c",
    r"a.{0,100}c",
    r"(a|b)*a(a|b){30}c",
    r"[ab]*a" + "[ab]" * 25 + "c",
    r"invoice.{0,100}payment",
    r"x{1000}",
    r".{1000}",
    r"a\pL{10}c",
    r"[a-e].{11}\pL",
    r"(?:a.{3}|b.{5}|c.{7}|d.{11}|e.{13}){3}",
    r"(?:.?){300}[a-e].{9}c",
]


def hostile_texts(pattern: str, length: int) -> Iterator[str]:
    """Give texts that visit as many states of a pattern as dice find, and one that repeats."""
    dice = random.Random(1)
    written = [letter for letter in pattern if letter.isalnum()] or ["a"]
    pieces = [
        pattern[at : at + size] for at in range(min(40, len(pattern))) for size in (1, 3, 5, 8)
    ]
    yield "a" * length
    yield "".join(dice.choices("ab", k=length))
    yield "".join(dice.choices("abcde\u0436\u20ac\U0001f600\u6f22", k=length))
    yield "".join(dice.choices([*written, "\u0436"], k=length))
    yield "".join(dice.choices([*pieces, *"ab "], k=length))[:length]
