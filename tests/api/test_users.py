"""Users over the API: an Admin's work, and the ways up that are closed to everybody else."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.core.permissions import Scope
from controlplane.store.columns import utc_now
from controlplane.store.engine import Database
from controlplane.store.user_sessions import LoginRules
from controlplane.store.user_tables import UserRow
from tests.api.conftest import CHEAP, PASSWORD
from tests.fakes.people import audited, bearer, give_second_factor, make_token, open_session

USERS = "/api/v1/users"
SESSION = "/api/v1/session"


def create(client: TestClient, name: str = "nina", role: str = "Operator") -> str:
    """Create a user and return the one-time password."""
    answer = client.post(USERS, json={"name": name, "role": role})
    assert answer.status_code == 201, answer.text
    return str(answer.json()["one_time_password"])


def log_in(client: TestClient, user: str, password: str) -> Any:
    """Try a login without keeping its cookie."""
    answer = client.post(SESSION, json={"user": user, "password": password})
    client.cookies.clear()
    return answer


def test_a_new_user_logs_in_changes_the_password_and_works(team: TestClient) -> None:
    """With the role that they were given, and nothing before the change."""
    password = create(team)
    opened = log_in(team, "nina", password).json()
    assert (opened["role"], opened["must_change_password"]) == ("Operator", True)
    refused = team.get("/api/v1/nodes", headers=bearer(opened["token"]))
    assert (refused.status_code, refused.json()["reason"]) == (403, "password-change-required")
    change = {"current_password": password, "new_password": "nina-Relays-42"}
    fresh = team.put(f"{SESSION}/password", json=change, headers=bearer(opened["token"])).json()
    team.cookies.clear()
    assert team.get("/api/v1/nodes", headers=bearer(fresh["token"])).status_code == 200
    assert team.get(USERS, headers=bearer(fresh["token"])).status_code == 403


def test_users_are_listed_without_what_would_open_them(team: TestClient) -> None:
    """Role, state and times; no hash."""
    listed = team.get(USERS).json()
    assert [(one["name"], one["role"]) for one in listed] == [
        ("admin", "Admin"),
        ("olga", "Operator"),
        ("rita", "ReadOnly"),
    ]
    assert "argon2" not in str(listed)
    assert team.get(f"{USERS}/olga").json() == listed[1]
    assert team.get(f"{USERS}/nobody").status_code == 404


@pytest.mark.parametrize(
    "name", ["", "Nina", "nina smith", "agent:node-a", "../admin", "-nina", "n" * 65, "nina\n"]
)
def test_a_name_that_could_be_mistaken_is_refused(team: TestClient, name: str) -> None:
    """With one sentence at the field; nothing is created."""
    answer = team.post(USERS, json={"name": name, "role": "Admin"})
    assert answer.status_code == 422
    assert set(answer.json()["fields"]) == {"name"}
    assert len(team.get(USERS).json()) == 3


def test_an_unknown_role_is_refused(team: TestClient) -> None:
    """Roles are three."""
    answer = team.post(USERS, json={"name": "nina", "role": "root"})
    assert "role" in answer.json()["fields"]


def test_a_name_is_given_once(team: TestClient) -> None:
    """409, and olga keeps her password."""
    assert team.post(USERS, json={"name": "olga", "role": "Admin"}).status_code == 409
    assert log_in(team, "olga", PASSWORD).json()["role"] == "Operator"


def test_a_changed_role_counts_for_open_sessions(
    team: TestClient, sqlite_database: Database
) -> None:
    """Up and down again."""
    token = open_session(sqlite_database, "rita", CHEAP)
    assert team.get(USERS, headers=bearer(token)).status_code == 403
    assert team.patch(f"{USERS}/rita", json={"role": "Admin"}).json()["role"] == "Admin"
    assert team.get(USERS, headers=bearer(token)).status_code == 200
    team.patch(f"{USERS}/rita", json={"role": "ReadOnly"})
    assert team.get(USERS, headers=bearer(token)).status_code == 403


def test_a_disabled_user_is_out(team: TestClient, sqlite_database: Database) -> None:
    """Session, API token and password; enabled again, the password works."""
    session = open_session(sqlite_database, "olga", CHEAP)
    token = make_token(sqlite_database, "olga", Scope.READ)
    assert team.patch(f"{USERS}/olga", json={"is_disabled": True}).json()["is_disabled"] is True
    for one in (session, token):
        assert team.get("/api/v1/nodes", headers=bearer(one)).status_code == 401
    assert log_in(team, "olga", PASSWORD).status_code == 401
    team.patch(f"{USERS}/olga", json={"is_disabled": False})
    assert log_in(team, "olga", PASSWORD).status_code == 201


def test_a_deleted_user_is_gone(team: TestClient, sqlite_database: Database) -> None:
    """With sessions and tokens; a second deletion is 404."""
    token = make_token(sqlite_database, "olga", Scope.READ)
    assert team.delete(f"{USERS}/olga").status_code == 204
    assert team.get("/api/v1/nodes", headers=bearer(token)).status_code == 401
    assert log_in(team, "olga", PASSWORD).status_code == 401
    assert team.delete(f"{USERS}/olga").status_code == 404


@pytest.mark.parametrize("change", [{"role": "ReadOnly"}, {"is_disabled": True}, None])
def test_the_last_admin_stays(team: TestClient, change: dict[str, Any] | None) -> None:
    """409 with the reason; the session that tried it goes on."""
    path = f"{USERS}/admin"
    answer = team.delete(path) if change is None else team.patch(path, json=change)
    assert answer.status_code == 409
    assert "last Admin" in answer.json()["detail"]
    assert team.get(USERS).status_code == 200


def test_a_forgotten_password_is_reset(team: TestClient) -> None:
    """The old one is dead, the new one must be changed."""
    password = team.post(f"{USERS}/olga/reset-password").json()["one_time_password"]
    assert log_in(team, "olga", PASSWORD).status_code == 401
    assert log_in(team, "olga", password).json()["must_change_password"] is True


def test_a_one_time_password_says_when_it_ends(team: TestClient, sqlite_database: Database) -> None:
    """And afterwards the login says why it is refused."""
    made = team.post(f"{USERS}/olga/reset-password").json()
    assert team.get(f"{USERS}/olga").json()["password_expires_at"] == made["expires_at"]
    with sqlite_database.write() as session:
        row = session.get_one(UserRow, "olga")
        row.password_expires_at = utc_now()
        session.add(row)
    refused = log_in(team, "olga", made["one_time_password"])
    assert (refused.status_code, refused.json()["reason"]) == (401, "password-expired")


def test_all_sessions_of_a_user_are_ended(team: TestClient, sqlite_database: Database) -> None:
    """By an Admin, for anybody that there is."""
    token = open_session(sqlite_database, "olga", CHEAP)
    assert team.delete(f"{USERS}/olga/sessions").json() == {"ended": 1}
    assert team.get("/api/v1/nodes", headers=bearer(token)).status_code == 401
    assert team.delete(f"{USERS}/nobody/sessions").status_code == 404
    rita = bearer(open_session(sqlite_database, "rita", CHEAP))
    assert team.delete(f"{USERS}/admin/sessions", headers=rita).status_code == 403


def test_a_lost_second_factor_is_reset(
    team: TestClient, sqlite_database: Database, rules: LoginRules
) -> None:
    """And the list says who has one."""
    give_second_factor(sqlite_database, "olga", rules)
    assert team.get(f"{USERS}/olga").json()["has_second_factor"] is True
    assert log_in(team, "olga", PASSWORD).json()["reason"] == "code-required"
    assert team.delete(f"{USERS}/olga/second-factor").status_code == 204
    assert log_in(team, "olga", PASSWORD).status_code == 201
    assert team.delete(f"{USERS}/olga/second-factor").status_code == 404


def test_an_admin_resets_nothing_of_their_own(team: TestClient) -> None:
    """A stolen session of theirs could, too."""
    assert team.post(f"{USERS}/admin/reset-password").status_code == 409
    assert team.delete(f"{USERS}/admin/second-factor").status_code == 409


@pytest.mark.parametrize("name", ["olga", "rita"])
def test_nobody_raises_their_own_role(
    team: TestClient, sqlite_database: Database, name: str
) -> None:
    """Over no call that takes a role or could smuggle one in, by session or by token."""
    session = bearer(open_session(sqlite_database, name, CHEAP))
    tries = [
        team.patch(f"{USERS}/{name}", json={"role": "Admin"}, headers=session),
        team.post(USERS, json={"name": "mallory", "role": "Admin"}, headers=session),
        team.post(f"{USERS}/admin/reset-password", headers=session),
        team.delete(f"{USERS}/admin", headers=session),
        team.patch("/api/v1/profile", json={"role": "Admin"}, headers=session),
        team.patch("/api/v1/profile", json={"theme": "dark", "name": "admin"}, headers=session),
    ]
    assert [one.status_code for one in tries] == [403, 403, 403, 403, 422, 422]
    body = {"current_password": PASSWORD, "name": "up", "scope": "admin"}
    token = team.post("/api/v1/profile/tokens", json=body, headers=session).json()["token"]
    up = [
        team.patch("/api/v1/cluster", json={"name": "mine"}, headers=bearer(token)),
        team.get(USERS, headers=bearer(token)),
        team.post("/api/v1/nodes/node-a/confirm-dead", headers=bearer(token)),
    ]
    assert {one.status_code for one in up} == {403}
    assert team.get(f"{USERS}/{name}").json()["role"] != "Admin"


def test_an_admins_token_cannot_outlive_its_revocation(
    team: TestClient, sqlite_database: Database
) -> None:
    """It makes no user, no token, no password, no second factor."""
    token = bearer(make_token(sqlite_database, "admin", Scope.ADMIN))
    proof = {"current_password": PASSWORD}
    tries = [
        team.post(USERS, json={"name": "mallory", "role": "Admin"}, headers=token),
        team.post(
            "/api/v1/profile/tokens", json={**proof, "name": "x", "scope": "read"}, headers=token
        ),
        team.put(
            f"{SESSION}/password", json={**proof, "new_password": "mallorys-1-word"}, headers=token
        ),
        team.post("/api/v1/profile/second-factor", json=proof, headers=token),
        team.post(f"{USERS}/olga/reset-password", headers=token),
    ]
    assert {one.status_code for one in tries} == {403}
    assert "log in" in tries[0].json()["detail"]


def test_every_change_of_a_user_is_audited(team: TestClient, sqlite_database: Database) -> None:
    """Who, what, whom; no row holds a one-time password."""
    passwords = [create(team), team.post(f"{USERS}/nina/reset-password").json()]
    team.patch(f"{USERS}/nina", json={"role": "ReadOnly"})
    team.delete(f"{USERS}/nina")
    rows = [row for row in audited(sqlite_database) if row[2] == "nina"]
    assert rows == [
        ("admin", "user.create", "nina"),
        ("admin", "user.reset-password", "nina"),
        ("admin", "user.update", "nina"),
        ("admin", "user.delete", "nina"),
    ]
    entries = team.get("/api/v1/audit", params={"target": "nina"}).text
    assert passwords[0] not in entries
    assert passwords[1]["one_time_password"] not in entries


def test_a_change_of_nothing_is_no_change(team: TestClient, sqlite_database: Database) -> None:
    """It leaves no row."""
    before = audited(sqlite_database)
    assert team.patch(f"{USERS}/olga", json={"role": "Operator"}).status_code == 200
    assert team.patch(f"{USERS}/olga", json={}).status_code == 200
    assert audited(sqlite_database) == before


def test_preferences_are_ones_own(team: TestClient, sqlite_database: Database) -> None:
    """What is left out stays, what does not exist is refused, a token shows nothing."""
    session = bearer(open_session(sqlite_database, "rita", CHEAP))
    profile = "/api/v1/profile"
    before = team.get(profile, headers=session).json()
    assert (before["name"], before["language"], before["theme"]) == ("rita", "auto", "auto")
    assert team.patch(profile, json={"language": "de"}, headers=session).json()["theme"] == "auto"
    after = team.patch(profile, json={"theme": "dark"}, headers=session).json()
    assert (after["language"], after["theme"]) == ("de", "dark")
    zone = {"time_zone": "Asia/Tokyo"}
    assert team.patch(profile, json=zone, headers=session).json()["time_zone"] == "Asia/Tokyo"
    for wrong in ("Mars/Base", "../etc/passwd", ""):
        refused = team.patch(profile, json={"time_zone": wrong}, headers=session)
        assert (refused.status_code, set(refused.json()["fields"])) == (422, {"time_zone"})
    assert team.patch(profile, json={"language": "fr"}, headers=session).status_code == 422
    assert team.get(profile).json()["language"] == "auto"
    token = bearer(make_token(sqlite_database, "rita", Scope.READ))
    assert team.get(profile, headers=token).status_code == 403
