"""The pages of users: what an Admin does by forms and buttons, and what is refused."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.core.permissions import UserRole
from controlplane.store.columns import utc_now
from controlplane.store.engine import Database
from controlplane.store.user_sessions import LoginRules, find_user
from controlplane.store.user_tables import UserRow
from tests.api.conftest import CHEAP, PASSWORD
from tests.fakes.people import add_user, give_second_factor, open_session
from tests.gui.conftest import post

SHOWN = re.compile(r'<pre class="text-break">([A-Za-z0-9]{16})</pre>')


@pytest.fixture
def office(browser: TestClient, sqlite_database: Database) -> TestClient:
    """Give an Admin's browser, with the Operator olga beside."""
    add_user(sqlite_database, "olga", UserRole.OPERATOR, PASSWORD, CHEAP)
    return browser


def stored(database: Database, name: str) -> UserRow | None:
    """Return a user as stored."""
    with database.read() as session:
        return session.get(UserRow, name)


def test_users_are_listed_with_their_state(office: TestClient, sqlite_database: Database) -> None:
    """Role, whether they may sign in, second factor; each leads to its page."""
    office.post("/users/olga/disable")  # without a token: changes nothing
    page = office.get("/users").text
    assert re.findall(r'<a href="(/users/[^"]+)">([^<]+)</a>', page) == [
        ("/users/admin", "admin"),
        ("/users/olga", "olga"),
    ]
    assert page.count("tone-good") == 2
    with sqlite_database.write() as session:
        row = session.get_one(UserRow, "olga")
        row.must_change_password, row.password_expires_at = True, utc_now()
        session.add(row)
    assert "one-time password has expired" in office.get("/users").text


def test_a_new_user_gets_a_password_that_is_shown_once(
    office: TestClient, sqlite_database: Database
) -> None:
    """It opens the change of itself; no page shows it again."""
    made = post(office, "/users", name="nina", role="Operator")
    assert made.status_code == 200
    assert made.headers["cache-control"] == "no-store"
    password = SHOWN.findall(made.text)[0]
    assert password not in office.get("/users/nina").text + office.get("/audit").text
    office.cookies.clear()
    answer = post(office, "/login", user="nina", password=password)
    assert answer.status_code == 303
    assert office.get("/", follow_redirects=False).headers["location"] == "/password"
    nina = stored(sqlite_database, "nina")
    assert nina is not None
    assert nina.role == "Operator"


@pytest.mark.parametrize(
    ("fields", "status", "words"),
    [
        ({"name": "Nina Smith", "role": "Operator"}, 422, "f-name-error"),
        ({"name": "", "role": "Operator"}, 422, "f-name-error"),
        ({"name": "nina", "role": "root"}, 422, "f-role-error"),
        ({"name": "olga", "role": "Admin"}, 409, "The name olga is taken."),
    ],
)
def test_a_user_that_cannot_be_added_is_explained(
    office: TestClient, sqlite_database: Database, fields: dict[str, str], status: int, words: str
) -> None:
    """Beside the field, with what was typed, and nobody is added."""
    answer = post(office, "/users", **fields)
    assert (answer.status_code, words in answer.text) == (status, True)
    assert f'value="{fields["name"]}"' in answer.text
    assert stored(sqlite_database, "nina") is None


def test_a_role_is_set(office: TestClient) -> None:
    """And the page says so."""
    assert post(office, "/users/olga/role", role="ReadOnly").headers["location"] == "/users/olga"
    page = office.get("/users/olga").text
    assert "The role is set." in page
    assert '<option value="ReadOnly" selected>' in page
    refused = post(office, "/users/olga/role", role="root")
    assert (refused.status_code, "f-role-error" in refused.text) == (422, True)


@pytest.mark.parametrize(
    ("path", "fields"),
    [
        ("/users/admin/role", {"role": "Operator"}),
        ("/users/admin/disable", {}),
        ("/users/admin/remove", {}),
    ],
)
def test_the_last_admin_stays(office: TestClient, path: str, fields: dict[str, str]) -> None:
    """The page says why, and the Admin goes on."""
    answer = post(office, path, **fields)
    assert answer.status_code == 409
    assert "This is the last Admin who may log in; make another one first." in answer.text
    assert office.get("/users").status_code == 200


