"""What a blocklist of a million entries costs to import, and to import again with some changes."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest

from controlplane.store.engine import Database
from tests.bench.figures import quantile, show
from tests.bench.policy_lists import ENTRIES, name, network

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

CHANGED: Final = 100
LONGEST_WAIT_S: Final = 1.0


def entries(count: int) -> list[str]:
    """Return distinct networks and names, in no order."""
    dice = random.Random(7)
    found: dict[str, None] = {}
    while len(found) < count:
        found[network(dice) if dice.random() < 0.7 else name(dice)] = None
    return list(found)


def write_list(path: Path, values: Iterable[str], reason: str = "") -> None:
    """Write a CSV; `reason` stands in every hundredth line."""
    with path.open("w") as file:
        file.write("value,reason\n")
        for place, value in enumerate(values):
            file.write(f"{value},{reason if place % CHANGED == 0 else ''}\n")


def run(database: Database, path: Path) -> dict[str, Any]:
    """Import a file in another process; return what it took."""
    url = database.engine.url.render_as_string(hide_password=False)
    command = [sys.executable, "-m", "tests.bench.policy_import", url, str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def tell(what: str, took: dict[str, Any]) -> None:
    """Print a row, and hold the longest wait against its limit."""
    waited_s = took["waited_s"]
    show(
        what,
        f"{took['seconds']:.0f} s, {took['cpu_s']:.1f} s of CPU, {took['peak_mib']:.0f} MiB more, "
        f"{len(waited_s)} small writes beside it: p99 {quantile(waited_s, 0.99):.3f} s, "
        f"longest {waited_s[-1]:.3f} s",
    )
    assert took["refused"] == 0
    assert waited_s[-1] <= LONGEST_WAIT_S


def test_importing_a_million_entries(database: Database, tmp_path: Path) -> None:
    """Into an empty list; then again with each hundredth changed and each hundredth replaced."""
    kind = database.engine.dialect.name
    values = entries(ENTRIES + ENTRIES // CHANGED)
    path = tmp_path / "list.csv"
    write_list(path, values[:ENTRIES])
    took = run(database, path)
    assert took["added"] == ENTRIES
    tell(f"{ENTRIES} entries imported, {kind}", took)
    write_list(path, values[ENTRIES // CHANGED :], "changed")
    took = run(database, path)
    assert took["added"] == took["removed"] == ENTRIES // CHANGED
    tell(f"{ENTRIES} entries imported again, 1 % changed, 1 % other, {kind}", took)
