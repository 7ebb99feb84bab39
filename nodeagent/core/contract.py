"""The wire types that the node agent and the control plane exchange, one model a message.

Both sides import this module, `queue_contract` and the `*_wire` ones beside it, and nothing else of
one another. Times are seconds; `*_at` is a UTC timestamp of the control plane's database clock
unless a docstring says otherwise. `core.agent_api` lists the REST calls that carry them.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints

from nodeagent.core.names import (
    LARGEST_GENERATION,
    LARGEST_NUMBER,
    NODE_NAME_PATTERN,
    QUEUE_ID_PATTERN,
)

NodeName = Annotated[str, StringConstraints(pattern=NODE_NAME_PATTERN)]
QueueId = Annotated[str, StringConstraints(pattern=QUEUE_ID_PATTERN)]
Number = Annotated[int, Field(ge=0, le=LARGEST_NUMBER)]
Total = Annotated[int, Field(ge=0, lt=2**62)]
Generation = Annotated[int, Field(ge=0, le=LARGEST_GENERATION)]


class Wire(BaseModel):
    """Base of all messages: immutable, numbers finite; fields of a newer version are not read."""

    model_config = ConfigDict(frozen=True, extra="ignore", allow_inf_nan=False)


class VrrpState(StrEnum):
    """keepalived's own view of one VRRP instance (RFC 9568)."""

    MASTER = "MASTER"
    BACKUP = "BACKUP"
    FAULT = "FAULT"
    UNKNOWN = "UNKNOWN"


class Role(StrEnum):
    """Our role for a node: ACTIVE owns a VIP, FENCED has old mail that it may not touch."""

    ACTIVE = "ACTIVE"
    STANDBY = "STANDBY"
    FENCED = "FENCED"


class ReceiptState(StrEnum):
    """What the control plane knows of one adoption's receipt."""

    UNKNOWN = "unknown"
    COMMITTED = "committed"
    DONE = "done"


class Timings(Wire):
    """All durations of the ownership protocol; `lease.check_timings` says how they must fit."""

    lease_duration_s: float = Field(default=15.0, gt=0)
    lease_margin_s: float = Field(default=3.0, gt=0)
    lease_renew_deadline_s: float = Field(default=5.0, gt=0)
    lease_retry_s: float = Field(default=2.0, gt=0)
    push_interval_s: float = Field(default=5.0, gt=0)
    promise_s: float = Field(default=15.0, gt=0)
    retired_keep_days: int = Field(default=14, ge=1)


class LeaseView(Wire):
    """One queue's lease as one transaction of the control plane saw it."""

    queue: NodeName
    holder: NodeName
    generation: Generation
    remaining_s: float  # until expiry by the database's clock; not positive: expired or released
    granted_to: NodeName | None = None
    confirmed_dead: bool = False  # an operator vouched that the queue's own node is off (4.10)


class PeerView(Wire):
    """What a node must know of another to push to it, be pushed to, and trust its keys."""

    name: NodeName
    address: str
    ssh_user: str = "root"
    ssh_port: int = 22
    ssh_public_key: str | None = None
    ssh_next_public_key: str | None = None  # it will replace the other; both are to be let in
    ssh_host_keys: tuple[str, ...] = ()
    holds_vips: tuple[str, ...] = ()
    last_seen_s: float | None = None  # seconds since its last heartbeat; None: never


class SwitchoverWish(Wire):
    """An operator's request that `source` hands its queue and the VIP over to `destination`."""

    id: Number
    source: NodeName
    destination: NodeName


class ClusterView(Wire):
    """Everything of the control plane's state that an agent acts on, read in one transaction."""

    instance_id: str
    is_recovering: bool = False  # restored from a backup, waiting for all nodes (section 4.9)
    node: NodeName
    vips: tuple[str, ...] = ()
    timings: Timings = Timings()
    config_version: Number | None = None
    leases: tuple[LeaseView, ...] = ()
    peers: tuple[PeerView, ...] = ()
    switchover: SwitchoverWish | None = None
    is_maintenance: bool = False  # the operator wants this node off the VIP


