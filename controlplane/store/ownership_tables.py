"""Tables of who owns which mail: leases, receipts, the nodes' keys and reports, this instance.

Times here are floats, seconds since 1970 by the database's clock (`controlplane.store.clock`),
because leases are compared and extended inside SQL. A node is named by its name everywhere.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import JSON, Column, Float, Index
from sqlmodel import Field, SQLModel

INSTANCE_ID = 1
"""The instance is a single row with this id."""


class InstanceRow(SQLModel, table=True):
    """Which database this is; a restore gives it a new `instance_id` (section 4.9)."""

    __tablename__ = "instance"

    id: int = Field(default=INSTANCE_ID, primary_key=True)
    instance_id: str = Field(max_length=36)
    is_recovering: bool = False
    created_at: float = Field(sa_type=Float)


class LeaseRow(SQLModel, table=True):
    """The lock on one node's queue, named after the node (section 4.8)."""

    __tablename__ = "leases"

    queue: str = Field(primary_key=True, max_length=63)
    holder: str = Field(max_length=63)
    generation: int
    expires_at: float = Field(sa_type=Float)
    granted_to: str | None = Field(default=None, max_length=63)
    confirmed_dead: bool = False
    seen_generation: int = 0
    push_peer: str | None = Field(default=None, max_length=63)
    push_generation: int | None = None
    push_sequence: int | None = None
    push_messages: int | None = None
    push_at: float | None = Field(default=None, sa_type=Float)


class ReceiptRow(SQLModel, table=True):
    """One committed adoption; `number` puts all receipts of the cluster in one order."""

    __tablename__ = "receipts"
    __table_args__ = (Index("ix_receipts_key", "queue", "generation", "holder"),)

    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    queue: str = Field(max_length=63)
    generation: int
    holder: str = Field(max_length=63)
    messages: int
    is_done: bool = False
    committed_at: float = Field(sa_type=Float)
    done_at: float | None = Field(default=None, sa_type=Float)


class ReceiptIdRow(SQLModel, table=True):
    """One queue id that a receipt names."""

    __tablename__ = "receipt_ids"
    __table_args__ = {"sqlite_with_rowid": False}

    id: str = Field(primary_key=True, max_length=64)
    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})


class AgentRow(SQLModel, table=True):
    """An enrolled node agent: the public halves of its keys, and whether it still counts.

    `ssh_replace` is the SSH key that the node was asked to replace, until it shows another;
    `ssh_next_public_key` the one it has made for that.
    """

    __tablename__ = "agents"

    name: str = Field(primary_key=True, max_length=63)
    public_key_pem: str | None = None
    ssh_public_key: str | None = None
    ssh_next_public_key: str | None = None
    ssh_replace: str | None = None
    ssh_replace_at: float | None = Field(default=None, sa_type=Float)
    ssh_host_keys: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    enrolled_at: float | None = Field(default=None, sa_type=Float)
    revoked_at: float | None = Field(default=None, sa_type=Float)
    struck_off_at: float | None = Field(default=None, sa_type=Float)


class GivenKeyRow(SQLModel, table=True):
    """An SSH key that a user brought along for a node; sealed until the node uses it.

    `public_key` is "type base64". Once the private half has gone to its node it is None here.
    """

    __tablename__ = "given_ssh_keys"

    node: str = Field(primary_key=True, max_length=63)
    fingerprint: str = Field(primary_key=True, max_length=64)
    public_key: str
    private_sealed: str | None = None
    given_by: str = Field(max_length=64)
    given_at: float = Field(sa_type=Float)


class EnrolTokenRow(SQLModel, table=True):
    """A one-time enrolment token for one node; only its hash is kept."""

    __tablename__ = "enrol_tokens"

    token_sha256: str = Field(primary_key=True, max_length=64)
    node: str = Field(max_length=63, index=True)
    created_at: float = Field(sa_type=Float)
    expires_at: float = Field(sa_type=Float)
    used_at: float | None = Field(default=None, sa_type=Float)


class NodeReportRow(SQLModel, table=True):
    """The last report of one node (`NodeReport` as JSON) and when it came."""

    __tablename__ = "node_reports"

    node: str = Field(primary_key=True, max_length=63)
    seen_at: float = Field(sa_type=Float, index=True)
    report: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


class EventRow(SQLModel, table=True):
    """Something that happened on a node or here; `event_id` makes a repeated report harmless."""

    __tablename__ = "events"

    number: int | None = Field(default=None, primary_key=True)
    event_id: str = Field(max_length=64, unique=True)
    node: str | None = Field(default=None, max_length=63, index=True)
    kind: str = Field(max_length=64, index=True)
    text: str = Field(max_length=2000)
    data: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    happened_at: float = Field(sa_type=Float)
    received_at: float = Field(sa_type=Float, index=True)


class RecoveryReportRow(SQLModel, table=True):
    """What one node remembered (`RecoveryRequest` as JSON) for the instance that asks for it."""

    __tablename__ = "recovery_reports"

    instance_id: str = Field(primary_key=True, max_length=36)
    node: str = Field(primary_key=True, max_length=63)
    memory: dict[str, Any] = Field(sa_column=Column(JSON, nullable=False))
    received_at: float = Field(sa_type=Float)


class SwitchoverRow(SQLModel, table=True):
    """One planned switchover: asked for by an operator, carried out and reported by `source`."""

    __tablename__ = "switchovers"

    id: int | None = Field(default=None, primary_key=True)
    source: str = Field(max_length=63)
    destination: str = Field(max_length=63)
    requested_by: str = Field(max_length=64)
    requested_at: float = Field(sa_type=Float)
    finished_at: float | None = Field(default=None, sa_type=Float)
    is_ok: bool | None = None
    text: str = Field(default="", max_length=2000)
    stall_ms: float | None = Field(default=None, sa_type=Float)
    messages: int | None = None


class NodeTestRow(SQLModel):
    """What all tests have that a user asks for and `node` carries out and reports."""

    id: int | None = Field(default=None, primary_key=True)
    node: str = Field(max_length=63, index=True)
    requested_by: str = Field(max_length=64)
    requested_at: float = Field(sa_type=Float)
    finished_at: float | None = Field(default=None, sa_type=Float)
    is_ok: bool | None = None
    text: str = Field(default="", max_length=2000)


class RouteTestRow(NodeTestRow, table=True):
    """One try of a route.

    The route itself is read when the node asks, so that no credential is stored a second time.
    """

    __tablename__ = "route_tests"

    sender: str = Field(max_length=320)
    mail_from: str = Field(max_length=320)
    recipient: str = Field(max_length=320)
    lines: list[dict[str, Any]] = Field(
        default_factory=list, sa_column=Column(JSON, nullable=False)
    )


class PeerTestRow(NodeTestRow, table=True):
    """One test of the way from `node` to `peer`, with the steps that were reported so far."""

    __tablename__ = "peer_tests"

    peer: str = Field(max_length=63)
    lines: list[dict[str, Any]] = Field(
        default_factory=list, sa_column=Column(JSON, nullable=False)
    )


class NodeSetupRow(NodeTestRow, table=True):
    """One setup of a host over SSH; `alive_at` is when the process that does it last noted it."""

    __tablename__ = "node_setups"

    address: str = Field(max_length=64)
    port: int
    ssh_user: str = Field(max_length=32)
    host_key: str = Field(max_length=64)
    alive_at: float = Field(sa_type=Float)
    is_cancelled: bool = False
    lines: list[dict[str, Any]] = Field(
        default_factory=list, sa_column=Column(JSON, nullable=False)
    )
