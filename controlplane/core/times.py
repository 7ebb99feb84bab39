"""Which points in time are taken: those that every zone and both databases can express."""

from __future__ import annotations

from datetime import date
from typing import Final, TypeVar

YEARS: Final = range(1970, 9999)
Day = TypeVar("Day", bound=date)


def in_these_years(value: Day) -> Day:
    """Return a day or a time of one; raises ValueError for other years than `YEARS`."""
    if value.year not in YEARS:
        raise ValueError(f"A time between {YEARS[0]} and {YEARS[-1]} is needed")
    return value
