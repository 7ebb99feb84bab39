"""Who may send a long body: whoever proved who they are, before a byte of it is read."""

from __future__ import annotations

from fastapi import Request
from fastapi.security import HTTPAuthorizationCredentials
from fastapi.security.utils import get_authorization_scheme_param

from controlplane.api.agent_auth import authenticated_node
from controlplane.api.user_auth import COOKIE, any_caller
from controlplane.store.engine import get_database

AGENT_CALLS = "/api/v1/agent/"


def refuse_strangers(request: Request) -> None:
    """Pass a node or a user, as the call itself will; raises `ControlPlaneError` otherwise.

    What they may do is judged by the call.
    """
    scheme, token = get_authorization_scheme_param(request.headers.get("authorization"))
    bearer = None
    if scheme.lower() == "bearer" and token:
        bearer = HTTPAuthorizationCredentials(scheme=scheme, credentials=token)
    database = get_database(request)
    if request.url.path.startswith(AGENT_CALLS):
        authenticated_node(request, database, bearer)
    else:
        any_caller(request, database, bearer, request.cookies.get(COOKIE))
