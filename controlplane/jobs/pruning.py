"""Deletes what is old, each kind by itself: one that fails keeps no other from it."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import structlog

from controlplane.errors import ControlPlaneError

log = structlog.get_logger(__name__)


def prune_each(jobs: Iterable[tuple[str, Callable[[], int]]]) -> None:
    """Run the deletion of every kind; what failed first is raised when all had their turn."""
    failures: list[ControlPlaneError] = []
    for kind, job in jobs:
        try:
            deleted = job()
        except ControlPlaneError as error:
            log.warning("not pruned", kind=kind, detail=error.detail)
            failures.append(error)
            continue
        if deleted:
            log.info("pruned", kind=kind, deleted=deleted)
    if failures:
        raise failures[0]
