"""Tables of what an administrator wants: the cluster, its nodes and VIPs, and where mail may go."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import JSON, Column
from sqlmodel import Field, SQLModel

from controlplane.store.columns import UtcTime, utc_now

CLUSTER_ID = 1
"""Cluster settings and the TLS certificate are single rows with this id."""


class ClusterRow(SQLModel, table=True):
    """The settings that all nodes share, and a counter that every change of the cluster raises."""

    __tablename__ = "cluster"

    id: int = Field(default=CLUSTER_ID, primary_key=True)
    revision: int = 0
    settings: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))


class NodeRow(SQLModel, table=True):
    """One relay host as the administrator wants it; what it says of itself is kept elsewhere.

    `ssh_pins` are host keys that users vouch for or revoked (`host_keys`).
    """

    __tablename__ = "nodes"

    name: str = Field(primary_key=True, max_length=63)
    address: str = Field(max_length=64)
    prefix_len: int | None = None
    interface: str = Field(max_length=15)
    vrrp_priority: int
    cluster_mode: str = Field(max_length=16)
    ssh_user: str = Field(max_length=32)
    ssh_port: int
    hostname: str | None = Field(default=None, max_length=255)
    is_maintenance: bool = False
    assigned_version: int | None = None
    ssh_pins: list[dict[str, Any]] = Field(
        default_factory=list, sa_column=Column(JSON, nullable=False)
    )


class VipRow(SQLModel, table=True):
    """One virtual address and the VRRP router that carries it."""

    __tablename__ = "vips"

    address: str = Field(primary_key=True, max_length=64)
    virtual_router_id: int
    prefix_len: int | None = None
    interface: str | None = Field(default=None, max_length=15)


class RecipientDomainRow(SQLModel, table=True):
    """A domain that mail is relayed to; without a next hop its MX decides."""

    __tablename__ = "recipient_domains"

    name: str = Field(primary_key=True, max_length=255)
    next_hop: str | None = Field(default=None, max_length=255)
    port: int
    tls_mode: str = Field(max_length=16)


class SenderPolicyRow(SQLModel, table=True):
    """Whether a sender domain may send through this relay, and what it is told if not."""

    __tablename__ = "sender_policies"

    domain: str = Field(primary_key=True, max_length=255)
    action: str = Field(max_length=16)
    reply_text: str


class RouteRow(SQLModel, table=True):
    """Where mail of one sender domain or address goes; the password is encrypted."""

    __tablename__ = "routes"

    sender: str = Field(primary_key=True, max_length=320)
    next_hop: str = Field(max_length=255)
    port: int
    tls_mode: str = Field(max_length=16)
    username: str | None = None
    password_sealed: str | None = None


class TrustedNetworkRow(SQLModel, table=True):
    """Clients in this network may relay to any domain."""

    __tablename__ = "trusted_networks"

    network: str = Field(primary_key=True, max_length=64)


class CertificateRow(SQLModel, table=True):
    """The TLS certificate of SMTP, and of the GUI when uploaded; the private key is encrypted.

    `is_own`: made by the control plane itself, because nobody has uploaded one.
    """

    __tablename__ = "certificate"

    id: int = Field(default=CLUSTER_ID, primary_key=True)
    certificate_pem: str
    key_sealed: str
    is_own: bool = False
    uploaded_at: datetime = Field(default_factory=utc_now, sa_type=UtcTime)


class ConfigVersionRow(SQLModel, table=True):
    """One applied configuration: numbered by its id, never changed afterwards."""

    __tablename__ = "config_versions"

    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    sha256: str = Field(max_length=64)
    author: str = Field(max_length=64)
    reason: str = Field(default="", max_length=500)
    restored_from: int | None = None
    revision: int
    created_at: datetime = Field(default_factory=utc_now, sa_type=UtcTime)


class ConfigFilesRow(SQLModel, table=True):
    """All files of one version for one node, encrypted: they hold credentials and TLS keys."""

    __tablename__ = "config_files"

    version: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    node: str = Field(primary_key=True, max_length=63)
    sha256: str = Field(max_length=64)
    files_sealed: str
