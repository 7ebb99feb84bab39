"""The job of alerts: measure, judge, send; each step in a short transaction, none while sending."""

from __future__ import annotations

import structlog

from controlplane.integrations.notifications import Notifier
from controlplane.store.alert_messages import (
    claim_deliveries,
    judge_readings,
    note_delivery,
)
from controlplane.store.alert_values import measure
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database

log = structlog.get_logger(__name__)


def look_and_send(database: Database, box: SecretBox, notifier: Notifier) -> None:
    """Look once: what is due becomes a message, and all that waits to be sent is sent."""
    with database.read() as session:
        readings = measure(session)
    with database.write() as session:
        number = judge_readings(session, readings)
    if number is not None:
        log.info("alert", message=number)
    send_due(database, box, notifier)


def send_due(database: Database, box: SecretBox, notifier: Notifier) -> None:
    """Send what is due, all channels side by side."""
    with database.write() as session:
        claimed = claim_deliveries(session, box)
    begun = [(one, notifier.begin(one.url, one.title, one.body)) for one in claimed]
    for one, future in begun:
        outcome = notifier.wait(future)
        with database.write() as session:
            note_delivery(session, one, outcome)
        if not outcome.is_ok:
            log.warning("alert not taken", channel=one.channel, detail=outcome.text)
