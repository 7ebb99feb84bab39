"""What node agents call: heartbeat, leases, receipts, recovery, config files, enrolment."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body, Depends, Request, Response, status
from fastapi.responses import PlainTextResponse
from pydantic import SecretStr
from starlette.concurrency import run_in_threadpool

from controlplane.api.agent_auth import NodeDep, SenderDep, record_refusal
from controlplane.api.cluster_access import NOT_FOUND, StoreDep
from controlplane.api.permissions import OPEN
from controlplane.api.user_auth import SettingsDep, client_address
from controlplane.errors import Forbidden, Invalid, Unauthenticated
from controlplane.store import agents, audit, given_keys, instance, route_tests
from controlplane.store.audit import Actor
from controlplane.store.crypto import SecretBoxDep
from controlplane.store.engine import DatabaseDep
from controlplane.store.facts import StoredFacts
from controlplane.store.group_commit import GroupCommit
from controlplane.store.heartbeats import Heartbeat, Outcome
from controlplane.store.ownership import Ownership
from controlplane.store.reports import add_event
from controlplane.store.trace_intake import take_in_parts
from controlplane.tls import ca_pem
from nodeagent.core import contract as wire
from nodeagent.core.agent_api import AGENT_API
from nodeagent.core.enrol_wire import EnrolAnswer, EnrolRequest
from nodeagent.core.route_wire import RouteTestQuestion, RouteTestResult, RouteTestWish
from nodeagent.core.ssh_wire import (
    GivenKey,
    GivenKeyQuestion,
    PeerTestQuestion,
    PeerTestReport,
    PeerTestWish,
)
from nodeagent.core.stream_wire import PACKED_MEDIA_TYPE, StreamAnswer
from nodeagent.core.trace_wire import unpack

router = APIRouter(tags=["agent"])


def get_ownership(database: DatabaseDep, box: SecretBoxDep) -> Ownership:
    """Give an endpoint the ownership calls."""
    return Ownership(database, StoredFacts(box))


OwnershipDep = Annotated[Ownership, Depends(get_ownership)]


@router.get(AGENT_API["ca"], response_class=PlainTextResponse, dependencies=[OPEN])
def read_ca(settings: SettingsDep) -> str:
    """Return the CA's certificate as PEM; the enrolment token says whether it is the right one."""
    return ca_pem(settings.state_dir)


@router.post(AGENT_API["enrol"], dependencies=[OPEN])
def enrol(
    body: EnrolRequest, request: Request, database: DatabaseDep, settings: SettingsDep
) -> EnrolAnswer:
    """Make a node known by its one-time token.

    While the control plane is recovering the answer's `instance_id` is empty, so that the node
    takes the real one for unknown and reports what it remembers.
    """
    authority = ca_pem(settings.state_dir)
    try:
        with database.write() as session:
            agents.enrol(session, body)
            current = instance.ensure_instance(session)
            actor = Actor(f"agent:{body.node}", client_address(request))
            after = {"ssh_public_key": body.ssh_public_key, "public_key_pem": body.public_key_pem}
            audit.record(session, actor, "node.enrol", body.node, after=after)
            add_event(session, "enrolled", f"{body.node} was enrolled.", node=body.node)
            known = "" if current.is_recovering else current.instance_id
    except (Unauthenticated, Forbidden) as error:
        record_refusal(request, database, body.node, error.detail)
        raise
    return EnrolAnswer(node=body.node, instance_id=known, ca_pem=authority)


@router.post(AGENT_API["heartbeat"], response_model=wire.HeartbeatAnswer)
async def heartbeat(
    body: wire.HeartbeatRequest, request: Request, sender: SenderDep, database: DatabaseDep
) -> Response:
    """Report, perhaps renew the own lease, and read everything an agent acts on."""
    beats: GroupCommit[Heartbeat, Outcome] = request.app.state.heartbeats
    outcome = await beats.join(Heartbeat(sender.node, body, sender.public_key_pem))
    if isinstance(outcome, Unauthenticated | Forbidden):
        await run_in_threadpool(record_refusal, request, database, sender.node, outcome.detail)
    if isinstance(outcome, Exception):
        raise outcome
    request.app.state.on_report()
    return Response(outcome.model_dump_json(), media_type="application/json")


@router.post(AGENT_API["reconcile"])
def reconcile(
    body: wire.ReconcileRequest, node: NodeDep, ownership: OwnershipDep
) -> wire.ReconcileAnswer:
    """Acquire the own lease and learn, in the same transaction, who owns the pending mail."""
    return ownership.reconcile(node, body)


@router.post(AGENT_API["acquire"])
def acquire(body: wire.LeaseRequest, node: NodeDep, ownership: OwnershipDep) -> wire.LeaseAnswer:
    """Acquire the lease of a peer's queue: expired, released, or granted to this node."""
    return ownership.acquire(node, body)


