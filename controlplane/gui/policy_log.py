"""The pages of the policy log: what was decided, which rules fired, and who was connected."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Request, Response

from controlplane.api.mail_security.log import (
    DecisionKey,
    connection_page,
    find_decision,
    log_page,
    threat_page,
)
from controlplane.api.mail_security.log_views import (
    ConnectionView,
    DecisionView,
    PagedConnectionQuery,
    PagedLogQuery,
    PagedThreatQuery,
    ThreatView,
)
from controlplane.gui.forms import Field, Form, Option, Widget
from controlplane.gui.language import N_
from controlplane.gui.listings import (
    CURSOR,
    PAGE_SIZE,
    TIME,
    TIMES,
    Listing,
    read_filters,
    show_log,
    show_page,
)
from controlplane.gui.node_options import with_nodes
from controlplane.gui.policy_words import (
    ANY,
    KIND_FILTER,
    SEVERITY_FILTER,
    STAGE_FILTER,
    VERDICT_FILTER,
    WORDS,
)
from controlplane.gui.shell import ReadShell, page_router
from controlplane.store.engine import ReadSession
from nodeagent.policy.log_wire import Door

router = page_router()

LOG_EXPORT: Final = "/api/v1/mail-security/log/export"
THREAT_EXPORT: Final = "/api/v1/mail-security/threats/export"
CONNECTION_EXPORT: Final = "/api/v1/mail-security/connections/export"
NODE: Final = Field("node", N_("Node"), widget=Widget.SELECT, options=(ANY,))
CLIENT: Final = Field(
    "client",
    N_("Client"),
    hint=N_("An IP address, or its beginning with * at its end."),
    attributes={"maxlength": "320"},
)
THREAT_TIMES: Final = (
    Field("from_date", N_("Since"), attributes=TIME),
    Field("to_date", N_("Until"), attributes=TIME),
)
LOG: Final = Form(
    (
        NODE,
        Field("verdict", N_("Verdict"), widget=Widget.SELECT, options=VERDICT_FILTER),
        Field("stage", N_("Stage"), widget=Widget.SELECT, options=STAGE_FILTER),
        Field(
            "door",
            N_("Door"),
            widget=Widget.SELECT,
            options=(ANY, *(Option.of(one.value) for one in Door)),
        ),
        Field(
            "sender",
            N_("Sender"),
            hint=N_("A whole address, @domain, or a beginning with * at its end."),
            attributes={"maxlength": "320"},
        ),
        CLIENT,
        Field("queue_id", N_("Queue id"), attributes={"maxlength": "64"}),
        *TIMES,
    )
)
THREATS: Final = Form(
    (
        Field("severity", N_("Severity"), widget=Widget.SELECT, options=SEVERITY_FILTER),
        Field("type", N_("Kind"), widget=Widget.SELECT, options=KIND_FILTER),
        Field(
            "rule",
            N_("Rule"),
            hint=N_("Its name, or a beginning with * at its end."),
            attributes={"maxlength": "100"},
        ),
        *THREAT_TIMES,
    )
)
CONNECTIONS: Final = Form((NODE, CLIENT, *TIMES))


@router.get("/policy/log")
def decisions_page(request: Request, shell: ReadShell, session: ReadSession) -> Response:
    """Show decisions; filters and place stand in the address."""
    filters = with_nodes(session, read_filters(request, LOG))

    def find(times: dict[str, Any]) -> Listing[DecisionView]:
        after = request.query_params.get(CURSOR) or None
        wanted = filters.build(PagedLogQuery, limit=PAGE_SIZE, after=after, **times)
        page = log_page(session, wanted)
        return show_page(request, filters, page.entries, page.next)

    return show_log(shell, "policy_log.html", filters, LOG_EXPORT, find, **WORDS)


@router.get("/policy/log/{number}")
def decision_page(number: DecisionKey, shell: ReadShell, session: ReadSession) -> Response:
    """Show one decision and every rule that fired."""
    decision = find_decision(session, number)
    has_sessions = decision.door is Door.MILTER and decision.client is not None
    return shell.page("policy_decision.html", decision=decision, has_sessions=has_sessions, **WORDS)


@router.get("/policy/threats")
def threats_page(request: Request, shell: ReadShell, session: ReadSession) -> Response:
    """Show the rules that fired, newest first."""
    filters = read_filters(request, THREATS)

    def find(times: dict[str, Any]) -> Listing[ThreatView]:
        given = request.query_params.get(CURSOR, "")
        offset = int(given[:7]) if given.isdecimal() else 0
        wanted = filters.build(PagedThreatQuery, limit=PAGE_SIZE, offset=offset, **times)
        page = threat_page(session, wanted)
        beyond = offset + PAGE_SIZE
        following = beyond if beyond < page.total else None
        total = None if page.has_more_than else page.total
        return show_page(request, filters, page.threats, following, total)

    fields = THREAT_TIMES
    return show_log(
        shell, "policy_threats.html", filters, THREAT_EXPORT, find, time_fields=fields, **WORDS
    )


@router.get("/policy/connections")
def connections_page(request: Request, shell: ReadShell, session: ReadSession) -> Response:
    """Show SMTP sessions that ended, newest first."""
    filters = with_nodes(session, read_filters(request, CONNECTIONS))

    def find(times: dict[str, Any]) -> Listing[ConnectionView]:
        after = request.query_params.get(CURSOR) or None
        wanted = filters.build(PagedConnectionQuery, limit=PAGE_SIZE, after=after, **times)
        page = connection_page(session, wanted)
        return show_page(request, filters, page.connections, page.next)

    return show_log(shell, "policy_connections.html", filters, CONNECTION_EXPORT, find)
