"""Ends a subscription by the token in a mail's link, as often as the link is followed.

A token has 192 random bits and is the only proof there is: whoever has the mail may end it. One
that was never given out cannot be told from a wrong one.
"""

from __future__ import annotations

from contextlib import suppress

from sqlalchemy import select
from sqlmodel import Session, col

from controlplane.errors import NotFound
from controlplane.store.audit import Actor
from controlplane.store.ended_subscriptions import has_ended
from controlplane.store.engine import Database
from controlplane.store.policy_items import remove
from controlplane.store.policy_kinds import SUBSCRIPTIONS
from controlplane.store.policy_tables import SubscriptionRow


def is_known(session: Session, token: str) -> bool:
    """Tell whether a link is ours: of a subscription, or of one that has ended."""
    return _number_of(session, token) is not None or has_ended(session, token)


def unsubscribe(database: Database, token: str, actor: Actor) -> bool:
    """End the subscription of this link; False when the link is not ours.

    One that has ended already, by whomever, is as good as ended now, and changes nothing.
    """
    with database.read() as session:
        number = _number_of(session, token)
        if number is None:
            return has_ended(session, token)
    with suppress(NotFound):  # somebody else was quicker
        remove(database, SUBSCRIPTIONS, number, actor)
    return True


def _number_of(session: Session, token: str) -> int | None:
    number = select(col(SubscriptionRow.id)).where(col(SubscriptionRow.token) == token)
    return session.execute(number).scalar_one_or_none()
