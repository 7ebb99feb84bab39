"""SSH between the nodes, as pages: keys, rotation, tests of peers."""

from __future__ import annotations

from typing import Final

from fastapi import Response

from controlplane.api.cluster_access import NodeKey, StoreDep
from controlplane.api.ssh import (
    GivenKeyBody,
    KnownHostsBody,
    PeerTestBody,
    TestKey,
    give_key,
    put_known_hosts,
    read_peer_test,
    ssh_views,
)
from controlplane.errors import ControlPlaneError
from controlplane.gui.forms import Field, FilledForm, Form, Posted, Widget
from controlplane.gui.language import N_
from controlplane.gui.shell import AdminShell, OperateShell, ReadShell, Shell, page_router
from controlplane.store import ssh_keys
from controlplane.store.cluster import ClusterStore
from controlplane.store.crypto import SecretBoxDep
from controlplane.store.host_keys import known_hosts
from controlplane.store.nouns import NODES
from controlplane.store.peer_tests import request_test
from nodeagent.core.ssh_wire import PeerTestStep

router = page_router()

STEPS: Final = {
    PeerTestStep.ADDRESS: N_("Address"),
    PeerTestStep.CONNECT: N_("Connection"),
    PeerTestStep.HOST_KEY: N_("Host key"),
    PeerTestStep.LOGIN: N_("Login"),
    PeerTestStep.RECEIVER: N_("Receiver"),
    PeerTestStep.SPACE: N_("Disk space"),
    PeerTestStep.RSYNC: N_("rsync"),
    PeerTestStep.CLOCK: N_("Clock"),
}

OWN_KEY: Final = Form(
    (
        Field(
            "private_key",
            N_("Private key"),
            hint=N_("OpenSSH or PEM: Ed25519, ECDSA, or RSA from 3072 bits."),
            widget=Widget.FILE_TEXT,
            is_required=True,
            is_secret=True,
            attributes={"rows": "6", "autocomplete": "off", "spellcheck": "false"},
        ),
        Field(
            "passphrase",
            N_("Passphrase of the private key"),
            hint=N_("Empty if it has none. It opens the key once and is not stored."),
            widget=Widget.PASSWORD,
            attributes={"autocomplete": "off"},
        ),
    ),
    submit=N_("Use this key"),
)
KNOWN_HOSTS: Final = Form(
    (
        Field(
            "known_hosts",
            N_("Lines of known_hosts"),
            hint=N_("One a host key: the node's address (with a port: [address]:port), type, key."),
            widget=Widget.FILE_TEXT,
            attributes={"rows": "10", "autocomplete": "off", "spellcheck": "false"},
        ),
    ),
    submit=N_("Trust these"),
)


@router.get("/ssh")
def ssh_page(shell: ReadShell, store: StoreDep) -> Response:
    """Show the keys of all nodes; while one is being replaced, the page looks again."""
    return _listing(shell, store)


@router.post("/ssh/{name}/rotation")
def rotate(name: NodeKey, shell: AdminShell, store: StoreDep) -> Response:
    """Ask for a new key."""
    actor = shell.signed_in.actor
    try:
        with store.database.write() as session:
            store.read_item(session, NODES, name)
            ssh_keys.request_rotation(session, name, actor)
    except ControlPlaneError as error:
        return _listing(shell, store, error)
    return shell.done("/ssh", shell.text(N_("%(node)s was asked for a new key."), node=name))


@router.get("/ssh/known-hosts")
def known_hosts_page(shell: ReadShell, store: StoreDep) -> Response:
    """Show which host keys the nodes trust, and what users said of them."""
    lines = _lines(store, only_pins=True)
    return _known_hosts_page(shell, store, KNOWN_HOSTS.filled({"known_hosts": lines}))


@router.post("/ssh/known-hosts")
def pin_by_form(shell: AdminShell, posted: Posted, store: StoreDep) -> Response:
    """Replace what users said of host keys."""
    form = KNOWN_HOSTS.posted(posted)
    try:
        body = KnownHostsBody(known_hosts=form.text("known_hosts"))
        put_known_hosts(body, shell.signed_in, store)
    except ControlPlaneError as error:
        return _known_hosts_page(shell, store, form.refused(error), status=error.status)
    return shell.done("/ssh", shell.text(N_("The host keys to trust are saved.")))


@router.get("/ssh/{name}/key")
def own_key_page(name: NodeKey, shell: AdminShell, store: StoreDep) -> Response:
    """Ask for a private key."""
    store.item(NODES, name)
    return _own_key_page(shell, name, OWN_KEY.filled())


@router.post("/ssh/{name}/key")
def give_by_form(
    name: NodeKey, shell: AdminShell, posted: Posted, store: StoreDep, box: SecretBoxDep
) -> Response:
    """Have the node use the key that was pasted."""
    form = OWN_KEY.posted(posted)
    try:
        give_key(name, form.build(GivenKeyBody), shell.signed_in, store, box)
    except ControlPlaneError as error:
        return _own_key_page(shell, name, form.refused(error), status=error.status)
    return shell.done("/ssh", shell.text(N_("%(node)s was given the key."), node=name))


@router.post("/ssh/{name}/rotation/cancel")
def keep(name: NodeKey, shell: AdminShell, store: StoreDep) -> Response:
    """Have the node keep its key."""
    actor = shell.signed_in.actor
    try:
        with store.database.write() as session:
            ssh_keys.cancel_rotation(session, name, actor)
    except ControlPlaneError as error:
        return _listing(shell, store, error)
    return shell.done("/ssh", shell.text(N_("%(node)s keeps its key."), node=name))


@router.post("/ssh/{name}/tests/{peer}")
def test_peer(name: NodeKey, peer: NodeKey, shell: OperateShell, store: StoreDep) -> Response:
    """Ask the node to test a peer, and show what comes of it."""
    body = PeerTestBody(node=name, peer=peer)
    try:
        row = request_test(store, body.node, body.peer, shell.signed_in.actor)
    except ControlPlaneError as error:
        return _listing(shell, store, error)
    return shell.redirect(f"/ssh/tests/{row.id}")


@router.get("/ssh/tests/{number}")
def test_page(number: TestKey, shell: ReadShell, store: StoreDep) -> Response:
    """Show a test; the page asks again until its last step is done."""
    test = read_peer_test(number, store)
    done = {line.step: line for line in test.lines}
    steps = [(label, done.get(step)) for step, label in STEPS.items()]
    is_running = test.finished_at is None and not test.is_over
    return shell.page(
        "ssh_test.html", block="result", test=test, steps=steps, is_running=is_running
    )


def _own_key_page(shell: Shell, name: str, form: FilledForm, *, status: int = 200) -> Response:
    return shell.page("ssh_key.html", status=status, node=name, form=form)


def _known_hosts_page(
    shell: Shell, store: ClusterStore, form: FilledForm, *, status: int = 200
) -> Response:
    in_use = _lines(store, only_pins=False)
    return shell.page("ssh_known_hosts.html", status=status, form=form, in_use=in_use)


def _lines(store: ClusterStore, *, only_pins: bool) -> str:
    with store.database.read() as session:
        return known_hosts(session, only_pins=only_pins)


def _listing(shell: Shell, store: ClusterStore, error: ControlPlaneError | None = None) -> Response:
    with store.database.read() as session:
        views = ssh_views(store, session)
    return shell.page(
        "ssh.html",
        status=200 if error is None else error.status,
        block="listing",
        nodes=views,
        names=[view.node for view in views],
        is_rotating=any(view.is_rotating for view in views),
        error=None if error is None else error.detail,
    )
