"""Signing in and out, the own password, and each viewer's language and theme."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import replace
from typing import Final

from fastapi import Request, Response

from controlplane.api.user_auth import (
    LoginRulesDep,
    actor_of,
    clear_session_cookie,
    set_session_cookie,
)
from controlplane.errors import Invalid, Throttled, Unauthenticated
from controlplane.gui.forms import Field, FilledForm, Form, Posted, Widget
from controlplane.gui.language import LANGUAGES, N_
from controlplane.gui.protection import local_path, set_cookie
from controlplane.gui.shell import (
    LANGUAGE_COOKIE,
    THEME_COOKIE,
    THEMES,
    AnyVisitor,
    PasswordShell,
    page_router,
)
from controlplane.store.engine import DatabaseDep
from controlplane.store.user_accounts import set_preferences
from controlplane.store.user_sessions import log_out
from controlplane.store.users import change_password, log_in

router = page_router()

MAX_NAME: Final = 64
MAX_SECRET: Final = 1024
YEAR_S: Final = 365 * 86400

LOGIN: Final = Form(
    (
        Field(
            "user",
            N_("User"),
            is_required=True,
            attributes={"autocomplete": "username", "autofocus": "", "maxlength": f"{MAX_NAME}"},
        ),
        Field(
            "password",
            N_("Password"),
            widget=Widget.PASSWORD,
            is_required=True,
            attributes={"autocomplete": "current-password"},
        ),
        Field(
            "code",
            N_("Code"),
            hint=N_("Of the authenticator app, if you have set one up; or a recovery code."),
            attributes={"autocomplete": "one-time-code", "maxlength": f"{MAX_NAME}"},
        ),
    )
)
PASSWORD: Final = Form(
    (
        Field(
            "current_password",
            N_("Present password"),
            widget=Widget.PASSWORD,
            is_required=True,
            attributes={"autocomplete": "current-password"},
        ),
        Field(
            "new_password",
            N_("New password"),
            hint=N_("At least ten characters, five of them different."),
            widget=Widget.PASSWORD,
            is_required=True,
            attributes={"autocomplete": "new-password"},
        ),
        Field(
            "repeated",
            N_("The new one again"),
            widget=Widget.PASSWORD,
            is_required=True,
            attributes={"autocomplete": "new-password"},
        ),
    ),
    submit=N_("Set password"),
)


@router.get("/login")
def login_page(request: Request, shell: AnyVisitor) -> Response:
    """Show the login form; to somebody who is signed in, the page that was wanted."""
    wanted = local_path(request.query_params.get("next"))
    if shell.caller is not None:
        return shell.redirect(wanted)
    return shell.page("login.html", form=LOGIN.filled(), next_path=wanted)


@router.post("/login")
def log_in_by_form(
    request: Request, shell: AnyVisitor, posted: Posted, database: DatabaseDep, rules: LoginRulesDep
) -> Response:
    """Sign in, or show the form again with the reason."""
    form = LOGIN.posted(posted)
    wanted = local_path(posted.get("next", [""])[0])
    try:
        actor = actor_of(request, _limited(form, "user", MAX_NAME))
        password, code = _limited(form, "password", MAX_SECRET), form.text("code")[:MAX_NAME]
        issued = log_in(database, actor, password, rules, code=code)
    except (Invalid, Unauthenticated, Throttled) as error:
        refused = form.refused(error)
        return shell.page("login.html", status=error.status, form=refused, next_path=wanted)
    answer = shell.redirect(wanted)
    set_session_cookie(answer, issued, rules)
    return answer


@router.get("/password")
def password_page(shell: PasswordShell) -> Response:
    """Show the form for a new password."""
    return shell.page("password.html", form=PASSWORD.filled())


@router.post("/password")
def change_password_by_form(
    shell: PasswordShell, posted: Posted, database: DatabaseDep, rules: LoginRulesDep
) -> Response:
    """Set the new password, or show the form again with the reason."""
    form = PASSWORD.posted(posted)
    actor = shell.signed_in.actor
    try:
        current, new = _limited(form, "current_password", MAX_SECRET), _repeated_secret(form)
        issued = change_password(database, actor, current=current, new=new, rules=rules)
    except (Invalid, Throttled) as error:
        return shell.page("password.html", status=error.status, form=form.refused(error))
    notice = shell.text(N_("The new password holds; all other sessions have ended."))
    answer = replace(shell, secret=issued.token).done("/", notice)
    set_session_cookie(answer, issued, rules)
    return answer


@router.post("/logout")
def log_out_by_form(shell: PasswordShell, database: DatabaseDep) -> Response:
    """End the session."""
    log_out(database, shell.signed_in.actor, shell.signed_in.token)
    answer = shell.redirect("/login")
    clear_session_cookie(answer)
    return answer


@router.post("/preferences")
def choose_preferences(shell: AnyVisitor, posted: Posted, database: DatabaseDep) -> Response:
    """Keep the language or the theme: in the user's profile, and in this browser."""
    answer = shell.redirect(local_path(posted.get("next", [""])[0]))
    language = _one_of(LANGUAGES, posted.get("language"))
    theme = _one_of(THEMES, posted.get("theme"))
    for name, value in ((LANGUAGE_COOKIE, language), (THEME_COOKIE, theme)):
        if value is not None:
            set_cookie(answer, name, value, YEAR_S)
    if shell.caller is not None and not shell.caller.user.must_change_password:
        with database.write() as session:
            set_preferences(session, shell.caller.actor, language, theme)
    return answer


def _one_of(known: Container[str], sent: list[str] | None) -> str | None:
    return sent[0] if sent and sent[0] in known else None


def _limited(form: FilledForm, name: str, length: int) -> str:
    value = form.required(name)
    if len(value) > length:
        raise Invalid("This value is too long.", {name: "This value is too long."})
    return value


def _repeated_secret(form: FilledForm) -> str:
    new = _limited(form, "new_password", MAX_SECRET)
    if new != form.required("repeated"):
        raise Invalid(
            "The two new passwords differ.", {"repeated": "The two new passwords differ."}
        )
    return new
