"""Host keys that users vouch for or revoke, kept with the node that they are of."""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import select
from sqlmodel import Session, col

from controlplane.core.known_hosts import (
    Pin,
    Place,
    is_mismatch,
    read_known_hosts,
    trusted,
    written,
)
from controlplane.core.names import BadValue
from controlplane.errors import Invalid
from controlplane.store import agents, audit
from controlplane.store.audit import Actor
from controlplane.store.clock import read_clock_s
from controlplane.store.cluster_tables import NodeRow
from controlplane.store.reports import add_event
from nodeagent.core.ssh_wire import fingerprint


def pins_of(row: NodeRow) -> tuple[Pin, ...]:
    """Return what the user said of one node's host keys."""
    return tuple(Pin(row.name, one["key"], one["is_revoked"]) for one in row.ssh_pins)


def pinned(session: Session) -> dict[str, NodeRow]:
    """Return the nodes with their pins, by name."""
    return {row.name: row for row in _rows(session)}


def finding(row: NodeRow, reported: Sequence[str]) -> str | None:
    """Say in one sentence why pushes to this node must fail: it shows no key that is trusted."""
    if not is_mismatch(reported, pins_of(row)):
        return None
    return (
        f"{row.name} reports other host keys than those pinned or left of them: compare them on "
        "the host itself, then correct the known_hosts lines, or look who else answers there."
    )


def put_known_hosts(session: Session, text: str, actor: Actor) -> None:
    """Replace everything that users said of host keys by these lines; no line: nothing is pinned.

    Raises Invalid beside `known_hosts`, also when a node would have no trusted host key left.
    """
    rows = _rows(session)
    try:
        pins = read_known_hosts(text, [_place(row) for row in rows])
    except BadValue as bad:
        raise Invalid(None, {"known_hosts": str(bad)}) from None
    reported = _reported(session)
    for row in rows:
        mine = tuple(pin for pin in pins if pin.node == row.name)
        keys = reported.get(row.name, ())
        if keys and not trusted(keys, mine):
            sentence = f"These lines leave no trusted host key of {row.name}; pin another one."
            raise Invalid(None, {"known_hosts": sentence})
        _put(session, row, mine, actor)
    session.flush()


def known_hosts(session: Session, *, only_pins: bool) -> str:
    """Return what all nodes trust as a known_hosts file, or only what users said."""
    reported, lines = _reported(session), []
    for row in _rows(session):
        pins = pins_of(row)
        if not only_pins:
            pins = tuple(Pin(row.name, key) for key in trusted(reported.get(row.name, ()), pins))
        lines += written(_place(row), pins)
    return "".join(f"{line}\n" for line in lines)


def _put(session: Session, row: NodeRow, pins: tuple[Pin, ...], actor: Actor) -> None:
    before = pins_of(row)
    if set(before) == set(pins):
        return
    known = {(one["key"], one["is_revoked"]): one for one in row.ssh_pins}
    now_s = read_clock_s(session)
    row.ssh_pins = [
        known.get((pin.key, pin.is_revoked))
        or {
            "key": pin.key,
            "is_revoked": pin.is_revoked,
            "given_by": actor.name[:64],
            "given_at": now_s,
        }
        for pin in pins
    ]
    session.add(row)
    audit.record(
        session, actor, "ssh.pin-host-keys", row.name, before=_named(before), after=_named(pins)
    )
    text = f"{actor.name} changed which host keys of {row.name} its peers trust."
    add_event(session, "ssh-host-keys-pinned", text, node=row.name)


def _named(pins: tuple[Pin, ...]) -> dict[str, list[str | None]]:
    return {
        "pinned": [fingerprint(pin.key) for pin in pins if not pin.is_revoked],
        "revoked": [fingerprint(pin.key) for pin in pins if pin.is_revoked],
    }


def _rows(session: Session) -> list[NodeRow]:
    return list(session.execute(select(NodeRow).order_by(col(NodeRow.name))).scalars())


def _reported(session: Session) -> dict[str, list[str]]:
    return {
        row.name: list(row.ssh_host_keys)
        for row in agents.list_agents(session)
        if agents.is_active(row)
    }


def _place(row: NodeRow) -> Place:
    return Place(row.name, row.address, row.ssh_port)
