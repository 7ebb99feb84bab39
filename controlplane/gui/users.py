"""The pages of users: who may log in with which role, and what an Admin does to them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from fastapi import Response

from controlplane.api.user_auth import LoginRulesDep
from controlplane.api.users import UserBody, UserKey, UserPatch
from controlplane.core.permissions import UserRole
from controlplane.errors import ControlPlaneError
from controlplane.gui.forms import Field, FilledForm, Form, Option, Posted, Widget
from controlplane.gui.language import N_
from controlplane.gui.shell import Shell, UsersShell, page_router
from controlplane.store import user_accounts
from controlplane.store.audit import Actor
from controlplane.store.engine import Database, DatabaseDep
from controlplane.store.user_accounts import IssuedPassword, UserChange
from controlplane.store.user_sessions import is_password_expired, list_sessions, revoke_all

router = page_router()

LIST: Final = "/users"
ROLES: Final = Field(
    "role",
    N_("Role"),
    hint=N_("ReadOnly looks, Operator runs mail and queues, Admin sets everything."),
    widget=Widget.SELECT,
    options=tuple(Option.of(role.value) for role in UserRole),
)
NEW_USER: Final = Form(
    (
        Field(
            "name",
            N_("User"),
            hint=N_("Small letters, digits and . _ @ -, at most 64."),
            is_required=True,
            attributes={"autocomplete": "off", "maxlength": "64"},
        ),
        ROLES,
    ),
    submit=N_("Add the user"),
)
ROLE: Final = Form((ROLES,), submit=N_("Set the role"))


class UserAction(StrEnum):
    """What a button of a user's page does."""

    DISABLE = "disable"
    ENABLE = "enable"
    SECOND_FACTOR = "reset-second-factor"
    SESSIONS = "end-sessions"
    REMOVE = "remove"


@dataclass(frozen=True)
class Deed:
    """How an action is done, and what the next page says."""

    do: Callable[[Database, Actor, str], object]
    notice: str
    path: str = "/users/{}"


def _end_sessions(database: Database, actor: Actor, name: str) -> None:
    with database.write() as session:
        revoke_all(session, actor, name)


def _set_disabled(*, is_disabled: bool) -> Callable[[Database, Actor, str], object]:
    def change(database: Database, actor: Actor, name: str) -> object:
        wanted = UserChange(is_disabled=is_disabled)
        return user_accounts.change_user(database, actor, name, wanted)

    return change


DEEDS: Final = {
    UserAction.DISABLE: Deed(_set_disabled(is_disabled=True), N_("%(name)s is disabled.")),
    UserAction.ENABLE: Deed(_set_disabled(is_disabled=False), N_("%(name)s is enabled.")),
    UserAction.SECOND_FACTOR: Deed(
        user_accounts.reset_second_factor, N_("%(name)s signs in with the password alone.")
    ),
    UserAction.SESSIONS: Deed(_end_sessions, N_("All sessions of %(name)s have ended.")),
    UserAction.REMOVE: Deed(user_accounts.delete_user, N_("%(name)s is removed."), LIST),
}


@router.get("/users")
def users_page(shell: UsersShell, database: DatabaseDep) -> Response:
    """Show all users, and the form for a new one."""
    return _list_page(shell, database, NEW_USER.filled({"role": UserRole.READ_ONLY.value}))


@router.post("/users")
def add_user(
    shell: UsersShell, posted: Posted, database: DatabaseDep, rules: LoginRulesDep
) -> Response:
    """Add a user and show the one-time password, this once."""
    form = NEW_USER.posted(posted)
    try:
        wanted = form.build(UserBody)
        actor = shell.signed_in.actor
        made = user_accounts.create_user(database, actor, wanted.name, wanted.role, rules)
    except ControlPlaneError as error:
        return _list_page(shell, database, form.refused(error), status=error.status)
    return _password_page(shell, wanted.name, made)


@router.get("/users/{name}")
def user_page(name: UserKey, shell: UsersShell, database: DatabaseDep) -> Response:
    """Show one user."""
    return _user_page(shell, database, name)


@router.post("/users/{name}/role")
def set_role(name: UserKey, shell: UsersShell, posted: Posted, database: DatabaseDep) -> Response:
    """Give a user another role; it counts at once."""
    form = ROLE.posted(posted)
    try:
        change = UserChange(role=form.build(UserPatch).role)
        user_accounts.change_user(database, shell.signed_in.actor, name, change)
    except ControlPlaneError as error:
        return _user_page(shell, database, name, error, form.refused(error))
    return shell.done(f"/users/{name}", shell.text(N_("The role is set.")))


@router.post("/users/{name}/reset-password")
def reset_password(
    name: UserKey, shell: UsersShell, database: DatabaseDep, rules: LoginRulesDep
) -> Response:
    """Give a user a one-time password and show it, this once."""
    try:
        made = user_accounts.reset_password(database, shell.signed_in.actor, name, rules)
    except ControlPlaneError as error:
        return _user_page(shell, database, name, error)
    return _password_page(shell, name, made)


@router.post("/users/{name}/{action}")
def act_on_user(
    name: UserKey, action: UserAction, shell: UsersShell, database: DatabaseDep
) -> Response:
    """Do what one of the buttons says."""
    deed = DEEDS[action]
    try:
        deed.do(database, shell.signed_in.actor, name)
    except ControlPlaneError as error:
        return _user_page(shell, database, name, error)
    return shell.done(deed.path.format(name), shell.text(deed.notice, name=name))


def _list_page(
    shell: Shell, database: Database, form: FilledForm, *, status: int = 200
) -> Response:
    with database.read() as session:
        users = user_accounts.list_users(session)
    return shell.page(
        "users.html", status=status, users=users, form=form, is_expired=is_password_expired
    )


def _user_page(
    shell: Shell,
    database: Database,
    name: str,
    error: ControlPlaneError | None = None,
    form: FilledForm | None = None,
) -> Response:
    """Show a user, above the page why nothing was changed; raises NotFound."""
    with database.read() as session:
        user = user_accounts.read_user(session, name)
        sessions = list_sessions(session, name)
    return shell.page(
        "user.html",
        status=200 if error is None else error.status,
        user=user,
        sessions=sessions,
        is_expired=is_password_expired,
        form=form or ROLE.filled({"role": user.row.role}),
        error=error.detail if error is not None and form is None else None,
    )


def _password_page(shell: Shell, name: str, made: IssuedPassword) -> Response:
    return shell.page("one_time_password.html", name=name, made=made)
