"""Setups of hosts over SSH: what runs, step by step, and who asked; never a password or a key.

The process that was asked carries a setup out and notes each step here, so any instance shows and
cancels it. A row that nobody has touched for a minute belongs to a process that is gone.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import select
from sqlmodel import Session, col

from controlplane.errors import Conflict
from controlplane.node_setup.installer import Cancelled
from controlplane.node_setup.recipe import SetupStep
from controlplane.store import agents, audit, node_tests
from controlplane.store.audit import Actor
from controlplane.store.clock import read_clock_s
from controlplane.store.engine import Database
from controlplane.store.ownership_tables import AgentRow, NodeReportRow, NodeSetupRow
from controlplane.store.reports import TEXT_LENGTH, add_event, stored_text

WHAT: Final = "setup"
SILENT_S: Final = 60.0


def begin(session: Session, row: NodeSetupRow, actor: Actor) -> NodeSetupRow:
    """Note a new setup; raises Conflict while one of this node runs or the node is enrolled."""
    agent = session.get(AgentRow, row.node)
    if agent is not None and agents.is_active(agent):
        raise Conflict(f"{row.node} is enrolled already; revoke its key first.")
    running = select(NodeSetupRow).where(
        col(NodeSetupRow.node) == row.node, col(NodeSetupRow.finished_at).is_(None)
    )
    if any(not is_lost(session, one) for one in session.execute(running).scalars()):
        raise Conflict(f"{row.node} is being set up already; wait for its end or cancel it.")
    row.requested_by = actor.name[:64]
    node_tests.add(session, row)
    row.alive_at = row.requested_at
    after = {"address": row.address, "user": row.ssh_user, "host_key": row.host_key}
    audit.record(session, actor, "node.setup", row.node, after=after)
    return row


def cancel(session: Session, number: int, actor: Actor) -> NodeSetupRow:
    """Have a setup end before its next step; raises NotFound, and Conflict when it has ended."""
    row = node_tests.read(session, NodeSetupRow, number, WHAT)
    if row.finished_at is not None:
        raise Conflict(f"Setup {number} has ended already.")
    row.is_cancelled = True
    session.add(row)
    audit.record(session, actor, "node.setup-cancel", row.node)
    return row


def is_lost(session: Session, row: NodeSetupRow) -> bool:
    """Tell whether the process that carried it out is gone."""
    return row.finished_at is None and read_clock_s(session) - row.alive_at > SILENT_S


def has_reported_since(database: Database, node: str, since_s: float) -> bool:
    """Tell whether the node's agent has sent a heartbeat after this moment."""
    with database.read() as session:
        row = session.get(NodeReportRow, node)
        return row is not None and row.seen_at > since_s


class StoredProgress:
    """Notes the steps of one setup; the `Progress` of its installer."""

    def __init__(self, database: Database, number: int) -> None:
        self._database = database
        self._number = number
        self._lines: list[dict[str, Any]] = []

    def begin(self, step: SetupStep) -> None:
        """Note that a step runs now."""
        self._lines.append({"step": step.value, "ok": None, "text": "", "output": []})
        self._note()

    def show(self, output: Sequence[str]) -> None:
        """Note the last lines that the step's command wrote."""
        self._lines[-1]["output"] = [stored_text(line, TEXT_LENGTH) for line in output]
        self._note()

    def done(self, text: str) -> None:
        """Note what the step led to, in one sentence."""
        self._lines[-1].update(ok=True, text=stored_text(text, TEXT_LENGTH))
        self._note()

    def finish(self, *, is_ok: bool, text: str) -> None:
        """Note how the setup ended; never raises `Cancelled`."""
        if self._lines and not is_ok and self._lines[-1]["ok"] is None:
            self._lines[-1].update(ok=False, text=stored_text(text, TEXT_LENGTH))
        with self._database.write() as session:
            row = self._write(session)
            node_tests.finish(session, row, is_ok=is_ok, text=text)
            add_event(session, "node-setup", f"Setup of {row.node}: {row.text}", node=row.node)

    def _note(self) -> None:
        with self._database.write() as session:
            is_cancelled = self._write(session).is_cancelled
        if is_cancelled:
            raise Cancelled

    def _write(self, session: Session) -> NodeSetupRow:
        row = node_tests.read(session, NodeSetupRow, self._number, WHAT)
        row.alive_at = read_clock_s(session)
        row.lines = [dict(line) for line in self._lines]
        session.add(row)
        return row
