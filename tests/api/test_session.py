"""Login, forced password change, throttling, cookies and the check of where a request came from."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlmodel import select

from controlplane.store.audit import AuditFilter, list_entries
from controlplane.store.columns import utc_now
from controlplane.store.engine import Database
from controlplane.store.user_sessions import token_hash
from controlplane.store.user_tables import AuditRow, LoginFailureRow, UserRow, UserSessionRow
from controlplane.store.users import FIRST_PASSWORD, ensure_first_admin, reset_admin
from tests.api.conftest import CHEAP, PASSWORD

SESSION = "/api/v1/session"
FIRST = {"user": "admin", "password": FIRST_PASSWORD}


def _log_in(client: TestClient, password: str = PASSWORD) -> str:
    answer = client.post(SESSION, json={"user": "admin", "password": password})
    assert answer.status_code == 201, answer.text
    client.cookies.clear()
    return str(answer.json()["token"])


def _bearer(token: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token}"}


def _actions(database: Database) -> list[str]:
    with database.read() as session:
        return list(session.exec(select(AuditRow.action).order_by(AuditRow.id)))


def test_the_first_admin_must_change_the_password(anonymous: TestClient) -> None:
    """The first login says so, and every other call is refused until it is done."""
    answer = anonymous.post(SESSION, json=FIRST)
    assert answer.json()["must_change_password"] is True
    token = answer.json()["token"]
    anonymous.cookies.clear()
    refused = anonymous.get(SESSION, headers=_bearer(token))
    assert refused.status_code == 403
    assert "Set a new password first" in refused.json()["detail"]


def test_a_new_password_opens_everything_and_ends_the_old_session(anonymous: TestClient) -> None:
    """The answer to the change is a fresh session; the first token is dead."""
    old = _log_in(anonymous, FIRST_PASSWORD)
    change = {"current_password": FIRST_PASSWORD, "new_password": PASSWORD}
    answer = anonymous.put(f"{SESSION}/password", json=change, headers=_bearer(old))
    assert answer.status_code == 200
    assert answer.json()["must_change_password"] is False
    anonymous.cookies.clear()
    new = answer.json()["token"]
    assert anonymous.get(SESSION, headers=_bearer(new)).json()["user"] == "admin"
    assert anonymous.get(SESSION, headers=_bearer(old)).status_code == 401
    assert anonymous.post(SESSION, json=FIRST).status_code == 401


@pytest.mark.parametrize(
    ("new", "sentence"),
    [
        (FIRST_PASSWORD, "must differ"),
        ("short-1A", "at least 10 characters"),
        ("aaaaaaaaaaaa", "5 different characters"),
        ("Password12345", "well-known word"),
        ("admin-2026-12", "well-known word"),
        ("1234567890123", "digits only"),
        ("x-Y" * 100, "at most 256"),
    ],
)
def test_a_weak_or_unchanged_password_is_refused(
    anonymous: TestClient, new: str, sentence: str
) -> None:
    """Each weakness has its own sentence at the field, and the old password stays."""
    token = _log_in(anonymous, FIRST_PASSWORD)
    change = {"current_password": FIRST_PASSWORD, "new_password": new}
    answer = anonymous.put(f"{SESSION}/password", json=change, headers=_bearer(token))
    assert answer.status_code == 422
    assert sentence in answer.json()["fields"]["new_password"]
    assert _log_in(anonymous, FIRST_PASSWORD)


def test_the_current_password_is_asked_for(client: TestClient) -> None:
    """A stolen session alone cannot change the password."""
    change = {"current_password": "not-the-one", "new_password": "another-Good-1"}
    answer = client.put(f"{SESSION}/password", json=change)
    assert answer.status_code == 422
    assert answer.json()["fields"] == {"current_password": "The current password is wrong."}


@pytest.mark.parametrize("user", ["admin", "nobody"])
def test_a_wrong_login_says_the_same_for_known_and_unknown_users(
    anonymous: TestClient, user: str
) -> None:
    """The answer does not tell whether the user exists."""
    answer = anonymous.post(SESSION, json={"user": user, "password": "wrong"})
    assert answer.status_code == 401
    assert answer.json()["detail"] == "User name or password is wrong."


def test_failed_logins_are_throttled_per_user(
    client: TestClient, sqlite_database: Database
) -> None:
    """After five failures even the right password has to wait; another user name has not."""
    for _ in range(5):
        assert client.post(SESSION, json={"user": "admin", "password": "no"}).status_code == 401
    answer = client.post(SESSION, json={"user": "admin", "password": PASSWORD})
    assert answer.status_code == 429
    assert "try again in" in answer.json()["detail"]
    assert client.post(SESSION, json={"user": "eve", "password": "no"}).status_code == 401
    with sqlite_database.read() as session:
        waits = [row.after for row in list_entries(session, AuditFilter(actor="admin"))][:5]
    assert [after is not None for after in waits] == [True, False, False, False, False]


def test_the_wait_ends_and_a_success_forgets_the_failures(
    client: TestClient, sqlite_database: Database
) -> None:
    """Once the wait is over the right password works and the counter is gone."""
    for _ in range(5):
        client.post(SESSION, json={"user": "admin", "password": "no"})
    with sqlite_database.write() as session:
        row = session.exec(select(LoginFailureRow)).one()
        row.last_at = utc_now() - timedelta(minutes=16)
        session.add(row)
    _log_in(client)
    with sqlite_database.read() as session:
        assert session.exec(select(LoginFailureRow)).all() == []


def test_logging_out_ends_the_session(client: TestClient) -> None:
    """The token stops working at once."""
    assert client.delete(SESSION).status_code == 204
    assert client.get(SESSION).status_code == 401


def test_a_session_expires(client: TestClient, sqlite_database: Database) -> None:
    """A token is worth nothing after its time."""
    with sqlite_database.write() as session:
        for row in session.exec(select(UserSessionRow)):
            row.expires_at = utc_now() - timedelta(seconds=1)
            session.add(row)
    assert client.get(SESSION).status_code == 401


def test_tokens_and_passwords_are_stored_hashed(
    client: TestClient, sqlite_database: Database
) -> None:
    """Neither the token nor the password can be read from the database."""
    token = _log_in(client)
    with sqlite_database.read() as session:
        hashes = [row.token_sha256 for row in session.exec(select(UserSessionRow))]
        user = session.exec(select(UserRow)).one()
    assert token_hash(token) in hashes
    assert token not in hashes
    assert user.password_hash.startswith("$argon2id$")


def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(anonymous: TestClient) -> None:
    """The browser gets the token as a Secure, HttpOnly, SameSite=Strict cookie."""
    cookie = anonymous.post(SESSION, json=FIRST).headers["set-cookie"].lower()
    assert cookie.startswith("relay_session=")
    for word in ("secure", "httponly", "samesite=strict", "path=/"):
        assert word in cookie


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 403),
        ({"Sec-Fetch-Site": "cross-site"}, 403),
        ({"Sec-Fetch-Site": "same-site"}, 403),
        ({"Origin": "https://evil.test"}, 403),
        ({"Origin": "http://relay.test"}, 403),
        ({"Origin": "null"}, 403),
        ({"Origin": "https://relay.test"}, 204),
        ({"Sec-Fetch-Site": "same-origin"}, 204),
    ],
)
def test_a_change_by_cookie_must_come_from_our_own_pages(
    client: TestClient, headers: dict[str, str], status: int
) -> None:
    """A page of another site cannot use the browser's session, however it asks."""
    token = _log_in(client)
    del client.headers["Authorization"]
    client.cookies.set("relay_session", token)
    assert client.delete(SESSION, headers=headers).status_code == status


