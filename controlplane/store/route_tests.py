"""Tries of routes: one of our nodes talks SMTP up to RCPT, and the dialogue is kept for a day.

Theory of operation. Whether a route works is a question about a node: its network, its address, its
resolver and its trusted CAs decide. So a test is a wish that the node finds in the answer to its
heartbeat, fetches with the credentials as they are then, and reports; nothing of the credentials is
stored here. A wish that nobody fetched for a minute is over: nobody looks any more.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import delete, select
from sqlmodel import Session, col

from controlplane.core.names import BadValue, parse_next_hop, parse_sender
from controlplane.core.topology import hostname_of
from controlplane.errors import Conflict, Invalid, NotFound
from controlplane.store import agents, audit
from controlplane.store.audit import Actor
from controlplane.store.clock import read_clock_s
from controlplane.store.cluster import ClusterStore
from controlplane.store.nouns import NODES, ROUTES
from controlplane.store.ownership_tables import NodeReportRow, RouteTestRow
from controlplane.store.reports import TEXT_LENGTH, stored_text
from nodeagent.core.route_wire import RouteTestResult, RouteTestWish

WAIT_S: Final = 60.0
KEPT_S: Final = 86_400.0


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
        now_s = read_clock_s(session)
        asked = _choose_node(store, session, node)
        if waiting(session, asked) is not None:
            raise Conflict(f"{asked} is trying a route already; wait for its result.")
        old = col(RouteTestRow.requested_at) < now_s - KEPT_S
        session.execute(delete(RouteTestRow).where(old))
        row = RouteTestRow(
            node=asked,
            sender=key,
            mail_from=f"postmaster{key}" if key.startswith("@") else key,
            recipient=address,
            requested_by=actor.name[:64],
            requested_at=now_s,
        )
        session.add(row)
        session.flush()
        after = {"node": asked, "recipient": address}
        audit.record(session, actor, "route.try", key, after=after)
    return row


def read_test(session: Session, number: int) -> RouteTestRow:
    """Return one test; raises NotFound."""
    row = session.get(RouteTestRow, number)
    if row is None:
        raise NotFound(f"There is no route test {number}.")
    return row


def is_over(session: Session, row: RouteTestRow) -> bool:
    """Tell whether nobody will report on this test any more."""
    return row.finished_at is None and read_clock_s(session) - row.requested_at > WAIT_S


def waiting(session: Session, node: str) -> int | None:
    """Return the number of the test that this node shall carry out."""
    statement = select(col(RouteTestRow.id)).where(
        col(RouteTestRow.node) == node,
        col(RouteTestRow.finished_at).is_(None),
        col(RouteTestRow.requested_at) > read_clock_s(session) - WAIT_S,
    )
    return session.execute(statement.order_by(col(RouteTestRow.id)).limit(1)).scalar_one_or_none()


def wish(store: ClusterStore, session: Session, node: str, number: int) -> RouteTestWish:
    """Return what the node shall try, with the route as it is now; raises NotFound."""
    row = _own_test(session, node, number)
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
    row = _own_test(session, node, result.id)
    if row.finished_at is not None:
        return
    row.finished_at = read_clock_s(session)
    row.is_ok = result.ok
    row.text = stored_text(result.text, TEXT_LENGTH)
    row.lines = [
        {"speaker": line.speaker.value, "text": stored_text(line.text, TEXT_LENGTH)}
        for line in result.lines
    ]
    session.add(row)


def _own_test(session: Session, node: str, number: int) -> RouteTestRow:
    row = session.get(RouteTestRow, number)
    if row is None or row.node != node:
        raise NotFound(f"{node} has no route test {number}.")
    return row


def _choose_node(store: ClusterStore, session: Session, node: str | None) -> str:
    """Return the node to ask: the one named, else the active one, else any that reports."""
    enrolled = {row.name for row in agents.list_agents(session) if agents.is_active(row)}
    if node is not None:
        store.read_item(session, NODES, node)
        if node not in enrolled:
            raise Conflict(f"{node} is not enrolled, so it cannot try a route.")
        return node
    rows = session.execute(select(NodeReportRow).order_by(col(NodeReportRow.node))).scalars()
    seen = [row for row in rows if row.node in enrolled]
    if not seen:
        raise Conflict("No node has reported yet, so none can try a route.")
    newest = max(seen, key=lambda row: (bool(row.report.get("holds_vips")), row.seen_at))
    return str(newest.node)
