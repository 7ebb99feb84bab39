"""Route tests: a node talks SMTP to a next hop up to RCPT, and shows the dialogue."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, status
from fastapi import Path as PathKey
from pydantic import BaseModel, Field
from sqlmodel import Session

from controlplane.api.cluster_access import NOT_FOUND, PRINTABLE, Body, StoreDep
from controlplane.api.permissions import READ, OperateCaller
from controlplane.store import node_tests, route_tests
from controlplane.store.ownership_tables import RouteTestRow
from nodeagent.core.contract import NodeName
from nodeagent.core.route_wire import RouteTestLine

router = APIRouter(prefix="/api/v1/route-tests", tags=["routes"])

TestKey = Annotated[int, PathKey(ge=1, le=2**31 - 1, description="The test's number.")]


class RouteTestBody(Body):
    """Which route to try, and with which recipient."""

    sender: str = Field(
        max_length=320, pattern=PRINTABLE, description="The route.", examples=["@example.com"]
    )
    recipient: str = Field(max_length=320, pattern=PRINTABLE, examples=["somebody@example.net"])
    node: NodeName | None = Field(default=None, description="Null: the active node.")


class RouteTestView(BaseModel):
    """One try: waiting, over without an answer, or finished with its dialogue."""

    id: int
    node: str
    sender: str
    mail_from: str
    recipient: str
    requested_by: str
    requested_at: datetime
    finished_at: datetime | None
    is_over: bool = Field(description="The node did not report in time; nothing more will come.")
    is_ok: bool | None = Field(description="Whether the recipient was accepted; null: unknown.")
    text: str
    lines: list[RouteTestLine]


@router.post("", status_code=status.HTTP_201_CREATED, responses=NOT_FOUND)
def try_route(body: RouteTestBody, caller: OperateCaller, store: StoreDep) -> RouteTestView:
    """Have a node try a stored route: connect, EHLO, TLS, AUTH, MAIL and RCPT; no message is sent.

    The node learns of it with its next heartbeat. Ask for the test by its number until it is
    finished or over.
    """
    row = route_tests.request_test(store, body.sender, body.recipient, body.node, caller.actor)
    with store.database.read() as session:
        return test_view(session, row)


@router.get("/{number}", responses=NOT_FOUND, dependencies=[READ])
def read_route_test(number: TestKey, store: StoreDep) -> RouteTestView:
    """Show a test and its dialogue, credentials masked; it is kept for a day."""
    with store.database.read() as session:
        return test_view(session, node_tests.read(session, RouteTestRow, number, route_tests.WHAT))


def test_view(session: Session, row: RouteTestRow) -> RouteTestView:
    """Return a test as it is shown."""
    finished_s = row.finished_at
    return RouteTestView(
        **row.model_dump(exclude={"requested_at", "finished_at"}),
        requested_at=datetime.fromtimestamp(row.requested_at, UTC),
        finished_at=None if finished_s is None else datetime.fromtimestamp(finished_s, UTC),
        is_over=node_tests.is_over(session, row),
    )
