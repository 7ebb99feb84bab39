"""Tries of routes: one of our nodes talks SMTP up to RCPT, and the dialogue is kept for a day.

The node fetches the route with the credentials as they are then; nothing of them is stored here.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import select
from sqlmodel import Session, col

from controlplane.core.names import BadValue, parse_next_hop, parse_sender
from controlplane.core.topology import hostname_of
from controlplane.errors import Conflict, Invalid
from controlplane.store import agents, audit, node_tests
from controlplane.store.audit import Actor
from controlplane.store.cluster import ClusterStore
from controlplane.store.nouns import NODES, ROUTES
from controlplane.store.ownership_tables import NodeReportRow, RouteTestRow
from controlplane.store.reports import TEXT_LENGTH, stored_text
from nodeagent.core.route_wire import RouteTestResult, RouteTestWish

WHAT: Final = "route test"


def request_test(
    store: ClusterStore, sender: str, recipient: str, node: str | None, actor: Actor
) -> RouteTestRow:
    """Wish that a node tries the route of `sender`; one wish a node at a time.

    Raises NotFound, Invalid beside `recipient`, and Conflict when no node can try it.
    """
    try:
        address = parse_sender(recipient)
    except BadValue as bad:
        raise Invalid(None, {"recipient": f'"{recipient[:60]}" {bad}.'}) from bad
    if address.startswith("@"):
        raise Invalid(None, {"recipient": "A whole address is needed, not a domain."})
    with store.database.write() as session:
        route = store.read_item(session, ROUTES, sender)
        key = ROUTES.key_of(route)
        asked = _choose_node(store, session, node)
        if node_tests.waiting(session, RouteTestRow, asked) is not None:
            raise Conflict(f"{asked} is trying a route already; wait for its result.")
        row = RouteTestRow(
            node=asked,
            sender=key,
            mail_from=f"postmaster{key}" if key.startswith("@") else key,
            recipient=address,
            requested_by=actor.name[:64],
            requested_at=0.0,
        )
        node_tests.add(session, row)
        after = {"node": asked, "recipient": address}
        audit.record(session, actor, "route.try", key, after=after)
    return row


def wish(store: ClusterStore, session: Session, node: str, number: int) -> RouteTestWish:
    """Return what the node shall try, with the route as it is now; raises NotFound."""
    row = node_tests.own(session, RouteTestRow, node, number, WHAT)
    route = store.read_item(session, ROUTES, row.sender)
    spec = store.read_spec(session, with_domains=False)
    return RouteTestWish(
        id=number,
        next_hop=parse_next_hop(route.next_hop).host,
        port=route.port,
        tls_mode=route.tls_mode.value,
        helo=hostname_of(spec, store.read_item(session, NODES, node)),
        mail_from=row.mail_from,
        recipient=row.recipient,
        username=route.username,
        password=route.password,
    )


def finish(session: Session, node: str, result: RouteTestResult) -> None:
    """Note a result; a repeated one changes nothing."""
    row = node_tests.own(session, RouteTestRow, node, result.id, WHAT)
    if row.finished_at is not None:
        return
    row.lines = [
        {"speaker": line.speaker.value, "text": stored_text(line.text, TEXT_LENGTH)}
        for line in result.lines
    ]
    node_tests.finish(session, row, is_ok=result.ok, text=result.text)


def _choose_node(store: ClusterStore, session: Session, node: str | None) -> str:
    """Return the node to ask: the one named, else the active one, else any that reports."""
    if node is not None:
        store.read_item(session, NODES, node)
        node_tests.require_enrolled(session, node, "try a route")
        return node
    enrolled = {row.name for row in agents.list_agents(session) if agents.is_active(row)}
    rows = session.execute(select(NodeReportRow).order_by(col(NodeReportRow.node))).scalars()
    seen = [row for row in rows if row.node in enrolled]
    if not seen:
        raise Conflict("No node has reported yet, so none can try a route.")
    newest = max(seen, key=lambda row: (bool(row.report.get("holds_vips")), row.seen_at))
    return str(newest.node)
