"""What a simulated node keeps, by what loses it: the disk, /run, and Postfix's processes.

The agent's own memory is lost with the agent (`agent_process`); `/run` and running deliveries are
lost with the host; the disk is never lost here.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nodeagent.core.contract import ClusterView, RememberedReceipt
from nodeagent.core.guard_state import GuardState
from nodeagent.core.observation import Adoption, Switchover
from nodeagent.core.promise_rules import PromiseState
from nodeagent.core.push_rules import MirrorState

Receipt = tuple[int, frozenset[str]]


@dataclass
class MirrorDisk:
    """The mirror of one peer's queue: its state, its messages, the receipt of an adoption."""

    state: MirrorState
    ids: set[str] = field(default_factory=set)
    receipt: Receipt | None = None
    quarantine: set[str] = field(default_factory=set)


@dataclass
class LedgerDisk:
    """The agent's small files."""

    adoption: Adoption | None = None
    switchover: Switchover | None = None
    last_switchover_id: int = 0
    generations: dict[str, int] = field(default_factory=dict)
    receipts: dict[int, RememberedReceipt] = field(default_factory=dict)
    instances: set[str] = field(default_factory=set)
    view: ClusterView | None = None


@dataclass
class Disk:
    """Everything that survives a power loss."""

    live: set[str] = field(default_factory=set)
    pending: set[str] = field(default_factory=set)
    retired: dict[str, int] = field(default_factory=dict)
    mirrors: dict[str, MirrorDisk] = field(default_factory=dict)
    ledger: LedgerDisk = field(default_factory=LedgerDisk)
    promises: PromiseState = field(default_factory=PromiseState)
    has_stopped_cleanly: bool = False

    def mirror(self, queue: str) -> MirrorDisk:
        """Return the mirror of a queue, made when it is first asked for."""
        return self.mirrors.setdefault(queue, MirrorDisk(MirrorState(queue)))


@dataclass
class Run:
    """What /run and the kernel hold: gone after a power loss."""

    boot_id: str
    guard: GuardState = field(default_factory=GuardState)
    is_fault_set: bool = False
