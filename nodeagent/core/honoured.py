"""Which receipts a node honours when it gives up what they name: pure."""

from __future__ import annotations

from collections.abc import Iterable

from nodeagent.core.contract import OwnedElsewhere, RememberedReceipt


def honoured_receipts(elsewhere: Iterable[OwnedElsewhere]) -> tuple[RememberedReceipt, ...]:
    """Return every receipt that is about to retire mail here, with the ids that it names of ours.

    A restored control plane is told of them: it may have forgotten what this node relied on.
    """
    by_number: dict[int, list[OwnedElsewhere]] = {}
    for owned in elsewhere:
        by_number.setdefault(owned.receipt, []).append(owned)
    return tuple(
        RememberedReceipt(
            number=number,
            queue=named[0].queue,
            generation=named[0].generation,
            holder=named[0].owner,
            ids=tuple(owned.id for owned in named),
        )
        for number, named in by_number.items()
    )
