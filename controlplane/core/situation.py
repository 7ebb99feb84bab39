"""The state of a cluster as it is known at one moment: what the overview, metrics and rules show.

Theory of operation. A node that has not reported for one lease duration may be anything: its last
report stays readable, but `is_fresh` is False and nothing of it may be called the present. Ages
change without anything having happened, so moments are kept instead, and those that merely come
anew with each report take no part in comparing: two situations are equal while nothing happened.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from nodeagent.core.contract import QueueCounts, Role, SwitchoverWish, VrrpState

WAITING_PLACES = ("incoming", "active", "deferred", "hold", "pending")
"""Where a node's own mail waits, in the order in which it is shown."""


@dataclass(frozen=True)
class KnownPush:
    """The last push of one node to one peer."""

    peer: str
    generation: int
    sequence: int
    messages: int
    sent: int
    freeze_ms: float
    at_s: float = field(compare=False)  # when its snapshot was taken


@dataclass(frozen=True)
class KnownMirror:
    """A copy of a peer's queue that a node keeps."""

    queue: str
    generation: int
    sequence: int
    messages: int


@dataclass(frozen=True)
class KnownFlow:
    """Mail since the agent's start; None where that is not known."""

    accepted: int | None
    delivered: int | None
    deferrals: int | None
    bounced: int | None
    rejected: int | None


@dataclass(frozen=True)
class KnownDisk:
    """The file system of a node's queue; None is what the node did not say.

    Free is what Postfix may use (statvfs(3): `f_bavail`, `f_favail`). Some file systems make inodes
    as they are needed and have no number of them.
    """

    free_bytes: int | None = None
    size_bytes: int | None = None
    free_inodes: int | None = None
    inodes: int | None = None

    @property
    def free_share(self) -> float | None:
        """The smaller of the free shares of space and of inodes, 0 to 1; None: neither is known."""
        pairs = ((self.free_bytes, self.size_bytes), (self.free_inodes, self.inodes))
        return min((free / size for free, size in pairs if free is not None and size), default=None)


@dataclass(frozen=True)
class KnownReport:
    """What a node said last, without what changes at each word."""

    role: Role
    vrrp: VrrpState
    holds_vips: tuple[str, ...] | None
    is_proven: bool
    generation: int
    queue: QueueCounts
    flow: KnownFlow | None = field(compare=False)
    pushes: tuple[KnownPush, ...]
    mirrors: tuple[KnownMirror, ...]
    config_version: int | None
    config_failed_version: int | None
    config_error: str | None
    postfix_running: bool | None
    freezer: str
    rule: str = field(compare=False)
    agent_version: str
    clock_offset_s: float | None = field(default=None, compare=False)
    """How far the node's clock was ahead of the database's; the report's way is part of it."""
    disk: KnownDisk = field(default_factory=KnownDisk, compare=False)

    @property
    def waiting(self) -> int | None:
        """How many messages wait on the node; None when a place could not be counted."""
        counts = [getattr(self.queue, place) for place in WAITING_PLACES]
        return None if None in counts else sum(counts)


@dataclass(frozen=True)
class KnownRotation:
    """A node's SSH key that shall be replaced; `reason` is what the node said last of its wait."""

    asked_at_s: float
    reason: str | None = None


@dataclass(frozen=True)
class KnownNode:
    """One node as it is wanted, and what is known of it."""

    name: str
    address: str
    is_enrolled: bool = False
    is_struck_off: bool = False
    is_maintenance: bool = False
    assigned_version: int | None = None
    is_fresh: bool = False
    is_late: bool = False
    report: KnownReport | None = None
    rotation: KnownRotation | None = None
    policy_problem: str = ""  # what its policy hook says is wrong, while the policy is on
    seen_at_s: float | None = field(default=None, compare=False)

    @property
    def present(self) -> KnownReport | None:
        """The report as far as it may be called the present."""
        return self.report if self.is_fresh else None


@dataclass(frozen=True)
class KnownLease:
    """The lock on one node's queue."""

    queue: str
    holder: str
    generation: int
    is_held: bool
    granted_to: str | None = None
    confirmed_dead: bool = False
    seen_generation: int = 0
    expires_at_s: float = field(default=0.0, compare=False)


@dataclass(frozen=True)
class Adoption:
    """A receipt whose mail is not yet in its holder's live queue."""

    queue: str
    holder: str
    generation: int
    messages: int
    committed_at_s: float


@dataclass(frozen=True)
class Happening:
    """How often an event came from a node lately."""

    kind: str
    node: str
    count: int
    last_at_s: float


@dataclass(frozen=True)
class Situation:
    """Everything that is known of the cluster at `now_s`, by the database's clock."""

    now_s: float = field(compare=False)
    cluster: str
    lease_duration_s: float
    push_interval_s: float
    vips: tuple[str, ...] = ()
    nodes: tuple[KnownNode, ...] = ()
    leases: tuple[KnownLease, ...] = ()
    switchover: SwitchoverWish | None = None
    switchover_at_s: float | None = None
    adoptions: tuple[Adoption, ...] = ()
    is_recovering: bool = False
    awaited: tuple[str, ...] = ()  # nodes that have not reported what they remember
    certificate_ends_at_s: float | None = None
    certificate_is_own: bool = False
    has_first_password: bool = False
    waited_before: tuple[tuple[str, int], ...] = field(default=(), compare=False)
    happenings: tuple[Happening, ...] = ()
    traced: tuple[tuple[str, float], ...] = field(default=(), compare=False)  # node, newest batch

    def holders_of(self, vip: str) -> tuple[str, ...]:
        """Return the nodes that say that they hold a VIP.

        Where several say so, one whose reports have stopped coming has said it earlier: until it
        counts as silent, a host that lost its power would be shown beside the one that took over.
        """
        found = [
            node
            for node in self.nodes
            if node.present is not None and vip in (node.present.holds_vips or ())
        ]
        in_time = [node for node in found if not node.is_late]
        return tuple(node.name for node in in_time or found)

    def lease_of(self, node: str) -> KnownLease | None:
        """Return the lease of a node's queue, None when there is none."""
        return next((lease for lease in self.leases if lease.queue == node), None)
