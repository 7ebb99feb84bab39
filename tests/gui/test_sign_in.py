"""Signing in and out by forms: the first login, the forced password change, every refusal."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from controlplane.store.users import FIRST_PASSWORD
from tests.gui.conftest import NEW, post


def test_a_stranger_sees_nothing_but_the_login(anonymous: TestClient) -> None:
    """Without a session the page leads to the login form."""
    answer = anonymous.get("/", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (303, "/login")
    assert 'name="password"' in anonymous.get("/login").text


def test_the_first_login_leads_to_a_new_password(anonymous: TestClient) -> None:
    """The status stays out of reach until the first password is gone."""
    post(anonymous, "/login", user="admin", password=FIRST_PASSWORD)
    answer = anonymous.get("/", follow_redirects=False)
    assert answer.headers["location"] == "/password"
    assert "opens nothing but this page" in anonymous.get("/password").text


@pytest.mark.parametrize(
    ("new", "repeated", "words"),
    [
        (NEW, f"{NEW}x", "The two new passwords differ."),
        ("short", "short", "at least 10 characters"),
        (FIRST_PASSWORD, FIRST_PASSWORD, "must differ"),
        ("", "", "Fill in every field"),
    ],
)
def test_a_bad_new_password_is_explained(
    anonymous: TestClient, new: str, repeated: str, words: str
) -> None:
    """The form comes back with one sentence."""
    post(anonymous, "/login", user="admin", password=FIRST_PASSWORD)
    fields = {"new_password": new, "repeated": repeated}
    answer = post(anonymous, "/password", current_password=FIRST_PASSWORD, **fields)
    assert answer.status_code == 422
    assert words in answer.text


def test_a_wrong_password_shows_the_form_again(anonymous: TestClient) -> None:
    """With the reason, and nothing typed is repeated."""
    answer = post(anonymous, "/login", user="<b>admin</b>", password="wrong")
    assert answer.status_code == 401
    assert "User name or password is wrong." in answer.text
    assert "<b>" not in answer.text


def test_logging_out_ends_it(browser: TestClient) -> None:
    """The cookie is worth nothing afterwards."""
    cookie = browser.cookies["relay_session"]
    assert post(browser, "/logout").headers["location"] == "/login"
    browser.cookies.set("relay_session", cookie)
    assert browser.get("/", follow_redirects=False).headers["location"] == "/login"


def test_a_long_form_is_refused(anonymous: TestClient) -> None:
    """A form is a few fields, not a megabyte."""
    assert post(anonymous, "/login", user="x" * 10_000, password="y").status_code == 422