def test_a_user_is_disabled_enabled_and_removed(
    office: TestClient, sqlite_database: Database
) -> None:
    """Each by its button; who is removed has no page."""
    for action, words in (("disable", "olga is disabled."), ("enable", "olga is enabled.")):
        assert post(office, f"/users/olga/{action}").status_code == 303
        assert words in office.get("/users/olga").text
        olga = stored(sqlite_database, "olga")
        assert olga is not None
        assert olga.is_disabled is (action == "disable")
    assert post(office, "/users/olga/remove").headers["location"] == "/users"
    assert "olga is removed." in office.get("/users").text
    assert stored(sqlite_database, "olga") is None
    assert office.get("/users/olga").status_code == 404
    assert post(office, "/users/olga/enable").status_code == 404
    assert post(office, "/users/olga/reset-password").status_code == 404


def test_a_password_is_reset(office: TestClient, sqlite_database: Database) -> None:
    """The new one is shown once, with its end, and sessions end."""
    token = open_session(sqlite_database, "olga", CHEAP)
    made = post(office, "/users/olga/reset-password")
    assert SHOWN.findall(made.text)
    with sqlite_database.read() as session:
        assert find_user(session, token) is None
    page = office.get("/users/olga").text
    assert "One-time password ends" in page
    assert "must set a password" in page
    assert not SHOWN.findall(page)


def test_a_second_factor_is_removed(
    office: TestClient, sqlite_database: Database, rules: LoginRules
) -> None:
    """Its button is there only while there is one."""
    assert "/users/olga/reset-second-factor" not in office.get("/users/olga").text
    give_second_factor(sqlite_database, "olga", rules)
    assert "/users/olga/reset-second-factor" in office.get("/users/olga").text
    assert post(office, "/users/olga/reset-second-factor").status_code == 303
    page = office.get("/users/olga").text
    assert "olga signs in with the password alone." in page
    again = post(office, "/users/olga/reset-second-factor")
    assert (again.status_code, "olga has no second factor." in again.text) == (404, True)


def test_sessions_are_ended(office: TestClient, sqlite_database: Database) -> None:
    """All of the user's, none of the Admin's."""
    token = open_session(sqlite_database, "olga", CHEAP)
    assert "198.51.100.40" in office.get("/users/olga").text
    assert post(office, "/users/olga/end-sessions").status_code == 303
    assert "No session is open." in office.get("/users/olga").text
    with sqlite_database.read() as session:
        assert find_user(session, token) is None


def test_an_admin_resets_nothing_of_their_own(office: TestClient) -> None:
    """The page leads to the profile instead; sent all the same, it is refused."""
    page = office.get("/users/admin").text
    assert "/users/admin/reset-password" not in page
    assert 'href="/profile"' in page
    for action in ("reset-password", "reset-second-factor"):
        assert post(office, f"/users/admin/{action}").status_code == 409


def test_an_action_that_there_is_not(office: TestClient) -> None:
    """Is refused."""
    assert post(office, "/users/olga/promote").status_code == 422


def _as(office: TestClient, database: Database, name: str) -> Any:
    office.cookies.clear()
    office.cookies.set("relay_session", open_session(database, name, CHEAP))
    return office


@pytest.mark.parametrize("role", [UserRole.OPERATOR, UserRole.READ_ONLY])
def test_only_an_admin_sees_users(
    office: TestClient, sqlite_database: Database, role: UserRole
) -> None:
    """No line in the sidebar, no page, no form."""
    add_user(sqlite_database, "mallory", role, PASSWORD, CHEAP)
    theirs = _as(office, sqlite_database, "mallory")
    assert 'href="/users"' not in theirs.get("/").text
    assert theirs.get("/users").status_code == 403
    assert theirs.get("/users/mallory").status_code == 403
    for path, fields in (
        ("/users", {"name": "eve", "role": "Admin"}),
        ("/users/mallory/role", {"role": "Admin"}),
        ("/users/admin/disable", {}),
        ("/users/admin/reset-password", {}),
    ):
        assert post(theirs, path, **fields).status_code == 403
    mallory = stored(sqlite_database, "mallory")
    assert mallory is not None
    assert mallory.role == role.value


def test_the_page_is_german(office: TestClient) -> None:
    """Headings, states and refusals."""
    post(office, "/preferences", language="de", next="/")
    page = office.get("/users").text
    assert "Benutzer" in page
    assert "aktiv" in page
    assert "letzte Admin" in post(office, "/users/admin/disable").text
