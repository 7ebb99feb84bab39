"""Refusals in the viewer's language: the sentences of the API, found again in the catalogue.

The API says everything in English. A sentence without values is a message of the catalogue as it
stands; one with values matches the pattern that it was made from, and its values are filled into
the translation of the pattern. A value that is called `reason` is a sentence of its own, and what
has no translation is shown as it is.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Final

from controlplane.gui.language import Localizer, catalogue

PLACE: Final = re.compile(r"%\((\w+)\)s")
REASON: Final = "reason"


def translate_sentence(localizer: Localizer, sentence: str) -> str:
    """Return a refusal's sentence in the language of the viewer."""
    found = catalogue(localizer.language).gettext(sentence)
    if found != sentence:
        return str(found)
    for pattern, translation in _patterns(localizer.language):
        match = pattern.fullmatch(sentence)
        if match is not None:
            values = match.groupdict()
            if REASON in values:
                values[REASON] = _inner(localizer, values[REASON])
            return translation % values
    return sentence


def _inner(localizer: Localizer, reason: str) -> str:
    """Return a sentence within a sentence, which has no full stop of its own."""
    upper = reason[:1].upper() + reason[1:]
    whole = f"{upper.rstrip('.')}."
    found = translate_sentence(localizer, whole)
    return reason if found == whole else found.rstrip(".")


@cache
def _patterns(language: str) -> tuple[tuple[re.Pattern[str], str], ...]:
    """Return what sentences with values look like, and what they become.

    Those with more words of their own come first: "none live" is none of "%(number)s live".
    """
    messages: dict[str, str] = getattr(catalogue(language), "_catalog", {})
    patterns = [
        (source, translation)
        for source, translation in messages.items()
        if isinstance(source, str) and translation and PLACE.search(source)
    ]
    patterns.sort(key=lambda one: -len(PLACE.sub("", one[0])))
    return tuple((_pattern(source), translation) for source, translation in patterns)


def _pattern(source: str) -> re.Pattern[str]:
    parts = PLACE.split(source)
    names = parts[1::2]
    texts = [re.escape(part.replace("%%", "%")) for part in parts[::2]]
    inner = "".join(
        f"{text}(?P<{name}>.+?)" if names.index(name) == number else f"{text}(?P={name})"
        for number, (text, name) in enumerate(zip(texts, names, strict=False))
    )
    return re.compile(inner + texts[-1], re.DOTALL)
