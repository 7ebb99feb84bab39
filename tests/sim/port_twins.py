"""The small ports' twins: ledger, mirrors and host, over the simulated disk."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nodeagent.core import contract as wire
from nodeagent.core.observation import Adoption, Switchover, SwitchoverStep
from nodeagent.core.push_rules import after_adoption
from nodeagent.errors import BrokenState, Refused

if TYPE_CHECKING:
    from tests.sim.agent_process import AgentProcess
    from tests.sim.node import Node


class SimLedger:
    """`adapters.ledger.Ledger` without files."""

    def __init__(self, node: Node) -> None:
        self._disk = node.disk.ledger

    def adoption(self) -> Adoption | None:
        """Return the adoption under way."""
        return self._disk.adoption

    def note_adoption(self, adoption: Adoption | None) -> None:
        """Persist an adoption's step, or its end."""
        self._disk.adoption = adoption

    def last_switchover_id(self) -> int:
        """Return the highest switchover id seen as source."""
        return self._disk.last_switchover_id

    def note_switchover(self, id: int, destination: str, step: SwitchoverStep | None) -> None:  # noqa: A002
        """Persist a switchover's step, or its end."""
        self._disk.last_switchover_id = id
        self._disk.switchover = None if step is None else Switchover(id, destination, step)

    def generations(self) -> dict[str, int]:
        """Return the highest generation seen for each queue."""
        return dict(self._disk.generations)

    def note_generation(self, queue: str, generation: int) -> None:
        """Remember a generation if it is the highest."""
        known = self._disk.generations.get(queue, 0)
        self._disk.generations[queue] = max(known, generation)

    def receipts(self) -> tuple[wire.RememberedReceipt, ...]:
        """Return all receipts committed or honoured here."""
        return tuple(self._disk.receipts.values())

    def note_receipt(self, receipt: wire.RememberedReceipt) -> None:
        """Remember a receipt; ids of the same number add up."""
        known = self._disk.receipts.get(receipt.number)
        if known is not None:
            ids = tuple(sorted({*known.ids, *receipt.ids}))
            receipt = known.model_copy(update={"ids": ids})
        self._disk.receipts[receipt.number] = receipt

    def note_instance(self, instance_id: str) -> None:
        """Remember a control plane instance that knows what we know."""
        self._disk.instances.add(instance_id)


class SimMirrors:
    """`adapters.mirrors.Mirrors` with sets for directories."""

    def __init__(self, node: Node) -> None:
        self._disk = node.disk

    def write_receipt(self, queue: str, generation: int) -> tuple[str, ...]:
        """Raise the lowest generation, then list every message."""
        mirror = self._disk.mirror(queue)
        if mirror.receipt is not None:
            if mirror.receipt[0] != generation:
                raise Refused("An adoption at another generation is not finished.")
            return tuple(sorted(mirror.receipt[1]))
        if generation < mirror.state.floor_generation:
            raise Refused("A higher generation has been seen here.")
        self.raise_generation(queue, generation)
        mirror.receipt = (generation, frozenset(mirror.ids))
        return tuple(sorted(mirror.ids))

    def raise_generation(self, queue: str, generation: int) -> None:
        """Let nothing older in any more."""
        mirror = self._disk.mirror(queue)
        if generation > mirror.state.lowest_generation:
            mirror.state = after_adoption(mirror.state, generation, len(mirror.ids))

    def receipt(self, queue: str) -> tuple[int, tuple[str, ...]] | None:
        """Return the unfinished receipt as (generation, ids)."""
        receipt = self._disk.mirror(queue).receipt
        return None if receipt is None else (receipt[0], tuple(sorted(receipt[1])))

    def narrow_receipt(self, queue: str, excluded: tuple[str, ...]) -> None:
        """Take ids that are another node's by now out of the receipt and out of the mirror."""
        mirror = self._disk.mirror(queue)
        if mirror.receipt is not None:
            mirror.ids -= set(excluded)
            mirror.receipt = (mirror.receipt[0], mirror.receipt[1] - set(excluded))

    def drop_receipt(self, queue: str) -> None:
        """Forget a receipt that was never committed; the mirror keeps its files."""
        self._disk.mirror(queue).receipt = None

    def finish_receipt(self, queue: str) -> None:
        """Forget a receipt whose files are all in the live queue."""
        mirror = self._disk.mirror(queue)
        if mirror.receipt is None:
            return
        if mirror.receipt[1] & mirror.ids:
            raise BrokenState("Messages of the receipt are still in the mirror.")
        self.close(queue, mirror.receipt[0])
        mirror.receipt = None

    def close(self, queue: str, generation: int) -> None:
        """Let no push in that was computed against what was here before."""
        mirror = self._disk.mirror(queue)
        mirror.state = after_adoption(mirror.state, generation, len(mirror.ids))


class SimHost:
    """Postfix's flush, keepalived's track file, events and fault points."""

    def __init__(self, process: AgentProcess) -> None:
        self._process = process
        self._node = process.node

    def flush(self) -> None:
        """Do nothing: the schedule decides what is delivered when."""

    def set_fault(self, *, is_fault: bool) -> None:
        """Put keepalived into FAULT, or let it out."""
        self._node.run.is_fault_set = is_fault
        self._node.world.vrrp_changed()

    def drop_vips(self, vips: tuple[str, ...]) -> None:
        """Remove the VIP that a dead keepalived left behind."""
        self._node.holds_vip = self._node.holds_vip and not vips

    def write_ssh_files(self, peers: tuple[wire.PeerView, ...]) -> None:
        """Do nothing: keys are not simulated."""

    def apply_config(self, version: int) -> None:
        """Refuse: config files are not simulated."""
        raise Refused(f"There is no config version {version} here.")

    def event(self, kind: str, text: str) -> None:
        """Note an event in the trace."""
        self._node.note(kind, text)

    def fault_point(self, name: str) -> None:
        """Die or wait here if the world has armed this point."""
        self._process.point(name)

    def boot_time_s(self) -> float:
        """Return the node's own clock."""
        return self._node.boot_time_s()
