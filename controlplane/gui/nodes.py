"""The pages of nodes: the list, adding one, one node with its settings, and removing it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Annotated, Any, Final

from fastapi import Depends, Response
from fastapi.sse import EventSourceResponse, ServerSentEvent

from controlplane.api.cluster_access import NodeKey, StoreDep
from controlplane.api.node_actions import EnrolmentToken, agent_url
from controlplane.api.nodes import MaintenanceBody, delete_node, put_maintenance
from controlplane.errors import Conflict, ControlPlaneError, Invalid, NotFound, Unavailable
from controlplane.gui.forms import FilledForm, Posted
from controlplane.gui.language import N_
from controlplane.gui.live import LiveDep
from controlplane.gui.mail import IN_USE
from controlplane.gui.node_forms import NEW_NODE, NODE, build_node, suggested
from controlplane.gui.node_states import NODES_TOPIC, node_topic, read_node, read_nodes
from controlplane.gui.shell import AdminShell, OperateShell, ReadShell, Shell, page_router
from controlplane.store.cluster import ClusterStore, read_settings
from controlplane.store.node_removal import mail_left_behind
from controlplane.store.nouns import NODES

router = page_router()

PAGE: Final = "/nodes"
"""Below it, what begins with an underscore is no node: no name does."""


@router.get("/nodes")
def nodes_page(shell: ReadShell, store: StoreDep) -> Response:
    """Show all nodes."""
    try:
        state = read_nodes(store)
    except Unavailable:
        state = None
    return shell.page("nodes.html", state=state)


@router.get("/nodes/_live", response_class=EventSourceResponse)
async def follow_nodes(shell: ReadShell, live: LiveDep) -> AsyncIterator[ServerSentEvent]:
    """Send the list whenever it has changed."""
    async for event in live.stream(shell, NODES_TOPIC):
        yield event


@router.get("/nodes/_new")
def new_page(shell: AdminShell, store: StoreDep) -> Response:
    """Show the empty form, with a mode and a priority that are free."""
    form = NEW_NODE.filled(suggested(store.items(NODES)))
    return shell.page("node_new.html", form=form)


@router.post("/nodes/_new")
def add_node(shell: AdminShell, posted: Posted, store: StoreDep) -> Response:
    """Add a node; one that is there already is not overwritten."""
    form = NEW_NODE.posted(posted)
    try:
        name = form.required("name").strip()
        if name in {node.name for node in store.items(NODES)}:
            raise Invalid(IN_USE, {"name": IN_USE})
        store.put_item(NODES, build_node(form, name), shell.signed_in.actor)
    except ControlPlaneError as error:
        return shell.page("node_new.html", status=error.status, form=form.refused(error))
    notice = N_("%(node)s is added. Enrol it, then apply the configuration.")
    return shell.done(f"{PAGE}/{name}", shell.text(notice, node=name))


@router.get("/nodes/{name}")
def node_page(name: NodeKey, shell: ReadShell, store: StoreDep) -> Response:
    """Show one node: what is known of it, its settings, its keys."""
    node = store.item(NODES, name)
    return show_node(shell, store, name, NODE.filled(node))


def present_node(name: NodeKey, store: StoreDep) -> str:
    """Give a stream the name of a node that is there, before its answer begins."""
    return store.item(NODES, name).name


@router.get("/nodes/{name}/live", response_class=EventSourceResponse)
async def follow_node(
    shell: ReadShell, name: Annotated[str, Depends(present_node)], live: LiveDep
) -> AsyncIterator[ServerSentEvent]:
    """Send what is known of the node whenever that has changed."""
    async for event in live.stream(shell, node_topic(name)):
        yield event


@router.post("/nodes/{name}")
def save_node(name: NodeKey, shell: AdminShell, posted: Posted, store: StoreDep) -> Response:
    """Change a node; its maintenance stays as it is."""
    form = NODE.posted(posted)
    present = store.item(NODES, name)
    try:
        node = build_node(form, name, is_maintenance=present.is_maintenance)
        store.put_item(NODES, node, shell.signed_in.actor)
    except ControlPlaneError as error:
        return show_node(shell, store, name, form.refused(error), status=error.status)
    notice = N_("%(name)s is saved; it reaches the nodes with the next apply.")
    return shell.done(f"{PAGE}/{name}", shell.text(notice, name=name))


@router.post("/nodes/{name}/maintenance")
def set_maintenance(
    name: NodeKey, shell: OperateShell, posted: Posted, store: StoreDep
) -> Response:
    """Keep the node off the VIPs, or let it have them again."""
    wanted = posted.get("maintenance")
    if wanted not in (["on"], ["off"]):
        raise Invalid("Some values cannot be used; nothing was changed.")
    is_on = wanted == ["on"]
    put_maintenance(name, MaintenanceBody(is_maintenance=is_on), shell.signed_in, store)
    notice = N_("%(node)s is in maintenance: it gives up its VIPs and takes none.")
    if not is_on:
        notice = N_("The maintenance of %(node)s has ended.")
    return shell.done(f"{PAGE}/{name}", shell.text(notice, node=name))


@router.get("/nodes/{name}/remove")
def remove_page(name: NodeKey, shell: AdminShell, store: StoreDep) -> Response:
    """Say what removing this node means now, and ask for it."""
    return _remove_page(shell, store, name)


@router.post("/nodes/{name}/remove")
def remove_node(name: NodeKey, shell: AdminShell, posted: Posted, store: StoreDep) -> Response:
    """Remove the node and revoke its key; mail stays behind only where that was asked for."""
    abandon_queue = posted.get("abandon_queue") == ["on"]
    try:
        delete_node(name, shell.signed_in, store, abandon_queue=abandon_queue)
    except (Invalid, Conflict) as error:
        return _remove_page(shell, store, name, error=error.detail, status=error.status)
    notice = N_("%(node)s is removed and its key is revoked.")
    return shell.done(PAGE, shell.text(notice, node=name))


def show_node(
    shell: Shell,
    store: ClusterStore,
    name: str,
    form: FilledForm,
    *,
    issued: EnrolmentToken | None = None,
    status: int = 200,
) -> Response:
    """Answer with the page of one node; raises NotFound."""
    state = read_node(store, name)
    if state.spec is None:
        raise NotFound(f"There is no node {name}.")
    with store.database.read() as session:
        url = agent_url(read_settings(session), shell.request)
    values: dict[str, Any] = {"state": state, "form": form, "issued": issued, "url": url}
    return shell.page("node.html", status=status, name=name, **values)


def _remove_page(
    shell: Shell, store: ClusterStore, name: str, *, error: str | None = None, status: int = 200
) -> Response:
    state = read_node(store, name)
    if state.spec is None:
        raise NotFound(f"There is no node {name}.")
    present = state.known.present if state.known is not None else None
    with store.database.read() as session:
        left = mail_left_behind(session, name)
    return shell.page(
        "node_remove.html",
        status=status,
        state=state,
        error=error,
        left=left,
        holds_vips=present.holds_vips if present is not None else None,
    )
