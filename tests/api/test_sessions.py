"""Sessions over the API: listed, revoked, ended by time and by disuse, chosen by no stranger."""

from __future__ import annotations

from datetime import timedelta

import pytest
from fastapi.testclient import TestClient
from sqlmodel import select

from controlplane.api.user_auth import COOKIE
from controlplane.settings import Settings
from controlplane.store.columns import utc_now
from controlplane.store.engine import Database
from controlplane.store.user_tables import UserSessionRow
from tests.api.conftest import CHEAP, PASSWORD
from tests.fakes.people import audited, bearer, open_session

SESSION = "/api/v1/session"
OWN = "/api/v1/profile/sessions"
ALL = "/api/v1/sessions"


def age(database: Database, **columns: timedelta) -> None:
    """Put columns of all sessions so far into the past."""
    with database.write() as session:
        for row in session.exec(select(UserSessionRow)):
            for name, span in columns.items():
                setattr(row, name, getattr(row, name) - span)
            session.add(row)


def test_ones_own_sessions_are_listed(team: TestClient) -> None:
    """Where from, with what, since when; which one asks; nobody else's, and no token."""
    login = {"user": "olga", "password": PASSWORD}
    agent = {"User-Agent": f"browser-1 <b>{'x' * 300}"}
    token = team.post(SESSION, json=login, headers=agent).json()["token"]
    team.post(SESSION, json=login)
    team.cookies.clear()
    listed = team.get(OWN, headers=bearer(token)).json()
    assert [one["user"] for one in listed] == ["olga", "olga"]
    (current,) = [one for one in listed if one["is_current"]]
    assert current["user_agent"].startswith("browser-1 <b>x")
    assert len(current["user_agent"]) == 200
    assert current["address"] == "testclient"
    assert token not in str(listed)
    assert current["id"] == team.get(SESSION, headers=bearer(token)).json()["id"]


def test_a_revoked_session_is_dead_at_once(team: TestClient, sqlite_database: Database) -> None:
    """One of one's own, by its id; a second time it is not there."""
    kept, lost = (open_session(sqlite_database, "olga", CHEAP) for _ in range(2))
    lost_id = team.get(SESSION, headers=bearer(lost)).json()["id"]
    assert team.delete(f"{OWN}/{lost_id}", headers=bearer(kept)).status_code == 204
    assert team.get(SESSION, headers=bearer(lost)).status_code == 401
    assert team.get(SESSION, headers=bearer(kept)).status_code == 200
    assert team.delete(f"{OWN}/{lost_id}", headers=bearer(kept)).status_code == 404
    assert ("olga", "session.revoke", "olga") in audited(sqlite_database)


def test_nobody_revokes_the_session_of_another(team: TestClient, sqlite_database: Database) -> None:
    """It answers as if there were none; an Admin does it over the other call."""
    rita, olga = (open_session(sqlite_database, name, CHEAP) for name in ("rita", "olga"))
    rita_id = team.get(SESSION, headers=bearer(rita)).json()["id"]
    assert team.delete(f"{OWN}/{rita_id}", headers=bearer(olga)).status_code == 404
    assert team.delete(f"{ALL}/{rita_id}", headers=bearer(olga)).status_code == 403
    assert team.get(SESSION, headers=bearer(rita)).status_code == 200
    assert team.delete(f"{ALL}/{rita_id}").status_code == 204
    assert team.get(SESSION, headers=bearer(rita)).status_code == 401
    assert ("admin", "session.revoke", "rita") in audited(sqlite_database)


def test_all_other_sessions_are_ended_in_one_call(
    team: TestClient, sqlite_database: Database
) -> None:
    """One's own; the one that asks and everybody else's stay."""
    kept, *lost = (open_session(sqlite_database, "olga", CHEAP) for _ in range(3))
    assert team.delete(OWN, headers=bearer(kept)).json() == {"ended": 2}
    assert [team.get(SESSION, headers=bearer(one)).status_code for one in lost] == [401, 401]
    assert team.get(SESSION, headers=bearer(kept)).status_code == 200
    assert team.get(SESSION).status_code == 200
    assert team.delete(OWN, headers=bearer(kept)).json() == {"ended": 0}
    assert audited(sqlite_database)[-1] == ("olga", "session.revoke-others", "olga")


