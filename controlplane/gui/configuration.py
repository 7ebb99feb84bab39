"""The configuration pages: versions, what apply would change, how far each node is, and back."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Annotated, Final

from fastapi import Query, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from controlplane.api.cluster_access import StoreDep
from controlplane.api.config import (
    ApplyBody,
    RollbackBody,
    VersionKey,
    VersionQuery,
    VersionView,
    apply,
    list_versions,
    read_diff,
    read_version,
    roll_back,
)
from controlplane.api.nodes import NodeView, node_views
from controlplane.core.permissions import Permission
from controlplane.core.policy_state import MOST_ENTRIES
from controlplane.errors import ControlPlaneError, Unavailable
from controlplane.gui.diffs import file_views
from controlplane.gui.forms import Field, FilledForm, Form, Posted
from controlplane.gui.language import N_
from controlplane.gui.live import LiveDep, Topic
from controlplane.gui.shell import OperateShell, ReadShell, Shell, page_router
from controlplane.store.cluster import ClusterStore, read_settings
from controlplane.store.columns import utc_now

router = page_router()

PAGE: Final = "/configuration"
SHOWN_VERSIONS: Final = 100
MAX_REVISION_DIGITS: Final = 18
REASON: Final = Field(
    "reason",
    N_("Reason"),
    hint=N_("Why, for whoever reads the list of versions later."),
    attributes={"maxlength": "500"},
)
APPLY: Final = Form((REASON,), submit=N_("Apply to all nodes"))
ROLL_BACK: Final = Form((REASON,), submit=N_("Roll back to this version"))


@dataclass(frozen=True)
class NodeProgress:
    """How far one node is with the version that is assigned to it."""

    node: str
    assigned: int | None
    live: int | None
    state: str  # none, unknown, sent, live or refused
    error: str | None
    seen_at_s: float | None


@dataclass(frozen=True)
class Rollout:
    """All nodes; equal to itself while nothing has changed."""

    nodes: tuple[NodeProgress, ...]


def read_rollout(store: ClusterStore) -> Rollout:
    """Read how far each node is."""
    now_s = utc_now().timestamp()
    with store.database.read() as session:
        limit_s = read_settings(session).timings.lease_duration_s
        return Rollout(
            tuple(node_progress(view, now_s, limit_s) for view in node_views(store, session))
        )


def node_progress(view: NodeView, now_s: float, limit_s: float) -> NodeProgress:
    """Return what is known of a node's configuration; silent for `limit_s`: unknown."""
    status, report = view.status, view.status.report
    assigned = status.assigned_version
    is_fresh = status.last_seen_s is not None and status.last_seen_s <= limit_s
    live = report.config_version if report is not None else None
    state, error = "sent", None
    if assigned is None:
        state = "none"
    elif report is None or not is_fresh:
        state = "unknown"
    elif report.config_failed_version == assigned and live != assigned:
        state, error = "refused", report.config_error
    elif live == assigned:
        state = "live"
    seen_at_s = None if is_fresh or status.last_seen_s is None else now_s - status.last_seen_s
    rounded = None if seen_at_s is None else float(round(seen_at_s))
    return NodeProgress(view.node.name, assigned, live, state, error, rounded)


ROLLOUT: Final = Topic("rollout", read_rollout, "configuration.html", "live")


@router.get("/configuration")
def configuration_page(shell: ReadShell, store: StoreDep) -> Response:
    """Show the versions, what waits to be applied, and how far each node is."""
    try:
        state = read_rollout(store)
    except Unavailable:
        state = None
    waiting = read_diff(store)
    versions = list_versions(store, SHOWN_VERSIONS)
    return shell.page(
        "configuration.html",
        state=state,
        waiting=waiting,
        versions=versions,
        may_change=shell.may(Permission.OPERATE),
        may_import=shell.may(Permission.ADMIN),
        most_entries=MOST_ENTRIES,
    )


@router.get("/configuration/live", response_class=EventSourceResponse)
async def follow_rollout(shell: ReadShell, live: LiveDep) -> AsyncIterator[ServerSentEvent]:
    """Send how far each node is whenever that has changed."""
    async for event in live.stream(shell, ROLLOUT):
        yield event


@router.get("/configuration/diff")
def diff_page(
    shell: ReadShell,
    store: StoreDep,
    start: Annotated[VersionQuery, Query(alias="from")] = None,
    end: Annotated[VersionQuery, Query(alias="to")] = None,
) -> Response:
    """Show what differs between two versions, or what apply would change."""
    return _diff_page(shell, store, APPLY.filled(), start=start, end=end)


@router.post("/configuration/apply")
def apply_configuration(shell: OperateShell, posted: Posted, store: StoreDep) -> Response:
    """Make a version of the present settings, if they are those that were looked at."""
    form = APPLY.posted(posted)
    revision = posted.get("revision", [""])[0]
    is_number = revision.isdecimal() and len(revision) <= MAX_REVISION_DIGITS
    try:
        expected = int(revision) if is_number else None
        body = form.build(ApplyBody, reason=form.text("reason"), expected_revision=expected)
        version = apply(body, shell.signed_in, store, Response())
    except ControlPlaneError as error:
        return _diff_page(shell, store, form.refused(error), status=error.status)
    notice = N_("Version %(number)s is assigned; the nodes check it and take it over.")
    return shell.done(PAGE, shell.text(notice, number=version.number))


@router.get("/configuration/versions/{version}")
def version_page(version: VersionKey, shell: ReadShell, store: StoreDep) -> Response:
    """Show one version with its files, and the way back to it."""
    return _version_page(shell, store, version, ROLL_BACK.filled())


@router.post("/configuration/versions/{version}/rollback")
def roll_back_page(
    version: VersionKey, shell: OperateShell, posted: Posted, store: StoreDep
) -> Response:
    """Assign the files of an old version again, as a new version."""
    form = ROLL_BACK.posted(posted)
    try:
        body = form.build(RollbackBody, reason=form.text("reason"))
        made: VersionView = roll_back(version, shell.signed_in, store, body)
    except ControlPlaneError as error:
        refused = form.refused(error)
        return _version_page(shell, store, version, refused, status=error.status)
    notice = N_("Version %(number)s has the files of version %(old)s; the settings are unchanged.")
    return shell.done(PAGE, shell.text(notice, number=made.number, old=version))


def _diff_page(
    shell: Shell,
    store: ClusterStore,
    form: FilledForm,
    *,
    start: int | None = None,
    end: int | None = None,
    status: int = 200,
) -> Response:
    found = read_diff(store, start, end)
    return shell.page(
        "configuration_diff.html",
        status=status,
        diff=found,
        files=file_views(found.files),
        form=form,
        may_change=shell.may(Permission.OPERATE),
    )


def _version_page(
    shell: Shell, store: ClusterStore, version: int, form: FilledForm, *, status: int = 200
) -> Response:
    shown = read_version(version, store)
    return shell.page(
        "configuration_version.html",
        status=status,
        version=shown,
        form=form,
        may_change=shell.may(Permission.OPERATE),
    )
