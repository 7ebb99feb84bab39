"""Setting a host up over SSH: its key to compare, the setup itself, and how far it is."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Request, status
from pydantic import BaseModel, Field, SecretStr
from sqlmodel import Session

from controlplane.api.cluster_access import NOT_FOUND, Body, NodeKey, StoreDep
from controlplane.api.node_actions import agent_url
from controlplane.api.permissions import READ, AdminCaller
from controlplane.api.ssh import TestKey
from controlplane.api.user_auth import SettingsDep
from controlplane.errors import Invalid
from controlplane.node_setup.installer import Installer, Order
from controlplane.node_setup.recipe import Recipe, SetupStep
from controlplane.node_setup.remote_host import Login, RemoteHost, parse_key
from controlplane.settings import Settings
from controlplane.store import agents, audit, node_setups, node_tests
from controlplane.store.audit import Actor
from controlplane.store.cluster import ClusterStore, read_settings
from controlplane.store.nouns import NODES
from controlplane.store.ownership_tables import NodeSetupRow
from controlplane.tls import ca_fingerprint

router = APIRouter(prefix="/api/v1/ssh", tags=["ssh"], responses=NOT_FOUND)

URL_PATTERN = r"^https://[^/\s]+/?$"


class ShownHostKey(BaseModel):
    """What the host showed; compare it with what `ssh-keygen -l` says on the host itself."""

    node: str
    address: str
    port: int
    type: str = Field(examples=["ssh-ed25519"])
    fingerprint: str = Field(examples=["SHA256:47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU"])


class SetupBody(Body):
    """How to log in, once: a password or a private key; neither is stored."""

    host_key: str = Field(
        pattern=r"^SHA256:[A-Za-z0-9+/]{43}$", description="The fingerprint that was compared."
    )
    user: str = Field(default="root", pattern=r"^[a-z_][a-z0-9_-]{0,31}$")
    password: SecretStr | None = Field(default=None, max_length=1024)
    private_key: SecretStr | None = Field(
        default=None, max_length=20_000, description="OpenSSH or PEM: Ed25519, ECDSA or RSA."
    )
    passphrase: SecretStr | None = Field(default=None, max_length=1024)
    url: Annotated[str, Field(max_length=255, pattern=URL_PATTERN)] | None = Field(
        default=None,
        description="Where the host reaches the control plane. Null: `agent_url` of the cluster.",
        examples=["https://198.51.100.10:8443"],
    )


class SetupLine(BaseModel):
    """One step: `ok` is null while it runs; `output` is what its command wrote last."""

    step: SetupStep
    ok: bool | None
    text: str
    output: list[str]


class SetupView(BaseModel):
    """One setup: under way, lost with its process, or ended."""

    id: int
    node: str
    address: str
    port: int
    ssh_user: str
    host_key: str
    requested_by: str
    requested_at: datetime
    finished_at: datetime | None
    is_cancelled: bool
    is_lost: bool = Field(description="The process that carried it out is gone; its end: unknown.")
    is_ok: bool | None
    text: str
    lines: list[SetupLine]


@dataclass(frozen=True)
class Setups:
    """Starts setups: the store, the settings of this process, and where nodes reach it."""

    store: ClusterStore
    settings: Settings
    recipe: Recipe
    url: str

    def start(self, name: str, body: SetupBody, actor: Actor) -> SetupView:
        """Note a setup and start it in a thread; raises NotFound, Invalid and Conflict."""
        login = _login(body)
        with self.store.database.write() as session:
            node = self.store.read_item(session, NODES, name)
            row = NodeSetupRow(
                node=name,
                address=node.address,
                port=node.ssh_port,
                ssh_user=body.user,
                host_key=body.host_key,
                requested_by="",
                requested_at=0.0,
                alive_at=0.0,
            )
            view = _view(session, node_setups.begin(session, row, actor))
        since_s = view.requested_at.timestamp()
        order = Order(
            node=name,
            address=view.address,
            port=view.port,
            host_key=view.host_key,
            login=login,
            url=(body.url or self.url).rstrip("/"),
            issue_token=lambda: self._issue_token(name, actor),
            has_reported=lambda: node_setups.has_reported_since(self.store.database, name, since_s),
        )
        progress = node_setups.StoredProgress(self.store.database, view.id)
        Installer(order, self.recipe, progress).start()
        return view

    def _issue_token(self, node: str, actor: Actor) -> str:
        ca = ca_fingerprint(self.settings.state_dir)
        with self.store.database.write() as session:
            issued = agents.issue_token(session, node, ca)
            audit.record(session, actor, "node.enrolment-token", node)
        return issued.text


def get_setups(request: Request, store: StoreDep, settings: SettingsDep) -> Setups:
    """Give an endpoint what starts setups."""
    with store.database.read() as session:
        url = agent_url(read_settings(session), request)
    return Setups(store, settings, request.app.state.recipe, url)


SetupsDep = Annotated[Setups, Depends(get_setups)]


@router.post("/{name}/host-key")
def show_host_key(name: NodeKey, caller: AdminCaller, store: StoreDep) -> ShownHostKey:
    """Connect to a node's address and return the key that its sshd shows; nothing is sent.

    An SSH server that does not answer is a 409.
    """
    del caller
    return shown_host_key(store, name)


def shown_host_key(store: ClusterStore, name: str) -> ShownHostKey:
    """Return the key that a node's sshd shows; raises NotFound and Conflict."""
    node = store.item(NODES, name)
    with RemoteHost(node.address, node.ssh_port) as host:
        key = host.host_key
    return ShownHostKey(
        node=name,
        address=node.address,
        port=node.ssh_port,
        type=key.type,
        fingerprint=key.fingerprint,
    )


