"""How grave an event is, by its kind: one table, for the filter, the page and the export."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from controlplane.core.attention import Severity

SEVERITIES: Final[Mapping[str, Severity]] = {
    "alert-not-taken": Severity.WARN,
    "confirmed-dead": Severity.WARN,
    "events-dropped": Severity.WARN,
    "fence-failed": Severity.BAD,
    "fenced": Severity.BAD,
    "freezer-failed": Severity.WARN,
    "generation-below-seen": Severity.BAD,
    "key-revoked": Severity.WARN,
    "lease": Severity.WARN,
    "mirror-broken": Severity.BAD,
    "orphaned-vip": Severity.BAD,
    "policy-log-gap": Severity.WARN,
    "push-refused": Severity.WARN,
    "quarantined": Severity.BAD,
    "receipt-conflict": Severity.BAD,
    "receipt-narrowed": Severity.WARN,
    "restored": Severity.WARN,
    "struck-off": Severity.WARN,
    "trace-gap": Severity.WARN,
}
"""Of the kinds that are more than information; a failed action, which is none of these, is WARN."""
FAILURE: Final = "-failed"


def severity_of(kind: str) -> Severity:
    """Return how grave an event of this kind is."""
    usual = Severity.WARN if kind.endswith(FAILURE) else Severity.INFO
    return SEVERITIES.get(kind, usual)
