"""Where the policy hooks of the nodes ask, once a second, and fetch what they do not have."""

from __future__ import annotations

from typing import Any, Final

from fastapi import APIRouter, Request, Response
from sqlmodel import Session

from controlplane.api.agent_auth import NodeDep, Proof, SenderDep
from controlplane.api.cluster_access import NOT_FOUND
from controlplane.errors import Unauthenticated
from controlplane.store import agents, policy_counts, policy_nodes
from controlplane.store.crypto import SecretBoxDep
from controlplane.store.engine import RATES_LOCK, DatabaseDep
from controlplane.store.ownership_tables import AgentRow
from controlplane.store.policy_manifests import ManifestCache
from controlplane.store.policy_publication import read_body
from controlplane.store.policy_revision import read_revision
from nodeagent.core.agent_api import AGENT_API
from nodeagent.policy.document import Manifest
from nodeagent.policy.sync_wire import PolicyAnswer, PolicySync, SectionQuestion

router = APIRouter(tags=["agent"])

GZIP: Final[dict[int | str, dict[str, Any]]] = {
    200: {"content": {"application/gzip": {"schema": {"type": "string", "format": "binary"}}}}
}


@router.post(AGENT_API["policy"])
def sync_policy(body: PolicySync, sender: SenderDep, database: DatabaseDep) -> PolicyAnswer:
    """Tell the newest revision of the policy, and what other hooks counted since `seen`.

    Counts are taken in at any time and as often as they are told: the highest one holds.
    """
    with database.read() as session:
        _check_key(session, sender)
        is_news = policy_nodes.is_news(session, sender.node, body)
    if is_news or body.counts:
        with database.write(RATES_LOCK, is_urgent=False) as session:
            policy_counts.take_counts(session, body.source, body.counts)
            policy_nodes.note(session, sender.node, body)
    with database.read() as session:
        counts, seen, has_more = policy_counts.counts_since(session, body.source, body.seen)
        revision = read_revision(session)
    return PolicyAnswer(revision=revision, counts=counts, seen=seen, has_more=has_more)


@router.get(AGENT_API["policy_manifest"], response_model=Manifest)
def read_policy_manifest(
    node: NodeDep, request: Request, database: DatabaseDep, box: SecretBoxDep
) -> Response:
    """Fetch the policy's settings and the names of its sections."""
    del node
    manifests: ManifestCache = request.app.state.policy_manifests
    return Response(manifests.read(database, box), media_type="application/json")


@router.post(AGENT_API["policy_section"], response_class=Response, responses={**NOT_FOUND, **GZIP})
def read_policy_section(body: SectionQuestion, node: NodeDep, database: DatabaseDep) -> Response:
    """Fetch one section, JSON lines packed by gzip; 404: it was replaced, fetch the manifest."""
    del node
    with database.read() as session:
        packed = read_body(session, body.sha256)
    return Response(packed, media_type="application/gzip")


def _check_key(session: Session, sender: Proof) -> None:
    """Refuse a node whose key was revoked since its token was proved."""
    if agents.active_key(sender.node, session.get(AgentRow, sender.node)) != sender.public_key_pem:
        raise Unauthenticated(f"{sender.node} has another key by now.")
