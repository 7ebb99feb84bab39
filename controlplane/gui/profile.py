"""The own profile: how pages look, open sessions, API tokens; the password has its own page."""

from __future__ import annotations

from typing import Final

from fastapi import Response

from controlplane.api.profile import Preferences, time_zones
from controlplane.api.sessions import SessionKey
from controlplane.api.tokens import TokenBody, TokenKey
from controlplane.api.user_auth import LoginRulesDep
from controlplane.core.permissions import Scope
from controlplane.errors import ControlPlaneError
from controlplane.gui.forms import Field, FilledForm, Form, Option, Posted, Widget
from controlplane.gui.language import LANGUAGES, N_
from controlplane.gui.shell import AUTO, OwnShell, Shell, page_router
from controlplane.store import second_factor
from controlplane.store.api_tokens import MAX_DAYS, create_token, list_tokens, revoke_token
from controlplane.store.columns import utc_now
from controlplane.store.engine import Database, DatabaseDep
from controlplane.store.user_accounts import read_user, set_preferences
from controlplane.store.user_sessions import list_sessions, revoke_others, revoke_session
from controlplane.store.users import prove

router = page_router()

PRESENT_PASSWORD: Final = Field(
    "current_password",
    N_("Present password"),
    hint=N_("So that an open browser alone is not enough."),
    widget=Widget.PASSWORD,
    is_required=True,
    attributes={"autocomplete": "current-password"},
)
LOOK: Final = Form(
    (
        Field(
            "language",
            N_("Language"),
            widget=Widget.SELECT,
            options=(
                Option(AUTO, N_("As the browser asks")),
                *(Option.of(code, name) for code, name in LANGUAGES.items()),
            ),
        ),
        Field(
            "theme",
            N_("Theme"),
            widget=Widget.SELECT,
            options=(
                Option(AUTO, N_("As the system")),
                Option("light", N_("Light")),
                Option("dark", N_("Dark")),
            ),
        ),
        Field(
            "time_zone",
            N_("Time zone"),
            hint=N_("All times are shown in it."),
            widget=Widget.SELECT,
            options=(Option(AUTO, N_("The browser's")),),
        ),
    )
)
TOKEN: Final = Form(
    (
        Field(
            "name",
            N_("What it is for"),
            is_required=True,
            attributes={"autocomplete": "off", "maxlength": "64"},
        ),
        Field(
            "scope",
            N_("Scope"),
            hint=N_("What it may do; your own role limits it further."),
            widget=Widget.SELECT,
            options=tuple(Option.of(scope.value) for scope in Scope),
        ),
        Field(
            "valid_days",
            N_("Days until it ends"),
            widget=Widget.NUMBER,
            is_required=True,
            attributes={"min": "1", "max": f"{MAX_DAYS}"},
        ),
        PRESENT_PASSWORD,
    ),
    submit=N_("Make a token"),
)


@router.get("/profile")
def profile_page(shell: OwnShell, database: DatabaseDep) -> Response:
    """Show one's own profile."""
    return _profile_page(shell, database)


@router.post("/profile")
def save_preferences(shell: OwnShell, posted: Posted, database: DatabaseDep) -> Response:
    """Change how the pages look."""
    form = LOOK.posted(posted)
    try:
        wanted = form.build(Preferences)
    except ControlPlaneError as error:
        return _profile_page(shell, database, form.refused(error), status=error.status)
    with database.write() as session:
        set_preferences(
            session, shell.signed_in.actor, wanted.language, wanted.theme, wanted.time_zone
        )
    return shell.done("/profile", shell.text(N_("Your preferences are saved.")))


@router.post("/profile/sessions/{id}/revoke")
def end_session(id: SessionKey, shell: OwnShell, database: DatabaseDep) -> Response:  # noqa: A002 - the path's name
    """End one of one's own sessions."""
    actor = shell.signed_in.actor
    with database.write() as session:
        revoke_session(session, actor, id, actor.name)
    return shell.done("/profile", shell.text(N_("The session has ended.")))


@router.post("/profile/sessions/revoke-others")
def end_other_sessions(shell: OwnShell, database: DatabaseDep) -> Response:
    """End all of one's own sessions but this one."""
    caller = shell.signed_in
    with database.write() as session:
        revoke_others(session, caller.actor, caller.user.credential_id)
    return shell.done("/profile", shell.text(N_("All other sessions have ended.")))


@router.get("/profile/tokens")
def tokens_page(shell: OwnShell, database: DatabaseDep) -> Response:
    """Show one's own API tokens, and the form for a new one."""
    form = TOKEN.filled({"scope": Scope.READ.value, "valid_days": 90})
    return _tokens_page(shell, database, form)


@router.post("/profile/tokens")
def make_token(
    shell: OwnShell, posted: Posted, database: DatabaseDep, rules: LoginRulesDep
) -> Response:
    """Make a token and show it, this once."""
    form, actor = TOKEN.posted(posted), shell.signed_in.actor
    try:
        wanted = form.build(TokenBody)
        prove(database, actor, wanted.current_password, rules)
        with database.write() as session:
            made = create_token(session, actor, wanted.name, wanted.scope, wanted.valid_days)
    except ControlPlaneError as error:
        return _tokens_page(shell, database, form.refused(error), status=error.status)
    return shell.page("token_made.html", made=made)


@router.post("/profile/tokens/{id}/revoke")
def end_token(id: TokenKey, shell: OwnShell, database: DatabaseDep) -> Response:  # noqa: A002 - the path's name
    """Revoke one of one's own tokens."""
    actor = shell.signed_in.actor
    with database.write() as session:
        revoke_token(session, actor, id, actor.name)
    return shell.done("/profile/tokens", shell.text(N_("The token works no more.")))


def _profile_page(
    shell: Shell, database: Database, look: FilledForm | None = None, *, status: int = 200
) -> Response:
    user = shell.signed_in.user
    with database.read() as session:
        facts = read_user(session, user.name)
        return shell.page(
            "profile.html",
            status=status,
            user=facts,
            codes_left=second_factor.codes_left(session, user.name),
            look=_with_zones(look or LOOK.filled(facts.row)),
            sessions=list_sessions(session, user.name),
            own_session_id=user.credential_id,
            token_count=len(list_tokens(session, user.name)),
        )


def _with_zones(form: FilledForm) -> FilledForm:
    zones = tuple(Option.of(name) for name in sorted(time_zones()))
    auto = next(one for one in LOOK.fields if one.name == "time_zone").options
    return form.with_options("time_zone", (*auto, *zones))


def _tokens_page(
    shell: Shell, database: Database, form: FilledForm, *, status: int = 200
) -> Response:
    with database.read() as session:
        tokens = list_tokens(session, shell.signed_in.user.name)
    return shell.page("tokens.html", status=status, tokens=tokens, form=form, now=utc_now())
