"""Lists and words of any size, made up; as a program it says how much memory they take.

`python -m tests.bench.policy_lists networks|names|words|both` prints MiB above the bare process.
"""

from __future__ import annotations

import ctypes
import gc
import random
import sys
from functools import cache
from ipaddress import IPv4Address, IPv6Address
from pathlib import Path

from nodeagent.policy.document import ENTRIES_A_SECTION, Badword, ListEntry
from nodeagent.policy.engine.lists import Lists, ListSection
from nodeagent.policy.engine.words import compile_badwords

ENTRIES = 1_000_000
WORDS = 10_000
LETTERS = "eeeeeetttttaaaaooooiiinnnsssrrrhhddlluuccmmwwffyygppbbvkxqjz"
VOCABULARY = 20_000
PAGE_KIB = 4


def word(dice: random.Random) -> str:
    """Return something like a word, frequent letters more often."""
    return "".join(dice.choices(LETTERS, k=dice.randrange(3, 12)))


@cache
def vocabulary() -> tuple[str, ...]:
    """Return the words that mails are made of."""
    dice = random.Random(1)
    return tuple(word(dice) for _ in range(VOCABULARY))


def text(dice: random.Random, length: int) -> str:
    """Return words up to a length."""
    return " ".join(dice.choices(vocabulary(), k=length // 4))[:length]


def network(dice: random.Random) -> str:
    """Return a network as blocklists have them: mostly addresses, one of ten IPv6."""
    if dice.random() < 0.1:
        prefix = dice.choice((48, 64, 64, 128))
        number = (0x2000 << 112 | dice.getrandbits(125)) >> (128 - prefix) << (128 - prefix)
        return f"{IPv6Address(number)}/{prefix}".removesuffix("/128")
    prefix = dice.choice((20, 22, 24, 24, 32, 32, 32, 32, 32, 32))
    number = dice.getrandbits(32) >> (32 - prefix) << (32 - prefix)
    return f"{IPv4Address(number)}/{prefix}".removesuffix("/32")


def name(dice: random.Random) -> str:
    """Return a domain, subdomains, an address or all of a domain."""
    kind = dice.choice(("", "*.", "*@", f"{word(dice)}@"))
    return f"{kind}{word(dice)}{dice.randrange(1000)}.{dice.choice(('com', 'co.uk', 'example'))}"


def entries(kind: str, number: int) -> list[ListEntry]:
    """Return what stands in the section of this number."""
    dice = random.Random(f"{kind}{number}")
    make = network if kind == "networks" else name
    first = number * ENTRIES_A_SECTION + 1
    last = min(first + ENTRIES_A_SECTION, ENTRIES + 1)
    return [ListEntry(id=number, value=make(dice)) for number in range(first, last)]


def lists(kind: str) -> Lists:
    """Return a million entries of a kind."""
    sections = range(-(-ENTRIES // ENTRIES_A_SECTION))
    return Lists(ListSection.compile(entries(kind, number)) for number in sections)


def badwords() -> list[Badword]:
    """Return ten thousand bad words: one of ten a phrase, one of a hundred an expression."""
    dice = random.Random(9)
    made = []
    for number in range(1, WORDS + 1):
        pattern, is_regex = f"{word(dice)}{word(dice)}", number % 100 == 0
        if is_regex:
            pattern = f"{pattern[:4]}{dice.choice(('[a4]', '.?', '[0-9]+', '(?:s|z)'))}{word(dice)}"
        elif number % 10 == 0:
            pattern = f"{word(dice)} {word(dice)}"
        made.append(Badword(id=number, pattern=pattern, is_regex=is_regex))
    return made


def resident_mib() -> float:
    """Return what this process has in memory, when it has given back what it can."""
    gc.collect()
    ctypes.CDLL("libc.so.6").malloc_trim(0)
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE_KIB / 1024


def main(what: str) -> None:
    """Print the MiB that something takes."""
    before = resident_mib()
    dice = random.Random(4)
    kinds = ("networks",) if what == "both" else (what,)
    kept: list[object] = [lists(kind) for kind in kinds if kind != "words"]
    if what in {"words", "both"}:
        compiled = compile_badwords(badwords())
        for _ in range(20):
            compiled.find(text(dice, 50_000))
        kept.append(compiled)
    print(f"{resident_mib() - before:.1f}")
    assert kept


if __name__ == "__main__":
    main(sys.argv[1])
