"""The pages of categories: what they are, who may write to them, who gets their mail."""

from __future__ import annotations

import html
import re

import pytest
from fastapi.testclient import TestClient

from controlplane.core.permissions import UserRole
from controlplane.store.engine import Database
from tests.api.conftest import CHEAP, PASSWORD
from tests.fakes.people import add_user, audited, open_session
from tests.gui.conftest import post

PAGE = "/policy/categories"
PARTIAL = {"HX-Request": "true", "HX-Request-Type": "partial"}
HOSTILE = "<script>alert(1)</script>"
NEWS = {
    "address": "News@Example.com",
    "name": "News",
    "posting": "allowed",
    "allowed_senders": "boss@example.com\n*@press.example",
    "is_enabled": "on",
}


@pytest.fixture
def browser(watched: TestClient) -> TestClient:
    """Give a browser of an Admin."""
    del watched.headers["Authorization"]
    return watched


@pytest.fixture
def news(browser: TestClient) -> str:
    """Add a category and give its page."""
    added = post(browser, f"{PAGE}/_new", **NEWS)
    assert added.status_code == 303, added.text
    return str(added.headers["location"]).partition("?")[0]


def test_without_the_stage_of_categories_the_page_says_why(browser: TestClient) -> None:
    """Beside the form of a new category, and what was typed stays; in either language."""
    limits = {"stages": ["mail", "rcpt"], "inspected_bytes": "65536", "decision_timeout_s": "5"}
    assert post(browser, "/policy/settings/limits", **limits).status_code == 303
    for language, said in (
        ("en", "a stage that the settings leave out; add it there first."),
        ("de", "die Einstellungen lassen diese Stufe aus; fügen Sie sie dort zuerst hinzu."),
    ):
        browser.headers["Accept-Language"] = language
        refused = post(browser, f"{PAGE}/_new", **NEWS)
        page = html.unescape(refused.text)
        assert refused.status_code == 409
        assert said in page
        assert 'value="News@Example.com"' in page


@pytest.mark.usefixtures("news")
def test_the_stage_of_categories_stays_while_there_is_one(browser: TestClient) -> None:
    """The settings say so beside the field, and above it what leaving it out would mean."""
    limits = {"stages": ["mail", "rcpt"], "inspected_bytes": "65536", "decision_timeout_s": "5"}
    for language, said, hint in (
        ("en", "while there are categories, do not leave it out.", "Without DATA no content is"),
        ("de", "solange es Kategorien gibt.", "Ohne DATA wird kein Inhalt geprüft"),
    ):
        browser.headers["Accept-Language"] = language
        refused = post(browser, "/policy/settings/limits", **limits)
        page = html.unescape(refused.text)
        assert refused.status_code == 422
        assert re.search(rf'id="[a-z-]*-stages-error"[^>]*>[^<]*{re.escape(said)}', page)
        assert page.count(hint) == 2, "for each of the two doors"
    limits["stages"] = ["data"]
    assert post(browser, "/policy/settings/limits", **limits).status_code == 303


def subscribe(client: TestClient, page: str, address: str) -> int:
    """Add a subscriber; return the status."""
    return int(post(client, f"{page}/subscribe", address=address).status_code)


def test_a_category_is_added_shown_and_changed(browser: TestClient, news: str) -> None:
    """In one spelling; what was allowed stays."""
    listed = browser.get(PAGE).text
    assert "news@example.com" in listed
    assert "the allowed senders alone" in listed
    shown = browser.get(news).text
    assert "boss@example.com\n*@press.example" in html.unescape(shown)
    changed = {**NEWS, "name": "Newer", "posting": "anybody", "is_enabled": ""}
    assert post(browser, news, **changed).status_code == 303
    listed = browser.get(PAGE).text
    assert "Newer" in listed
    assert "anybody" in listed


@pytest.mark.parametrize(
    "wrong",
    [
        {"address": "no address"},
        {"address": ""},
        {"posting": "nobody"},
        {"allowed_senders": "press.example"},
        {"name": "x" * 101},
    ],
)
def test_what_makes_no_category_is_refused_and_kept(
    browser: TestClient, news: str, wrong: dict[str, str]
) -> None:
    """On both forms, with everything that was typed."""
    form = {**NEWS, "address": "other@example.com", **wrong}
    for path in (f"{PAGE}/_new", news):
        refused = post(browser, path, **form)
        assert refused.status_code == 422, path
        assert "*@press.example" in refused.text or "press.example" in refused.text
    assert "other@example.com" not in browser.get(PAGE).text


