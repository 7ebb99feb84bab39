"""The own profile: look and time zone, second factor with its QR code, sessions, API tokens."""

from __future__ import annotations

import html
import re

import pytest
from fastapi.testclient import TestClient

from controlplane.core.permissions import UserRole
from controlplane.gui.second_factor import draw_qr_code
from controlplane.store.engine import Database
from controlplane.store.user_sessions import LoginRules, find_user
from controlplane.store.user_tables import UserRow
from controlplane.store.users import log_in
from tests.api.conftest import CHEAP, PASSWORD
from tests.fakes.people import (
    Actor,
    add_user,
    bearer,
    code_of,
    give_second_factor,
    let_codes_be_used_again,
    open_session,
)
from tests.gui.conftest import NEW, post

FACTOR = "/profile/second-factor"
SECRET = re.compile(r'<pre class="text-break">([A-Z2-7]{20,})</pre>')
TOKEN_TEXT = re.compile(r'<pre class="text-break">(relay_[\w-]+)</pre>')
CODES = re.compile(r"[A-Z2-9]{4}(?:-[A-Z2-9]{4}){3}")
ADMIN = Actor("admin", "testclient")


def test_the_profile_shows_who_one_is(browser: TestClient) -> None:
    """And leads to password, second factor and tokens."""
    page = browser.get("/profile").text
    for path in ("/password", FACTOR, "/profile/tokens"):
        assert f'href="{path}"' in page
    assert "<td>Admin</td>" in page
    assert "this one" in page


def test_language_theme_and_time_zone_are_set_together(
    browser: TestClient, sqlite_database: Database
) -> None:
    """They hold from the next page on, in whatever browser."""
    browser.cookies.set("relay_zone", "America%2FNew_York")
    sent = {"language": "de", "theme": "dark", "time_zone": "Asia/Tokyo"}
    assert post(browser, "/profile", **sent).headers["location"] == "/profile"
    page = browser.get("/profile").text
    assert '<html lang="de-DE"' in page
    assert 'data-bs-theme="dark"' in page
    assert '<option value="Asia/Tokyo" selected>' in page
    with sqlite_database.write() as session:
        row = session.get_one(UserRow, "admin")
        row.created_at = row.created_at.replace(2026, 1, 1, 20, 30, 0)
        session.add(row)
    assert "02.01.2026, 05:30:00" in browser.get("/users/admin").text
    post(browser, "/profile", language="en", theme="auto", time_zone="auto")
    assert "1 Jan 2026, 15:30:00" in browser.get("/users/admin").text


def test_a_zone_that_there_is_not_is_explained(browser: TestClient) -> None:
    """Beside its field; nothing is changed."""
    answer = post(browser, "/profile", language="de", theme="auto", time_zone="Mars/Base")
    assert (answer.status_code, "f-time_zone-error" in answer.text) == (422, True)
    assert '<html lang="en-GB"' in browser.get("/profile").text


def test_a_second_factor_is_set_up_by_its_qr_code(browser: TestClient, rules: LoginRules) -> None:
    """Password, code of the app, recovery codes; from then on the login asks for a code."""
    begun = post(browser, FACTOR, current_password=NEW)
    secret = SECRET.findall(begun.text)[0]
    assert "<svg" in begun.text
    done = post(browser, f"{FACTOR}/confirm", code=code_of(secret))
    assert len(CODES.findall(done.text)) == 10
    later = browser.get(FACTOR).text + browser.get("/profile").text
    assert secret not in later
    assert CODES.findall(later) == []
    assert "10 recovery codes left" in later
    post(browser, "/logout")
    refused = post(browser, "/login", user="admin", password=NEW)
    assert (refused.status_code, "second factor" in refused.text) == (401, True)
    code = code_of(secret, 1)
    assert post(browser, "/login", user="admin", password=NEW, code=code).status_code == 303
    del rules


def test_a_wrong_password_sets_nothing_up(browser: TestClient) -> None:
    """A browser that was left open is not enough."""
    answer = post(browser, FACTOR, current_password="wrong-Relays-42")
    assert answer.status_code == 422
    assert "The current password is wrong." in answer.text
    assert "<svg width" not in answer.text
    assert post(browser, f"{FACTOR}/confirm", code="123456").status_code == 404


def test_a_wrong_code_confirms_nothing(browser: TestClient) -> None:
    """The page asks again without showing the secret again; the right code still works."""
    secret = SECRET.findall(post(browser, FACTOR, current_password=NEW).text)[0]
    wrong = post(browser, f"{FACTOR}/confirm", code="12345")
    assert wrong.status_code == 401
    assert secret not in wrong.text
    assert f'action="{FACTOR}/confirm"' in wrong.text
    assert "Set up a second factor" in browser.get(FACTOR).text
    assert post(browser, f"{FACTOR}/confirm", code=code_of(secret)).status_code == 200


