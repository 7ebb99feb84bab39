"""Imports a file into the blocklist of a database, and says in JSON what it took.

`python -m tests.bench.policy_import URL FILE` does it in a process of its own, so that its memory
is the import's. Beside it small writes are made, as heartbeats make them, and waited for.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from pathlib import Path
from typing import Self

from controlplane.errors import Unavailable
from controlplane.store.audit import SYSTEM
from controlplane.store.cluster import cluster_row
from controlplane.store.engine import Database
from controlplane.store.policy_imports import FileKind, import_file
from controlplane.store.policy_kinds import BLOCKLIST

BEAT_EVERY_S = 0.1


class Beats:
    """Small writes in a thread of their own."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._is_over = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.waited_s: list[float] = []
        self.refused = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._is_over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._is_over.wait(BEAT_EVERY_S):
            began_s = time.perf_counter()
            try:
                with self._database.write() as session:
                    cluster_row(session).revision += 1
            except Unavailable:
                self.refused += 1
            self.waited_s.append(time.perf_counter() - began_s)


def peak_mib() -> float:
    """Return the most memory that this program ever had (proc(5)), which getrusage(2) mixes up."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def main() -> None:
    """Import, and print what it took."""
    database = Database(sys.argv[1])
    before_mib = peak_mib()
    began_s, cpu_began_s = time.perf_counter(), time.process_time()
    with Path(sys.argv[2]).open("rb") as file, Beats(database) as beats:
        done = import_file(database, BLOCKLIST, file, FileKind.CSV, SYSTEM, replace=True)
    took = {
        **done.counts,
        "seconds": time.perf_counter() - began_s,
        "cpu_s": time.process_time() - cpu_began_s,
        "peak_mib": peak_mib() - before_mib,
        "waited_s": sorted(beats.waited_s),
        "refused": beats.refused,
    }
    print(json.dumps(took))


if __name__ == "__main__":
    main()
