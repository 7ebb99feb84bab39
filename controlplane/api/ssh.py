"""SSH between the nodes: whose key is which, replacing a node's key, testing a peer."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query, Response, status
from fastapi import Path as PathKey
from fastapi.responses import PlainTextResponse
from pydantic import BaseModel, Field, SecretStr
from sqlmodel import Session

from controlplane.api.cluster_access import NOT_FOUND, Body, NodeKey, StoreDep
from controlplane.api.permissions import READ, AdminCaller, OperateCaller
from controlplane.core.names import BadValue
from controlplane.core.private_keys import BadPassphrase, KeyPair, read_private_key
from controlplane.errors import Invalid
from controlplane.store import agents, given_keys, host_keys, node_tests, peer_tests, ssh_keys
from controlplane.store.cluster import ClusterStore
from controlplane.store.cluster_tables import NodeRow
from controlplane.store.crypto import SecretBoxDep
from controlplane.store.nouns import NODES
from controlplane.store.ownership_tables import AgentRow, GivenKeyRow, PeerTestRow
from nodeagent.core.contract import NodeName
from nodeagent.core.ssh_wire import PeerTestLine, fingerprint

router = APIRouter(prefix="/api/v1/ssh", tags=["ssh"])

OnlyPins = Annotated[bool, Query(description="Only what users pinned or revoked.")]
TestKey = Annotated[int, PathKey(ge=1, le=2**31 - 1, description="The test's number.")]


class SshKeyView(BaseModel):
    """A public key as people compare it."""

    type: str = Field(examples=["ssh-ed25519"])
    fingerprint: str | None = Field(
        description="As `ssh-keygen -l` shows it; null: the key cannot be read.",
        examples=["SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"],
    )


class ClientKeyView(SshKeyView):
    """A key that a node logs in with, and whose it is."""

    given_by: str | None = Field(
        default=None, description="Who brought it along; null: the node made it."
    )
    given_at: datetime | None = None


class PinnedKeyView(SshKeyView):
    """A host key that a user vouches for, or wants nobody to trust."""

    is_revoked: bool
    given_by: str
    given_at: datetime


class NodeSshView(BaseModel):
    """How one node is reached and what it shows; nothing is made up for a node not enrolled."""

    node: str
    address: str
    ssh_user: str
    ssh_port: int
    is_enrolled: bool
    client_key: ClientKeyView | None = Field(description="What it logs in with at its peers.")
    next_key: ClientKeyView | None = Field(description="The key that will replace that one.")
    is_rotating: bool = Field(description="A new key was asked for and is not in use yet.")
    rotation_asked_at: datetime | None
    host_keys: list[SshKeyView] = Field(description="What its agent says that its sshd shows.")
    pinned_host_keys: list[PinnedKeyView] = Field(
        description="What users said of its host keys. One that is pinned overrides `host_keys`."
    )
    host_key_finding: str | None = Field(
        description="Why its peers cannot trust what it shows, and what to do; null: they can.",
    )


class GivenKeyBody(Body):
    """A private key; the passphrase opens it once and is not stored."""

    private_key: SecretStr = Field(
        description="OpenSSH or PEM: Ed25519, ECDSA (P-256, P-384, P-521), RSA from 3072 bits."
    )
    passphrase: SecretStr | None = Field(default=None, max_length=1024)

    def read(self) -> KeyPair:
        """Return the key; raises Invalid beside the field at fault."""
        passphrase = self.passphrase.get_secret_value() if self.passphrase is not None else None
        try:
            return read_private_key(self.private_key.get_secret_value(), passphrase)
        except BadPassphrase as bad:
            raise Invalid(None, {"passphrase": str(bad)}) from None
        except BadValue as bad:
            raise Invalid(None, {"private_key": str(bad)}) from None


class KnownHostsBody(Body):
    """Lines of a known_hosts file (sshd(8)) that name nodes by address and SSH port."""

    known_hosts: str = Field(
        examples=["198.51.100.12 ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIExample"]
    )


class PeerTestBody(Body):
    """Which way to test."""

    node: NodeName = Field(description="The node that connects.", examples=["node-a"])
    peer: NodeName = Field(description="The node that it connects to.", examples=["node-b"])


class PeerTestView(BaseModel):
    """One test: under way, over without an answer, or finished."""

    id: int
    node: str
    peer: str
    requested_by: str
    requested_at: datetime
    finished_at: datetime | None
    is_over: bool = Field(description="The node did not finish in time; nothing more will come.")
    is_ok: bool | None = Field(description="Whether pushes can pass; null: unknown.")
    text: str
    lines: list[PeerTestLine] = Field(description="The steps done so far.")


@router.get("", dependencies=[READ])
def list_ssh(store: StoreDep) -> list[NodeSshView]:
    """List all nodes with the fingerprints of their SSH keys."""
    with store.database.read() as session:
        return ssh_views(store, session)


@router.post("/{name}/rotation", responses=NOT_FOUND)
def rotate_key(name: NodeKey, caller: AdminCaller, store: StoreDep) -> NodeSshView:
    """Have a node replace its SSH key.

    The node makes a new key and shows it; its peers let in both; when the new one has reached every
    peer it is used, and the old one is let in no longer. A peer that cannot be reached holds this
    up, and the old key stays in use meanwhile. Asked again, nothing changes.
    """
    with store.database.write() as session:
        store.read_item(session, NODES, name)
        ssh_keys.request_rotation(session, name, caller.actor)
        return _one(store, session, name)


@router.put("/{name}/key", responses=NOT_FOUND)
def give_key(
    name: NodeKey, body: GivenKeyBody, caller: AdminCaller, store: StoreDep, box: SecretBoxDep
) -> NodeSshView:
    """Have a node log in at its peers with a private key of yours, by a rotation.

    The key is stored encrypted until the node uses it, then it is erased here; no answer shows it.
    For a key of the node's own again, ask for a rotation.
    """
    key = body.read()
    with store.database.write() as session:
        store.read_item(session, NODES, name)
        ssh_keys.give_key(session, box, name, key, caller.actor)
        return _one(store, session, name)


@router.delete("/{name}/rotation", responses=NOT_FOUND)
def cancel_rotation(name: NodeKey, caller: AdminCaller, store: StoreDep) -> NodeSshView:
    """Have a node keep its SSH key after all."""
    with store.database.write() as session:
        store.read_item(session, NODES, name)
        ssh_keys.cancel_rotation(session, name, caller.actor)
        return _one(store, session, name)


@router.get(
    "/known-hosts",
    dependencies=[READ],
    response_class=Response,
    responses={200: {"content": {"text/plain": {"schema": {"type": "string"}}}}},
)
def read_known_hosts(store: StoreDep, *, only_pins: OnlyPins = False) -> PlainTextResponse:
    """Return the host keys that the nodes trust of each other, as a known_hosts file."""
    with store.database.read() as session:
        return PlainTextResponse(host_keys.known_hosts(session, only_pins=only_pins))


@router.put("/known-hosts")
def put_known_hosts(
    body: KnownHostsBody, caller: AdminCaller, store: StoreDep
) -> list[NodeSshView]:
    """Pin host keys of nodes by known_hosts lines of yours; they replace the ones before.

    Of a node with a pinned key nothing else is trusted, whatever its agent reports. A line with
    `@revoked` takes a key out. Hashed names are read; patterns and `@cert-authority` are refused.
    """
    with store.database.write() as session:
        host_keys.put_known_hosts(session, body.known_hosts, caller.actor)
        return ssh_views(store, session)


@router.post("/tests", status_code=status.HTTP_201_CREATED, responses=NOT_FOUND)
def test_peer(body: PeerTestBody, caller: OperateCaller, store: StoreDep) -> PeerTestView:
    """Have a node take each step of a push to a peer, without pushing anything.

    The node learns of it with its next heartbeat and reports each step when it is done. Ask for the
    test by its number until it is finished or over.
    """
    row = peer_tests.request_test(store, body.node, body.peer, caller.actor)
    with store.database.read() as session:
        return _test_view(session, row)


@router.get("/tests/{number}", responses=NOT_FOUND, dependencies=[READ])
def read_peer_test(number: TestKey, store: StoreDep) -> PeerTestView:
    """Show a test with the steps that are done; it is kept for a day."""
    with store.database.read() as session:
        return _test_view(session, node_tests.read(session, PeerTestRow, number, peer_tests.WHAT))


def ssh_views(store: ClusterStore, session: Session) -> list[NodeSshView]:
    """Return what is known of SSH on each node, by name."""
    known = {row.name: row for row in agents.list_agents(session)}
    pinned = host_keys.pinned(session)
    return [
        NodeSshView(
            node=node.name,
            address=node.address,
            ssh_user=node.ssh_user,
            ssh_port=node.ssh_port,
            **_keys(known.get(node.name), given_keys.of_node(session, node.name)),
            **_pins(known.get(node.name), pinned[node.name]),
        )
        for node in store.read_items(session, NODES)
    ]


def _one(store: ClusterStore, session: Session, name: str) -> NodeSshView:
    return next(view for view in ssh_views(store, session) if view.node == name)


def _keys(row: AgentRow | None, given: dict[str, GivenKeyRow]) -> dict[str, object]:
    is_enrolled = row is not None and agents.is_active(row)
    if row is None or not is_enrolled:
        row, given = AgentRow(name=""), {}
    asked_s = row.ssh_replace_at
    waiting = next((one.public_key for one in given.values() if one.private_sealed), None)
    return {
        "is_enrolled": is_enrolled,
        "client_key": _client_key(row.ssh_public_key, given),
        "next_key": _client_key(waiting or row.ssh_next_public_key, given),
        "is_rotating": row.ssh_replace is not None,
        "rotation_asked_at": None if asked_s is None else datetime.fromtimestamp(asked_s, UTC),
        "host_keys": [
            SshKeyView(type=key.split(" ")[0], fingerprint=fingerprint(key))
            for key in row.ssh_host_keys
        ],
    }


def _pins(agent: AgentRow | None, row: NodeRow) -> dict[str, object]:
    keys = agent.ssh_host_keys if agent is not None and agents.is_active(agent) else []
    return {
        "pinned_host_keys": [
            PinnedKeyView(
                type=one["key"].split(" ")[0],
                fingerprint=fingerprint(one["key"]),
                is_revoked=one["is_revoked"],
                given_by=one["given_by"],
                given_at=datetime.fromtimestamp(one["given_at"], UTC),
            )
            for one in row.ssh_pins
        ],
        "host_key_finding": host_keys.finding(row, keys),
    }


def _client_key(line: str | None, given: dict[str, GivenKeyRow]) -> ClientKeyView | None:
    if line is None:
        return None
    shown = fingerprint(line)
    view = ClientKeyView(type=line.split(" ")[0], fingerprint=shown)
    row = given.get(shown or "")
    if row is not None:
        view.given_by, view.given_at = row.given_by, datetime.fromtimestamp(row.given_at, UTC)
    return view


def _test_view(session: Session, row: PeerTestRow) -> PeerTestView:
    finished_s = row.finished_at
    return PeerTestView(
        **row.model_dump(exclude={"requested_at", "finished_at"}),
        requested_at=datetime.fromtimestamp(row.requested_at, UTC),
        finished_at=None if finished_s is None else datetime.fromtimestamp(finished_s, UTC),
        is_over=node_tests.is_over(session, row),
    )
