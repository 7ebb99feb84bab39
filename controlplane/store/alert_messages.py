"""Messages of alerts: judged in one transaction, sent after it, tried again, listed, pruned.

Theory of operation. Any number of instances may look: whoever is first judges, for `judged_at` is
written in the same transaction as the states and the message. A message and its way to each channel
(a delivery) are stored before anything is sent; a delivery is claimed by moving its `due_at` ahead,
so an instance that dies while it sends is followed by another one. What a channel does not take is
tried `MOST_ATTEMPTS` times, and is an event, one a channel in `SILENCE_S`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, func, select
from sqlmodel import Session, col

from controlplane.core.alert_rules import Notice, Reading, RuleState, compose, judge
from controlplane.integrations.notifications import Outcome
from controlplane.store.alert_channels import note_outcome
from controlplane.store.alert_settings import (
    pace_of,
    read_states,
    read_thresholds,
    settings_row,
)
from controlplane.store.alert_tables import (
    AlertChannelRow,
    AlertDeliveryRow,
    AlertMessageRow,
    AlertStateRow,
)
from controlplane.store.clock import read_clock_s
from controlplane.store.cluster import read_settings
from controlplane.store.crypto import SecretBox
from controlplane.store.ownership_tables import EventRow
from controlplane.store.reports import add_event
from controlplane.store.upserts import upsert

LOOK_EVERY_S: Final = 30.0
CLAIM_S: Final = 120.0
RETRY_S: Final = (60.0, 300.0, 900.0)
MOST_ATTEMPTS: Final = len(RETRY_S) + 1
MOST_AT_ONCE: Final = 10
NOT_TAKEN_EVENT: Final = "alert-not-taken"
SILENCE_S: Final = 3600.0
"""So long no second event says that a channel took nothing, however many messages it refused."""
SECONDS_A_DAY: Final = 86_400
PRUNED_AT_ONCE: Final = 500


@dataclass(frozen=True)
class Claimed:
    """One delivery that this instance is to make now."""

    message: int
    channel: str
    url: str
    title: str
    body: str


@dataclass(frozen=True)
class Sent:
    """A message with what became of its deliveries, by channel."""

    row: AlertMessageRow
    deliveries: tuple[AlertDeliveryRow, ...]


def judge_readings(session: Session, readings: Mapping[str, Reading]) -> int | None:
    """Judge what was measured and store what is due; return the message's number, None: nothing.

    Nothing is judged twice within half a look: another instance has just done so.
    """
    now_s = read_clock_s(session)
    settings = settings_row(session)
    if now_s - settings.judged_at < LOOK_EVERY_S / 2:
        return None
    settings.judged_at = now_s
    session.add(settings)
    pace = pace_of(settings)
    lately = select(func.count()).select_from(AlertMessageRow)
    said = session.execute(lately.where(col(AlertMessageRow.at) > now_s - pace.cool_down_s))
    states = read_states(session)
    judged = judge(
        readings,
        read_thresholds(session),
        states,
        now_s,
        pace=pace,
        said_lately=said.scalar_one(),
    )
    _store_states(session, states, judged.states)
    return _store_message(session, judged.notices, now_s) if judged.notices else None


def claim_deliveries(session: Session, box: SecretBox) -> list[Claimed]:
    """Return what is due now; nobody else gets it before `CLAIM_S` have passed."""
    now_s = read_clock_s(session)
    due = (
        select(AlertDeliveryRow, AlertMessageRow, AlertChannelRow)
        .join(AlertMessageRow, col(AlertMessageRow.number) == col(AlertDeliveryRow.message))
        .join(AlertChannelRow, col(AlertChannelRow.name) == col(AlertDeliveryRow.channel))
        .where(col(AlertDeliveryRow.due_at) <= now_s)
        .order_by(col(AlertDeliveryRow.due_at), col(AlertDeliveryRow.message))
        .limit(MOST_AT_ONCE)
    )
    claimed = []
    for delivery, message, channel in session.execute(due).all():
        delivery.due_at = now_s + CLAIM_S
        session.add(delivery)
        url = box.open(channel.url_sealed)
        claimed.append(
            Claimed(delivery.message, delivery.channel, url, message.title, message.body)
        )
    return claimed


def note_delivery(session: Session, done: Claimed, outcome: Outcome) -> None:
    """Keep how a delivery went; one that failed is due again until it was tried often enough."""
    row = session.get(AlertDeliveryRow, (done.message, done.channel))
    if row is None:
        return
    now_s = read_clock_s(session)
    row.attempts += 1
    row.is_ok, row.text = outcome.is_ok, outcome.text[:300]
    is_over = outcome.is_ok or row.attempts >= MOST_ATTEMPTS
    row.finished_at = now_s if is_over else None
    row.due_at = None if is_over else now_s + RETRY_S[row.attempts - 1]
    session.add(row)
    note_outcome(session, done.channel, outcome)
    if not outcome.is_ok:
        _tell(session, done, outcome, now_s)


def _tell(session: Session, failed: Claimed, outcome: Outcome, now_s: float) -> None:
    """Record that a channel did not take a message, unless that was said lately."""
    said = f"{failed.channel} did not take an alert: "
    lately = select(func.count()).where(
        col(EventRow.kind) == NOT_TAKEN_EVENT,
        col(EventRow.received_at) > now_s - SILENCE_S,
        func.substr(col(EventRow.text), 1, len(said)) == said,
    )
    if not session.execute(lately).scalar_one():
        data = {"channel": failed.channel, "message": failed.message}
        add_event(session, NOT_TAKEN_EVENT, said + outcome.text, data=data)


def list_sent(session: Session, limit: int, before: int | None = None) -> list[Sent]:
    """Return messages, the newest first; `before` continues behind a number."""
    number = col(AlertMessageRow.number)
    statement = select(AlertMessageRow).order_by(number.desc()).limit(limit)
    if before is not None:
        statement = statement.where(number < before)
    rows = list(session.execute(statement).scalars())
    of_rows = select(AlertDeliveryRow).where(
        col(AlertDeliveryRow.message).in_([row.number for row in rows])
    )
    by_message: dict[int, list[AlertDeliveryRow]] = {}
    for one in session.execute(of_rows.order_by(col(AlertDeliveryRow.channel))).scalars():
        by_message.setdefault(one.message, []).append(one)
    return [Sent(row, tuple(by_message.get(row.number or 0, ()))) for row in rows]


def prune_messages(session: Session, keep_days: int) -> int:
    """Delete messages of more than `keep_days` ago, some at once; return how many."""
    limit_s = read_clock_s(session) - keep_days * SECONDS_A_DAY
    number = col(AlertMessageRow.number)
    oldest = select(number).where(col(AlertMessageRow.at) < limit_s).limit(PRUNED_AT_ONCE)
    old = list(session.execute(oldest).scalars())
    session.execute(delete(AlertDeliveryRow).where(col(AlertDeliveryRow.message).in_(old)))
    session.execute(delete(AlertMessageRow).where(number.in_(old)))
    return len(old)


def _store_states(
    session: Session, before: Mapping[str, RuleState], after: Mapping[str, RuleState]
) -> None:
    rows = [
        {
            "rule": rule,
            "announced": list(state.announced),
            "notified_at": state.notified_at_s,
            "calm_since": state.calm_since_s,
        }
        for rule, state in after.items()
        if state != before.get(rule, RuleState())
    ]
    upsert(session, AlertStateRow, ["rule"], rows)


def _store_message(session: Session, notices: Sequence[Notice], now_s: float) -> int:
    title, body = compose(read_settings(session).name, tuple(notices))
    rules = [{"rule": one.rule.name, "kind": one.kind.value} for one in notices]
    message = AlertMessageRow(at=now_s, title=title, body=body, rules=rules)
    session.add(message)
    session.flush()
    assert message.number is not None  # noqa: S101 - a stored row has its number
    channel = col(AlertChannelRow.name)
    names = session.execute(select(channel).where(col(AlertChannelRow.is_enabled))).scalars()
    for name in names:
        session.add(AlertDeliveryRow(message=message.number, channel=name, due_at=now_s))
    return message.number
