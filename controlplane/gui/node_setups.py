"""Setting a host up over SSH, as pages: its key to compare, the login, each step while it runs."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Query, Response

from controlplane.api.cluster_access import NodeKey, StoreDep
from controlplane.api.node_setups import SetupBody, SetupsDep, read_setup, shown_host_key
from controlplane.api.ssh import TestKey
from controlplane.errors import ControlPlaneError, Invalid
from controlplane.gui.forms import Field, FilledForm, Form, Posted, Widget
from controlplane.gui.language import N_
from controlplane.gui.shell import AdminShell, ReadShell, Shell, page_router
from controlplane.node_setup.recipe import PACKAGES, SetupStep
from controlplane.store import node_setups
from controlplane.store.nouns import NODES

router = page_router()

STEPS: Final = {
    SetupStep.CONNECT: N_("Connection"),
    SetupStep.LOGIN: N_("Login"),
    SetupStep.SYSTEM: N_("System"),
    SetupStep.PACKAGES: N_("Packages"),
    SetupStep.PROGRAM: N_("Program"),
    SetupStep.SPOOL: N_("Spool directories"),
    SetupStep.UNITS: N_("systemd units"),
    SetupStep.ENROL: N_("Enrolment"),
    SetupStep.START: N_("Start of the agent"),
    SetupStep.REPORT: N_("First report"),
}
LOGIN: Final = Form(
    (
        Field(
            "is_compared",
            N_("I have compared the fingerprint on the host itself"),
            hint=N_("There: ssh-keygen -lf /etc/ssh/ssh_host_ed25519_key.pub"),
            widget=Widget.CHECKBOX,
            is_required=True,
        ),
        Field(
            "user",
            N_("User"),
            hint=N_("root, or somebody who may use sudo without a password."),
            is_required=True,
            attributes={"maxlength": "32", "autocomplete": "off"},
        ),
        Field(
            "password",
            N_("Password"),
            hint=N_("For this once; it is not stored. Or a private key:"),
            widget=Widget.PASSWORD,
            attributes={"autocomplete": "off"},
        ),
        Field(
            "private_key",
            N_("Private key"),
            hint=N_("OpenSSH or PEM; for this once, not stored."),
            widget=Widget.FILE_TEXT,
            is_secret=True,
            attributes={"rows": "4", "autocomplete": "off", "spellcheck": "false"},
        ),
        Field(
            "passphrase",
            N_("Passphrase of the private key"),
            hint=N_("Empty if it has none."),
            widget=Widget.PASSWORD,
            attributes={"autocomplete": "off"},
        ),
        Field(
            "url",
            N_("Control plane"),
            hint=N_("Where the host reaches it."),
            is_required=True,
            attributes={"maxlength": "255"},
        ),
    ),
    submit=N_("Set this host up"),
)


class SetupForm(SetupBody):
    """What the form sends: the box is looked at before."""

    is_compared: bool


HostKeyQuery = Annotated[str, Query(max_length=64)]


@router.get("/ssh/{name}/setup")
def setup_page(name: NodeKey, shell: AdminShell, store: StoreDep) -> Response:
    """Show what will be done; the host is not touched before its key was asked for."""
    store.item(NODES, name)
    return shell.page("node_setup_begin.html", node=name, packages=PACKAGES, error=None)


@router.post("/ssh/{name}/setup/host-key")
def host_key_page(name: NodeKey, shell: AdminShell, store: StoreDep, setups: SetupsDep) -> Response:
    """Show the key of the host, and the form to go on with."""
    try:
        key = shown_host_key(store, name)
    except ControlPlaneError as error:
        return shell.page(
            "node_setup_begin.html",
            status=error.status,
            node=name,
            packages=PACKAGES,
            error=error.detail,
        )
    form = LOGIN.filled({"user": "root", "url": setups.url.rstrip("/")})
    return _login_page(shell, name, key.fingerprint, form)


@router.post("/ssh/{name}/setup")
def start_setup(
    name: NodeKey, shell: AdminShell, posted: Posted, setups: SetupsDep, host_key: HostKeyQuery
) -> Response:
    """Start a setup of the host that shows this key, and show how far it is."""
    form = LOGIN.posted(posted)
    try:
        if not form.has("is_compared"):
            raise Invalid(None, {"is_compared": "Compare the fingerprint first."})
        body = form.build(SetupForm, host_key=host_key)
        view = setups.start(name, body, shell.signed_in.actor)
    except ControlPlaneError as error:
        return _login_page(shell, name, host_key, form.refused(error), status=error.status)
    return shell.redirect(f"/ssh/setups/{view.id}")


@router.get("/ssh/setups/{number}")
def follow_page(number: TestKey, shell: ReadShell, store: StoreDep) -> Response:
    """Show a setup; the page asks again until it has ended."""
    setup = read_setup(number, store)
    done = {line.step: line for line in setup.lines}
    return shell.page(
        "node_setup.html",
        block="result",
        setup=setup,
        steps=[(label, done.get(step)) for step, label in STEPS.items()],
        is_running=setup.finished_at is None and not setup.is_lost,
    )


@router.post("/ssh/setups/{number}/cancel")
def cancel_setup(number: TestKey, shell: AdminShell, store: StoreDep) -> Response:
    """Have a setup end as soon as it looks."""
    with store.database.write() as session:
        node_setups.cancel(session, number, shell.signed_in.actor)
    return shell.redirect(f"/ssh/setups/{number}")


def _login_page(
    shell: Shell, name: str, host_key: str, form: FilledForm, *, status: int = 200
) -> Response:
    return shell.page("node_setup_login.html", status=status, node=name, key=host_key, form=form)
