"""What the policy hook decided: numbers of a day, threats, decisions, connections, trends.

It is log data as the message trace is: what of addresses, subjects and IPs it carries was settled
on the node, by the cluster's privacy. Null is what is not told. An export carries much of it away
at once, so it is audited.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from enum import StrEnum
from typing import Annotated, Final, TypeVar

from fastapi import APIRouter, Path, Query
from fastapi.responses import StreamingResponse
from sqlmodel import Session

from controlplane.api.cluster_access import NOT_FOUND
from controlplane.api.csv_stream import CSV_ANSWER, EXPORT_PAGE, read_pages, stream_csv
from controlplane.api.mail_security.log_views import (
    ConnectionPage,
    ConnectionQuery,
    DecisionDetail,
    LogPage,
    LogQuery,
    Paged,
    PagedConnectionQuery,
    PagedLogQuery,
    PagedThreatQuery,
    PolicyStatusView,
    RuleCount,
    ThreatPage,
    ThreatQuery,
    TrendsView,
    connection_view,
    decision_detail,
    decision_view,
    shown_time,
    threat_view,
)
from controlplane.api.mail_security.nodes import node_views
from controlplane.api.mail_security.views import PREFIX
from controlplane.api.permissions import READ, ReadCaller
from controlplane.errors import NotFound
from controlplane.store import audit
from controlplane.store.engine import Database, DatabaseDep, ReadSession
from controlplane.store.log_search import Cursor, cut_page
from controlplane.store.policy_log_counts import DAY_S, HOUR_S, TREND_DAYS, What, read_trends
from controlplane.store.policy_log_search import (
    Row,
    count_threats,
    find_arrived,
    find_arrived_connections,
    find_connections,
    find_messages,
    find_threats,
    find_threats_after,
    read_message,
)
from controlplane.store.policy_status import read_status

router = APIRouter(prefix=PREFIX, tags=["mail-security"])

LAST_NUMBER: Final = 2**53
DecisionKey = Annotated[int, Path(ge=1, le=LAST_NUMBER)]
THREAT_COLUMNS: Final = (
    *("at", "node", "stage", "verdict", "type", "rule", "severity", "score", "text"),
    *("matched", "client", "sender", "message"),
)
LOG_COLUMNS: Final = (
    *("at", "number", "node", "door", "stage", "verdict", "reply_code", "reply", "client", "helo"),
    *("login", "sender", "recipients", "recipient_count", "subject", "message_id", "queue_id"),
    *("size_bytes", "took_ms", "revision", "rules", "text"),
)
CONNECTION_COLUMNS: Final = ("at", "number", "node", "door", "client", "helo", "login", "messages")
KEPT_AS: Final = {"type": "kind", "reply_code": "code", "rules": "fired"}
"""Columns of an export, which are called as in JSON, by their names in the database."""
Wanted = TypeVar("Wanted")


class Span(StrEnum):
    """How far trends go back."""

    DAY = "24h"
    MONTH = "30d"


@router.get("/status", dependencies=[READ])
def show_status(session: ReadSession) -> PolicyStatusView:
    """Show whether the policy hook is on, and what it did in the last 24 hours."""
    return policy_status(session)


@router.get("/threats", dependencies=[READ])
def list_threats(wanted: Annotated[PagedThreatQuery, Query()], session: ReadSession) -> ThreatPage:
    """List rules that fired, newest first."""
    return threat_page(session, wanted)


@router.get("/threats/export", response_class=StreamingResponse, responses=CSV_ANSWER)
def export_threats(
    wanted: Annotated[ThreatQuery, Query()], database: DatabaseDep, caller: ReadCaller
) -> StreamingResponse:
    """Export the threat log as CSV, newest first."""
    _note_export(database, caller, "threats", wanted)
    pages = _all_rows(database, find_threats_after, wanted.to_filter(), THREAT_COLUMNS)
    return stream_csv("threats", THREAT_COLUMNS, pages)


@router.get("/log", dependencies=[READ])
def list_log(wanted: Annotated[PagedLogQuery, Query()], session: ReadSession) -> LogPage:
    """List decisions about messages, recipients and sessions, newest first."""
    return log_page(session, wanted)


@router.get("/log/export", response_class=StreamingResponse, responses=CSV_ANSWER)
def export_log(
    wanted: Annotated[LogQuery, Query()], database: DatabaseDep, caller: ReadCaller
) -> StreamingResponse:
    """Export decisions as CSV, newest first."""
    _note_export(database, caller, "log", wanted)
    pages = _all_rows(database, find_messages, wanted.to_filter(), LOG_COLUMNS)
    return stream_csv("policy-log", LOG_COLUMNS, pages)


@router.get("/log/{number}", dependencies=[READ], responses=NOT_FOUND)
def read_decision(number: DecisionKey, session: ReadSession) -> DecisionDetail:
    """Show one decision with every rule that fired."""
    return find_decision(session, number)


@router.get("/connections", dependencies=[READ])
def list_connections(
    wanted: Annotated[PagedConnectionQuery, Query()], session: ReadSession
) -> ConnectionPage:
    """List SMTP sessions that ended, newest first."""
    return connection_page(session, wanted)


@router.get("/connections/export", response_class=StreamingResponse, responses=CSV_ANSWER)
def export_connections(
    wanted: Annotated[ConnectionQuery, Query()], database: DatabaseDep, caller: ReadCaller
) -> StreamingResponse:
    """Export SMTP sessions that ended as CSV, newest first."""
    _note_export(database, caller, "connections", wanted)
    pages = _all_rows(database, find_connections, wanted.to_filter(), CONNECTION_COLUMNS)
    return stream_csv("policy-connections", CONNECTION_COLUMNS, pages)


@router.get("/trends", dependencies=[READ])
def show_trends(session: ReadSession, span: Span = Span.DAY) -> TrendsView:
    """Show what was decided over time: by the hour for a day, by the day for a month (UTC)."""
    return trends(session, span)


def policy_status(session: Session) -> PolicyStatusView:
    """Return the numbers of the last 24 hours and what each node has in force."""
    found = read_status(session)
    return PolicyStatusView(
        active=found.is_active,
        revision=found.revision,
        badwords_count=found.badwords,
        blocklist_count=found.blocklist,
        threats_24h=found.day.threats,
        blocked_emails_24h=found.day.blocked,
        rate_limit_blocks_24h=found.day.rate_blocks,
        quarantined_24h=found.day.quarantined,
        accepted_24h=found.day.accepted,
        connections_24h=found.day.connections,
        nodes=node_views(found.nodes, found.revision),
    )


def threat_page(session: Session, wanted: PagedThreatQuery) -> ThreatPage:
    """Return one page of the threat log."""
    chosen = wanted.to_filter()
    total = count_threats(session, chosen)
    rows = find_threats(session, chosen, wanted.limit, wanted.offset)
    return ThreatPage(
        threats=[threat_view(row) for row in rows], total=total.count, has_more_than=total.is_more
    )


def log_page(session: Session, wanted: PagedLogQuery) -> LogPage:
    """Return one page of decisions; raises Invalid for a cursor that is none."""
    rows, following = _page(session, wanted, wanted.to_filter(), find_messages, find_arrived)
    return LogPage(entries=[decision_view(row) for row in rows], next=following)


def find_decision(session: Session, number: int) -> DecisionDetail:
    """Return one decision; raises NotFound."""
    row = read_message(session, number)
    if row is None:
        raise NotFound("There is no such decision in the log; it may be older than what is kept.")
    return decision_detail(row)


def connection_page(session: Session, wanted: PagedConnectionQuery) -> ConnectionPage:
    """Return one page of connections; raises Invalid for a cursor that is none."""
    chosen = wanted.to_filter()
    rows, following = _page(session, wanted, chosen, find_connections, find_arrived_connections)
    return ConnectionPage(connections=[connection_view(row) for row in rows], next=following)


def _page(
    session: Session,
    asked: Paged,
    wanted: Wanted,
    find: Callable[[Session, Wanted, int, Cursor | None], list[Row]],
    find_new: Callable[[Session, Wanted, int, int], list[Row]],
) -> tuple[Sequence[Row], str | None]:
    """Return the rows of one page and where the next one begins."""
    if asked.newer_than is not None:
        return find_new(session, wanted, asked.limit, asked.newer_than), None
    rows = find(session, wanted, asked.limit + 1, Cursor.given(asked.after))
    return cut_page(rows, asked.limit, _place)


def trends(session: Session, span: Span) -> TrendsView:
    """Return series by the hour or by the day, the present one with them."""
    steps, step_s = (DAY_S // HOUR_S, HOUR_S) if span is Span.DAY else (TREND_DAYS, DAY_S)
    found = read_trends(session, steps, step_s)
    return TrendsView(
        step_s=found.step_s,
        at=[shown_time(at) for at in found.at],
        verdicts=dict(found.series[What.VERDICT]),
        threats=dict(found.series[What.THREAT]),
        severities=dict(found.series[What.SEVERITY]),
        top_rules=[RuleCount(rule=rule, count=count) for rule, count in found.top_rules],
    )


def _note_export(
    database: Database,
    caller: ReadCaller,
    what: str,
    wanted: ThreatQuery | LogQuery | ConnectionQuery,
) -> None:
    after = wanted.model_dump(mode="json", exclude_none=True)
    with database.write() as session:
        audit.record(session, caller.actor, f"policy-log.export-{what}", after=after)


def _all_rows(
    database: Database,
    find: Callable[[Session, Wanted, int, Cursor | None], list[Row]],
    wanted: Wanted,
    columns: Sequence[str],
) -> Iterator[list[Sequence[object]]]:
    """Yield the cells of all that `find` finds, page by page."""

    def read(session: Session, last: Row | None) -> list[Row]:
        return find(session, wanted, EXPORT_PAGE, None if last is None else _place(last))

    for page in read_pages(database, read, EXPORT_PAGE):
        yield [[_cell(row, name) for name in columns] for row in page]


def _cell(row: Row, name: str) -> object:
    value = getattr(row, KEPT_AS.get(name, name))
    if name == "at":
        return shown_time(value).isoformat()
    if name == "rules":
        return " ".join(str(one["rule"]) for one in value)
    return " ".join(value) if name == "recipients" else value


def _place(row: Row) -> Cursor:
    return Cursor(row.at, row.number)
