"""What the product ships or stands on, with versions and licences as each package states them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Final

from controlplane.gui.static_files import load_assets

DISTRIBUTION: Final = "mail-relay-ha"
NAME: Final = re.compile(r"^[A-Za-z0-9._-]+")
CLASSIFIER: Final = "License :: OSI Approved :: "
LONGEST_NAME: Final = 60
"""A field that is longer holds the licence's whole text and not its name."""


@dataclass(frozen=True)
class Package:
    """One package; None is what it does not say."""

    name: str
    version: str | None
    licence: str | None


def browser_packages() -> tuple[Package, ...]:
    """Return what browsers load, as the lock of the build says."""
    return tuple(Package(**one) for one in load_assets().packages)


@cache
def python_packages() -> tuple[Package, ...]:
    """Return the packages that an installation needs directly, those that are installed."""
    try:
        wanted = metadata.requires(DISTRIBUTION) or []
    except metadata.PackageNotFoundError:
        return ()
    names = {found[0] for one in wanted if "extra ==" not in one and (found := NAME.match(one))}
    return tuple(package for name in sorted(names) if (package := _package(name)) is not None)


def _package(name: str) -> Package | None:
    try:
        found = metadata.metadata(name)
    except metadata.PackageNotFoundError:
        return None
    stated = _field(found, "license_expression") or _field(found, "license")
    classified = [one for one in found.get_all("Classifier") or [] if one.startswith(CLASSIFIER)]
    if not stated or len(stated) > LONGEST_NAME:
        stated = ", ".join(one.removeprefix(CLASSIFIER) for one in classified)
    return Package(name, _field(found, "version") or None, stated or None)


def _field(found: metadata.PackageMetadata, name: str) -> str:
    value = found.json.get(name, "")
    return value if isinstance(value, str) else ""
