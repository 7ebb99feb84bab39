"""SSH keys of the nodes: what their heartbeats show, and the rotation of a node's own key.

Theory of operation. A rotation is the wish that one certain key is replaced; it ends by itself when
the node shows another one. Whatever next key a node shows is passed to its peers, wished for or
not: a rotation that is cancelled in the very moment in which the node finishes it locks nobody out.
"""

from __future__ import annotations

from sqlmodel import Session

from controlplane.errors import Conflict, NotFound
from controlplane.store import agents, audit
from controlplane.store.audit import Actor
from controlplane.store.clock import read_clock_s
from controlplane.store.ownership_tables import AgentRow
from controlplane.store.reports import add_event
from nodeagent.core.contract import HeartbeatRequest
from nodeagent.core.ssh_wire import fingerprint


def take_over(session: Session, node: str, request: HeartbeatRequest) -> None:
    """Take over the SSH keys that the node shows; what changed becomes an event."""
    row = session.get(AgentRow, node)
    if row is None:
        return
    before = (row.ssh_public_key, list(row.ssh_host_keys))
    row.ssh_public_key = _key(request.ssh_public_key) or row.ssh_public_key
    row.ssh_next_public_key = _key(request.ssh_next_public_key)
    row.ssh_host_keys = [
        key for key in request.ssh_host_keys if agents.is_ssh_key(key)
    ] or row.ssh_host_keys
    if row.ssh_replace is not None and row.ssh_public_key != row.ssh_replace:
        row.ssh_replace = row.ssh_replace_at = None
        shown = fingerprint(row.ssh_public_key or "")
        add_event(session, "ssh-rotated", f"{node} uses its new SSH key {shown}.", node=node)
    elif (row.ssh_public_key, list(row.ssh_host_keys)) != before:
        add_event(session, "ssh-keys", f"{node} has new SSH keys.", node=node)
    session.add(row)
    session.flush()


def to_replace(session: Session, node: str) -> str | None:
    """Return the key that this node shall replace."""
    row = session.get(AgentRow, node)
    return None if row is None else row.ssh_replace


def request_rotation(session: Session, node: str, actor: Actor) -> AgentRow:
    """Wish that the node replaces its key; asked again, nothing changes. Raises Conflict."""
    row = _enrolled(session, node)
    if row.ssh_replace is None:
        row.ssh_replace = row.ssh_public_key
        row.ssh_replace_at = read_clock_s(session)
        session.add(row)
        before = {"fingerprint": fingerprint(row.ssh_public_key or "")}
        audit.record(session, actor, "ssh.rotate", node, before=before)
        text = f"{actor.name} asked for a new SSH key of {node}."
        add_event(session, "ssh-rotation-requested", text, node=node)
    return row


def cancel_rotation(session: Session, node: str, actor: Actor) -> AgentRow:
    """Have the node keep its key; raises NotFound when no rotation runs."""
    row = _enrolled(session, node)
    if row.ssh_replace is None:
        raise NotFound(f"No rotation of the SSH key of {node} is under way.")
    row.ssh_replace = row.ssh_replace_at = None
    session.add(row)
    audit.record(session, actor, "ssh.rotate-cancel", node)
    return row


def _enrolled(session: Session, node: str) -> AgentRow:
    row = session.get(AgentRow, node)
    if row is None or not agents.is_active(row) or row.ssh_public_key is None:
        raise Conflict(f"{node} is not enrolled, so it has no SSH key.")
    return row


def _key(line: str | None) -> str | None:
    return line.strip() if line and agents.is_ssh_key(line) else None
