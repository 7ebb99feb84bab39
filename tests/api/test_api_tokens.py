"""API tokens: shown once, scoped, expiring, revoked at once, and of no use in a browser."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select

from controlplane.api.user_auth import COOKIE
from controlplane.core.permissions import Scope
from controlplane.store.api_tokens import MAX_TOKENS
from controlplane.store.columns import utc_now
from controlplane.store.engine import Database
from controlplane.store.user_tables import ApiTokenRow
from tests.api.conftest import CHEAP, PASSWORD
from tests.fakes.people import audited, bearer, make_token, open_session

OWN = "/api/v1/profile/tokens"
ALL = "/api/v1/tokens"
NODES = "/api/v1/nodes"


def create(client: TestClient, **values: Any) -> Any:
    """Ask for a token."""
    body = {"current_password": PASSWORD, "name": "backup job", "scope": "read", **values}
    return client.post(OWN, json=body)


def test_a_token_is_shown_once_and_works_at_once(client: TestClient) -> None:
    """Afterwards only how it begins is known."""
    made = create(client).json()
    assert made["token"].startswith(made["prefix"])
    assert made["prefix"].startswith("relay_")
    assert client.get(NODES, headers=bearer(made["token"])).status_code == 200
    listed = client.get(OWN).text
    assert made["token"] not in listed
    assert made["prefix"] in listed


def test_only_a_hash_is_stored(client: TestClient, sqlite_database: Database) -> None:
    """A stolen database opens nothing."""
    token = create(client).json()["token"]
    with sqlite_database.read() as session:
        row = session.exec(select(ApiTokenRow)).one()
    assert token not in str(row.model_dump())
    assert token.removeprefix(row.prefix) not in str(row.model_dump())
    assert token not in client.get("/api/v1/audit").text


def test_a_leaked_token_is_worth_nothing_after_its_revocation(
    client: TestClient, sqlite_database: Database
) -> None:
    """The very next request is refused, and the list is empty."""
    made = create(client, scope="admin").json()
    leaked = bearer(made["token"])
    assert client.get(NODES, headers=leaked).status_code == 200
    assert client.delete(f"{OWN}/{made['id']}").status_code == 204
    refused = client.get(NODES, headers=leaked)
    assert refused.status_code == 401
    assert "API token is unknown or has ended" in refused.json()["detail"]
    assert client.get(OWN).json() == []
    assert client.delete(f"{OWN}/{made['id']}").status_code == 404
    actions = [action for _, action, _ in audited(sqlite_database)]
    assert actions[-2:] == ["api-token.create", "api-token.revoke"]


@pytest.mark.parametrize(
    ("scope", "statuses"),
    [("read", [200, 403, 403]), ("operate", [200, 404, 403]), ("admin", [200, 404, 422])],
)
def test_a_scope_narrows_what_an_admin_may(
    client: TestClient, scope: str, statuses: list[int]
) -> None:
    """Reading, a switchover withdrawn, a setting changed."""
    token = bearer(create(client, scope=scope).json()["token"])
    answers = [
        client.get(NODES, headers=token),
        client.delete("/api/v1/switchover", headers=token),
        client.patch("/api/v1/cluster", json={"no_such": 1}, headers=token),
    ]
    assert [one.status_code for one in answers] == statuses


def test_a_token_follows_its_owners_role(team: TestClient, sqlite_database: Database) -> None:
    """Demoted owner, smaller token; it grows back no further than its scope."""
    token = bearer(make_token(sqlite_database, "olga", Scope.OPERATE))
    assert team.delete("/api/v1/switchover", headers=token).status_code == 404
    team.patch("/api/v1/users/olga", json={"role": "ReadOnly"})
    assert team.delete("/api/v1/switchover", headers=token).status_code == 403
    team.patch("/api/v1/users/olga", json={"role": "Admin"})
    assert team.delete("/api/v1/switchover", headers=token).status_code == 404
    assert team.patch("/api/v1/cluster", json={}, headers=token).status_code == 403


def test_a_token_waits_while_its_owner_must_change_the_password(
    team: TestClient, sqlite_database: Database
) -> None:
    """A reset password stops programs of the user, too."""
    token = bearer(make_token(sqlite_database, "olga", Scope.READ))
    team.post("/api/v1/users/olga/reset-password")
    assert team.get(NODES, headers=token).json()["reason"] == "password-change-required"


def test_a_token_expires(client: TestClient, sqlite_database: Database) -> None:
    """And stays in the list, so that its owner sees why."""
    token = bearer(create(client).json()["token"])
    with sqlite_database.write() as session:
        row = session.exec(select(ApiTokenRow)).one()
        row.expires_at = utc_now() - timedelta(seconds=1)
        session.add(row)
    assert client.get(NODES, headers=token).status_code == 401
    assert len(client.get(OWN).json()) == 1


@pytest.mark.parametrize("days", [1, 365])
def test_a_token_lasts_as_long_as_was_asked(client: TestClient, days: int) -> None:
    """At most a year."""
    ends = datetime.fromisoformat(create(client, valid_days=days).json()["expires_at"])
    assert abs(ends - utc_now() - timedelta(days=days)) < timedelta(minutes=5)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("valid_days", 0),
        ("valid_days", 366),
        ("scope", "root"),
        ("name", ""),
        ("name", "two\nlines"),
        ("name", "x" * 65),
    ],
)
def test_a_token_that_cannot_be_is_refused(client: TestClient, field: str, value: object) -> None:
    """One sentence at the field, and nothing is made."""
    answer = create(client, **{field: value})
    assert answer.status_code == 422
    assert set(answer.json()["fields"]) == {field}
    assert client.get(OWN).json() == []


def test_a_stolen_session_makes_no_token(client: TestClient) -> None:
    """The password is asked for, and guesses at it wait."""
    for _ in range(5):
        assert create(client, current_password="guess").status_code == 422
    assert create(client).status_code == 429
    assert client.get(OWN).json() == []


def test_a_token_is_no_cookie(client: TestClient) -> None:
    """A page cannot be made to use one."""
    token = create(client).json()["token"]
    del client.headers["Authorization"]
    client.cookies.set(COOKIE, token)
    assert client.get(NODES).status_code == 401


def test_the_last_use_is_noted(client: TestClient) -> None:
    """So that unused ones can be found."""
    made = create(client).json()
    assert made["last_used_at"] is None
    client.get(NODES, headers=bearer(made["token"]))
    used_at = datetime.fromisoformat(client.get(OWN).json()[0]["last_used_at"])
    assert abs(utc_now() - used_at) < timedelta(minutes=5)


def test_nobody_sees_or_revokes_the_token_of_another(
    team: TestClient, sqlite_database: Database
) -> None:
    """An Admin does, over the calls for that."""
    olga = bearer(open_session(sqlite_database, "olga", CHEAP))
    token = make_token(sqlite_database, "rita", Scope.READ)
    (rita,) = team.get(ALL).json()
    assert (rita["user"], rita["scope"]) == ("rita", "read")
    assert team.get(OWN, headers=olga).json() == []
    assert team.get(OWN).json() == []
    assert team.delete(f"{OWN}/{rita['id']}", headers=olga).status_code == 404
    assert team.delete(f"{ALL}/{rita['id']}", headers=olga).status_code == 403
    assert team.get(NODES, headers=bearer(token)).status_code == 200
    assert team.delete(f"{ALL}/{rita['id']}").status_code == 204
    assert team.get(NODES, headers=bearer(token)).status_code == 401


def test_the_audit_log_names_the_token_that_was_used(client: TestClient) -> None:
    """What a leaked one did can be found."""
    made = create(client, scope="admin").json()
    body = {"virtual_router_id": 51}
    client.put("/api/v1/vips/198.51.100.9", json=body)
    client.put(
        "/api/v1/vips/198.51.100.9",
        json={"virtual_router_id": 52},
        headers=bearer(made["token"]),
    )
    entries = client.get("/api/v1/audit", params={"target": "198.51.100.9"}).json()
    assert [one["token_prefix"] for one in entries] == [made["prefix"], None]


def test_a_user_has_not_too_many_tokens(client: TestClient, sqlite_database: Database) -> None:
    """409 names the way out."""
    for _ in range(MAX_TOKENS):
        make_token(sqlite_database, "admin", Scope.READ)
    answer = create(client)
    assert answer.status_code == 409
    assert "revoke some first" in answer.json()["detail"]


def test_a_token_says_whose_it_is(client: TestClient) -> None:
    """A program can look what it has in hand."""
    made = create(client, scope="operate").json()
    shown = client.get("/api/v1/session", headers=bearer(made["token"])).json()
    assert (shown["user"], shown["role"], shown["scope"]) == ("admin", "Admin", "operate")
    assert shown["id"] == made["id"]