def test_an_admin_sees_everybodys_sessions(team: TestClient, sqlite_database: Database) -> None:
    """Ended ones are not among them."""
    open_session(sqlite_database, "olga", CHEAP)
    age(sqlite_database, expires_at=timedelta(days=1))
    open_session(sqlite_database, "rita", CHEAP)
    token = open_session(sqlite_database, "admin", CHEAP)
    listed = team.get(ALL, headers=bearer(token)).json()
    assert sorted(one["user"] for one in listed) == ["admin", "rita"]


def test_a_session_ends_when_nobody_uses_it(
    client: TestClient, sqlite_database: Database, settings: Settings
) -> None:
    """After `RELAY_SESSION_IDLE_MINUTES`."""
    assert client.get(SESSION).status_code == 200
    age(sqlite_database, idle_at=timedelta(minutes=settings.session_idle_minutes))
    assert client.get(SESSION).status_code == 401


def test_using_a_session_keeps_it(client: TestClient, sqlite_database: Database) -> None:
    """The end moves with each use, noted once a minute; the absolute end never moves."""
    spans = {"idle_at": timedelta(minutes=59), "last_seen_at": timedelta(minutes=59)}
    age(sqlite_database, **spans)
    before = client.get(OWN).json()[0]
    after = client.get(OWN).json()[0]
    assert before["idle_at"] == after["idle_at"] > (utc_now() + timedelta(minutes=58)).isoformat()
    assert before["last_seen_at"] == after["last_seen_at"]
    age(sqlite_database, **spans)
    assert client.get(SESSION).status_code == 200
    age(sqlite_database, expires_at=timedelta(hours=12))
    assert client.get(SESSION).status_code == 401


def test_a_use_within_the_minute_writes_nothing(
    client: TestClient, sqlite_database: Database
) -> None:
    """Reading pages holds up no heartbeat: it works while another transaction writes."""
    with sqlite_database.write():
        assert client.get(SESSION).status_code == 200


def test_a_use_that_cannot_be_noted_refuses_nobody(
    client: TestClient, sqlite_database: Database
) -> None:
    """A busy database is no reason to log people out."""
    age(sqlite_database, last_seen_at=timedelta(minutes=5))
    with sqlite_database.write():
        assert client.get(SESSION).status_code == 200


def test_a_login_takes_no_token_that_a_stranger_chose(anonymous: TestClient) -> None:
    """Session fixation: the token that came with the login opens nothing, before and after."""
    chosen = "chosen-by-a-stranger-0123456789abcdefghijk"
    anonymous.cookies.set(COOKIE, chosen)
    login = {"user": "admin", "password": "Admin123"}
    opened = anonymous.post(SESSION, json=login, headers={"Sec-Fetch-Site": "same-origin"})
    assert opened.status_code == 201
    assert opened.json()["token"] != chosen
    anonymous.cookies.clear()
    assert anonymous.get(SESSION, headers=bearer(chosen)).status_code == 401


def test_every_login_and_password_change_has_a_token_of_its_own(team: TestClient) -> None:
    """What was known before the change is worth nothing after it."""
    login = {"user": "olga", "password": PASSWORD}
    tokens = [team.post(SESSION, json=login).json()["token"] for _ in range(2)]
    team.cookies.clear()
    change = {"current_password": PASSWORD, "new_password": "other-Relays-43"}
    answer = team.put(f"{SESSION}/password", json=change, headers=bearer(tokens[0]))
    team.cookies.clear()
    fresh = answer.json()["token"]
    assert len({*tokens, fresh}) == 3
    statuses = [team.get(SESSION, headers=bearer(one)).status_code for one in (*tokens, fresh)]
    assert statuses == [401, 401, 200]


@pytest.mark.parametrize("key", ["x", "0" * 15, "G" * 16, "%2e%2e"])
def test_an_id_that_is_none_is_refused(client: TestClient, key: str) -> None:
    """One sentence, never a crash."""
    assert client.delete(f"{OWN}/{key}").status_code in {404, 422}