@router.post(AGENT_API["grant"])
def grant(body: wire.LeaseRequest, node: NodeDep, ownership: OwnershipDep) -> wire.LeaseAnswer:
    """Leave the own lease to a peer; a grant that is not used runs out as any lease does."""
    return ownership.grant(node, body)


@router.post(AGENT_API["release"])
def release(body: wire.LeaseRequest, node: NodeDep, ownership: OwnershipDep) -> wire.LeaseAnswer:
    """Give a lease back; repeated, it changes nothing."""
    return ownership.release(node, body)


@router.post(AGENT_API["receipt"])
def commit_receipt(
    body: wire.ReceiptRequest, node: NodeDep, ownership: OwnershipDep
) -> wire.ReceiptAnswer:
    """Take over the named messages: this is the moment at which ownership passes."""
    return ownership.commit_receipt(node, body)


@router.post(AGENT_API["receipt_state"])
def receipt_state(
    body: wire.ReceiptQuestion, node: NodeDep, ownership: OwnershipDep
) -> wire.ReceiptAnswer:
    """Say what became of a receipt; `unknown` is final only when a reason comes with it."""
    return ownership.receipt_state(node, body)


@router.post(AGENT_API["receipt_done"])
def finish_receipt(
    body: wire.ReceiptQuestion, node: NodeDep, ownership: OwnershipDep
) -> wire.ReceiptAnswer:
    """Note that everything a receipt names is in the node's live queue."""
    return ownership.finish_receipt(node, body)


@router.post(AGENT_API["recovery"], status_code=status.HTTP_204_NO_CONTENT)
def recover(body: wire.RecoveryRequest, node: NodeDep, ownership: OwnershipDep) -> None:
    """Tell a restored control plane the generations and receipts that this node remembers."""
    ownership.recover(node, body)


@router.post(AGENT_API["trace"])
def take_trace(
    body: Annotated[bytes, Body(media_type=PACKED_MEDIA_TYPE)], node: NodeDep, database: DatabaseDep
) -> StreamAnswer:
    """Take a batch of what the node's mail log said, JSON packed by gzip; each entry once."""
    try:
        batch = unpack(body)
    except ValueError as error:
        raise Invalid("The body is no batch of the message trace, packed by gzip.") from error
    return take_in_parts(database, node, batch)


@router.get(AGENT_API["config"], responses=NOT_FOUND)
def read_config(node: NodeDep, ownership: OwnershipDep) -> wire.ConfigBundle:
    """Fetch all files of the config version that is assigned to this node."""
    return ownership.config(node)


@router.post(
    AGENT_API["switchover_done"], status_code=status.HTTP_204_NO_CONTENT, responses=NOT_FOUND
)
def finish_switchover(body: wire.SwitchoverResult, node: NodeDep, ownership: OwnershipDep) -> None:
    """Report how a switchover ended on its source."""
    ownership.finish_switchover(node, body)


@router.post(AGENT_API["route_test"], responses=NOT_FOUND)
def read_route_test(body: RouteTestQuestion, node: NodeDep, store: StoreDep) -> RouteTestWish:
    """Fetch the route that this node shall try, with its credentials."""
    with store.database.read() as session:
        return route_tests.wish(store, session, node, body.id)


@router.post(
    AGENT_API["route_test_done"], status_code=status.HTTP_204_NO_CONTENT, responses=NOT_FOUND
)
def finish_route_test(body: RouteTestResult, node: NodeDep, ownership: OwnershipDep) -> None:
    """Report the dialogue of a route test; a repeated report changes nothing."""
    ownership.finish_route_test(node, body)


@router.post(AGENT_API["peer_test"], responses=NOT_FOUND)
def read_peer_test(body: PeerTestQuestion, node: NodeDep, ownership: OwnershipDep) -> PeerTestWish:
    """Fetch the peer that this node shall test."""
    return ownership.peer_test(node, body.id)


@router.post(
    AGENT_API["peer_test_done"], status_code=status.HTTP_204_NO_CONTENT, responses=NOT_FOUND
)
def take_peer_test(body: PeerTestReport, node: NodeDep, ownership: OwnershipDep) -> None:
    """Report the steps of a peer test that are done; after the last one nothing changes it."""
    ownership.report_peer_test(node, body)


@router.post(AGENT_API["ssh_key"], responses=NOT_FOUND)
def read_given_key(
    body: GivenKeyQuestion, node: NodeDep, database: DatabaseDep, box: SecretBoxDep
) -> GivenKey:
    """Fetch the SSH key that a user brought along for this node; it stays until it is in use."""
    with database.read() as session:
        private = given_keys.private_half(session, box, node, body.public_key)
    return GivenKey(private_key=SecretStr(private))
