"""Ending subscriptions by their token, on both databases: once, and known afterwards."""

from __future__ import annotations

import threading

import pytest
from sqlalchemy import select, update
from sqlmodel import col

from controlplane.core.policy_drafts import CategoryDraft, SubscriptionDraft
from controlplane.store.audit import Actor, AuditFilter, list_entries
from controlplane.store.ended_subscriptions import (
    REMEMBERED_DAYS,
    EndedSubscriptionRow,
    has_ended,
    prune_ended,
)
from controlplane.store.engine import Database
from controlplane.store.policy_items import put, remove
from controlplane.store.policy_kinds import CATEGORIES, SUBSCRIPTIONS
from controlplane.store.policy_revision import read_revision
from controlplane.store.policy_tables import SubscriptionRow
from controlplane.store.unsubscribing import is_known, unsubscribe

ADMIN, SUBSCRIBER = Actor("admin"), Actor("subscriber", "203.0.113.9")


@pytest.fixture
def category(database: Database) -> int:
    """Give a category with two subscribers."""
    draft = CategoryDraft(address="news@example.com")
    number = int(put(database, CATEGORIES, draft, ADMIN)[0]["id"])
    for name in ("ann", "bob"):
        add(database, number, f"{name}@a.test")
    return number


def add(database: Database, category: int, address: str) -> None:
    """Subscribe an address."""
    kind = SUBSCRIPTIONS.within(category=category)
    put(database, kind, SubscriptionDraft(address=address), ADMIN)


def tokens(database: Database) -> dict[str, str]:
    """Return the tokens of all subscriptions, by address."""
    columns = (col(SubscriptionRow.address), col(SubscriptionRow.token))
    with database.read() as session:
        return {row[0]: row[1] for row in session.execute(select(*columns))}


def revision(database: Database) -> int:
    """Return the policy's revision, which nodes ask for."""
    with database.read() as session:
        return read_revision(session)


def test_a_token_ends_its_subscription_and_no_other(database: Database, category: int) -> None:
    """The nodes are told; who did it is the subscriber."""
    del category
    before, token = revision(database), tokens(database)["ann@a.test"]
    assert unsubscribe(database, token, SUBSCRIBER)
    assert list(tokens(database)) == ["bob@a.test"]
    assert revision(database) > before
    with database.read() as session:
        (entry,) = list_entries(session, AuditFilter(actor="subscriber"))
    assert (entry.action, entry.target) == ("subscription.delete", "ann@a.test")
    assert token not in str(entry.before)


def test_the_same_again_is_done_already(database: Database, category: int) -> None:
    """It changes nothing, and leaves no second row in the audit log."""
    del category
    token = tokens(database)["ann@a.test"]
    assert unsubscribe(database, token, SUBSCRIBER)
    before = revision(database)
    assert unsubscribe(database, token, SUBSCRIBER)
    assert revision(database) == before
    with database.read() as session:
        assert is_known(session, token)
        assert len(list_entries(session, AuditFilter(actor="subscriber"))) == 1


def test_a_link_that_never_was_is_told_apart(database: Database, category: int) -> None:
    """Near misses, too: case counts."""
    del category
    token = tokens(database)["ann@a.test"]
    for wrong in ("x" * 32, token[:-1], token.swapcase(), token + "x", "", "%", "_" * 32):
        assert not unsubscribe(database, wrong, SUBSCRIBER)
        with database.read() as session:
            assert not is_known(session, wrong)
    assert len(tokens(database)) == 2


def test_what_an_administrator_removed_counts_as_ended(database: Database, category: int) -> None:
    """The mail with the link is in the subscriber's box all the same; also with its category."""
    before = tokens(database)
    with database.read() as session:
        ann = select(col(SubscriptionRow.id)).where(col(SubscriptionRow.address) == "ann@a.test")
        number = session.execute(ann).scalar_one()
    remove(database, SUBSCRIPTIONS, number, ADMIN)
    assert unsubscribe(database, before["ann@a.test"], SUBSCRIBER)
    remove(database, CATEGORIES, category, ADMIN)
    if not tokens(database):
        assert unsubscribe(database, before["bob@a.test"], SUBSCRIBER)


def test_who_subscribes_again_has_a_new_link(database: Database, category: int) -> None:
    """The old one stays ended and ends nothing more."""
    old = tokens(database)["ann@a.test"]
    unsubscribe(database, old, SUBSCRIBER)
    add(database, category, "ann@a.test")
    new = tokens(database)["ann@a.test"]
    assert new != old
    assert unsubscribe(database, old, SUBSCRIBER)
    assert tokens(database)["ann@a.test"] == new


def test_both_of_two_at_once_are_done(database: Database, category: int) -> None:
    """A provider and the subscriber press the same button."""
    del category
    token = tokens(database)["ann@a.test"]
    answers: list[bool] = []
    both = [
        threading.Thread(target=lambda: answers.append(unsubscribe(database, token, SUBSCRIBER)))
        for _ in range(2)
    ]
    for one in both:
        one.start()
    for one in both:
        one.join(60)
    assert answers == [True, True]
    with database.read() as session:
        assert len(list_entries(session, AuditFilter(actor="subscriber"))) == 1


def test_what_ended_is_kept_as_a_hash_and_not_for_ever(database: Database, category: int) -> None:
    """A stolen database opens no link, and names nobody who has left."""
    del category
    token = tokens(database)["ann@a.test"]
    unsubscribe(database, token, SUBSCRIBER)
    with database.write() as session:
        (row,) = session.execute(select(EndedSubscriptionRow)).scalars()
        assert token not in str(row.model_dump())
        assert prune_ended(session) == 0
        age = col(EndedSubscriptionRow.ended_at) - (REMEMBERED_DAYS + 1) * 86_400
        session.execute(update(EndedSubscriptionRow).values(ended_at=age))
        assert prune_ended(session) == 1
        assert not has_ended(session, token)
