"""The own second factor: set up with a QR code, confirm, renew the recovery codes, remove."""

from __future__ import annotations

from typing import Any, Final

import segno
from fastapi import Response
from markupsafe import Markup

from controlplane.api.second_factor import Confirmation, FullProof, PasswordProof
from controlplane.api.user_auth import LoginRulesDep
from controlplane.errors import ControlPlaneError
from controlplane.gui.forms import Field, FilledForm, Form, Posted
from controlplane.gui.language import N_
from controlplane.gui.profile import PRESENT_PASSWORD
from controlplane.gui.shell import OwnShell, Shell, page_router
from controlplane.store import second_factor
from controlplane.store.engine import Database, DatabaseDep
from controlplane.store.user_accounts import read_user
from controlplane.store.users import prove

router = page_router()

PATH: Final = "/profile/second-factor"
PIXELS_A_MODULE: Final = 4
CODE: Final = Field(
    "code",
    N_("Code"),
    hint=N_("Six digits that the authenticator app shows."),
    is_required=True,
    attributes={"autocomplete": "one-time-code", "inputmode": "numeric", "maxlength": "64"},
)
ANY_CODE: Final = Field(
    "code",
    N_("Code"),
    hint=N_("Of the authenticator app, or a recovery code."),
    is_required=True,
    attributes={"autocomplete": "one-time-code", "maxlength": "64"},
)
BEGIN: Final = Form((PRESENT_PASSWORD,), submit=N_("Set up a second factor"))
CONFIRM: Final = Form((CODE,), submit=N_("Confirm"))
RENEW: Final = Form((PRESENT_PASSWORD, ANY_CODE), submit=N_("Make new recovery codes"))
REMOVE: Final = Form((PRESENT_PASSWORD, ANY_CODE), submit=N_("Remove the second factor"))


@router.get(PATH)
def second_factor_page(shell: OwnShell, database: DatabaseDep) -> Response:
    """Show what can be done: set it up, or renew its recovery codes and remove it."""
    return _page(shell, database)


@router.post(PATH)
def begin(shell: OwnShell, posted: Posted, database: DatabaseDep, rules: LoginRulesDep) -> Response:
    """Make a secret and show it, this once, for the app to scan."""
    form, actor = BEGIN.posted(posted), shell.signed_in.actor
    try:
        prove(database, actor, form.build(PasswordProof).current_password, rules)
        with database.write() as session:
            made = second_factor.enrol(session, actor, rules)
    except ControlPlaneError as error:
        return _page(shell, database, begin=form.refused(error), status=error.status)
    qr_code = draw_qr_code(made.otpauth_uri)
    return _confirm_page(shell, CONFIRM.filled(), secret=made.secret, qr_code=qr_code)


@router.post(f"{PATH}/confirm")
def confirm(
    shell: OwnShell, posted: Posted, database: DatabaseDep, rules: LoginRulesDep
) -> Response:
    """Make the second factor count, and show the recovery codes, this once."""
    form, caller = CONFIRM.posted(posted), shell.signed_in
    try:
        code = form.build(Confirmation).code.strip()
        with database.write() as session:
            codes = second_factor.confirm(
                session, caller.actor, code, rules, caller.user.credential_id
            )
    except ControlPlaneError as error:
        refused = form.refused(error)
        return _confirm_page(shell, refused, secret=None, qr_code=None, status=error.status)
    return shell.page("recovery_codes.html", codes=codes)


@router.post(f"{PATH}/recovery-codes")
def renew(shell: OwnShell, posted: Posted, database: DatabaseDep, rules: LoginRulesDep) -> Response:
    """Make new recovery codes and show them, this once."""
    form, actor = RENEW.posted(posted), shell.signed_in.actor
    try:
        proof = form.build(FullProof)
        prove(database, actor, proof.current_password, rules, code=proof.code)
        with database.write() as session:
            codes = second_factor.renew_recovery_codes(session, actor)
    except ControlPlaneError as error:
        return _page(shell, database, renew=form.refused(error), status=error.status)
    return shell.page("recovery_codes.html", codes=codes)


@router.post(f"{PATH}/remove")
def remove(
    shell: OwnShell, posted: Posted, database: DatabaseDep, rules: LoginRulesDep
) -> Response:
    """Remove the second factor."""
    form, actor = REMOVE.posted(posted), shell.signed_in.actor
    try:
        proof = form.build(FullProof)
        prove(database, actor, proof.current_password, rules, code=proof.code)
        with database.write() as session:
            second_factor.remove(session, actor, actor.name)
    except ControlPlaneError as error:
        return _page(shell, database, remove=form.refused(error), status=error.status)
    return shell.done("/profile", shell.text(N_("You sign in with the password alone.")))


def draw_qr_code(text: str) -> Markup:
    """Return a QR code as inline SVG: dark on light in every theme, without any style."""
    drawn = segno.make(text, micro=False).svg_inline(
        scale=PIXELS_A_MODULE, dark="#000", light="#fff", svgclass=None, lineclass=None
    )
    return Markup(drawn)  # noqa: S704 - numbers and letters of path commands


def _page(
    shell: Shell, database: Database, *, status: int = 200, **refused: FilledForm
) -> Response:
    name = shell.signed_in.user.name
    with database.read() as session:
        is_active = read_user(session, name).has_second_factor
        codes_left = second_factor.codes_left(session, name)
    forms: dict[str, Any] = {
        "begin": BEGIN.filled(),
        "renew": RENEW.filled(),
        "remove": REMOVE.filled(),
        **refused,
    }
    return shell.page(
        "second_factor.html", status=status, is_active=is_active, codes_left=codes_left, **forms
    )


def _confirm_page(
    shell: Shell,
    form: FilledForm,
    *,
    secret: str | None,
    qr_code: Markup | None,
    status: int = 200,
) -> Response:
    """Ask for a code; only the first time with the secret, which is shown this once."""
    return shell.page(
        "second_factor_confirm.html", status=status, form=form, secret=secret, qr_code=qr_code
    )
