"""Channels of alerts: where notifications go; the URL is sealed and never given back."""

from __future__ import annotations

from sqlalchemy import delete, func, select
from sqlmodel import Session, col

from controlplane.core.alert_state import MOST_CHANNELS
from controlplane.errors import Conflict, Invalid, NotFound
from controlplane.integrations.notifications import Channel, Outcome
from controlplane.store import audit
from controlplane.store.alert_tables import AlertChannelRow, AlertDeliveryRow
from controlplane.store.audit import Actor
from controlplane.store.clock import read_clock_s
from controlplane.store.crypto import SecretBox

WITHOUT_URL = "This channel has no URL yet; give it one first."


def list_channels(session: Session) -> list[AlertChannelRow]:
    """Return all channels by name."""
    rows = select(AlertChannelRow).order_by(col(AlertChannelRow.name))
    return list(session.execute(rows).scalars())


def read_channel(session: Session, name: str) -> AlertChannelRow:
    """Return one channel; raises NotFound."""
    row = session.get(AlertChannelRow, name)
    if row is None:
        raise NotFound(f"There is no alert channel {name}.")
    return row


def put_channel(
    session: Session,
    box: SecretBox,
    name: str,
    url: tuple[str, Channel] | None,
    *,
    is_enabled: bool,
    actor: Actor,
) -> tuple[AlertChannelRow, bool]:
    """Add or change a channel; return it, and whether it is new.

    `url` is the new URL with what may be shown of it; None keeps the present one. Raises Invalid,
    and Conflict when there are too many.
    """
    row = session.get(AlertChannelRow, name)
    is_new = row is None
    before = None if row is None else _facts(row)
    if row is None:
        if url is None:
            raise Invalid("A new channel needs a URL.", {"url": "A new channel needs a URL."})
        _require_room(session)
        row = new_channel(name)
    if url is not None:
        text, shown = url
        row.url_sealed = box.seal(text)
        row.service, row.host = shown.service, shown.host
        row.last_at, row.last_is_ok, row.last_text = None, None, ""
    if is_enabled and not row.url_sealed:
        raise Invalid(WITHOUT_URL, {"url": WITHOUT_URL})
    row.is_enabled = is_enabled
    session.add(row)
    session.flush()
    after = {**_facts(row), "has_new_url": url is not None}
    verb = "create" if is_new else "update"
    audit.record(session, actor, f"alert-channel.{verb}", name, before=before, after=after)
    return row, is_new


def delete_channel(session: Session, name: str, actor: Actor) -> None:
    """Remove a channel, and what still waits for it; raises NotFound."""
    row = read_channel(session, name)
    audit.record(session, actor, "alert-channel.delete", name, before=_facts(row))
    drop_channel(session, row)


def new_channel(name: str) -> AlertChannelRow:
    """Return a channel that leads nowhere yet, switched off."""
    return AlertChannelRow(name=name, service="", host="", url_sealed="", is_enabled=False)


def drop_channel(session: Session, row: AlertChannelRow) -> None:
    """Delete a channel, and what still waits for it; the caller audits."""
    waiting = delete(AlertDeliveryRow).where(
        col(AlertDeliveryRow.channel) == row.name, col(AlertDeliveryRow.due_at).is_not(None)
    )
    session.execute(waiting)
    session.delete(row)


def open_url(row: AlertChannelRow, box: SecretBox) -> str:
    """Return a channel's URL; raises Conflict for one that has none yet."""
    if not row.url_sealed:
        raise Conflict(WITHOUT_URL)
    return box.open(row.url_sealed)


def note_outcome(session: Session, name: str, outcome: Outcome) -> None:
    """Keep how the last notification of a channel went; one that is gone is left alone."""
    row = session.get(AlertChannelRow, name)
    if row is not None:
        row.last_at = read_clock_s(session)
        row.last_is_ok, row.last_text = outcome.is_ok, outcome.text[:300]
        session.add(row)


def _require_room(session: Session) -> None:
    count = session.execute(select(func.count()).select_from(AlertChannelRow)).scalar_one()
    if count >= MOST_CHANNELS:
        raise Conflict(f"There are {count} alert channels already; remove one first.")


def _facts(row: AlertChannelRow) -> dict[str, object]:
    return {"service": row.service, "host": row.host, "is_enabled": row.is_enabled}
