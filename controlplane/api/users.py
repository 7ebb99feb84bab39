"""Users: create, change role, disable, delete, and reset what somebody has forgotten or lost."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, status
from pydantic import BaseModel, Field

from controlplane.api.cluster_access import NOT_FOUND, Body
from controlplane.api.permissions import UsersCaller
from controlplane.api.sessions import Ended
from controlplane.api.user_auth import LoginRulesDep
from controlplane.core.permissions import UserRole
from controlplane.store import user_accounts
from controlplane.store.engine import DatabaseDep, ReadSession, WriteSession
from controlplane.store.user_accounts import IssuedPassword, UserChange, UserFacts
from controlplane.store.user_sessions import revoke_all

router = APIRouter(prefix="/api/v1/users", tags=["users"])

USER_NAME_PATTERN = r"^[a-z0-9][a-z0-9._@-]{0,63}$"
UserKey = Annotated[
    str, Path(max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$", examples=["mail-team"])
]


class UserBody(Body):
    """A new user."""

    name: str = Field(
        pattern=USER_NAME_PATTERN,
        description="Small letters, digits and . _ @ -, at most 64.",
        examples=["mail-team"],
    )
    role: UserRole


class UserPatch(Body):
    """What to change; what is left out stays."""

    role: UserRole | None = None
    is_disabled: bool | None = Field(
        default=None, description="True: no login, all sessions ended, API tokens refused."
    )


class UserView(BaseModel):
    """A user as an Admin sees them."""

    name: str
    role: UserRole
    is_disabled: bool
    must_change_password: bool
    password_expires_at: datetime | None = Field(
        description="When the one-time password ends; null: the password is the user's own."
    )
    has_second_factor: bool
    created_at: datetime
    last_login_at: datetime | None
    password_changed_at: datetime | None


class OneTimePassword(BaseModel):
    """A password that opens nothing but its own change; it is shown this once."""

    name: str
    one_time_password: str
    expires_at: datetime = Field(description="It opens nothing from then on.")


@router.get("")
def list_users(caller: UsersCaller, session: ReadSession) -> list[UserView]:
    """List all users by name."""
    del caller
    return [_view(user) for user in user_accounts.list_users(session)]


@router.post("", status_code=status.HTTP_201_CREATED)
def create_user(
    body: UserBody, caller: UsersCaller, database: DatabaseDep, rules: LoginRulesDep
) -> OneTimePassword:
    """Create a user; they log in with the one-time password and must change it."""
    password = user_accounts.create_user(database, caller.actor, body.name, body.role, rules)
    return _password_view(body.name, password)


@router.get("/{name}", responses=NOT_FOUND)
def read_user(name: UserKey, caller: UsersCaller, session: ReadSession) -> UserView:
    """Show one user."""
    del caller
    return _view(user_accounts.read_user(session, name))


@router.patch("/{name}", responses=NOT_FOUND)
def patch_user(
    name: UserKey, body: UserPatch, caller: UsersCaller, database: DatabaseDep
) -> UserView:
    """Change a user's role, disable or enable them.

    It counts from the user's next request on. The last Admin who may log in can be neither demoted
    nor disabled; one who has a one-time password does not count.
    """
    change = UserChange(body.role, body.is_disabled)
    return _view(user_accounts.change_user(database, caller.actor, name, change))


@router.delete("/{name}", status_code=status.HTTP_204_NO_CONTENT, responses=NOT_FOUND)
def delete_user(name: UserKey, caller: UsersCaller, database: DatabaseDep) -> None:
    """Delete a user with sessions and API tokens; the last Admin who may log in stays."""
    user_accounts.delete_user(database, caller.actor, name)


@router.post("/{name}/reset-password", responses=NOT_FOUND)
def reset_password(
    name: UserKey, caller: UsersCaller, database: DatabaseDep, rules: LoginRulesDep
) -> OneTimePassword:
    """Give another user a one-time password; their sessions end.

    Their API tokens are refused until they have changed it. The second factor stays.
    """
    password = user_accounts.reset_password(database, caller.actor, name, rules)
    return _password_view(name, password)


@router.delete("/{name}/second-factor", status_code=status.HTTP_204_NO_CONTENT, responses=NOT_FOUND)
def reset_second_factor(name: UserKey, caller: UsersCaller, database: DatabaseDep) -> None:
    """Take away the second factor of another user who lost it; their sessions end."""
    user_accounts.reset_second_factor(database, caller.actor, name)


@router.delete("/{name}/sessions", responses=NOT_FOUND)
def end_sessions(name: UserKey, caller: UsersCaller, session: WriteSession) -> Ended:
    """End all sessions of a user: their tokens stop working at once."""
    return Ended(ended=revoke_all(session, caller.actor, name))


def _password_view(name: str, password: IssuedPassword) -> OneTimePassword:
    return OneTimePassword(
        name=name, one_time_password=password.text, expires_at=password.expires_at
    )


def _view(user: UserFacts) -> UserView:
    return UserView.model_validate(
        {**user.row.model_dump(), "has_second_factor": user.has_second_factor}
    )