class PushReport(Wire):
    """The last push from this node to one peer."""

    peer: NodeName
    generation: Generation
    sequence: Number
    age_s: float  # since its snapshot was taken
    messages: Number  # in the mirror afterwards
    sent: Number  # files sent in this push
    freeze_ms: float


class MirrorReport(Wire):
    """The mirror of one peer's queue that this node keeps."""

    queue: NodeName
    generation: Generation
    sequence: Number
    messages: Number


class QueueCounts(Wire):
    """Messages on this node by place; None where the directory could not be read."""

    incoming: Number | None = None
    active: Number | None = None
    deferred: Number | None = None
    hold: Number | None = None
    pending: Number | None = None
    retired: Number | None = None
    quarantined: Number | None = None


class MailFlow(Wire):
    """Mail since the agent's start, as Postfix logged it; None where that is not known."""

    accepted: Total | None = None
    delivered: Total | None = None  # recipients
    deferrals: Total | None = None  # tries for a recipient that were put off
    bounced: Total | None = None  # recipients; a message that expired counts once
    rejected: Total | None = None  # commands and messages that were refused


class NodeReport(Wire):
    """What a node reports of itself at each heartbeat (`reported_*` in the control plane)."""

    role: Role
    vrrp: VrrpState = VrrpState.UNKNOWN
    holds_vips: tuple[str, ...] | None = None  # None: could not be read
    is_proven: bool = False  # the lease guard holds an unexpired proof
    generation: Generation = 0
    queue: QueueCounts = QueueCounts()
    flow: MailFlow | None = None  # None: Postfix's log cannot be read
    pushes: tuple[PushReport, ...] = ()
    mirrors: tuple[MirrorReport, ...] = ()
    config_version: Number | None = None  # the version that is live
    config_failed_version: Number | None = None  # the last one that was refused here
    config_error: str | None = None  # and why, in one sentence
    rule: str = ""  # the rule that matched in the last tick
    agent_version: str = ""
    boot_id: str = ""
    postfix_running: bool | None = None
    freezer: str = ""
    clock: AwareDatetime | None = None  # the node's, as it made this report
    disk_space_bytes: tuple[Total, Total] | None = None  # free and all, where the queue is
    disk_inodes: tuple[Total, Total] | None = None  # likewise; None too where none are counted


class EventReport(Wire):
    """Something that happened on the node; kept there until the control plane acknowledged it."""

    id: str  # unique for ever (uuid4), so that a repeated report is stored once
    at: AwareDatetime  # the node's clock
    kind: str = Field(max_length=64)  # one of `core.event_kinds`, or an action's failure
    text: str = Field(max_length=2000)
    data: dict[str, str | int | float | bool | None] = {}


class ReceiptKey(Wire):
    """Which receipt is meant: after a restore, a number alone may have come to mean another one."""

    number: Number
    queue: NodeName
    generation: Generation
    holder: NodeName


class HeartbeatRequest(Wire):
    """One tick's report; with `renew` the node's own lease is renewed in the same transaction.

    `renew` extends an unexpired lease held at `generation`; one that is lost takes `reconcile`.
    """

    report: NodeReport
    events: tuple[EventReport, ...] = Field(default=(), max_length=200)
    renew: bool = False
    generation: Generation = 0
    ssh_public_key: str | None = None
    ssh_next_public_key: str | None = None
    ssh_host_keys: tuple[str, ...] = ()
    kept_receipts: tuple[ReceiptKey, ...] = ()  # their mail lies retired here for long enough
    known_peers: str | None = None  # the last answer's `peers_tag`: answer briefly (`core.brief`)


