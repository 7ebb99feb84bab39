"""Switchovers: hand the VIP and the queue over on purpose, without losing or doubling anything."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Path, Query, status
from pydantic import BaseModel, Field
from sqlmodel import Session

from controlplane.api.cluster_access import NOT_FOUND, Body, StoreDep
from controlplane.api.nodes import NodeView, node_views
from controlplane.api.permissions import READ, OperateCaller
from controlplane.core.switchover_steps import StepName, StepState, steps_of
from controlplane.errors import Conflict, NotFound
from controlplane.store import audit
from controlplane.store.cluster import ClusterStore, read_settings
from controlplane.store.engine import ReadSession
from controlplane.store.ownership_tables import SwitchoverRow
from controlplane.store.reports import add_event
from controlplane.store.switchover_progress import read_facts
from controlplane.store.switchovers import (
    cancel_switchover,
    current_switchover,
    list_switchovers,
    request_switchover,
)
from controlplane.store.switchovers import read_switchover as read_row
from nodeagent.core.contract import NodeName, Role

router = APIRouter(prefix="/api/v1/switchover", tags=["switchover"])

SwitchoverKey = Annotated[int, Path(ge=1, le=2**31 - 1, description="Its number.")]


class SwitchoverBody(Body):
    """Who shall take over."""

    destination: NodeName = Field(examples=["node-b"])
    source: NodeName | None = Field(
        default=None, description="Null: the node that is active; to be named when several are."
    )


class SwitchoverView(BaseModel):
    """One switchover, wanted or finished."""

    id: int
    source: str
    destination: str
    requested_by: str
    requested_at: datetime
    finished_at: datetime | None = Field(description="Null: still under way.")
    is_ok: bool | None
    text: str = Field(description="Why nothing was handed over.")
    stall_ms: float | None = Field(description="How long SMTP stood still.")
    messages: int | None = Field(description="Handed over.")


class SwitchoverState(BaseModel):
    """The switchover under way, and the last ones."""

    current: SwitchoverView | None
    history: list[SwitchoverView]


class StepView(BaseModel):
    """One step, as far as the control plane has seen it."""

    name: StepName
    state: StepState
    at: datetime | None = Field(description="When it was seen, by the database's clock.")
    messages: int | None = Field(description="Messages in the copy, or adopted.")


class SwitchoverProgress(SwitchoverView):
    """One switchover with its steps in their order."""

    steps: list[StepView]


@router.get("", dependencies=[READ])
def read_switchover(
    store: StoreDep, limit: Annotated[int, Query(ge=1, le=200)] = 20
) -> SwitchoverState:
    """Show the switchover under way and the last ones, newest first."""
    with store.database.read() as session:
        history = [switchover_view(row) for row in list_switchovers(session, limit)]
        wish = current_switchover(session)
    running = next((one for one in history if wish is not None and one.id == wish.id), None)
    return SwitchoverState(current=running, history=history)


@router.get("/{number}", responses=NOT_FOUND, dependencies=[READ])
def read_progress(number: SwitchoverKey, session: ReadSession) -> SwitchoverProgress:
    """Show one switchover and how far it has come.

    The steps are read off reports, leases and receipts; adopting may go on after its end.
    """
    return progress_of(session, read_row(session, number))


@router.post("", status_code=status.HTTP_202_ACCEPTED, responses=NOT_FOUND)
def create_switchover(
    body: SwitchoverBody, caller: OperateCaller, store: StoreDep
) -> SwitchoverView:
    """Ask the active node to hand over.

    It is refused when one is under way, or when the destination could not take over now. When the
    source cannot reach the destination, nothing is handed over and the source goes on.
    """
    with store.database.write() as session:
        source = _check(store, session, body)
        row = request_switchover(session, source, body.destination, caller.actor.name)
        after = {"source": source, "destination": body.destination}
        audit.record(session, caller.actor, "switchover.create", str(row.id), after=after)
        text = f"{caller.actor.name} asked {source} to hand over to {body.destination}."
        add_event(session, "switchover-requested", text, node=source)
        return switchover_view(row)


@router.delete("", status_code=status.HTTP_204_NO_CONTENT, responses=NOT_FOUND)
def delete_switchover(caller: OperateCaller, store: StoreDep) -> None:
    """Withdraw the switchover under way, for instance because its source died.

    A source that has granted its lease already goes on: the steps say how far it was.
    """
    with store.database.write() as session:
        wish = current_switchover(session)
        if wish is None:
            raise NotFound("No switchover is under way.")
        cancel_switchover(session, wish.id, f"Withdrawn by {caller.actor.name}.")
        audit.record(session, caller.actor, "switchover.delete", str(wish.id))


def progress_of(session: Session, row: SwitchoverRow) -> SwitchoverProgress:
    """Return a switchover with its steps."""
    steps = [
        StepView(name=one.name, state=one.state, at=_moment(one.at_s), messages=one.messages)
        for one in steps_of(read_facts(session, row))
    ]
    return SwitchoverProgress(**switchover_view(row).model_dump(), steps=steps)


def _check(store: ClusterStore, session: Session, body: SwitchoverBody) -> str:
    """Return the source; raises what keeps the switchover from being done now."""
    views = {view.node.name: view for view in node_views(store, session)}
    limit_s = read_settings(session).timings.lease_duration_s
    source = body.source or _active_node(list(views.values()), body.destination)
    for name in (body.destination, source):
        if name not in views:
            raise NotFound(f"There is no node {name}.")
    if source == body.destination:
        raise Conflict(f"{body.destination} is active already.")
    for name in (source, body.destination):
        _require_fresh(views[name], limit_s)
    destination = views[body.destination]
    if destination.node.is_maintenance:
        raise Conflict(f"{body.destination} is in maintenance; end that first.")
    report = destination.status.report
    if report is not None and report.role is not Role.STANDBY:
        raise Conflict(
            f"{body.destination} is {report.role.value} and cannot take over; it must be STANDBY."
        )
    return source


def _active_node(views: list[NodeView], destination: str) -> str:
    active = [
        view.node.name
        for view in views
        if view.status.report is not None and view.status.report.holds_vips
    ]
    if destination in active and len(active) == 1:
        return destination
    others = [name for name in active if name != destination]
    if len(others) == 1:
        return others[0]
    if not others:
        raise Conflict("No node reports that it holds a VIP; there is nothing to hand over.")
    raise Conflict(f"Name the source: {', '.join(others)} hold VIPs.")


def _require_fresh(view: NodeView, limit_s: float) -> None:
    name, age_s = view.node.name, view.status.last_seen_s
    if not view.status.is_enrolled:
        raise Conflict(f"{name} is not enrolled.")
    if age_s is None:
        raise Conflict(f"{name} has never reported.")
    if age_s > limit_s:
        raise Conflict(f"{name} was last seen {age_s:.0f} s ago; it must be up for a switchover.")


def switchover_view(row: SwitchoverRow) -> SwitchoverView:
    """Return a switchover as the API shows it."""
    assert row.id is not None  # noqa: S101 - a stored row has its id
    return SwitchoverView(
        id=row.id,
        source=row.source,
        destination=row.destination,
        requested_by=row.requested_by,
        requested_at=datetime.fromtimestamp(row.requested_at, UTC),
        finished_at=_moment(row.finished_at),
        is_ok=row.is_ok,
        text=row.text or "",
        stall_ms=row.stall_ms,
        messages=row.messages,
    )


def _moment(at_s: float | None) -> datetime | None:
    return None if at_s is None else datetime.fromtimestamp(at_s, UTC)
