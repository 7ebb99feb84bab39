"""Which revision of the policy each node has in force, and what was wrong with a newer one."""

from __future__ import annotations

from collections.abc import Iterable

from fastapi import APIRouter
from pydantic import BaseModel, Field

from controlplane.api.mail_security.views import PREFIX
from controlplane.api.permissions import READ
from controlplane.store.engine import ReadSession
from controlplane.store.policy_nodes import NodePolicy, read_nodes
from controlplane.store.policy_revision import read_revision

router = APIRouter(prefix=f"{PREFIX}/nodes", tags=["mail-security"])


class PolicyNodeView(BaseModel):
    """One node's policy hook."""

    node: str
    revision: int | None = Field(description="In force there; null: none, or it never asked.")
    is_current: bool = Field(description="It has the newest revision.")
    problem: str = Field(description="Why it has no newer one, or what it left out.")
    seen_s: float | None = Field(
        description="How long ago its hook last asked, within 20 s; null: never."
    )


class PolicyNodes(BaseModel):
    """All nodes, and what they should have."""

    revision: int = Field(description="The newest one.")
    nodes: list[PolicyNodeView]


@router.get("", dependencies=[READ])
def list_policy_nodes(session: ReadSession) -> PolicyNodes:
    """Show which node has which revision."""
    revision = read_revision(session)
    return PolicyNodes(revision=revision, nodes=node_views(read_nodes(session), revision))


def node_views(nodes: Iterable[NodePolicy], newest: int) -> list[PolicyNodeView]:
    """Return nodes as they are shown; `newest` is the revision that they should have."""
    return [PolicyNodeView(**vars(one), is_current=one.revision == newest) for one in nodes]
