"""What an operator does to a node: enrol it, revoke it, strike it off, declare it dead."""

from __future__ import annotations

import shlex
from datetime import UTC, datetime
from typing import Final

from fastapi import APIRouter, Request, status
from pydantic import BaseModel, Field
from sqlmodel import Session

from controlplane.api.cluster_access import NOT_FOUND, NodeKey, StoreDep
from controlplane.api.permissions import AdminCaller
from controlplane.api.user_auth import SettingsDep
from controlplane.errors import Conflict, NotFound
from controlplane.store import agents, audit, leases
from controlplane.store.cluster import read_settings
from controlplane.store.cluster_settings import ClusterSettings
from controlplane.store.cluster_tables import NodeRow
from controlplane.store.instance import strike_off
from controlplane.store.queue_actions import give_up_node
from controlplane.store.queue_lists import forget_list
from controlplane.store.reports import add_event
from controlplane.tls import ca_fingerprint
from nodeagent.core.contract import LeaseView

router = APIRouter(prefix="/api/v1/nodes", tags=["nodes"], responses=NOT_FOUND)

AGENT: Final = "/opt/mail-relay/bin/relay-agent"
"""Where docs/howto/install-on-two-hosts.md puts it."""


class EnrolmentToken(BaseModel):
    """A one-time token; it is shown this once."""

    node: str
    token: str = Field(description="Give it to `relay-agent enrol` on the node.")
    expires_at: datetime
    url: str = Field(description="Where the node reaches the control plane: `agent_url`, if set.")
    command: str = Field(description="What to run on the node, as root, to enrol it and start it.")


@router.post("/{name}/enrolment-token", status_code=status.HTTP_201_CREATED)
def create_token(
    name: NodeKey, request: Request, caller: AdminCaller, store: StoreDep, settings: SettingsDep
) -> EnrolmentToken:
    """Make a token that enrols this node once within 24 hours; an older one stops working."""
    fingerprint = ca_fingerprint(settings.state_dir)
    with store.database.write() as session:
        _require_node(session, name)
        issued = agents.issue_token(session, name, fingerprint)
        expires_at = datetime.fromtimestamp(issued.expires_at, UTC)
        after = {"expires_at": expires_at.isoformat()}
        audit.record(session, caller.actor, "node.enrolment-token", name, after=after)
        url = agent_url(read_settings(session), request)
    enrol = [AGENT, "enrol", "--url", url, "--token", issued.text, "--node", name]
    return EnrolmentToken(
        node=name,
        token=issued.text,
        expires_at=expires_at,
        url=url,
        command=f"{shlex.join(enrol)} && systemctl enable --now relay-agent",
    )


def agent_url(settings: ClusterSettings, request: Request) -> str:
    """Return where new nodes reach the control plane: as set, else as this request did."""
    return settings.agent_url or f"https://{request.url.netloc}"


@router.post("/{name}/revoke-key", status_code=status.HTTP_204_NO_CONTENT)
def revoke_key(name: NodeKey, caller: AdminCaller, store: StoreDep) -> None:
    """Refuse every further request of this node until it is enrolled anew."""
    with store.database.write() as session:
        agents.revoke(session, name)
        audit.record(session, caller.actor, "node.revoke-key", name)
        add_event(session, "key-revoked", f"The key of {name} was revoked.", node=name)


@router.post("/{name}/strike", status_code=status.HTTP_204_NO_CONTENT)
def strike_node(name: NodeKey, caller: AdminCaller, store: StoreDep) -> None:
    """Give up on a node that is gone for good.

    A control plane restored from a backup waits for every node's memory; this ends the wait for one
    that will never answer. What only that node remembered is lost with it.
    """
    with store.database.write() as session:
        _require_node(session, name)
        strike_off(session, name, read_settings(session).timings.lease_duration_s)
        forget_list(session, name)
        give_up_node(session, name)
        audit.record(session, caller.actor, "node.strike", name)


@router.post("/{name}/confirm-dead")
def confirm_dead(name: NodeKey, caller: AdminCaller, store: StoreDep) -> LeaseView:
    """Vouch that this host is off, so that its peer adopts its queue without waiting.

    Safe exactly when the host is really off: a host that still runs delivers what the peer adopts,
    and each such message goes out twice.
    """
    with store.database.write() as session:
        _require_node(session, name)
        before = leases.read_lease(session, name)
        if before is None:
            raise Conflict(f"{name} was never enrolled; it has no queue to adopt.")
        after = leases.confirm_dead(session, name)
        if after is None:
            raise Conflict(_why_not_dead(before))
        audit.record(
            session,
            caller.actor,
            "node.confirm-dead",
            name,
            before=before.model_dump(mode="json"),
            after=after.model_dump(mode="json"),
        )
        text = f"{caller.actor.name} confirmed that {name} is off; its queue may be adopted."
        add_event(session, "confirmed-dead", text, node=name)
    return after


def _why_not_dead(lease: LeaseView) -> str:
    if lease.holder != lease.queue:
        return f"{lease.holder} already holds the lease of {lease.queue}'s queue."
    return "No lease can change hands now: the control plane is recovering or too old."


def _require_node(session: Session, name: str) -> None:
    if session.get(NodeRow, name) is None:
        raise NotFound(f"There is no node {name}.")
