"""The systemd units of this repository, and what stands in them."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

UNITS: Final = Path(__file__).resolve().parents[2] / "compose" / "systemd"


def values_of(path: Path, key: str) -> list[str]:
    """Return the words of every line `key=...` of a unit file."""
    found = re.findall(rf"^{key}=(.*)$", path.read_text(), re.MULTILINE)
    return [word for line in found for word in line.split()]
