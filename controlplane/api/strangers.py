"""Who may send a long body: whoever may make the call, before a byte of it is read."""

from __future__ import annotations

from collections.abc import Iterator

from fastapi import Request
from fastapi.routing import APIRoute
from fastapi.security import HTTPAuthorizationCredentials
from fastapi.security.utils import get_authorization_scheme_param
from starlette.routing import Match

from controlplane.api.agent_auth import authenticated_node
from controlplane.api.permissions import Requires, permission_of
from controlplane.api.routers import ROUTERS
from controlplane.api.user_auth import COOKIE, any_caller
from controlplane.store.engine import get_database

AGENT_CALLS = "/api/v1/agent/"


def refuse_strangers(request: Request) -> None:
    """Pass a node, or a user who may do this, as the call will; else raises `ControlPlaneError`."""
    scheme, token = get_authorization_scheme_param(request.headers.get("authorization"))
    bearer = None
    if scheme.lower() == "bearer" and token:
        bearer = HTTPAuthorizationCredentials(scheme=scheme, credentials=token)
    database = get_database(request)
    if request.url.path.startswith(AGENT_CALLS):
        authenticated_node(request, database, bearer)
        return
    caller = any_caller(request, database, bearer, request.cookies.get(COOKIE))
    for route in _called(request):
        asked = Request({**request.scope, "route": route})
        Requires(permission_of(route))(asked, database, caller)


def _called(request: Request) -> Iterator[APIRoute]:
    """Yield the one route that is meant, or none: then there is nothing to permit."""
    for router in ROUTERS:
        for route in router.routes:
            if isinstance(route, APIRoute) and route.matches(request.scope)[0] is Match.FULL:
                yield route
                return