def test_an_address_is_one_category(browser: TestClient, news: str) -> None:
    """Adding it again is refused."""
    del news
    assert post(browser, f"{PAGE}/_new", **NEWS).status_code == 409


def test_subscribers_come_and_go(browser: TestClient, news: str, sqlite_database: Database) -> None:
    """Each once, audited; a second time is refused with a sentence."""
    assert subscribe(browser, news, "One@example.com") == 303
    assert subscribe(browser, news, "two@example.com") == 303
    assert subscribe(browser, news, "one@example.com") == 409
    assert subscribe(browser, news, "nonsense") == 422
    page = browser.get(news).text
    assert "2 of 2 rows" in page
    found = re.findall(r'name="subscription" value="(\d+)"', page)
    assert len(found) == 2
    assert post(browser, f"{news}/unsubscribe", subscription=found[0]).status_code == 303
    assert "1 of 1 row" in browser.get(news).text
    actions = [one for entry in audited(sqlite_database) for one in entry]
    assert "subscription.delete" in actions


def test_a_list_is_searched(browser: TestClient, news: str) -> None:
    """HTMX gets the list alone."""
    for name in ("one", "two", "three"):
        assert subscribe(browser, news, f"{name}@example.com") == 303
    found = browser.get(f"{news}?search=TWO", headers=PARTIAL).text
    assert "two@example.com" in found
    assert "three@example.com" not in found
    assert "<html" not in found
    assert "No category fits." in browser.get(f"{PAGE}?search=nothing").text
    assert browser.get(f"{PAGE}?before=x").status_code == 422


def test_a_category_goes_with_its_subscriptions(browser: TestClient, news: str) -> None:
    """What is not there is not found."""
    assert subscribe(browser, news, "one@example.com") == 303
    assert post(browser, f"{news}/delete").status_code == 303
    assert browser.get(news).status_code == 404
    assert subscribe(browser, news, "two@example.com") == 404
    assert post(browser, f"{news}/unsubscribe", subscription="1").status_code == 404


@pytest.mark.parametrize("number", ["", "x", "-1"])
def test_only_numbers_end_a_subscription(browser: TestClient, news: str, number: str) -> None:
    """What no page of ours sends changes nothing."""
    assert post(browser, f"{news}/unsubscribe", subscription=number).status_code == 422


def test_another_categorys_subscription_is_not_ended(browser: TestClient, news: str) -> None:
    """Its number is nobody's here."""
    assert subscribe(browser, news, "one@example.com") == 303
    number = re.findall(r'name="subscription" value="(\d+)"', browser.get(news).text)[0]
    other = {**NEWS, "address": "other@example.com"}
    page = str(post(browser, f"{PAGE}/_new", **other).headers["location"]).partition("?")[0]
    assert post(browser, f"{page}/unsubscribe", subscription=number).status_code == 404
    assert "one@example.com" in browser.get(news).text


def test_whoever_may_only_read_sees_no_forms(
    browser: TestClient, news: str, sqlite_database: Database
) -> None:
    """And changes nothing."""
    add_user(sqlite_database, "rita", UserRole.READ_ONLY, PASSWORD, CHEAP)
    browser.cookies.clear()
    browser.cookies.set("relay_session", open_session(sqlite_database, "rita", CHEAP))
    page = browser.get(news).text
    assert "News" in page
    assert 'name="allowed_senders"' not in page
    assert browser.get(f"{PAGE}/_new").status_code == 403
    assert post(browser, news, **NEWS).status_code == 403
    assert subscribe(browser, news, "one@example.com") == 403


def test_texts_stay_texts(browser: TestClient) -> None:
    """A name is no markup."""
    page = str(post(browser, f"{PAGE}/_new", **{**NEWS, "name": HOSTILE}).headers["location"])
    assert HOSTILE not in browser.get(page).text
    assert HOSTILE not in browser.get(PAGE).text
