"""Takes batches of a node's policy log in: each entry once, with its threats, counts, quarantine.

One batch is stored after the other, under `POLICY_LOG_LOCK`; no heartbeat waits for one.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any, Final

from sqlalchemy import insert
from sqlmodel import Session

from controlplane.store.clock import SECONDS_A_DAY, read_clock_s
from controlplane.store.engine import POLICY_LOG_LOCK, Database
from controlplane.store.log_search import domain_of
from controlplane.store.log_streams import in_parts, note_gaps, take_new
from controlplane.store.policy_log_counts import count_entries, is_threat
from controlplane.store.policy_log_tables import (
    PolicyConnectionRow,
    PolicyMessageRow,
    PolicyQuarantineRow,
    PolicyStreamRow,
    PolicyThreatRow,
)
from controlplane.store.policy_partitions import ensure_partitions
from controlplane.store.policy_quarantine import quarantine_row
from controlplane.store.policy_revision import take_numbers
from controlplane.store.upserts import upsert
from nodeagent.core.names import is_queue_id
from nodeagent.core.stream_wire import StreamAnswer
from nodeagent.policy.log_wire import (
    LogBatch,
    LogEntry,
    LogKind,
)
from nodeagent.policy.model import Verdict

ENTRIES_AT_ONCE: Final = 250
NUMBERS: Final = "policy-log"


def take_in_parts(database: Database, node: str, batch: LogBatch) -> StreamAnswer:
    """Store a batch in transactions so short that heartbeats fit between them."""

    def take(session: Session, part: LogBatch) -> StreamAnswer:
        return take_batch(session, node, part)

    return in_parts(database, POLICY_LOG_LOCK, batch, ENTRIES_AT_ONCE, take)


def take_batch(session: Session, node: str, batch: LogBatch) -> StreamAnswer:
    """Store what is new of a batch; return up to where the stream has been taken in."""
    new, answer = take_new(session, PolicyStreamRow, node, batch)
    entries = note_gaps(session, node, "policy-log-gap", new)
    if entries:
        _store(session, node, entries)
        count_entries(session, entries)
    session.flush()
    return answer


def _store(session: Session, node: str, entries: Sequence[LogEntry]) -> None:
    now_s = read_clock_s(session)
    day = int(now_s // SECONDS_A_DAY)
    ensure_partitions(session, day)
    numbers = count(_first_number(session, entries))
    connections, messages, threats, held = [], [], [], []
    for entry in entries:
        number = next(numbers)
        of_entry = {"number": number, "day": day, "at": entry.at, "node": node}
        if entry.kind is LogKind.CONNECTION:
            connections.append({**of_entry, **_connection(entry)})
            continue
        messages.append({**of_entry, **_message(entry)})
        common = {**of_entry, "message": number, "stage": entry.stage.value}
        threats += [{**common, "number": next(numbers), **one} for one in _threats(entry)]
        if entry.verdict is Verdict.QUARANTINE and is_queue_id(entry.queue_id or ""):
            held.append(quarantine_row(entry, node, number, now_s))
    for table, rows in (
        (PolicyConnectionRow, connections),
        (PolicyMessageRow, messages),
        (PolicyThreatRow, threats),
    ):
        if rows:
            session.execute(insert(table), [storable(row) for row in rows])
    latest = {row["queue_id"]: storable(row) for row in held}
    upsert(session, PolicyQuarantineRow, ["queue_id"], list(latest.values()), owner="node")


def _first_number(session: Session, entries: Sequence[LogEntry]) -> int:
    """Return the first of as many new numbers as the entries and their rules may take."""
    most = len(entries) + sum(len(entry.fired) for entry in entries)
    return take_numbers(session, NUMBERS, most)


def _connection(entry: LogEntry) -> dict[str, Any]:
    return {
        "door": entry.door.value,
        "client": _lower(entry.client),
        "helo": entry.helo,
        "login": entry.login,
        "messages": entry.messages,
    }


def _message(entry: LogEntry) -> dict[str, Any]:
    key = _lower(entry.sender)
    return {
        **entry.model_dump(
            mode="json",
            include={
                *("door", "stage", "verdict", "code", "reply", "helo", "login", "sender"),
                *("recipients", "recipient_count", "subject", "message_id", "queue_id"),
                *("size_bytes", "took_ms", "revision", "fired", "text"),
            },
        ),
        "client": _lower(entry.client),
        "sender_key": key,
        "sender_domain": None if key is None else domain_of(key),
    }


def _threats(entry: LogEntry) -> Iterable[dict[str, Any]]:
    for one in entry.fired:
        if is_threat(one):
            yield {
                **one.model_dump(mode="json"),
                "verdict": entry.verdict.value,
                "client": _lower(entry.client),
                "sender": entry.sender,
            }


def storable(value: Any) -> Any:
    """Return it without NUL: PostgreSQL takes none, and the node would repeat it for ever."""
    if isinstance(value, str):
        return value.replace("\0", "\ufffd")
    if isinstance(value, list | tuple):
        return [storable(one) for one in value]
    if isinstance(value, dict):
        return {name: storable(one) for name, one in value.items()}
    return value


def _lower(text: str | None) -> str | None:
    return None if text is None else text.lower()[:320]
