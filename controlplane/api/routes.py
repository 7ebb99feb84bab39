"""Routes: where mail of one sender or sender domain goes, with which TLS and which credentials."""

from __future__ import annotations

from fastapi import APIRouter, Response, status
from pydantic import Field, SecretStr

from controlplane.api.cluster_access import (
    CREATED,
    NOT_FOUND,
    Body,
    StoreDep,
    TextKey,
    mark_created,
)
from controlplane.api.permissions import READ, OperateCaller
from controlplane.core.spec import SenderRoute, TlsMode
from controlplane.errors import NotFound
from controlplane.store.cluster import ClusterStore
from controlplane.store.nouns import ROUTES

router = APIRouter(prefix="/api/v1/routes", tags=["routes"])


class RouteBody(Body):
    """Everything of a route but its sender."""

    next_hop: str = Field(
        description="Host or IP address; never looked up as an MX.", examples=["smtp.example.net"]
    )
    port: int = Field(default=25, examples=[587])
    tls_mode: TlsMode = TlsMode.ENCRYPT
    username: str | None = Field(default=None, examples=["relay@example.com"])
    password: SecretStr | None = Field(
        default=None, description="Write-only. Left out: the stored one stays. Null: removed."
    )


class RouteView(Body):
    """A route as it is shown: without its password."""

    sender: str
    next_hop: str
    port: int
    tls_mode: TlsMode
    username: str | None
    has_password: bool


@router.get("", dependencies=[READ])
def list_routes(store: StoreDep) -> list[RouteView]:
    """List all routes."""
    return [_view(route) for route in store.items(ROUTES)]


@router.get("/{sender}", responses=NOT_FOUND, dependencies=[READ])
def read_route(sender: TextKey, store: StoreDep) -> RouteView:
    """Show the route of one sender."""
    return _view(store.item(ROUTES, sender))


@router.put("/{sender}", responses=CREATED)
def put_route(
    sender: TextKey, body: RouteBody, caller: OperateCaller, store: StoreDep, response: Response
) -> RouteView:
    """Create or replace a route; the sender is `user@example.com` or `@example.com`."""
    route = route_of(store, sender, body)
    mark_created(response, is_new=store.put_item(ROUTES, route, caller.actor))
    return _view(route)


@router.delete("/{sender}", status_code=status.HTTP_204_NO_CONTENT, responses=NOT_FOUND)
def delete_route(sender: TextKey, caller: OperateCaller, store: StoreDep) -> None:
    """Remove a route and its credentials."""
    store.delete_item(ROUTES, sender, caller.actor)


def route_of(store: ClusterStore, sender: str, body: RouteBody) -> SenderRoute:
    """Return the route; a password that was left out is the stored one."""
    values = body.model_dump()
    if "password" not in body.model_fields_set and body.username is not None:
        values["password"] = _stored_password(store, sender)
    return SenderRoute(sender=sender, **values)


def _stored_password(store: ClusterStore, sender: str) -> SecretStr | None:
    try:
        return store.item(ROUTES, sender).password
    except NotFound:
        return None


def _view(route: SenderRoute) -> RouteView:
    shown = route.model_dump(exclude={"password"})
    return RouteView(**shown, has_password=route.password is not None)
