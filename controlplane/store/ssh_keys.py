"""SSH keys of the nodes: what their heartbeats show, and the rotation of a node's key.

Theory of operation. A rotation is the wish that one certain key is replaced; it ends by itself when
the node shows another one. The new key is made by the node, or a user brought it along
(`given_keys`); the rest is the same. Whatever next key a node shows is passed to its peers, wished
for or not: a rotation that is cancelled in the very moment in which the node finishes it locks
nobody out.
"""

from __future__ import annotations

from sqlmodel import Session

from controlplane.core.private_keys import KeyPair
from controlplane.errors import Conflict, Invalid, NotFound
from controlplane.store import agents, audit, given_keys
from controlplane.store.audit import Actor
from controlplane.store.clock import read_clock_s
from controlplane.store.crypto import SecretBox
from controlplane.store.ownership_tables import AgentRow
from controlplane.store.reports import add_event
from nodeagent.core.contract import HeartbeatRequest
from nodeagent.core.ssh_wire import fingerprint


def take_over(session: Session, row: AgentRow, request: HeartbeatRequest) -> None:
    """Take over the SSH keys that the node of `row` shows; what changed becomes an event."""
    before = (row.ssh_public_key, list(row.ssh_host_keys))
    next_key = _key(request.ssh_next_public_key)
    shown = (
        _key(request.ssh_public_key) or row.ssh_public_key,
        [key for key in request.ssh_host_keys if agents.is_ssh_key(key)] or before[1],
    )
    is_rotated = row.ssh_replace is not None and shown[0] != row.ssh_replace
    has_new_key = (shown[0], next_key) != (before[0], row.ssh_next_public_key)
    if shown == before and not has_new_key and not is_rotated:
        return
    row.ssh_public_key, row.ssh_host_keys = shown
    row.ssh_next_public_key = next_key
    if is_rotated:
        _end_rotation(session, row)
    elif shown != before:
        add_event(session, "ssh-keys", f"{row.name} has new SSH keys.", node=row.name)
    session.add(row)
    session.flush()
    if has_new_key:
        _keep_given(session, row)


def to_use(session: Session, node: str) -> str | None:
    """Return the key of a user's that this node shall use instead; None: one that it makes."""
    given = given_keys.waiting(session, node)
    return None if given is None else given.public_key


def request_rotation(session: Session, node: str, actor: Actor) -> AgentRow:
    """Wish that the node makes a new key; asked again, nothing changes. Raises Conflict."""
    row = _enrolled(session, node)
    if given_keys.waiting(session, node) is not None:
        raise _under_way(node)
    if row.ssh_replace is None:
        before = _begin_rotation(session, row)
        audit.record(session, actor, "ssh.rotate", node, before=before)
        text = f"{actor.name} asked for a new SSH key of {node}."
        add_event(session, "ssh-rotation-requested", text, node=node)
    return row


def give_key(session: Session, box: SecretBox, node: str, key: KeyPair, actor: Actor) -> AgentRow:
    """Wish that the node uses this key; asked again, nothing changes.

    Raises Conflict, and Invalid beside `private_key` when the key is in use already.
    """
    row = _enrolled(session, node)
    given = given_keys.waiting(session, node)
    if given is not None and given.public_key == key.public:
        return row
    if row.ssh_replace is not None:
        raise _under_way(node)
    _refuse_used(session, node, key.public)
    given_keys.store(session, box, node, key, actor)
    before = _begin_rotation(session, row)
    after = _named(key.public)
    audit.record(session, actor, "ssh.give-key", node, before=before, after=after)
    text = f"{actor.name} gave {node} an SSH key: {after['fingerprint']}."
    add_event(session, "ssh-rotation-requested", text, node=node)
    return row


def cancel_rotation(session: Session, node: str, actor: Actor) -> AgentRow:
    """Have the node keep its key; raises NotFound when no rotation runs."""
    row = _enrolled(session, node)
    if row.ssh_replace is None:
        raise NotFound(f"No rotation of the SSH key of {node} is under way.")
    row.ssh_replace = row.ssh_replace_at = None
    session.add(row)
    _keep_given(session, row)
    audit.record(session, actor, "ssh.rotate-cancel", node)
    return row


def _begin_rotation(session: Session, row: AgentRow) -> dict[str, str | None]:
    """Note the wish; return how people name the key that goes."""
    row.ssh_replace = row.ssh_public_key
    row.ssh_replace_at = read_clock_s(session)
    session.add(row)
    return _named(row.ssh_public_key or "")


def _end_rotation(session: Session, row: AgentRow) -> None:
    given = given_keys.waiting(session, row.name)
    shown = fingerprint(row.ssh_public_key or "")
    text = f"{row.name} uses its new SSH key {shown}."
    if given is not None and given.fingerprint != shown:
        text = f"{row.name} uses the new SSH key {shown}, not {given.fingerprint} as it was asked."
    row.ssh_replace = row.ssh_replace_at = None
    add_event(session, "ssh-rotated", text, node=row.name)


def _keep_given(session: Session, row: AgentRow) -> None:
    shown = (row.ssh_public_key, row.ssh_next_public_key)
    given_keys.keep(session, row.name, shown, is_open=row.ssh_replace is not None)


def _refuse_used(session: Session, node: str, public_key: str) -> None:
    """One key for two nodes would let each of them push as the other."""
    users = {given_keys.holder(session, public_key)} - {None, node}
    for row in agents.list_agents(session):
        shown = (row.ssh_public_key, row.ssh_next_public_key)
        if fingerprint(public_key) in {fingerprint(key) for key in shown if key}:
            users.add(row.name)
    if node in users:
        raise Invalid(None, {"private_key": f"{node} uses this key already."})
    if users:
        raise Invalid(
            None, {"private_key": f"{users.pop()} has this key; each node needs one of its own."}
        )


def _under_way(node: str) -> Conflict:
    return Conflict(f"The SSH key of {node} is being replaced already; wait for that or end it.")


def _named(public_key: str) -> dict[str, str | None]:
    return {"type": public_key.split(" ", maxsplit=1)[0], "fingerprint": fingerprint(public_key)}


def _enrolled(session: Session, node: str) -> AgentRow:
    row = session.get(AgentRow, node)
    if row is None or not agents.is_active(row) or row.ssh_public_key is None:
        raise Conflict(f"{node} is not enrolled, so it has no SSH key.")
    return row


def _key(line: str | None) -> str | None:
    return line.strip() if line and agents.is_ssh_key(line) else None
