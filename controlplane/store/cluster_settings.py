"""The settings that all nodes of a cluster share, as administrators read and write them."""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from typing import Any, Final

from pydantic import Field, field_validator

from controlplane.core.spec import (
    InetProtocols,
    MiltersSpec,
    QueueSpec,
    SenderAction,
    Spec,
    VrrpSpec,
)
from nodeagent.core.contract import Timings

NOT_RENDERED: Final = frozenset({"replication_mode", "agent_url"})
"""Settings that no file of a node is rendered from: they are no part of a `ClusterSpec`."""
LAST_PORT: Final = 65_535
_URL: Final = re.compile(r"https://(\[[0-9a-fA-F:.]+\]|[A-Za-z0-9.-]+)(:[0-9]{1,5})?/?")


class ReplicationMode(StrEnum):
    """How the queue reaches the standby; INTERVAL pushes every `push_interval_s` seconds."""

    INTERVAL = "interval"


class ClusterSettings(Spec):
    """Everything of a `ClusterSpec` that is no list, and how the queue is replicated."""

    name: str = Field(default="relay", description="What this cluster is called.")
    domain: str = Field(default="relay.internal", description="Postfix's mydomain.")
    replication_mode: ReplicationMode = Field(
        default=ReplicationMode.INTERVAL, description="How the queue reaches the standby."
    )
    sender_default: SenderAction = Field(
        default=SenderAction.ALLOWED, description="For sender domains without a policy."
    )
    sender_default_reply_text: str = Field(
        default="", description='After "550 5.7.1" when the default is blocked.'
    )
    postmaster: str | None = Field(
        default=None, description="Who gets the nodes' own mail to postmaster, root and abuse."
    )
    message_size_limit_bytes: int = Field(default=52_428_800, description="Largest message.")
    agent_url: str | None = Field(
        default=None,
        max_length=300,
        description="Where new nodes reach the control plane, https://HOST:PORT; null: where "
        "whoever makes their token does. An enrolled node keeps the URL that it enrolled at.",
    )
    inet_protocols: InetProtocols = Field(
        default=InetProtocols.AUTO, description="Which IP versions Postfix uses."
    )
    queue: QueueSpec = Field(default_factory=QueueSpec, description="Retries and lifetimes.")
    vrrp: VrrpSpec = Field(default_factory=VrrpSpec, description="How fast the VIP moves.")
    milters: MiltersSpec = Field(
        default_factory=MiltersSpec, description="The mail filters that Postfix asks."
    )
    timings: Timings = Field(default_factory=Timings, description="Leases and pushes.")

    @field_validator("agent_url")
    @classmethod
    def _is_a_place(cls, value: str | None) -> str | None:
        if value is None:
            return None
        found = _URL.fullmatch(value)
        if found is None or not 0 < int((found[2] or ":443")[1:]) <= LAST_PORT:
            raise ValueError("The URL has to read https://HOST or https://HOST:PORT.")
        return value.rstrip("/")


def merge_settings(settings: ClusterSettings, changes: Mapping[str, Any]) -> ClusterSettings:
    """Return `settings` with `changes` put in; sections are merged, not replaced (RFC 7396)."""
    merged = settings.model_dump(mode="json")
    for name, value in changes.items():
        is_section = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = {**merged[name], **value} if is_section else value
    return ClusterSettings.model_validate(merged)
