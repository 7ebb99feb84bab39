"""What is done to a node's keys and its lease from its page: tokens, revoking, giving it up."""

from __future__ import annotations

from fastapi import Response

from controlplane.api.cluster_access import NodeKey, StoreDep
from controlplane.api.node_actions import confirm_dead, create_token, revoke_key, strike_node
from controlplane.api.user_auth import SettingsDep
from controlplane.gui.language import N_
from controlplane.gui.node_forms import NODE
from controlplane.gui.nodes import PAGE, show_node
from controlplane.gui.shell import AdminShell, ReadShell, page_router
from controlplane.store.nouns import NODES

router = page_router()


@router.get("/nodes/{name}/token")
def after_token(name: NodeKey, shell: ReadShell) -> Response:
    """Lead back to the node: a token is shown once."""
    return shell.redirect(f"{PAGE}/{name}")


@router.post("/nodes/{name}/token")
def make_token(
    name: NodeKey, shell: AdminShell, store: StoreDep, settings: SettingsDep
) -> Response:
    """Make a one-time token and show the command that uses it, this once."""
    issued = create_token(name, shell.request, shell.signed_in, store, settings)
    return show_node(shell, store, name, NODE.filled(store.item(NODES, name)), issued=issued)


@router.post("/nodes/{name}/revoke")
def revoke_by_form(name: NodeKey, shell: AdminShell, store: StoreDep) -> Response:
    """Refuse every further request of the node."""
    revoke_key(name, shell.signed_in, store)
    notice = N_("The key of %(node)s is revoked.")
    return shell.done(f"{PAGE}/{name}", shell.text(notice, node=name))


@router.post("/nodes/{name}/strike")
def strike_by_form(name: NodeKey, shell: AdminShell, store: StoreDep) -> Response:
    """Give up on the node."""
    strike_node(name, shell.signed_in, store)
    notice = N_("%(node)s is struck off; nobody waits for it any more.")
    return shell.done(f"{PAGE}/{name}", shell.text(notice, node=name))


@router.post("/nodes/{name}/dead")
def confirm_by_form(name: NodeKey, shell: AdminShell, store: StoreDep) -> Response:
    """Vouch that the host is off."""
    confirm_dead(name, shell.signed_in, store)
    notice = N_("%(node)s is confirmed to be off; a peer with a copy adopts its queue now.")
    return shell.done(f"{PAGE}/{name}", shell.text(notice, node=name))