@router.post("/{name}/setups", status_code=status.HTTP_201_CREATED)
def set_up(name: NodeKey, body: SetupBody, caller: AdminCaller, setups: SetupsDep) -> SetupView:
    """Set a node's host up over SSH: packages, program, units, enrolment, agent.

    The host must show the key of this fingerprint, else nothing is sent to it. It runs Debian 12,
    and the user is root or uses sudo without a password. Ask for the setup by its number.
    """
    return setups.start(name, body, caller.actor)


@router.get("/setups/{number}", dependencies=[READ])
def read_setup(number: TestKey, store: StoreDep) -> SetupView:
    """Show a setup with its steps; it is kept for a day."""
    with store.database.read() as session:
        row = node_tests.read(session, NodeSetupRow, number, node_setups.WHAT)
        return _view(session, row)


@router.delete("/setups/{number}")
def cancel_setup(number: TestKey, caller: AdminCaller, store: StoreDep) -> SetupView:
    """Have a setup end as soon as it looks; what was done on the host stays there."""
    with store.database.write() as session:
        return _view(session, node_setups.cancel(session, number, caller.actor))


def _login(body: SetupBody) -> Login:
    def opened(secret: SecretStr | None) -> str:
        return "" if secret is None else secret.get_secret_value()

    key, password = opened(body.private_key), opened(body.password)
    if key.strip() and password:
        raise Invalid(None, {"password": "Give a password or a private key, not both."})
    if key.strip():
        return Login(body.user, key=parse_key(key, opened(body.passphrase)))
    if not password:
        raise Invalid(None, {"password": "Give a password or a private key."})
    return Login(body.user, password=password)


def _view(session: Session, row: NodeSetupRow) -> SetupView:
    finished_s = row.finished_at
    return SetupView(
        **row.model_dump(exclude={"requested_at", "finished_at"}),
        requested_at=datetime.fromtimestamp(row.requested_at, UTC),
        finished_at=None if finished_s is None else datetime.fromtimestamp(finished_s, UTC),
        is_lost=node_setups.is_lost(session, row),
    )
