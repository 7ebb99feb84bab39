"""Which database this is, and what happens after it came back from a backup (section 4.9).

Theory of operation. A restored database has forgotten receipts and generations. Restoring gives it
a new instance id and makes it *recovering*: no lease is granted or renewed, no receipt is shown.
Each node that sees an id it does not know reports what it remembers. When every enrolled node that
was not struck off has reported, and every node that a report names, each lease row starts at one
above the highest generation known, held by its own node for one whole lease duration, and the
receipts are merged by their numbers. A node that reports later still adds receipts nobody knew.
"""

from __future__ import annotations

import uuid

from sqlalchemy import delete, select
from sqlmodel import Session, col

from controlplane.errors import Conflict
from controlplane.store import given_keys, receipts
from controlplane.store.agents import is_active, list_agents
from controlplane.store.clock import read_clock_s
from controlplane.store.leases import ensure_lease
from controlplane.store.ownership_tables import (
    INSTANCE_ID,
    AgentRow,
    InstanceRow,
    LeaseRow,
    ReceiptRow,
    RecoveryReportRow,
)
from controlplane.store.policy_revision import RESTORED, raise_revision
from controlplane.store.queue_actions import cancel_all
from controlplane.store.reports import add_event
from nodeagent.core.contract import RecoveryRequest, RememberedReceipt


def ensure_instance(session: Session) -> InstanceRow:
    """Return the instance; a new database gets its id now."""
    row = session.get(InstanceRow, INSTANCE_ID)
    if row is None:
        row = InstanceRow(instance_id=str(uuid.uuid4()), created_at=read_clock_s(session))
        session.add(row)
        session.flush()
    return row


def mark_restored(session: Session) -> InstanceRow:
    """Give a restored database a new id and let it wait for all nodes."""
    row = ensure_instance(session)
    row.instance_id = str(uuid.uuid4())
    row.is_recovering = True
    row.created_at = read_clock_s(session)
    session.add(row)
    session.execute(delete(RecoveryReportRow))
    raise_revision(session, RESTORED)
    cancel_all(session, "The control plane was restored from a backup; nobody knows what was done.")
    add_event(session, "restored", "The control plane was restored and waits for all nodes.")
    return row


def remember(session: Session, node: str, memory: RecoveryRequest, duration_s: float) -> None:
    """Take a node's memory; the last missing one ends the recovery."""
    instance = ensure_instance(session)
    if memory.instance_id != instance.instance_id:
        raise Conflict("This report was meant for another instance of the control plane.")
    if not instance.is_recovering:
        _merge_receipts(session, node, memory.receipts)
        return
    row = session.get(RecoveryReportRow, (instance.instance_id, node))
    if row is None:
        row = RecoveryReportRow(
            instance_id=instance.instance_id,
            node=node,
            memory={},
            received_at=read_clock_s(session),
        )
    row.memory = memory.model_dump(mode="json")
    session.add(row)
    session.flush()
    finish_if_complete(session, duration_s)


def missing_nodes(session: Session) -> list[str]:
    """Return the nodes that a recovery still waits for; without a recovery it is none."""
    instance = session.get(InstanceRow, INSTANCE_ID)
    if instance is None or not instance.is_recovering:
        return []
    struck = {row.name for row in list_agents(session) if row.struck_off_at is not None}
    wanted = {row.name for row in list_agents(session) if is_active(row)}
    memories = _memories(session)
    for memory in memories.values():
        wanted |= set(memory.generations)
    return sorted(wanted - struck - set(memories))


def finish_if_complete(session: Session, duration_s: float) -> bool:
    """End the recovery when nobody is missing; True when it ended now."""
    instance = ensure_instance(session)
    if not instance.is_recovering or missing_nodes(session):
        return False
    memories = _memories(session)
    for node in sorted(memories):
        _merge_receipts(session, node, memories[node].receipts)
    _restart_leases(session, memories, duration_s)
    instance.is_recovering = False
    session.add(instance)
    session.execute(delete(RecoveryReportRow))
    add_event(session, "recovered", "All nodes have reported; leases are granted again.")
    return True


def strike_off(session: Session, node: str, duration_s: float) -> None:
    """Stop waiting for a node that is gone for good; its requests are refused from now on."""
    row = session.get(AgentRow, node) or AgentRow(name=node)
    row.struck_off_at = read_clock_s(session)
    given_keys.keep(session, node, (row.ssh_public_key, row.ssh_next_public_key))
    session.add(row)
    session.flush()
    add_event(session, "struck-off", f"{node} was struck off.", node=node)
    finish_if_complete(session, duration_s)


def _memories(session: Session) -> dict[str, RecoveryRequest]:
    instance = ensure_instance(session)
    rows = session.execute(
        select(RecoveryReportRow).where(col(RecoveryReportRow.instance_id) == instance.instance_id)
    ).scalars()
    return {row.node: RecoveryRequest.model_validate(row.memory) for row in rows}


def _restart_leases(
    session: Session, memories: dict[str, RecoveryRequest], duration_s: float
) -> None:
    highest = highest_generations(list(memories.values()))
    for queue in highest:
        ensure_lease(session, queue)
    now_s = read_clock_s(session)
    for lease in session.execute(select(LeaseRow)).scalars():
        seen = max(lease.generation, lease.seen_generation, highest.get(lease.queue, 0))
        lease.generation = seen + 1
        lease.holder = lease.queue
        lease.expires_at = now_s + duration_s
        lease.granted_to = None
        lease.confirmed_dead = False
        session.add(lease)
    session.flush()


def highest_generations(memories: list[RecoveryRequest]) -> dict[str, int]:
    """Return, by queue, the highest generation that any node remembers."""
    highest: dict[str, int] = {}
    for memory in memories:
        pairs = list(memory.generations.items())
        pairs += [(receipt.queue, receipt.generation) for receipt in memory.receipts]
        for queue, generation in pairs:
            highest[queue] = max(generation, highest.get(queue, 0))
    return highest


def _merge_receipts(session: Session, node: str, remembered: tuple[RememberedReceipt, ...]) -> None:
    for receipt in remembered:
        row = session.get(ReceiptRow, receipt.number)
        if row is not None and row.holder != receipt.holder:
            _show_conflict(session, node, row, receipt)
            continue
        if row is None:
            row = _new_receipt(session, receipt)
        elif receipt.holder == node:
            row.queue, row.generation = receipt.queue, receipt.generation
        missing = set(receipt.ids) - receipts.ids_of(session, row.number)
        receipts.add_ids(session, row.number, missing)
        row.messages = len(receipts.ids_of(session, row.number))
        session.add(row)
        session.flush()


def _new_receipt(session: Session, receipt: RememberedReceipt) -> ReceiptRow:
    row = ReceiptRow(
        number=receipt.number,
        queue=receipt.queue,
        generation=receipt.generation,
        holder=receipt.holder,
        messages=0,
        committed_at=read_clock_s(session),
    )
    session.add(row)
    session.flush()
    return row


def _show_conflict(
    session: Session, node: str, row: ReceiptRow, receipt: RememberedReceipt
) -> None:
    add_event(
        session,
        "receipt-conflict",
        f"{node} remembers receipt {row.number} as {receipt.holder}'s; here it is {row.holder}'s.",
        node=node,
        data={"number": row.number, "messages": len(receipt.ids)},
    )
