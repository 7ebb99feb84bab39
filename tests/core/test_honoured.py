"""Receipts that a node honours: one for each number, with all the ids that it gives away."""

from __future__ import annotations

from nodeagent.core.contract import OwnedElsewhere, RememberedReceipt
from nodeagent.core.honoured import honoured_receipts

A, B, C = "4jWfS362sJzJ9Fq", "4jWfS362WlzJ9FV", "4jWfS362XlzJ9FV"


def owned(name: str, receipt: int, owner: str, generation: int) -> OwnedElsewhere:
    """Return what a reconcile says of one message of node-a."""
    return OwnedElsewhere(
        id=name, receipt=receipt, owner=owner, queue="node-a", generation=generation
    )


def test_ids_of_one_receipt_come_together():
    """Two receipts, three messages, in whatever order they were named."""
    named = [owned(A, 7, "node-b", 2), owned(B, 9, "node-c", 4), owned(C, 7, "node-b", 2)]
    assert honoured_receipts(named) == (
        RememberedReceipt(number=7, queue="node-a", generation=2, holder="node-b", ids=(A, C)),
        RememberedReceipt(number=9, queue="node-a", generation=4, holder="node-c", ids=(B,)),
    )


def test_nothing_given_up_honours_nothing():
    """All pending mail is the node's own."""
    assert honoured_receipts(()) == ()
