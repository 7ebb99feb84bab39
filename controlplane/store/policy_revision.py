"""The numbers of the mail policy: its revision, and what entries and changes are numbered by."""

from __future__ import annotations

from typing import Final

from sqlalchemy import func, select
from sqlmodel import Session, col

from controlplane.store.cluster import read_revision as read_cluster_revision
from controlplane.store.policy_tables import (
    POLICY_ID,
    PolicyRevisionRow,
    PolicySectionRow,
    PolicySequenceRow,
)

RESTORED: Final = 2**32
"""How far a restored database goes on above all that it may have told nodes after its backup."""


def read_revision(session: Session) -> int:
    """Return what a manifest made now would say; it rises with each change."""
    number = session.execute(select(col(PolicyRevisionRow.revision))).scalar_one_or_none()
    return (number or 0) + read_cluster_revision(session)


def read_edits(session: Session) -> int:
    """Return a number that rises with each edit of the policy, published or not."""
    edits = session.execute(select(func.sum(col(PolicySectionRow.edits)))).scalar_one() or 0
    number = session.execute(select(col(PolicyRevisionRow.revision))).scalar_one_or_none()
    return int(edits) + (number or 0)


def raise_revision(session: Session, by: int = 1) -> None:
    """Let every node fetch the manifest; within a transaction under `POLICY_LOCK`."""
    row = session.get(PolicyRevisionRow, POLICY_ID) or PolicyRevisionRow()
    row.revision += by
    session.add(row)


def take_numbers(session: Session, name: str, count: int) -> int:
    """Return the first of `count` numbers that were never given before, from 1 rising."""
    row = session.get(PolicySequenceRow, name) or PolicySequenceRow(name=name)
    first = row.last + 1
    row.last += count
    session.add(row)
    return first


def last_number(session: Session, name: str) -> int:
    """Return the last of these numbers that was given, 0 before the first."""
    last = col(PolicySequenceRow.last)
    statement = select(last).where(col(PolicySequenceRow.name) == name)
    return session.execute(statement).scalar_one_or_none() or 0
