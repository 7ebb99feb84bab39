"""Removing a node: its key is revoked, and no mail is left behind on it unasked.

The lease of its queue and the receipts that name it stay, so that nothing is delivered twice when
it is added again. But nobody's peer is adopted by nobody: what waits on it stays on its disk.
"""

from __future__ import annotations

from sqlmodel import Session

from controlplane.errors import Conflict
from controlplane.store.agents import revoke
from controlplane.store.audit import Actor
from controlplane.store.cluster import ClusterStore
from controlplane.store.nouns import NODES
from controlplane.store.ownership_tables import AgentRow
from controlplane.store.situation import read_situation


class MailLeftBehind(Conflict):
    """Mail waits in the queue of the node, and no peer adopts it after the removal."""

    reason = "mail-left-behind"


def mail_left_behind(session: Session, name: str) -> int | None:
    """Count the messages that would stay on the node; None when that is not known.

    A node that never had a key has none; one that was struck off was given up with what it had.
    """
    agent = session.get(AgentRow, name)
    if agent is None or agent.struck_off_at is not None:
        return 0
    node = next((one for one in read_situation(session).nodes if one.name == name), None)
    return node.present.waiting if node is not None and node.present is not None else None


def remove_node(
    store: ClusterStore, session: Session, name: str, actor: Actor, *, abandon_queue: bool
) -> None:
    """Remove a node and revoke its key; raises NotFound, Conflict, MailLeftBehind."""
    store.read_item(session, NODES, name)
    left = mail_left_behind(session, name)
    if left != 0 and not abandon_queue:
        what = "Its queue is unknown" if left is None else f"Its queue holds {left}"
        raise MailLeftBehind(
            f"{what}, and no peer adopts it after the removal: switch over first, let it be"
            " delivered, or say abandon_queue."
        )
    store.delete_in(session, NODES, name, actor)
    if session.get(AgentRow, name) is not None:
        revoke(session, name)
