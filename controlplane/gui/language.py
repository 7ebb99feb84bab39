"""Words, numbers and times in the language of whoever looks.

English is what the sources say; another language is a catalogue under `locale`, which is compiled
in memory at the start. What is not known is a dash, never an empty place.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, tzinfo
from functools import cache
from io import BytesIO
from pathlib import Path
from time import time
from typing import Any, Final
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from babel import Locale, negotiate_locale
from babel.dates import format_date, format_datetime
from babel.messages.mofile import write_mo
from babel.messages.pofile import read_po
from babel.numbers import format_decimal, format_percent
from babel.support import NullTranslations, Translations
from babel.units import format_unit

LOCALE_DIRECTORY: Final = Path(__file__).parent / "locale"
LANGUAGES: Final = {"en": "English", "de": "Deutsch"}
"""Each language by its own name."""
DEFAULT_LANGUAGE: Final = "en"
REGIONS: Final = {"en": "en_GB", "de": "de_DE"}
"""Whose way of writing numbers and times: day before month, 24 hours."""
UNKNOWN: Final = "\N{EN DASH}"
MAX_ACCEPTED: Final = 20

DURATION_UNITS: Final = (("day", 86400), ("hour", 3600), ("minute", 60), ("second", 1))
BYTE_UNITS: Final = ("byte", "kilobyte", "megabyte", "gigabyte", "terabyte")


def N_(message: str) -> str:  # noqa: N802 - what gettext's users call it
    """Mark a message for the catalogue where it is written; it is translated where it is shown."""
    return message


@cache
def catalogue(language: str) -> NullTranslations:
    """Return the messages of one language."""
    path = LOCALE_DIRECTORY / language / "LC_MESSAGES" / "messages.po"
    if not path.is_file():
        return NullTranslations()
    compiled = BytesIO()
    with path.open("rb") as source:
        write_mo(compiled, read_po(source, locale=language))
    compiled.seek(0)
    return Translations(fp=compiled)


def choose_language(cookie: str | None, accepted: str) -> str:
    """Return the language that was chosen, else the first of `Accept-Language` that we have."""
    if cookie in LANGUAGES:
        return cookie
    wanted = negotiate_locale(_accepted_languages(accepted), LANGUAGES, sep="-")
    return wanted or DEFAULT_LANGUAGE


def _accepted_languages(header: str) -> list[str]:
    """Return the tags of an `Accept-Language` header, best first (RFC 9110, 12.5.4)."""
    weighted: list[tuple[float, str]] = []
    for part in header.split(",")[:MAX_ACCEPTED]:
        tag, _, quality = part.partition(";q=")
        try:
            weighted.append((float(quality or 1), tag.strip()))
        except ValueError:
            continue
    return [tag for _, tag in sorted(weighted, key=lambda one: -one[0]) if tag]


def find_zone(name: str | None) -> tzinfo:
    """Return the time zone of that name, UTC when there is none."""
    try:
        return ZoneInfo(name) if name else UTC
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return UTC


@dataclass(frozen=True)
class Localizer:
    """One language and one time zone: what templates and forms write with."""

    language: str
    zone: tzinfo = UTC

    @property
    def locale(self) -> Locale:
        """The rules for numbers and times."""
        return Locale.parse(REGIONS[self.language])

    def text(self, message: str, **values: Any) -> str:
        """Return a message in this language, its `%(name)s` filled in."""
        translated = str(catalogue(self.language).gettext(message))
        return translated % values if values else translated

    def number(self, value: float | None) -> str:
        """Return a number with the separators of the language."""
        return UNKNOWN if value is None else format_decimal(value, locale=self.locale)

    def percent(self, share: float | None) -> str:
        """Return a share of 1 in per cent."""
        return UNKNOWN if share is None else format_percent(share, locale=self.locale)

    def bytes(self, size: float | None) -> str:
        """Return a size in the largest unit of 1000 bytes that leaves at least one."""
        if size is None:
            return UNKNOWN
        step = min(int(math.log10(max(size, 1)) // 3), len(BYTE_UNITS) - 1)
        value = round(size / 1000**step, 1 if step else 0)
        unit = f"digital-{BYTE_UNITS[step]}"
        return str(format_unit(value, unit, "short", locale=self.locale))

    def duration(self, seconds: float | None) -> str:
        """Return a duration in whole units of the largest kind that fits."""
        if seconds is None:
            return UNKNOWN
        whole = next((one for one in DURATION_UNITS if seconds >= one[1]), DURATION_UNITS[-1])
        unit, length_s = whole
        value = math.floor(max(seconds, 0) / length_s)
        return str(format_unit(value, f"duration-{unit}", "short", locale=self.locale))

    def age(self, at: datetime | float) -> str:
        """Return how long ago a moment is."""
        return self.duration(time() - _moment(at).timestamp())

    def moment(self, at: datetime | float | None) -> str:
        """Return a moment to the second, in the viewer's time zone; floats count from 1970."""
        if at is None:
            return UNKNOWN
        return str(format_datetime(_moment(at), "medium", self.zone, locale=self.locale))

    def day(self, at: datetime | float | None) -> str:
        """Return a day, in the viewer's time zone."""
        if at is None:
            return UNKNOWN
        return str(format_date(_moment(at).astimezone(self.zone), "medium", locale=self.locale))

    def iso(self, at: datetime | float) -> str:
        """Return a moment for machines, in UTC."""
        return _moment(at).astimezone(UTC).isoformat(timespec="milliseconds")

    def all_of(self, words: Iterable[str]) -> str:
        """Return words as one list: `a, b`."""
        return ", ".join(words) or UNKNOWN


def _moment(at: datetime | float) -> datetime:
    return at if isinstance(at, datetime) else datetime.fromtimestamp(at, UTC)
