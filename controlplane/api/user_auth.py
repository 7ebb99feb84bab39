"""Who is asking: a user with a session token, as a bearer header or as the browser's cookie.

A cookie travels with requests that another site makes the browser send, so a changing request that
is authenticated by the cookie must prove that it came from our own pages (Fetch Metadata, else the
Origin header). A bearer header cannot be added by another site and needs no such proof.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Final
from urllib.parse import urlsplit

from fastapi import Depends, Request, Response
from fastapi.security import APIKeyCookie, HTTPAuthorizationCredentials, HTTPBearer

from controlplane.errors import Forbidden, Unauthenticated
from controlplane.settings import Settings
from controlplane.store.audit import Actor
from controlplane.store.engine import Database, DatabaseDep
from controlplane.store.passwords import PasswordCost
from controlplane.store.users import IssuedSession, KnownUser, LoginRules, find_user

COOKIE: Final = "relay_session"
SAFE_METHODS: Final = frozenset({"GET", "HEAD", "OPTIONS"})

_bearer = HTTPBearer(
    auto_error=False, description="The token that `POST /api/v1/session` hands out."
)
_cookie = APIKeyCookie(
    name=COOKIE, auto_error=False, description="The same token, as set by the login."
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


def get_settings(request: Request) -> Settings:
    """Give an endpoint the process's settings."""
    settings = request.app.state.settings
    assert isinstance(settings, Settings)  # noqa: S101 - create_app puts it there
    return settings


SettingsDep = Annotated[Settings, Depends(get_settings)]


def get_login_rules(settings: SettingsDep) -> LoginRules:
    """Give an endpoint the rules of logging in."""
    return login_rules(settings)


def login_rules(settings: Settings) -> LoginRules:
    """Return what the settings say about hashing and sessions."""
    cost = PasswordCost(
        rounds=settings.argon2_rounds,
        memory_kib=settings.argon2_memory_kib,
        parallelism=settings.argon2_parallelism,
    )
    return LoginRules(cost=cost, session_hours=settings.session_hours)


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


def find_caller(request: Request, database: Database, token: str) -> Caller | None:
    """Return who `token` belongs to, None when it is unknown or has expired."""
    with database.read() as session:
        user = find_user(session, token)
    if user is None:
        return None
    return Caller(Actor(user.name, client_address(request)), user, token)


def any_caller(
    request: Request, database: DatabaseDep, bearer: BearerDep, cookie: CookieDep
) -> Caller:
    """Return the caller, also one who must change the password first."""
    token = bearer.credentials if bearer is not None else cookie
    if not token:
        raise Unauthenticated("Log in first: POST /api/v1/session.")
    is_by_cookie = bearer is None
    if is_by_cookie and request.method not in SAFE_METHODS and is_own_origin(request) is not True:
        raise Forbidden("A change by cookie must come from the control plane's own pages.")
    caller = find_caller(request, database, token)
    if caller is None:
        raise Unauthenticated("The session is unknown or has expired; log in again.")
    return caller


AnyCaller = Annotated[Caller, Depends(any_caller)]


def active_caller(caller: AnyCaller) -> Caller:
    """Return the caller, who may use everything."""
    if caller.user.must_change_password:
        raise Forbidden("Set a new password first: PUT /api/v1/session/password.")
    return caller


ActiveCaller = Annotated[Caller, Depends(active_caller)]

LOGGED_IN: Final = [Depends(active_caller)]
"""What a router needs so that none of its calls answers strangers."""


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
