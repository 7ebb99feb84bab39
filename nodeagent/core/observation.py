"""What the agent has seen at the start of a tick: one frozen value, read once, complete.

`None` means "could not be read" everywhere. The rules treat it as unknown, and unknown is never
permission. All times are seconds; ages and remainders are computed by `observe`, so that `decide`
needs no clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from nodeagent.core.contract import ClusterView, LeaseView, Role, Timings, VrrpState
from nodeagent.core.lease import retired_keep_s


class AdoptionStep(StrEnum):
    """How far an adoption has got; each step is on disk before the next one begins."""

    DECIDED = "decided"  # promises for this queue are refused from here on
    LEASED = "leased"  # the queue's lease is ours at `generation`
    LISTED = "listed"  # the receipt is on the local disk
    COMMITTED = "committed"  # the control plane has it: the mail is ours
    PLACED = "placed"  # every file is in the live queue


class SwitchoverStep(StrEnum):
    """How far the source of a switchover has got."""

    HANDED = "handed"  # last push done, queue pending, lease granted; the VIP is being given up
    RELEASED = "released"  # the VIP has left this node


@dataclass(frozen=True)
class Adoption:
    """The adoption that this node is in; one at a time."""

    queue: str
    step: AdoptionStep
    generation: int = 0


@dataclass(frozen=True)
class Switchover:
    """The switchover whose source this node is; `id` is the control plane's."""

    id: int
    destination: str
    step: SwitchoverStep


@dataclass(frozen=True)
class RetiredView:
    """Own mail that a receipt gave to another node; negative where the wall clock has jumped."""

    receipt: int
    age_s: float  # since the last of it was put there


@dataclass(frozen=True)
class GuardView:
    """The lease guard's answer: whether old mail is proved ours, and whether some is set aside."""

    is_proven: bool
    remaining_s: float
    generation: int
    has_pending: bool
    retired: tuple[RetiredView, ...] = ()


@dataclass(frozen=True)
class MirrorView:
    """The mirror of a peer's queue on this node."""

    queue: str
    messages: int
    promised_s: float  # how long this node has still promised not to adopt it; 0: not at all


@dataclass(frozen=True)
class ConfigState:
    """Which config version is live here, and which one was refused."""

    live_version: int | None = None
    failed_version: int | None = None
    failed_reason: str | None = None


def vrrp_state(
    told: VrrpState,
    holds_vips: tuple[str, ...] | None,
    *,
    is_running: bool | None,
    is_fault_set: bool,
) -> VrrpState:
    """Return keepalived's state: as its fifo told it, else as the addresses show it.

    keepalived (2.2.7) writes to its fifo at a change only, so an agent that starts later has to
    infer. What a killed keepalived said last is not true any more, and with the track file set a
    missing VIP does not tell BACKUP from FAULT: both are UNKNOWN.
    """
    if is_running is False:
        return VrrpState.UNKNOWN
    if told is not VrrpState.UNKNOWN:
        return told
    if is_running is None or holds_vips is None:
        return VrrpState.UNKNOWN
    if holds_vips:
        return VrrpState.MASTER
    return VrrpState.UNKNOWN if is_fault_set else VrrpState.BACKUP


@dataclass(frozen=True)
class Observation:
    """Everything that `decide` may know in one tick."""

    node: str
    guard: GuardView | None
    view: ClusterView | None  # the last one known, however old
    view_age_s: float | None  # None: no answer since the agent started
    holds_vips: tuple[str, ...] | None
    vrrp: VrrpState = VrrpState.UNKNOWN
    mirrors: tuple[MirrorView, ...] = ()
    adoption: Adoption | None = None
    switchover: Switchover | None = None
    start_grace_s: float = 0.0  # what is left of the promise length after a start (section 4.7)
    push_age_s: float | None = None  # since the last complete push to every peer
    is_job_running: bool = False
    is_fault_set: bool = False
    is_keepalived_running: bool | None = None
    config: ConfigState = field(default_factory=ConfigState)
    ssh_files_current: bool = True
    is_instance_known: bool = True  # has this control plane instance what we remember?
    removable_receipts: tuple[int, ...] = ()  # done for long enough, says the last answer

    @property
    def timings(self) -> Timings:
        """The cluster's timings, defaults until a view is known."""
        return self.view.timings if self.view is not None else Timings()

    @property
    def fresh_view(self) -> ClusterView | None:
        """The view, if it was read recently enough to act on what it says of others."""
        if self.view is None or self.view_age_s is None:
            return None
        return self.view if self.view_age_s <= self.timings.lease_renew_deadline_s else None

    def lease_of(self, queue: str) -> LeaseView | None:
        """Return the lease of `queue` in the fresh view."""
        view = self.fresh_view
        leases = view.leases if view is not None else ()
        return next((lease for lease in leases if lease.queue == queue), None)

    @property
    def kept_receipts(self) -> tuple[int, ...]:
        """Receipts whose retired mail has lain here for `retired_keep_days`, by the own clock."""
        if self.guard is None:
            return ()
        keep_s = retired_keep_s(self.timings)
        return tuple(one.receipt for one in self.guard.retired if one.age_s >= keep_s)

    @property
    def is_proven(self) -> bool:
        """Whether the node's own old mail is proved to be its own right now."""
        return self.guard is not None and self.guard.is_proven

    @property
    def is_settled(self) -> bool:
        """Own lease proved and nothing set aside: the state in which others' mail may be taken."""
        return self.guard is not None and self.guard.is_proven and not self.guard.has_pending

    @property
    def role(self) -> Role:
        """Our role for this node (section 3)."""
        if not self.is_proven:
            return Role.FENCED
        return Role.ACTIVE if self.holds_vips else Role.STANDBY
