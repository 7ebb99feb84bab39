"""What nodes report, on both databases: kept once, and never a reason for a heartbeat to fail."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from pydantic import ValidationError
from sqlalchemy import select

from controlplane.store import switchovers
from controlplane.store.engine import Database
from controlplane.store.ownership_tables import EventRow, SwitchoverRow
from controlplane.store.reports import add_event, read_reports, store_events
from nodeagent.core.contract import (
    EventReport,
    HeartbeatRequest,
    NodeReport,
    PushReport,
    Role,
    SwitchoverResult,
)
from tests.fakes.reports import store_report


def event(**content: Any) -> EventReport:
    """Return something that happened."""
    at = datetime(2026, 1, 1, tzinfo=UTC)
    return EventReport(**({"id": "1", "at": at, "kind": "role", "text": "Text."} | content))


def stored(database: Database) -> list[EventRow]:
    """Return all events in their order."""
    with database.read() as session:
        return list(session.execute(select(EventRow).order_by(EventRow.number)).scalars())


def test_an_event_with_a_nul_byte_is_stored(database: Database) -> None:
    """PostgreSQL takes no NUL: the node would repeat the event, and each heartbeat would fail."""
    odd = event(id="odd\x00id", kind="a\x00b", text="x\x00y", data={"file": "\x00"})
    for _ in range(2):
        with database.write() as session:
            assert store_events(session, "node-a", [odd]) == ("odd\x00id",)
    (row,) = stored(database)
    assert (row.kind, row.text, row.data) == ("a\ufffdb", "x\ufffdy", {"file": "\x00"})


def test_an_event_with_a_long_id_is_stored_once(database: Database) -> None:
    """What does not fit into its column is cut, not refused; the answer names it in full."""
    long = event(id="x" * 100)
    for _ in range(2):
        with database.write() as session:
            assert store_events(session, "node-a", [long, long]) == ("x" * 100,)
    assert len(stored(database)) == 1


@pytest.mark.parametrize("year", [1, 1969, 2026, 2101, 9999])
def test_an_event_of_any_year_is_stored_with_a_time_that_can_be_shown(
    database: Database, year: int
) -> None:
    """A clock wrong by a thousand years breaks neither a heartbeat nor the page of events."""
    far = timezone(timedelta(hours=14 if year == 1 else -14))
    with database.write() as session:
        store_events(session, "node-a", [event(at=datetime(year, 1, 1, tzinfo=far))])
    shown = datetime.fromtimestamp(stored(database)[0].happened_at, UTC).year
    assert shown == min(max(year, 1970), 2100)


@pytest.mark.parametrize(
    ("field", "value"),
    [("generation", 2**31), ("generation", -1), ("config_version", 2**63), ("role", "KING")]
    + [("queue", {"deferred": count}) for count in (-1, 2**62, 2**70)]
    + [("flow", {"accepted": count}) for count in (-1, 2**62, 2**70)]
    + [("disk_space_bytes", (free, 9)) for free in (-1, 2**62, 2**70)]
    + [("disk_inodes", (0, size)) for size in (-1, 2**62, 2**70)],
)
def test_a_report_that_no_column_takes_is_no_report(field: str, value: Any) -> None:
    """It is refused where it is read, and not by the database."""
    with pytest.raises(ValidationError):
        NodeReport.model_validate({"role": "STANDBY", field: value})


def test_an_infinite_time_is_no_time() -> None:
    """PostgreSQL takes none in its JSON columns."""
    push = PushReport(
        peer="node-b", generation=1, sequence=4, age_s=3.0, messages=1, sent=1, freeze_ms=3.0
    )
    report = NodeReport(role=Role.ACTIVE, pushes=(push,))
    sent = HeartbeatRequest(report=report).model_dump_json()
    assert HeartbeatRequest.model_validate_json(sent).report.pushes == (push,)
    with pytest.raises(ValidationError):
        HeartbeatRequest.model_validate_json(sent.replace('"age_s":3.0', '"age_s":1e999'))


def test_an_event_of_our_own_is_cut_too(database: Database) -> None:
    """A sentence of the control plane may quote a node."""
    with database.write() as session:
        add_event(session, "switchover", "a\x00b" + "x" * 3000)
    assert len(stored(database)[0].text) == 2000


def test_a_switchovers_end_is_noted_whatever_its_text(database: Database) -> None:
    """Otherwise the source would report it for ever, and no other could be asked for."""
    with database.write() as session:
        wish = switchovers.request_switchover(session, "node-a", "node-b", "admin")
    assert wish.id is not None
    result = SwitchoverResult(id=wish.id, ok=False, text="rsync said \x00" + "x" * 3000)
    with database.write() as session:
        switchovers.finish_switchover(session, "node-a", result)
        assert switchovers.current_switchover(session) is None
        text = session.get_one(SwitchoverRow, wish.id).text
    assert text.startswith("rsync said \ufffd")
    assert len(text) == 2000


def test_the_last_report_is_kept_whatever_it_says(database: Database) -> None:
    """A reason with a NUL comes back as it was sent."""
    for error in ("first", "a\x00b"):
        report = NodeReport(role=Role.ACTIVE, config_error=error)
        with database.write() as session:
            store_report(session, "node-a", report)
    with database.read() as session:
        ((age_s, seen),) = read_reports(session).values()
    assert seen.config_error == "a\x00b"
    assert 0 <= age_s < 60
