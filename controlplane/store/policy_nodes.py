"""Which revision of the policy each node has in force, and why it has no newer one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from sqlalchemy import select
from sqlmodel import Session

from controlplane.store.clock import read_clock_s
from controlplane.store.cluster import node_names
from controlplane.store.policy_tables import PolicyNodeRow
from nodeagent.policy.sync_wire import PolicySync

NOTED_EVERY_S: Final = 20.0
"""A node that says the same as before is noted so often: a row a second would be a write each."""


@dataclass(frozen=True)
class NodePolicy:
    """What is known of one node; `seen_s` is how long ago its hook last asked, None: never."""

    node: str
    revision: int | None = None
    problem: str = ""
    seen_s: float | None = None


def is_news(session: Session, node: str, said: PolicySync) -> bool:
    """Tell whether what a node said has to be written down."""
    row = session.get(PolicyNodeRow, node)
    if row is None:
        return True
    known = (row.source, row.revision, row.problem)
    is_same = known == (said.source, said.revision, _problem(said))
    return not is_same or read_clock_s(session) - row.seen_at > NOTED_EVERY_S


def note(session: Session, node: str, said: PolicySync) -> None:
    """Write down what a node said."""
    row = session.get(PolicyNodeRow, node)
    row = row or PolicyNodeRow(node=node, source=said.source, seen_at=0.0)
    row.source, row.revision, row.problem = said.source, said.revision, _problem(said)
    row.seen_at = read_clock_s(session)
    session.add(row)


def read_nodes(session: Session) -> list[NodePolicy]:
    """Return every node of the cluster, by name."""
    now_s = read_clock_s(session)
    rows = {row.node: row for row in session.execute(select(PolicyNodeRow)).scalars()}
    return [_state(name, rows.get(name), now_s) for name in node_names(session)]


def _state(node: str, row: PolicyNodeRow | None, now_s: float) -> NodePolicy:
    if row is None:
        return NodePolicy(node)
    return NodePolicy(node, row.revision, row.problem, max(0.0, now_s - row.seen_at))


def _problem(said: PolicySync) -> str:
    return said.problem.replace("\0", "?")
