"""The switchover page: ask for one, follow its steps as they are seen, withdraw it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Final

from fastapi import Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from controlplane.api.cluster_access import StoreDep
from controlplane.api.switchover import (
    SwitchoverBody,
    SwitchoverProgress,
    create_switchover,
    delete_switchover,
    progress_of,
)
from controlplane.core.permissions import Permission
from controlplane.core.situation import KnownNode
from controlplane.core.switchover_steps import StepName, StepState
from controlplane.errors import ControlPlaneError, NotFound, Unavailable
from controlplane.gui.cluster_picture import tone_of
from controlplane.gui.forms import Field, FilledForm, Form, Option, Posted, Widget
from controlplane.gui.language import N_
from controlplane.gui.live import LiveDep, Topic
from controlplane.gui.shell import OperateShell, ReadShell, Shell, page_router
from controlplane.store.cluster import ClusterStore
from controlplane.store.nouns import NODES
from controlplane.store.situation import read_situation
from controlplane.store.switchovers import list_switchovers

router = page_router()

PAGE: Final = "/switchover"
SHOWN: Final = 20
STEPS: Final[Mapping[StepName, str]] = {
    StepName.ASKED: N_("Asked for"),
    StepName.PUSHED: N_("Queue pushed to the destination"),
    StepName.GRANTED: N_("Lease granted to the destination"),
    StepName.ADOPTED: N_("Mail adopted by the destination"),
    StepName.MOVED: N_("VIP moved"),
}
STATES: Final[Mapping[StepState, tuple[str, str]]] = {
    StepState.DONE: (N_("done"), "good"),
    StepState.RUNNING: (N_("under way"), "info"),
    StepState.WAITING: (N_("not yet"), "unknown"),
    StepState.FAILED: (N_("failed"), "bad"),
    StepState.MISSED: (N_("did not happen"), "unknown"),
}
FORM: Final = Form(
    (
        Field(
            "destination",
            N_("Destination"),
            hint=N_("The node that shall take over; it has to be up and on standby."),
            widget=Widget.SELECT,
        ),
        Field(
            "source",
            N_("Source"),
            hint=N_("To be named only when several nodes hold VIPs."),
            widget=Widget.SELECT,
        ),
    ),
    submit=N_("Switch over"),
)
ACTIVE: Final = Option("", N_("the active node"))


@dataclass(frozen=True)
class SwitchoverState:
    """The newest switchovers with their steps; equal to itself while nothing has happened."""

    shown: tuple[SwitchoverProgress, ...]
    nodes: tuple[KnownNode, ...]
    may_operate: bool
    steps: Mapping[StepName, str]
    states: Mapping[StepState, tuple[str, str]]

    @property
    def newest(self) -> SwitchoverProgress | None:
        """The one that is followed step by step."""
        return self.shown[0] if self.shown else None

    @property
    def is_under_way(self) -> bool:
        """Tell whether the newest one can be withdrawn."""
        return self.newest is not None and self.newest.finished_at is None

    def tone_of(self, node: KnownNode) -> str:
        """Return the tone of a node's badge."""
        return tone_of(node)


def read_state(store: ClusterStore, *, may_operate: bool) -> SwitchoverState:
    """Read what the page shows, in one snapshot."""
    with store.database.read() as session:
        rows = list_switchovers(session, SHOWN)
        shown = tuple(progress_of(session, row) for row in rows)
        nodes = read_situation(session).nodes
    return SwitchoverState(shown, nodes, may_operate, STEPS, STATES)


TOPICS: Final = {
    may: Topic(f"switchover/{may}", partial(read_state, may_operate=may), "switchover.html", "live")
    for may in (False, True)
}
"""What a user may do is part of the state: the button to withdraw stands in the live block."""


@router.get("/switchover")
def switchover_page(shell: ReadShell, store: StoreDep) -> Response:
    """Show the newest switchover and the form for another one."""
    wanted = shell.request.query_params.get("destination", "")
    return _page(shell, store, FORM.filled({"destination": wanted}))


@router.get("/switchover/live", response_class=EventSourceResponse)
async def follow_switchover(shell: ReadShell, live: LiveDep) -> AsyncIterator[ServerSentEvent]:
    """Send the steps whenever one has changed."""
    async for event in live.stream(shell, TOPICS[shell.may(Permission.OPERATE)]):
        yield event


@router.post("/switchover")
def ask_by_form(shell: OperateShell, posted: Posted, store: StoreDep) -> Response:
    """Ask the active node to hand over."""
    form = FORM.posted(posted)
    try:
        create_switchover(form.build(SwitchoverBody), shell.signed_in, store)
    except ControlPlaneError as error:
        return _page(shell, store, form.refused(error), status=error.status)
    return shell.redirect(PAGE)


@router.post("/switchover/withdraw")
def withdraw_by_form(shell: OperateShell, store: StoreDep) -> Response:
    """Withdraw the switchover under way."""
    try:
        delete_switchover(shell.signed_in, store)
    except NotFound:  # it ended while the page was looked at, which the page shows
        return shell.redirect(PAGE)
    return shell.done(PAGE, shell.text(N_("The switchover is withdrawn.")))


def _page(shell: Shell, store: ClusterStore, form: FilledForm, *, status: int = 200) -> Response:
    try:
        state = read_state(store, may_operate=shell.may(Permission.OPERATE))
        names = [Option.of(node.name) for node in store.items(NODES)]
    except Unavailable:
        state, names = None, []
    form = form.with_options("destination", tuple(names))
    form = form.with_options("source", (ACTIVE, *names))
    return shell.page("switchover.html", status=status, state=state, form=form)
