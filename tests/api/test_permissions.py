"""Every route declares what it needs, and every role is tried on every route."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any

import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.testclient import TestClient

from controlplane.api.permissions import (
    EXTENSION,
    OPEN,
    ReadCaller,
    Undeclared,
    UsersCaller,
    declare_permissions,
)
from controlplane.core.permissions import MEANINGS, Permission, Scope, UserRole
from controlplane.store.api_tokens import list_tokens
from controlplane.store.engine import Database
from tests.api.conftest import CHEAP
from tests.fakes.people import audited, bearer, make_token, open_session

METHODS = {"get", "put", "post", "patch", "delete"}

NOBODY = {("post", "/api/v1/session"), ("get", "/healthz")} | {
    ("get", "/api/v1/agent/ca"),
    ("post", "/api/v1/agent/enrol"),
}
FIRST_PASSWORD_WILL_DO = {("put", "/api/v1/session/password")}
OPERATORS = {
    ("put", "/api/v1/nodes/{name}/maintenance"),
    ("put", "/api/v1/recipient-domains"),
    ("post", "/api/v1/recipient-domains"),
    ("put", "/api/v1/recipient-domains/{name}"),
    ("delete", "/api/v1/recipient-domains/{name}"),
    ("put", "/api/v1/sender-policies/{domain}"),
    ("delete", "/api/v1/sender-policies/{domain}"),
    ("put", "/api/v1/routes/{sender}"),
    ("delete", "/api/v1/routes/{sender}"),
    ("put", "/api/v1/trusted-networks/{network}"),
    ("delete", "/api/v1/trusted-networks/{network}"),
    ("post", "/api/v1/lists/{name}/csv"),
    ("post", "/api/v1/lists/{name}/csv/preview"),
    ("post", "/api/v1/route-tests"),
    ("post", "/api/v1/ssh/tests"),
    ("post", "/api/v1/config/apply"),
    ("post", "/api/v1/config/rollback/{version}"),
    ("post", "/api/v1/queue/messages/{name}/{queue_id}/headers"),
    ("get", "/api/v1/queue/headers/{number}"),
    ("post", "/api/v1/queue/actions"),
    ("post", "/api/v1/queue/actions/{number}/confirm"),
    ("delete", "/api/v1/queue/actions/{number}"),
    ("post", "/api/v1/mail-security/quarantine/messages/{name}/{queue_id}/preview"),
    ("get", "/api/v1/mail-security/quarantine/previews/{number}"),
    ("post", "/api/v1/mail-security/quarantine/actions"),
    ("post", "/api/v1/switchover"),
    ("delete", "/api/v1/switchover"),
}
ADMINS = {
    ("patch", "/api/v1/cluster"),
    ("post", "/api/v1/state"),
    ("post", "/api/v1/state/preview"),
    ("put", "/api/v1/nodes/{name}"),
    ("delete", "/api/v1/nodes/{name}"),
    ("post", "/api/v1/nodes/{name}/enrolment-token"),
    ("post", "/api/v1/nodes/{name}/revoke-key"),
    ("post", "/api/v1/nodes/{name}/strike"),
    ("post", "/api/v1/nodes/{name}/confirm-dead"),
    ("post", "/api/v1/ssh/{name}/rotation"),
    ("put", "/api/v1/ssh/{name}/key"),
    ("put", "/api/v1/ssh/known-hosts"),
    ("post", "/api/v1/ssh/{name}/host-key"),
    ("post", "/api/v1/ssh/{name}/setups"),
    ("delete", "/api/v1/ssh/setups/{number}"),
    ("delete", "/api/v1/ssh/{name}/rotation"),
    ("put", "/api/v1/vips/{address}"),
    ("delete", "/api/v1/vips/{address}"),
    ("put", "/api/v1/tls/certificate"),
    ("delete", "/api/v1/tls/certificate"),
    ("get", "/api/v1/alerts/channels"),
    ("put", "/api/v1/alerts/channels/{name}"),
    ("delete", "/api/v1/alerts/channels/{name}"),
    ("post", "/api/v1/alerts/channels/{name}/test"),
    ("put", "/api/v1/alerts/rules/{name}"),
    ("put", "/api/v1/alerts/settings"),
}
POLICY_LISTS = ("blocklist", "allowlist", "badwords", "rates", "categories", "subscriptions")
OPERATORS |= {
    (method, f"/api/v1/mail-security/{name}{path}")
    for name in POLICY_LISTS
    for method, path in (
        ("post", ""),
        ("put", ""),
        ("put", "/{number}"),
        ("delete", "/{number}"),
        ("post", "/bulk"),
        ("post", "/bulk-delete"),
        ("post", "/import"),
        ("post", "/import/preview"),
    )
}
OPERATORS |= {
    ("post", "/api/v1/mail-security/try"),
    ("put", "/api/v1/mail-security/categories/{address}/subscriptions/{subscriber}"),
    ("delete", "/api/v1/mail-security/categories/{address}/subscriptions/{subscriber}"),
}
ADMINS |= {
    ("patch", "/api/v1/mail-security/settings"),
    ("post", "/api/v1/mail-security/settings/http-credentials"),
    ("delete", "/api/v1/mail-security/settings/http-credentials/{kind}"),
    ("put", "/api/v1/mail-security/threat-rules/{rule}"),
    ("delete", "/api/v1/mail-security/threat-rules/{rule}"),
}
ABOUT_PEOPLE = ("/api/v1/users", "/api/v1/sessions", "/api/v1/tokens")


def expected(method: str, path: str) -> Permission:
    """Say what a call has to need, by this page alone and not by the program."""
    if (method, path) in NOBODY:
        return Permission.NONE
    if path.startswith("/api/v1/agent/"):
        return Permission.AGENT
    if (method, path) in FIRST_PASSWORD_WILL_DO:
        return Permission.PASSWORD
    if path.startswith("/api/v1/profile") or (method, path) == ("delete", "/api/v1/session"):
        return Permission.OWN
    if path.startswith(ABOUT_PEOPLE):
        return Permission.USERS
    if (method, path) in ADMINS:
        return Permission.ADMIN
    if (method, path) in OPERATORS:
        return Permission.OPERATE
    assert method == "get", f"{method} {path} changes something and stands in no list"
    return Permission.READ


MAY = {
    (UserRole.READ_ONLY, None): "none password own read",
    (UserRole.OPERATOR, None): "none password own read operate",
    (UserRole.ADMIN, None): "none password own read operate admin users",
    (UserRole.READ_ONLY, Scope.ADMIN): "none read",
    (UserRole.OPERATOR, Scope.ADMIN): "none read operate",
    (UserRole.ADMIN, Scope.READ): "none read",
    (UserRole.ADMIN, Scope.OPERATE): "none read operate",
    (UserRole.ADMIN, Scope.ADMIN): "none read operate admin",
}
NAMES = {UserRole.READ_ONLY: "rita", UserRole.OPERATOR: "olga", UserRole.ADMIN: "admin"}


def operations(app: FastAPI) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """Give every call of the OpenAPI document."""
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            if method in METHODS:
                yield method, path, operation


def url(path: str) -> str:
    """Fill in keys of things that are not there."""
    filled = (
        path.replace("{version}", "1")
        .replace("{number}", "1")
        .replace("{name}", "nobody")
        .replace("{id}", "0" * 16)
    )
    return filled.replace("{address}", "198.51.100.9").replace("{", "").replace("}", "")


def test_every_call_of_the_document_declares_what_it_needs(app: FastAPI) -> None:
    """Each one exactly what this page says; the lists here name no call that is not there."""
    found = {(method, path): one.get(EXTENSION) for method, path, one in operations(app)}
    assert found == {key: expected(*key).value for key in found}
    assert found.keys() >= NOBODY | FIRST_PASSWORD_WILL_DO | OPERATORS | ADMINS
    assert len(found) > 80


@pytest.mark.parametrize(("role", "scope"), MAY)
def test_every_role_on_every_route(
    team: TestClient,
    anonymous: TestClient,
    sqlite_database: Database,
    role: UserRole,
    scope: Scope | None,
) -> None:
    """A call is refused exactly when the role, or the scope of the token, does not permit it."""
    wrong = []
    for method, path, _ in operations(team.app):  # type: ignore[arg-type]
        needed = expected(method, path)
        if needed is Permission.AGENT:
            continue
        if scope is None:
            token = open_session(sqlite_database, NAMES[role], CHEAP)
        else:
            token = make_token(sqlite_database, NAMES[role], scope)
        answer = anonymous.request(method, url(path), headers=bearer(token))
        assert answer.status_code < 500, (method, path, answer.text)
        if (answer.status_code != 403) is not (needed.value in MAY[role, scope].split()):
            wrong.append((method, path, answer.status_code))
        with sqlite_database.write() as session:
            for row in list_tokens(session, NAMES[role]):
                session.delete(row)
    assert wrong == []


def test_a_refused_call_is_audited_once_a_minute(
    team: TestClient, sqlite_database: Database
) -> None:
    """Who tries what they may not do leaves a row, and fills no disk."""
    token = open_session(sqlite_database, "rita", CHEAP)
    for number in range(3):
        answer = team.delete(f"/api/v1/routes/@{number}.example", headers=bearer(token))
        assert answer.json()["detail"] == "The role ReadOnly may not do this; it needs Operator."
    assert audited(sqlite_database).count(("rita", "access.refused", "rita")) == 1
    (entry,) = team.get("/api/v1/audit", params={"action": "access.refused"}).json()
    assert entry["after"] == {
        "call": "DELETE /api/v1/routes/{sender}",
        "needs": "operate",
        "role": "ReadOnly",
    }


def test_a_route_that_declares_nothing_starts_no_application() -> None:
    """Nobody can forget it."""
    router = APIRouter()

    @router.get("/forgotten")
    def forgotten() -> None:
        """Do something that anybody could do."""

    with pytest.raises(Undeclared, match=r"GET /forgotten declares 0 permissions"):
        declare_permissions([router])


def test_a_route_that_declares_two_things_starts_no_application() -> None:
    """Nobody could say which of them counts."""
    router = APIRouter()

    @router.get("/torn")
    def torn(caller: ReadCaller, other: UsersCaller) -> None:
        """Ask for two things."""

    @router.get("/open-and-closed", dependencies=[OPEN])
    def half_open(caller: ReadCaller) -> None:
        """Say both that anybody may and that somebody must log in."""

    for route in router.routes:
        alone = APIRouter(routes=[route])
        with pytest.raises(Undeclared, match="declares 2 permissions"):
            declare_permissions([alone])


def test_a_route_that_cannot_declare_anything_starts_no_application() -> None:
    """A mounted application or a bare handler."""
    router = APIRouter()
    router.add_route("/bare", print)
    with pytest.raises(Undeclared):
        declare_permissions([router])


def name_of_caller(caller: ReadCaller) -> str:
    """Depend on the caller, as the dependency of a page does."""
    return caller.user.name


def test_a_declaration_is_found_below_other_dependencies() -> None:
    """A page's own dependency may ask for the caller."""
    router = APIRouter()

    @router.get("/page")
    def show(name: Annotated[str, Depends(name_of_caller)]) -> None:
        """Show something to whoever may read."""

    declare_permissions([router])
    assert router.routes[0].openapi_extra == {EXTENSION: "read"}  # type: ignore[attr-defined]


def test_the_document_explains_what_is_needed(app: FastAPI) -> None:
    """Programs read the extension, people its meaning in the reference."""
    used = {one[EXTENSION] for _, _, one in operations(app)}
    assert used == {one.value for one in MEANINGS}
