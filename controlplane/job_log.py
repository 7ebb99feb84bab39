"""What became of the periodic jobs of this process, kept in memory: the last run and the next."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from threading import Lock
from typing import Final

from controlplane.errors import ControlPlaneError
from controlplane.store.columns import utc_now

BROKE_OFF: Final = "The job broke off; the control plane's log says more."
NextRuns = Callable[[], Mapping[str, datetime | None]]


@dataclass(frozen=True)
class JobRun:
    """One run that has ended; `error` is one sentence, None when it went well."""

    began_at: datetime
    took_s: float
    error: str | None


@dataclass(frozen=True)
class KnownJob:
    """A job with its last run and when it runs next; None: not yet, or not any more."""

    name: str
    last: JobRun | None
    next_at: datetime | None


class JobLog:
    """The jobs of one process; any thread may write and read it."""

    def __init__(self) -> None:
        self._lock = Lock()
        self._runs: dict[str, JobRun] = {}
        self._next_runs: NextRuns = dict

    def follow(self, next_runs: NextRuns) -> None:
        """Take the times of the next runs from here on from `next_runs`."""
        self._next_runs = next_runs

    @contextmanager
    def noting(self, name: str) -> Iterator[None]:
        """Note how the body ends; what it raises goes on."""
        began_at, began_s = utc_now(), time.monotonic()
        error: str | None = BROKE_OFF
        try:
            yield
            error = None
        except ControlPlaneError as failed:
            error = failed.detail
            raise
        finally:
            run = JobRun(began_at, time.monotonic() - began_s, error)
            with self._lock:
                self._runs[name] = run

    def jobs(self) -> list[KnownJob]:
        """Return all jobs by name."""
        coming = self._next_runs()
        with self._lock:
            runs = dict(self._runs)
        names = sorted({*coming, *runs})
        return [KnownJob(name, runs.get(name), coming.get(name)) for name in names]
