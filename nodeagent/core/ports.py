"""What `execute` needs of the outside world, as protocols.

The adapters have them, and so do the twins with which the simulator runs the same code on a virtual
clock.

Every call may raise `Refused` (understood and declined, nothing changed) or `Unreachable` (outcome
unknown); nothing else is expected of a working adapter but `BrokenState` and `ToolFailed`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from nodeagent.core import contract as wire
from nodeagent.core.guard_state import ProofOffer
from nodeagent.core.observation import Adoption, GuardView, SwitchoverStep


class ControlPlanePort(Protocol):
    """The calls of the REST API that actions make."""

    def reconcile(self, request: wire.ReconcileRequest) -> wire.ReconcileAnswer:
        """Acquire the own lease and learn who owns the pending mail, in one transaction."""

    def acquire(self, queue: str) -> wire.LeaseAnswer:
        """Acquire a peer's lease."""

    def grant(self, queue: str, generation: int, to: str) -> wire.LeaseAnswer:
        """Grant the own lease to a peer."""

    def release(self, queue: str, generation: int) -> wire.LeaseAnswer:
        """Give a lease back."""

    def commit_receipt(self, request: wire.ReceiptRequest) -> wire.ReceiptAnswer:
        """Commit a receipt; idempotent."""

    def finish_receipt(self, queue: str, generation: int) -> wire.ReceiptAnswer:
        """Mark a receipt as done; idempotent."""

    def recover(self, request: wire.RecoveryRequest) -> None:
        """Tell a restored control plane what this node remembers."""

    def report_switchover(self, result: wire.SwitchoverResult) -> None:
        """Report how a switchover ended."""


class GuardPort(Protocol):
    """The lease guard."""

    def status(self) -> tuple[GuardView, str]:
        """Return what it knows, and the name of its freezer."""

    def offer_proof(self, offer: ProofOffer) -> None:
        """Bring a proof."""

    def set_aside(self, reason: str) -> None:
        """Stop all delivery and make the queue pending."""

    def pending_ids(self) -> tuple[str, ...]:
        """Return the ids of pending messages."""

    def take_back_some(self) -> bool:
        """Move a batch of pending mail to where it belongs; True once nothing is pending."""

    def place_some(self, queue: str, generation: int) -> bool:
        """Move a batch of a receipt's files into the live queue; True once all are there."""

    def remove_retired_some(self, receipts: tuple[int, ...], older_than_s: float) -> bool:
        """Remove a batch of these receipts' retired mail if it is that old; True at the end."""


class MirrorsPort(Protocol):
    """The mirrors on this node; every call takes the mirror's lock."""

    def write_receipt(self, queue: str, generation: int) -> tuple[str, ...]:
        """Raise the lowest generation, then list every message; return the ids, on disk."""

    def receipt(self, queue: str) -> tuple[int, tuple[str, ...]] | None:
        """Return the unfinished receipt as (generation, ids)."""

    def narrow_receipt(self, queue: str, excluded: tuple[str, ...]) -> None:
        """Take ids that are another node's by now out of the receipt and out of the mirror."""

    def drop_receipt(self, queue: str) -> None:
        """Forget a receipt that was never committed; the mirror keeps its files."""

    def finish_receipt(self, queue: str) -> None:
        """Forget a receipt whose files are all in the live queue."""


class PromisesPort(Protocol):
    """Promises given to peers and the decision to adopt, which exclude each other."""

    def decide_to_adopt(self, queue: str, *, skip_waiting: bool) -> None:
        """Refuse promises for `queue` from now on; raises `Refused` while one is open."""

    def end_adoption(self, queue: str) -> None:
        """Allow promises for `queue` again."""


@dataclass(frozen=True)
class LastPush:
    """What a last push before a switchover did."""

    messages: int
    freeze_ms: float


class PeersPort(Protocol):
    """The other nodes, reached over SSH."""

    def push(self, peer: str, generation: int) -> None:
        """Snapshot what changed and push it."""

    def push_last(self, peer: str, generation: int, aside_reason: str) -> LastPush:
        """Drain, push, and set the queue aside at the end of the push's freeze."""

    def ask_promise(self, peer: str, length_s: float) -> bool:
        """Ask for the promise not to adopt our queue for `length_s`; False: refused."""


class LedgerPort(Protocol):
    """What must survive a crash of the agent."""

    def adoption(self) -> Adoption | None:
        """Return the adoption under way."""

    def note_adoption(self, adoption: Adoption | None) -> None:
        """Persist an adoption's step, or its end."""

    def last_switchover_id(self) -> int:
        """Return the highest switchover id seen as source."""

    def note_switchover(self, id: int, destination: str, step: SwitchoverStep | None) -> None:  # noqa: A002
        """Persist a switchover's step, or its end."""

    def generations(self) -> dict[str, int]:
        """Return the highest generation seen for each queue."""

    def note_generation(self, queue: str, generation: int) -> None:
        """Remember a generation if it is the highest."""

    def receipts(self) -> tuple[wire.RememberedReceipt, ...]:
        """Return all receipts committed or honoured here."""

    def note_receipt(self, receipt: wire.RememberedReceipt) -> None:
        """Remember a receipt."""

    def note_instance(self, instance_id: str) -> None:
        """Remember a control plane instance that knows what we know."""


class HostPort(Protocol):
    """This host's Postfix, keepalived and files."""

    def flush(self) -> None:
        """Have Postfix try all its mail now."""

    def set_fault(self, *, is_fault: bool) -> None:
        """Put keepalived into FAULT by its track file, or let it out."""

    def drop_vips(self, vips: tuple[str, ...]) -> None:
        """Remove addresses that a dead keepalived left behind."""

    def write_ssh_files(self, peers: tuple[wire.PeerView, ...]) -> None:
        """Write authorized_keys and known_hosts."""

    def apply_config(self, version: int) -> None:
        """Fetch, validate, swap in, reload and verify a config version."""

    def event(self, kind: str, text: str) -> None:
        """Note an event; it reaches the control plane with a later heartbeat."""

    def fault_point(self, name: str) -> None:
        """Die here if a test asked for it."""

    def boot_time_s(self) -> float:
        """Return the protocol's clock."""


@dataclass(frozen=True)
class Ports:
    """All of them together."""

    control_plane: ControlPlanePort
    guard: GuardPort
    mirrors: MirrorsPort
    promises: PromisesPort
    peers: PeersPort
    ledger: LedgerPort
    host: HostPort