@pytest.fixture
def secured(
    browser: TestClient, sqlite_database: Database, rules: LoginRules
) -> tuple[TestClient, str]:
    """Give a browser of an Admin who has a second factor, and its secret."""
    secret, _codes = give_second_factor(sqlite_database, "admin", rules)
    code = code_of(secret)
    assert post(browser, "/login", user="admin", password=NEW, code=code).status_code == 303
    let_codes_be_used_again(sqlite_database, "admin")
    return browser, secret


def test_recovery_codes_are_renewed(
    secured: tuple[TestClient, str], sqlite_database: Database, rules: LoginRules
) -> None:
    """With password and code; a new one opens a login."""
    browser, secret = secured
    path = f"{FACTOR}/recovery-codes"
    assert post(browser, path, current_password=NEW, code="000").status_code == 422
    made = post(browser, path, current_password=NEW, code=code_of(secret))
    codes = CODES.findall(made.text)
    assert len(codes) == 10
    assert log_in(sqlite_database, ADMIN, NEW, rules, code=codes[3]).user == "admin"


def test_a_second_factor_is_removed_with_a_code_of_it(secured: tuple[TestClient, str]) -> None:
    """Neither the password alone nor a wrong code will do."""
    browser, secret = secured
    path = f"{FACTOR}/remove"
    assert post(browser, path, current_password=NEW, code="").status_code == 422
    wrong = post(browser, path, current_password=NEW, code="000000x")
    assert (wrong.status_code, "remove-code-error" in wrong.text) == (422, True)
    done = post(browser, path, current_password=NEW, code=code_of(secret))
    assert done.headers["location"] == "/profile"
    assert "You sign in with the password alone." in browser.get("/profile").text


def test_a_qr_code_needs_no_style_and_is_dark_on_light() -> None:
    """The pages' policy forbids styles within; scanners want a light ground in dark themes, too."""
    drawn = draw_qr_code("otpauth://totp/x?secret=ABC&issuer=<script>")
    assert "style" not in drawn
    assert "<script" not in drawn
    assert 'fill="#fff"' in drawn
    assert 'stroke="#000"' in drawn


def test_own_sessions_are_ended(browser: TestClient, sqlite_database: Database) -> None:
    """One by its button, all others by another; this one has none."""
    tokens = [open_session(sqlite_database, "admin", CHEAP) for _ in range(3)]
    page = browser.get("/profile").text
    paths = re.findall(r'action="(/profile/sessions/[0-9a-f]{16}/revoke)"', page)
    assert len(paths) == 3
    assert post(browser, paths[0]).status_code == 303
    again = post(browser, paths[0])
    assert (again.status_code, "There is no such session" in again.text) == (404, True)
    assert post(browser, "/profile/sessions/revoke-others").status_code == 303
    assert "All other sessions have ended." in browser.get("/profile").text
    with sqlite_database.read() as session:
        assert [find_user(session, token) for token in tokens] == [None] * 3


def test_nobody_ends_a_session_of_somebody_else_there(
    browser: TestClient, sqlite_database: Database
) -> None:
    """Not an Admin either: theirs is the page of users, where it is audited as such."""
    add_user(sqlite_database, "olga", UserRole.OPERATOR, PASSWORD, CHEAP)
    token = open_session(sqlite_database, "olga", CHEAP)
    with sqlite_database.read() as session:
        known = find_user(session, token)
    assert known is not None
    path = f"/profile/sessions/{known.credential_id}/revoke"
    assert post(browser, path).status_code == 404
    with sqlite_database.read() as session:
        assert find_user(session, token) is not None


def test_a_token_is_shown_once_used_and_revoked(browser: TestClient) -> None:
    """The list shows how it begins; revoked, it is refused at once."""
    sent = {"name": "<b>backup</b>", "scope": "read", "valid_days": "7", "current_password": NEW}
    made = post(browser, "/profile/tokens", **sent)
    token = TOKEN_TEXT.findall(made.text)[0]
    headers = bearer(token)
    assert browser.get("/api/v1/nodes", headers=headers).status_code == 200
    page = browser.get("/profile/tokens").text
    assert (token[:12] in page, token in page) == (True, False)
    assert html.escape("<b>backup</b>") in page
    path = re.findall(r'action="(/profile/tokens/[0-9a-f]{16}/revoke)"', page)[0]
    assert post(browser, path).status_code == 303
    assert browser.get("/api/v1/nodes", headers=headers).status_code == 401
    assert post(browser, path).status_code == 404


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"current_password": "wrong-Relays-42"}, "current_password"),
        ({"name": ""}, "name"),
        ({"scope": "root"}, "scope"),
        ({"valid_days": "366"}, "valid_days"),
        ({"valid_days": "soon"}, "valid_days"),
    ],
)
def test_a_token_that_cannot_be_made_is_explained(
    browser: TestClient, changed: dict[str, str], field: str
) -> None:
    """Beside its field; what was typed stays but the password, and no token is made."""
    sent = {"name": "backup", "scope": "operate", "valid_days": "7", "current_password": NEW}
    answer = post(browser, "/profile/tokens", **{**sent, **changed})
    assert (answer.status_code, f"f-{field}-error" in answer.text) == (422, True)
    assert NEW not in answer.text
    assert "There is no API token." in answer.text