def test_reading_by_cookie_needs_no_origin(client: TestClient) -> None:
    """A bookmark works."""
    token = _log_in(client)
    del client.headers["Authorization"]
    client.cookies.set("relay_session", token)
    assert client.get(SESSION).status_code == 200


def test_another_site_cannot_log_a_browser_in(anonymous: TestClient) -> None:
    """A login sent by a foreign page is refused before the password is looked at."""
    headers = {"Sec-Fetch-Site": "cross-site"}
    assert anonymous.post(SESSION, json=FIRST, headers=headers).status_code == 403


def test_the_first_admin_is_made_once(database: Database) -> None:
    """A second start, or a second instance, makes no second admin and resets nothing."""
    assert ensure_first_admin(database, CHEAP) is True
    assert ensure_first_admin(database, CHEAP) is False


def test_resetting_the_admin_ends_all_sessions(
    client: TestClient, sqlite_database: Database
) -> None:
    """Whoever has the host can get in again; nobody stays logged in meanwhile."""
    reset_admin(sqlite_database, CHEAP)
    assert client.get(SESSION).status_code == 401
    answer = client.post(SESSION, json=FIRST)
    assert answer.json()["must_change_password"] is True


def test_logins_and_password_changes_are_audited(
    client: TestClient, sqlite_database: Database
) -> None:
    """Success, refusal and change each leave a row, and none holds a password."""
    _log_in(client)
    client.post(SESSION, json={"user": "admin", "password": "guess-me"})
    actions = _actions(sqlite_database)
    assert actions[-3:] == ["user.password", "session.create", "session.refused"]
    assert "user.create" in actions
    with sqlite_database.read() as session:
        assert "guess-me" not in str(session.exec(select(AuditRow)).all())


def test_who_one_is_needs_a_session(app: FastAPI, anonymous: TestClient) -> None:
    """Without a token, and with a made-up one, the answer is 401 and names the way in."""
    assert anonymous.get(SESSION).status_code == 401
    assert "POST /api/v1/session" in anonymous.get(SESSION).json()["detail"]
    assert anonymous.get(SESSION, headers=_bearer("made-up")).status_code == 401
    assert "HTTPBearer" in app.openapi()["components"]["securitySchemes"]
