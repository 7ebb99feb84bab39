"""The session in use: log in, see who one is, change the password, log out."""

from __future__ import annotations

from datetime import datetime

from fastapi import APIRouter, Depends, Request, Response, status
from pydantic import BaseModel, ConfigDict, Field

from controlplane.api.permissions import OPEN, OwnCaller, PasswordCaller, ReadCaller
from controlplane.api.user_auth import (
    LoginRulesDep,
    actor_of,
    clear_session_cookie,
    refuse_foreign_pages,
    set_session_cookie,
)
from controlplane.core.permissions import Scope, UserRole
from controlplane.store.engine import DatabaseDep
from controlplane.store.user_sessions import IssuedSession, log_out
from controlplane.store.users import change_password, log_in
from nodeagent.core.contract import Refusal

router = APIRouter(prefix="/api/v1/session", tags=["session"])


class Credentials(BaseModel):
    """A user's name and password, and the code of the second factor where there is one."""

    model_config = ConfigDict(
        extra="forbid", json_schema_extra={"examples": [{"user": "admin", "password": "Admin123"}]}
    )

    user: str = Field(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")
    password: str = Field(min_length=1, max_length=1024)
    code: str = Field(
        default="",
        max_length=64,
        description="Of the authenticator app, or a recovery code. Left out by a user who needs "
        "one: 401 with the reason `code-required`.",
    )


class PasswordChange(BaseModel):
    """The present password and the new one."""

    model_config = ConfigDict(
        extra="forbid",
        json_schema_extra={
            "examples": [{"current_password": "Admin123", "new_password": "seven-Relays-42"}]
        },
    )

    current_password: str = Field(min_length=1, max_length=1024)
    new_password: str = Field(min_length=1, max_length=1024)


class SessionOpened(BaseModel):
    """A fresh session; the token is shown this once."""

    token: str = Field(description="Send it as `Authorization: Bearer <token>`.")
    user: str
    role: UserRole
    expires_at: datetime
    must_change_password: bool = Field(
        description="While true, every call but `PUT /api/v1/session/password` answers 403."
    )


class SessionView(BaseModel):
    """Who is asking, what they may do, and until when."""

    id: str = Field(description="Of the session, or of the API token.")
    user: str
    role: UserRole
    scope: Scope | None = Field(description="Of the API token in use; null: a session.")
    expires_at: datetime


@router.post(
    "",
    status_code=status.HTTP_201_CREATED,
    dependencies=[OPEN, Depends(refuse_foreign_pages)],
    responses={429: {"model": Refusal, "description": "Too many failed logins."}},
)
def create_session(
    credentials: Credentials,
    request: Request,
    response: Response,
    database: DatabaseDep,
    rules: LoginRulesDep,
) -> SessionOpened:
    """Log in.

    The answer holds a bearer token; a browser also gets it as the cookie `relay_session`. After
    five failures of a user from one address the wait doubles with each further one, up to 15
    minutes. Addresses that the user has not logged in from lately also wait after 20 failures of
    any user from there, and up to a minute after 50 failures of that user from anywhere.

    A user with a second factor who sends no `code` gets 401 with the reason `code-required`: send
    the same again with it. A wrong or used code is 401 with `code-wrong`, and counts as a failure.
    """
    actor = actor_of(request, credentials.user)
    issued = log_in(database, actor, credentials.password, rules, code=credentials.code)
    set_session_cookie(response, issued, rules)
    return _opened(issued)


@router.get("")
def read_session(caller: ReadCaller) -> SessionView:
    """Say who is asking."""
    user = caller.user
    return SessionView(
        id=user.credential_id,
        user=user.name,
        role=user.role,
        scope=user.scope,
        expires_at=user.expires_at,
    )


@router.put(
    "/password", responses={429: {"model": Refusal, "description": "Too many wrong passwords."}}
)
def put_password(
    change: PasswordChange,
    caller: PasswordCaller,
    response: Response,
    database: DatabaseDep,
    rules: LoginRulesDep,
) -> SessionOpened:
    """Set a new password.

    All sessions of the user end; the answer opens a fresh one. A password needs at least ten
    characters, five of them different, and must not be the old one or a well-known word.
    """
    issued = change_password(
        database,
        caller.actor,
        current=change.current_password,
        new=change.new_password,
        rules=rules,
    )
    set_session_cookie(response, issued, rules)
    return _opened(issued)


@router.delete("", status_code=status.HTTP_204_NO_CONTENT)
def delete_session(caller: OwnCaller, response: Response, database: DatabaseDep) -> None:
    """Log out: the token stops working at once."""
    log_out(database, caller.actor, caller.token)
    clear_session_cookie(response)


def _opened(issued: IssuedSession) -> SessionOpened:
    return SessionOpened(
        token=issued.token,
        user=issued.user,
        role=issued.role,
        expires_at=issued.expires_at,
        must_change_password=issued.must_change_password,
    )
