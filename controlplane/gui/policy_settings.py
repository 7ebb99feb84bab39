"""The page of the mail policy's settings, group by group, and the secrets of the HTTP door."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Path, Response

from controlplane.api.mail_security.settings import CredentialBody
from controlplane.errors import ControlPlaneError, NotFound
from controlplane.gui.forms import Field, FilledForm, Form, Option, Posted, Widget
from controlplane.gui.language import N_
from controlplane.gui.policy_settings_forms import GROUPS, LISTS, Group
from controlplane.gui.shell import AdminShell, ReadShell, Shell, page_router
from controlplane.store.engine import Database, DatabaseDep, ReadSession
from controlplane.store.policy_settings import (
    Credential,
    change_settings,
    issue_credential,
    read_policy_settings,
    withdraw_credential,
)
from nodeagent.policy.document import PolicySettings

router = page_router()

PAGE: Final = "/policy/settings"
GroupKey = Annotated[str, Path(pattern=r"^[a-z]{1,20}$")]
CREDENTIALS: Final = {
    Credential.BEARER: N_("a token (Bearer)"),
    Credential.BASIC: N_("user name and password (Basic)"),
    Credential.HEADER: N_("a header of its own"),
}
STORED: Final = {
    Credential.BEARER: "token_sha256",
    Credential.BASIC: "password_sha256",
    Credential.HEADER: "header_sha256",
}
CREDENTIAL: Final = Form(
    (
        Field(
            "kind",
            N_("How the MTA says who it is"),
            widget=Widget.SELECT,
            options=tuple(Option(one.value, words) for one, words in CREDENTIALS.items()),
        ),
        Field(
            "name",
            N_("User name or name of the header"),
            hint=N_("Empty: the one there is; a token has none."),
            attributes={"maxlength": "60", "autocomplete": "off", "pattern": "[A-Za-z0-9-]+"},
        ),
    ),
    submit=N_("Make a new secret"),
)


@router.get("/policy/settings")
def settings_page(shell: ReadShell, session: ReadSession) -> Response:
    """Show all groups."""
    return _page(shell, read_policy_settings(session), {})


def _page(
    shell: Shell,
    settings: PolicySettings,
    typed: dict[str, FilledForm],
    *,
    credential: FilledForm | None = None,
    status: int = 200,
) -> Response:
    values = _values(settings)
    return shell.page(
        "policy_settings.html",
        status=status,
        groups=[(one, typed.get(one.name) or one.form.filled(values)) for one in GROUPS.values()],
        credential=credential or CREDENTIAL.filled(),
        credentials=[
            (kind.value, words, bool(getattr(settings.http, STORED[kind])))
            for kind, words in CREDENTIALS.items()
        ],
    )


def _values(settings: PolicySettings) -> dict[str, Any]:
    """Return the settings as the forms show them."""
    values = settings.model_dump(mode="json")
    return values | {name: " ".join(values[name]) for name in LISTS}


@router.post("/policy/settings/http-credentials")
def make_secret(shell: AdminShell, posted: Posted, database: DatabaseDep) -> Response:
    """Make a new secret of the HTTP door, and show it this once."""
    form = CREDENTIAL.posted(posted)
    try:
        wanted = form.build(CredentialBody)
        issued = issue_credential(database, wanted.kind, wanted.name, shell.signed_in.actor)
    except ControlPlaneError as error:
        refused = form.refused(error)
        return _page(shell, _read(database), {}, credential=refused, status=error.status)
    return shell.page("policy_secret.html", issued=issued, kinds=CREDENTIALS)


@router.post("/policy/settings/http-credentials/{kind}/withdraw")
def withdraw_secret(kind: Credential, shell: AdminShell, database: DatabaseDep) -> Response:
    """Let nobody in by this kind of secret any more; the open door keeps its last one."""
    try:
        withdraw_credential(database, kind, shell.signed_in.actor)
    except ControlPlaneError as error:
        refused = CREDENTIAL.filled().refused(error)
        return _page(shell, _read(database), {}, credential=refused, status=error.status)
    return shell.done(PAGE, shell.text(N_("Nobody is let in by this secret any more.")))


@router.post("/policy/settings/{name}")
def save_group(
    name: GroupKey, shell: AdminShell, posted: Posted, database: DatabaseDep
) -> Response:
    """Save one group, all of it or nothing; the nodes have it within two seconds."""
    group = GROUPS.get(name)
    if group is None:
        raise NotFound("There is no such group of settings.")
    form = group.form.posted(posted)
    try:
        change_settings(database, _wanted(group, form), shell.signed_in.actor)
    except ControlPlaneError as error:
        typed = {group.name: form.refused(error)}
        return _page(shell, _read(database), typed, status=error.status)
    return shell.done(PAGE, shell.text(N_("The settings are saved.")))


def _wanted(group: Group, form: FilledForm) -> dict[str, Any]:
    """Return the changes that were typed; a setting that is no text is never left empty."""
    values = form.data()
    for one in group.form.fields:
        if one.name in LISTS:
            values[one.name] = form.text(one.name).split()
    return values


def _read(database: Database) -> PolicySettings:
    with database.read() as session:
        return read_policy_settings(session)