class HeartbeatAnswer(Wire):
    """The view; `renewed` is True only if the own lease was extended by this very request.

    `removable_receipts` are the numbers of those `kept_receipts` that have been done for
    `retired_keep_days` by the database's clock; of any other this answer says nothing.
    """

    view: ClusterView
    renewed: bool = False
    acknowledged_events: tuple[str, ...] = ()
    removable_receipts: tuple[int, ...] = ()
    route_test: Number | None = None  # a route that this node shall try, until its result is in
    peer_test: Number | None = None  # a peer that this node shall test, the same way
    ssh_replace: str | None = None  # the own public key that another shall replace
    ssh_replace_by: str | None = None  # a user's key that shall do so; None: one that is made here
    peers_tag: str = ""  # names the lasting facts of all peers, as they are now
    is_brief: bool = False  # the view's peers are those whose signs of life count, no others


class ReconcileRequest(Wire):
    """Acquire or renew the own lease, and ask in the same transaction who owns the pending mail."""

    pending_ids: tuple[QueueId, ...] = ()


class OwnedElsewhere(Wire):
    """A pending message that the last committed receipt naming it gives to another node.

    `queue` and `generation` are that receipt's: with them this node can tell a restored control
    plane of a receipt that it has only honoured.
    """

    id: QueueId
    receipt: Number
    owner: NodeName
    queue: NodeName
    generation: Generation


class ReconcileAnswer(Wire):
    """`lease` is None when it was refused; then nothing is permitted, whatever else it holds."""

    lease: LeaseView | None
    reason: str = ""  # one sentence when refused
    elsewhere: tuple[OwnedElsewhere, ...] = ()


class LeaseRequest(Wire):
    """Acquire, release or grant the lease of `queue`; `generation` as known (0 for acquire)."""

    queue: NodeName
    generation: Generation = 0
    to: NodeName | None = None  # grant: the receiving peer


class LeaseAnswer(Wire):
    """`lease` is the row after the statement, None when it was refused."""

    lease: LeaseView | None
    reason: str = ""


class ReceiptRequest(Wire):
    """What the sender adopts: queue, generation and every queue id of the mirror."""

    queue: NodeName
    generation: Annotated[Generation, Field(ge=1)]
    ids: tuple[QueueId, ...]


class ReceiptQuestion(Wire):
    """Asks about (or closes) the receipt for `queue` at `generation` of the asking node."""

    queue: NodeName
    generation: Annotated[Generation, Field(ge=1)]


class ReceiptAnswer(Wire):
    """The receipt's state; `number` orders all receipts of the cluster, None when there is none.

    After `receipt` UNKNOWN with a `reason` means: refused for good, the adoption is to be dropped.
    `excluded` are those of the request's ids that the receipt does not name, because an earlier
    adoption had given them to another node than the queue's: the mirror's copy of them is stale.
    """

    state: ReceiptState
    number: Number | None = None
    reason: str = ""
    excluded: tuple[QueueId, ...] = ()


class RememberedReceipt(ReceiptKey):
    """A receipt this node committed or honoured; `ids` are those that it knows of."""

    ids: tuple[QueueId, ...]


class RecoveryRequest(Wire):
    """What a node remembers, for a control plane restored from a backup (section 4.9)."""

    instance_id: str  # the new one, as seen in the view
    generations: dict[NodeName, Generation]
    receipts: tuple[RememberedReceipt, ...] = ()


class ConfigFile(Wire):
    """One rendered file; `mode` is octal text such as "0640", `owner` a user name."""

    path: str
    content: str
    mode: str = "0644"
    owner: str = "root"


class ConfigBundle(Wire):
    """All files of one config version for one node; `sha256` is that of `config_plan`."""

    version: Number
    sha256: str
    files: tuple[ConfigFile, ...]


class Refusal(Wire):
    """The body of every 4xx answer: one sentence, and one per field where fields are at fault.

    `reason` is a word for programs, where they must tell refusals of one status apart:
    `code-required` and `code-wrong` (401), `password-change-required` (403).
    """

    detail: str
    fields: dict[str, str] = {}
    reason: str | None = None


class SwitchoverResult(Wire):
    """How a switchover ended on its source: `ok` or one sentence why nothing was handed over."""

    id: Number
    ok: bool
    text: str = ""
    stall_ms: float | None = None
    messages: Number | None = None
