"""Who is asking: a user with a session, by header or cookie, or a program with an API token.

A cookie travels with requests that another site makes the browser send, so a changing request that
is authenticated by the cookie must prove that it came from our own pages (Fetch Metadata, else the
Origin header). A bearer header cannot be added by another site and needs no such proof. An API
token is taken from the header only. What the caller may do is judged by `permissions`.
"""

from __future__ import annotations

from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import Depends, Request, Response
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from controlplane.errors import Forbidden, Unauthenticated, Unavailable
from controlplane.settings import Settings
from controlplane.store.api_tokens import MARK, find_owner, note_token_use
from controlplane.store.audit import Actor
from controlplane.store.crypto import SecretBox, SecretBoxDep
from controlplane.store.engine import Database, DatabaseDep
from controlplane.store.passwords import PasswordCost
from controlplane.store.user_sessions import (
    IssuedSession,
    KnownUser,
    LoginRules,
    find_user,
    note_use,
)

COOKIE: Final = "relay_session"
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_bearer = HTTPBearer(
    auto_error=False,
    description="The token that `POST /api/v1/session` hands out, or an API token.",
)
_cookie = APIKeyCookie(
    name=COOKIE, auto_error=False, description="The token of a session, as set by the login."
)

BearerDep = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]
CookieDep = Annotated[str | None, Depends(_cookie)]


@dataclass(frozen=True)
class Caller:
    """A user who proved who they are, and the token that they did it with."""

    actor: Actor
    user: KnownUser
    token: str


def client_address(request: Request) -> str:
    """Return the address that the connection came from; forwarded headers are not believed."""
    return request.client.host if request.client is not None else ""


def actor_of(request: Request, name: str, token_prefix: str = "") -> Actor:
    """Return who asks, for the audit log and for the list of sessions."""
    user_agent = request.headers.get("user-agent", "")
    return Actor(name, client_address(request), user_agent, token_prefix)


def get_settings(request: Request) -> Settings:
    """Give an endpoint the process's settings."""
    settings = request.app.state.settings
    assert isinstance(settings, Settings)  # noqa: S101 - create_app puts it there
    return settings


SettingsDep = Annotated[Settings, Depends(get_settings)]


def get_login_rules(settings: SettingsDep, box: SecretBoxDep) -> LoginRules:
    """Give an endpoint the rules of logging in."""
    return login_rules(settings, box)


def login_rules(settings: Settings, box: SecretBox | None = None) -> LoginRules:
    """Return what the settings say about hashing and sessions; `box` opens second factors."""
    cost = PasswordCost(
        rounds=settings.argon2_rounds,
        memory_kib=settings.argon2_memory_kib,
        parallelism=settings.argon2_parallelism,
    )
    return LoginRules(
        cost=cost,
        session_hours=settings.session_hours,
        session_idle_minutes=settings.session_idle_minutes,
        one_time_password_hours=settings.one_time_password_hours,
        box=box,
    )


LoginRulesDep = Annotated[LoginRules, Depends(get_login_rules)]


def is_own_origin(request: Request) -> bool | None:
    """Tell whether a browser sent this from our own pages; None when no browser header says."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:
        return site in {"same-origin", "none"}
    origin = request.headers.get("origin")
    if origin is None:
        return None
    return urlsplit(origin).netloc == request.headers.get("host") and origin.startswith("https://")


def refuse_foreign_pages(request: Request) -> None:
    """Refuse a form or script of another site; programs send no such headers and pass."""
    if is_own_origin(request) is False:
        raise Forbidden("This request came from a page of another site.")


def find_caller(
    request: Request, database: Database, token: str, *, is_by_cookie: bool = True
) -> Caller | None:
    """Return who `token` belongs to, None when it is unknown or has ended.

    Each use is written down, at most once a minute; that it cannot be refuses nobody.
    """
    is_api_token = token.startswith(MARK) and not is_by_cookie
    with database.read() as session:
        user = find_owner(session, token) if is_api_token else find_user(session, token)
    if user is None:
        return None
    if user.is_use_due:
        with suppress(Unavailable):
            _note(database, user, login_rules(get_settings(request)))
    return Caller(actor_of(request, user.name, user.token_prefix), user, token)


def _note(database: Database, user: KnownUser, rules: LoginRules) -> None:
    with database.write() as session:
        if user.scope is None:
            note_use(session, user.credential_id, rules)
        else:
            note_token_use(session, user.credential_id)


def any_caller(
    request: Request, database: DatabaseDep, bearer: BearerDep, cookie: CookieDep
) -> Caller:
    """Return who is asking, whatever they may do."""
    token = bearer.credentials if bearer is not None else cookie
    if not token:
        raise Unauthenticated("Log in first: POST /api/v1/session.")
    is_by_cookie = bearer is None
    if is_by_cookie and request.method not in SAFE_METHODS and is_own_origin(request) is not True:
        raise Forbidden("A change by cookie must come from the control plane's own pages.")
    caller = find_caller(request, database, token, is_by_cookie=is_by_cookie)
    if caller is None:
        what = "API token" if token.startswith(MARK) else "session"
        raise Unauthenticated(f"The {what} is unknown or has ended; log in again.")
    return caller


def set_session_cookie(response: Response, issued: IssuedSession, rules: LoginRules) -> None:
    """Hand the token to a browser: over HTTPS only, unreadable by scripts, never cross-site."""
    response.set_cookie(
        COOKIE,
        issued.token,
        max_age=int(rules.session_hours * 3600),
        path="/",
        secure=True,
        httponly=True,
        samesite="strict",
    )


def clear_session_cookie(response: Response) -> None:
    """Make a browser forget the token."""
    response.delete_cookie(COOKIE, path="/", secure=True, httponly=True, samesite="strict")
