"""What changed between two values of one thing, field by field, as a person reads it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

MOST_CHARACTERS: Final = 500
MOST_FIELDS: Final = 100


@dataclass(frozen=True)
class FieldChange:
    """One field with what it was and what it became; None: it was not there."""

    name: str
    before: str | None
    after: str | None

    def text(self) -> str:
        """Return the change as one line."""
        if self.before is None:
            return f"{self.name}: {self.after}"
        return f"{self.name}: {self.before} -> {'(gone)' if self.after is None else self.after}"


def field_changes(
    before: Mapping[str, Any] | None, after: Mapping[str, Any] | None
) -> tuple[FieldChange, ...]:
    """Return the fields that differ, in their order; a dot leads into nested values."""
    old, new = dict(_flat("", before or {})), dict(_flat("", after or {}))
    names = [name for name in {**old, **new} if old.get(name) != new.get(name)]
    return tuple(FieldChange(name, old.get(name), new.get(name)) for name in names[:MOST_FIELDS])


def _flat(prefix: str, values: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        path = f"{prefix}{name}"
        if isinstance(value, Mapping) and value:
            yield from _flat(f"{path}.", value)
        else:
            yield path, _shown(value)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        text = "yes" if value else "no"
    elif value is None or value in ("", [], {}):
        text = "(none)"
    elif isinstance(value, list):
        text = ", ".join(_shown(one) for one in value)
    elif isinstance(value, Mapping):
        text = " ".join(f"{name}={_shown(one)}" for name, one in value.items())
    else:
        text = str(value)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]}…"
