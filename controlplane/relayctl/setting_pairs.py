"""Settings on a command line: NAME=VALUE, with a dot between a section and what is in it."""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any

from controlplane.relayctl.errors import Misused


def flat(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return settings by their whole names."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        inner = isinstance(value, dict)
        found |= flat(value, f"{prefix}{name}.") if inner else {f"{prefix}{name}": value}
    return found


def changes_of(pairs: Iterable[str], lists: Iterable[str] = ()) -> dict[str, Any]:
    """Return the body that changes these; `lists` have words between commas. Raises Misused."""
    body: dict[str, Any] = {}
    listed = frozenset(lists)
    for change in pairs:
        name, equals, text = change.partition("=")
        section, dot, leaf = name.partition(".")
        if not equals or not name:
            raise Misused(f"{change} does not read NAME=VALUE.")
        inner = body.setdefault(section, {}) if dot else body
        if not isinstance(inner, dict) or (not dot and isinstance(body.get(name), dict)):
            raise Misused(f"{section} is a section or a value, not both.")
        words = text.replace(",", " ").split()
        inner[leaf if dot else name] = words if name in listed else _value(text)
    return body


def _value(text: str) -> object:
    """Return numbers, true, false and null as such, everything else as text."""
    try:
        value: object = json.loads(text)
    except ValueError:
        return text
    return text if isinstance(value, dict | list) else value
