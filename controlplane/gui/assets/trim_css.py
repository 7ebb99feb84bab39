"""Leaves out of a style sheet what no page can use: rules for classes that nobody names.

A selector stays when each of its classes stands somewhere in the templates or in our sources as a
whole word. So a class must be written out: `btn-{{ tone }}` names none of Tabler's buttons. A
custom property stays when a rule that stays asks for it, or our sources name it.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from typing import Final

WORD: Final = re.compile(r"[A-Za-z][\w-]*")
CLASS: Final = re.compile(r"\.([A-Za-z][\w-]*)")
CHOICE: Final = re.compile(r":(?:not|is|where|has)\((?:[^()]|\([^()]*\))*\)")
"""Matches without the classes in it, or with one of them: it says nothing about what is needed."""
STATEMENT: Final = re.compile(r'@charset "[^"]*";')
SELECTORS: Final = re.compile(r",(?![^(]*\))")
PROPERTY: Final = re.compile(r"""(?<=[{;])--([\w-]+):(?:"[^"]*"|'[^']*'|[^;{}"'])*;?""")
ASKED: Final = re.compile(r"var\(\s*--([\w-]+)")
EMPTY: Final = re.compile(r"[^{};/]*\{\}")
GROUPS: Final = ("@media", "@supports", "@layer", "@container")


def words_of(text: str) -> set[str]:
    """Return what may be the name of a class in a template or a script."""
    return set(WORD.findall(text))


def trim_css(text: str, used: AbstractSet[str]) -> str:
    """Return the rules whose classes are all in `used`; licences (`/*!`) stay."""
    licences = "".join(re.findall(r"/\*!.*?\*/", text, re.DOTALL))
    plain = STATEMENT.sub("", re.sub(r"/\*.*?\*/", "", text, flags=re.DOTALL))
    return licences + _without_unasked(_trim(plain, used), used)


def _trim(text: str, used: AbstractSet[str]) -> str:
    kept = []
    for head, body in _rules(text):
        if head.startswith(GROUPS):
            inner = _trim(body, used)
            kept.append(f"{head}{{{inner}}}" if inner else "")
        elif head.startswith("@"):
            kept.append(f"{head}{{{body}}}")
        else:
            selectors = [one for one in SELECTORS.split(head) if _needs(one) <= used]
            kept.append(f"{','.join(selectors)}{{{body}}}" if selectors else "")
    return "".join(kept)


def _without_unasked(text: str, used: AbstractSet[str]) -> str:
    """Return the rules without properties that nothing asks for, or such properties alone."""
    asked = used | set(ASKED.findall(text))
    kept = EMPTY.sub("", PROPERTY.sub(lambda one: one[0] if one[1] in asked else "", text))
    return kept if kept == text else _without_unasked(kept, used)


def _needs(selector: str) -> set[str]:
    return set(CLASS.findall(CHOICE.sub("", selector)))


def _rules(text: str) -> Iterator[tuple[str, str]]:
    """Yield what stands before and within each pair of outer braces."""
    start = opened = depth = 0
    for place in re.finditer(r"[{}]", text):
        if place[0] == "{":
            opened = place.start() if depth == 0 else opened
            depth += 1
        else:
            depth -= 1
            if depth == 0:
                yield text[start:opened].strip(), text[opened + 1 : place.start()]
                start = place.end()
