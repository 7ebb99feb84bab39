"""Tokens of subscriptions that are no more: a mail keeps its link for ever.

They are remembered for `REMEMBERED_DAYS`, as hashes and without whose they were: whoever follows a
link late, or twice, hears that it is done and not that it never was.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Final

from sqlalchemy import Float, delete, select
from sqlmodel import Field, Session, SQLModel, col

from controlplane.store.clock import read_clock_s
from controlplane.store.policy_tables import SubscriptionRow
from controlplane.store.upserts import upsert

REMEMBERED_DAYS: Final = 400
SECONDS_A_DAY: Final = 86_400


class EndedSubscriptionRow(SQLModel, table=True):
    """The token of a subscription that has ended, as its SHA-256."""

    __tablename__ = "ended_subscriptions"

    token_sha256: str = Field(primary_key=True, max_length=64)
    ended_at: float = Field(sa_type=Float, index=True)


def remember_ended(session: Session, numbers: Sequence[int]) -> None:
    """Remember the tokens of subscriptions that this transaction is about to delete."""
    now_s = read_clock_s(session)
    tokens = select(col(SubscriptionRow.token)).where(col(SubscriptionRow.id).in_(numbers))
    rows = [
        {"token_sha256": _digest(token), "ended_at": now_s}
        for token in session.execute(tokens).scalars()
    ]
    upsert(session, EndedSubscriptionRow, ["token_sha256"], rows)


def has_ended(session: Session, token: str) -> bool:
    """Tell whether this was the token of a subscription that has ended."""
    digest = col(EndedSubscriptionRow.token_sha256)
    found = session.execute(select(digest).where(digest == _digest(token)))
    return found.first() is not None


def prune_ended(session: Session) -> int:
    """Forget what ended long ago; return how many."""
    limit_s = read_clock_s(session) - REMEMBERED_DAYS * SECONDS_A_DAY
    old = delete(EndedSubscriptionRow).where(col(EndedSubscriptionRow.ended_at) < limit_s)
    return session.connection().execute(old).rowcount


def _digest(token: str) -> str:
    return hashlib.sha256(token.encode()).hexdigest()
