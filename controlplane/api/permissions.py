"""The one place where the API says who may call what.

Every route declares one permission, by the type of its `caller` or by `OPEN`; the declaration is
the check itself, so it cannot say one thing and do another. `declare_permissions` refuses an
application with a route that declares none or two, and writes the permission of each call into the
OpenAPI document as `x-permission`.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from typing import Annotated, Any, Final

from fastapi import APIRouter, Depends, Request
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute

from controlplane.api.agent_auth import RefusalLog, authenticated_node, proved_sender
from controlplane.api.user_auth import Caller, any_caller
from controlplane.core.permissions import Permission, refusal
from controlplane.errors import Forbidden, PasswordChangeRequired, SetupFailed
from controlplane.store import audit
from controlplane.store.engine import Database, DatabaseDep

EXTENSION: Final = "x-permission"


class Undeclared(SetupFailed):
    """A route does not declare exactly one permission."""


class Requires:
    """The permission that a call needs; its endpoint gets the caller, who has it."""

    def __init__(self, permission: Permission) -> None:
        self.permission = permission

    def __call__(
        self,
        request: Request,
        database: DatabaseDep,
        caller: Annotated[Caller, Depends(any_caller)],
    ) -> Caller:
        """Return the caller; raises PasswordChangeRequired or Forbidden, which is audited."""
        user = caller.user
        if user.must_change_password and self.permission is not Permission.PASSWORD:
            raise PasswordChangeRequired
        sentence = refusal(self.permission, user.role, user.scope)
        if sentence is not None:
            _record_refusal(request, database, caller, self.permission)
            raise Forbidden(sentence)
        return caller


def open_to_anybody() -> None:
    """Declare that a call needs no permission."""


OPEN: Final = Depends(open_to_anybody)
"""For `dependencies=[OPEN]`: anybody may call it."""

READ: Final = Depends(Requires(Permission.READ))
"""For calls that only read and need not know who asks."""

PasswordCaller = Annotated[Caller, Depends(Requires(Permission.PASSWORD))]
OwnCaller = Annotated[Caller, Depends(Requires(Permission.OWN))]
ReadCaller = Annotated[Caller, Depends(Requires(Permission.READ))]
OperateCaller = Annotated[Caller, Depends(Requires(Permission.OPERATE))]
AdminCaller = Annotated[Caller, Depends(Requires(Permission.ADMIN))]
UsersCaller = Annotated[Caller, Depends(Requires(Permission.USERS))]


def declare_permissions(routers: Iterable[APIRouter]) -> None:
    """Publish the permission of every route; raises Undeclared."""
    for router in routers:
        for route in router.routes:
            if not isinstance(route, APIRoute):
                raise Undeclared(f"{route} is no route that can declare a permission.")
            permission = permission_of(route)
            route.openapi_extra = {**(route.openapi_extra or {}), EXTENSION: permission.value}


def permission_of(route: APIRoute) -> Permission:
    """Return what a route declares; raises Undeclared unless it is exactly one permission."""
    declared = set(_declared(route.dependant))
    if len(declared) != 1:
        methods = ", ".join(sorted(route.methods or ()))
        raise Undeclared(f"{methods} {route.path} declares {len(declared)} permissions, not one.")
    return declared.pop()


def _declared(dependant: Dependant) -> Iterator[Permission]:
    call: Any = dependant.call
    if isinstance(call, Requires):
        yield call.permission
    elif call in {authenticated_node, proved_sender}:
        yield Permission.AGENT
    elif call is open_to_anybody:
        yield Permission.NONE
    for inner in dependant.dependencies:
        yield from _declared(inner)


def _record_refusal(
    request: Request, database: Database, caller: Caller, permission: Permission
) -> None:
    """Write the refusal to the audit log, once a minute for each route, whatever its keys are."""
    log: RefusalLog = request.app.state.refusals
    what = f"{request.method} {request.scope['route'].path}"
    if not log.is_due((caller.actor.name, caller.actor.address, what), time.monotonic()):
        return
    with database.write() as session:
        after = {"call": what, "needs": permission.value, "role": caller.user.role.value}
        audit.record(session, caller.actor, "access.refused", caller.actor.name, after=after)
