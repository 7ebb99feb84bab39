"""The shell that all pages share: headers, tokens, languages, notices, ways on, errors."""

from __future__ import annotations

import gzip
import html
import re
from pathlib import Path
from typing import Any

import pytest
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient

from controlplane.gui import protection
from controlplane.gui.routers import PAGE_ROUTERS
from controlplane.gui.static_files import load_assets
from controlplane.store.users import FIRST_PASSWORD
from tests.gui.conftest import NEW, OWN_PAGE, TOKEN, post, token_of

OPEN_PATHS = {"/login", "/preferences", "/static/{name}"}
ROUTES = [
    route for router in PAGE_ROUTERS for route in router.routes if isinstance(route, APIRoute)
]
PATHS = sorted({route.path for route in ROUTES if "GET" in route.methods})
CHANGES = sorted({route.path for route in ROUTES if route.methods - {"GET", "HEAD"}})


def _url(path: str) -> str:
    return re.sub(r"\{[^}]*\}", "x", path)


def _policy(answer: Any) -> dict[str, str]:
    text = answer.headers["content-security-policy"]
    return dict(part.strip().partition(" ")[::2] for part in text.split(";"))


@pytest.mark.parametrize("path", ["/", "/events", "/password", "/nothing"])
def test_every_page_has_the_same_guards(browser: TestClient, path: str) -> None:
    """Scripts and styles are our own files, nobody frames us, nothing is kept."""
    answer = browser.get(path)
    policy = _policy(answer)
    assert policy["default-src"] == "'none'"
    assert policy["script-src"] == policy["style-src"] == "'self'"
    assert policy["frame-ancestors"] == policy["base-uri"] == "'none'"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["x-frame-options"] == "DENY"
    assert re.findall(r'(?:src|href|action)="(?![/#])', answer.text) == []
    assert re.findall(r"<script(?![^>]* src=)|\sstyle=|\son\w+=", answer.text) == []


@pytest.mark.parametrize("path", [path for path in PATHS if path not in OPEN_PATHS])
def test_no_page_opens_without_a_session(anonymous: TestClient, path: str) -> None:
    """Every page leads to the login, and from there back to where one wanted to go."""
    answer = anonymous.get(_url(path), follow_redirects=False)
    assert answer.status_code == 303
    assert answer.headers["location"].startswith("/login")


@pytest.mark.parametrize("path", [path for path in PATHS if path not in OPEN_PATHS])
def test_the_first_password_opens_no_page(anonymous: TestClient, path: str) -> None:
    """All of them lead to the page where a new one is set."""
    post(anonymous, "/login", user="admin", password=FIRST_PASSWORD)
    answer = anonymous.get(_url(path), follow_redirects=False)
    assert answer.status_code == (200 if path == "/password" else 303)
    assert answer.headers.get("location", "/password") == "/password"


@pytest.mark.parametrize("path", CHANGES)
def test_a_form_without_its_token_is_refused(browser: TestClient, path: str) -> None:
    """Each change of each page, with every proof but this one."""
    answer = browser.post(_url(path), data={"user": "x"}, headers=OWN_PAGE, follow_redirects=False)
    assert answer.status_code == 403
    assert "open the page again" in answer.text


@pytest.mark.parametrize("path", CHANGES)
@pytest.mark.parametrize(
    "headers", [{"Sec-Fetch-Site": "cross-site"}, {"Origin": "https://evil.test"}, {}]
)
def test_a_form_of_another_site_is_refused(
    browser: TestClient, path: str, headers: dict[str, str]
) -> None:
    """Even with the right token, and also when no header says where it comes from."""
    data = {"csrf_token": token_of(browser)}
    answer = browser.post(_url(path), data=data, headers=headers, follow_redirects=False)
    assert answer.status_code == 403
    assert "another site" in answer.text


def test_a_token_serves_its_own_session_only(browser: TestClient) -> None:
    """That of an earlier session, or of somebody else's, is worth nothing."""
    earlier = token_of(browser)
    post(browser, "/logout")
    post(browser, "/login", user="admin", password=NEW)
    data = {"csrf_token": earlier, "theme": "dark", "next": "/"}
    assert browser.post("/preferences", data=data, headers=OWN_PAGE).status_code == 403


def test_a_token_may_come_as_a_header(browser: TestClient) -> None:
    """As HTMX sends it with each request."""
    headers = {**OWN_PAGE, protection.TOKEN_HEADER: token_of(browser), "HX-Request": "true"}
    answer = browser.post("/preferences", data={"theme": "dark", "next": "/"}, headers=headers)
    assert (answer.status_code, answer.headers["hx-redirect"]) == (200, "/")


def test_each_page_masks_its_token_anew(browser: TestClient) -> None:
    """What repeats in compressed pages could be guessed byte by byte."""
    assert token_of(browser) != token_of(browser)


@pytest.mark.parametrize("token", ["", "x", "A" * 86, "=", "\u00e4"])
def test_no_damaged_token_is_accepted(token: str) -> None:
    """Whatever it is, the answer is no, not an error."""
    assert not protection.is_form_token("secret", token)
    assert protection.is_form_token("secret", protection.form_token("secret"))


def test_a_login_gives_a_new_session(browser: TestClient) -> None:
    """A session that somebody planted before the login is not the one after it."""
    browser.cookies.set("relay_session", "planted")
    answer = post(browser, "/login", user="admin", password=NEW)
    assert answer.cookies["relay_session"] != "planted"


@pytest.mark.parametrize(
    ("header", "cookie", "words"),
    [
        ("de-AT,de;q=0.9,en;q=0.8", None, "Anmelden"),
        ("fr", None, "Sign in"),
        ("fr;q=0.9,de;q=0.2", None, "Anmelden"),
        ("de", "en", "Sign in"),
        ("en", "de", "Anmelden"),
        ("en", "xx", "Sign in"),
        ("de;q=nonsense", None, "Sign in"),
    ],
)
def test_the_language_is_the_chosen_or_the_browsers(
    anonymous: TestClient, header: str, cookie: str | None, words: str
) -> None:
    """What the user chose comes first, then what the browser asks for, then English."""
    if cookie is not None:
        anonymous.cookies.set("relay_language", cookie)
    answer = anonymous.get("/login", headers={"Accept-Language": header})
    assert f'<h1 class="h2">{words}</h1>' in answer.text
    assert answer.headers["content-language"] == ("de" if words == "Anmelden" else "en")


def test_preferences_are_kept_and_lead_back(browser: TestClient) -> None:
    """Language and theme hold from the next page on."""
    answer = post(browser, "/preferences", language="de", next="/events?kind=role")
    assert answer.headers["location"] == "/events?kind=role"
    post(browser, "/preferences", theme="dark", next="/")
    page = browser.get("/").text
    assert '<html lang="de-DE"' in page
    assert 'data-bs-theme="dark"' in page
    post(browser, "/preferences", language="<b>", theme="nonsense", next="/")
    assert '<html lang="de-DE"' in browser.get("/").text


@pytest.mark.parametrize(
    "target",
    [
        "https://evil.test/",
        "//evil.test/",
        "/\\evil.test",
        "\\\\evil.test",
        "javascript:alert(1)",
        "/\t/evil.test",
        "/ok\r\nSet-Cookie: a=b",
        "",
    ],
)
def test_no_redirect_leaves_us(browser: TestClient, target: str) -> None:
    """A `next` that names another host becomes the first page."""
    post(browser, "/logout")
    answer = post(browser, "/login", user="admin", password=NEW, next=target)
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


def test_the_login_leads_to_the_page_that_was_wanted(browser: TestClient) -> None:
    """With its whole address."""
    post(browser, "/logout")
    asked = browser.get("/events?kind=role", follow_redirects=False)
    form = browser.get(asked.headers["location"]).text
    wanted = re.findall(r'name="next" value="([^"]*)"', form)[-1]
    answer = post(browser, "/login", user="admin", password=NEW, next=html.unescape(wanted))
    assert answer.headers["location"] == "/events?kind=role"


def test_a_notice_is_shown_once(anonymous: TestClient) -> None:
    """On the page after the change, and on no other."""
    post(anonymous, "/login", user="admin", password=FIRST_PASSWORD)
    fields = {"current_password": FIRST_PASSWORD, "new_password": NEW, "repeated": NEW}
    post(anonymous, "/password", **fields)
    assert "The new password holds" in anonymous.get("/").text
    assert "The new password holds" not in anonymous.get("/").text


def test_a_notice_of_somebody_else_is_not_shown(browser: TestClient) -> None:
    """A cookie that another site planted says nothing on our pages."""
    browser.cookies.set("relay_notice", protection.seal_notice("other", "Call 555", "good"))
    answer = browser.get("/")
    assert answer.status_code == 200
    assert "Call 555" not in answer.text


def test_an_expired_session_is_said_to_scripts(anonymous: TestClient) -> None:
    """HTMX is led to the login; nothing of an error is swapped into the page."""
    answer = anonymous.get("/events", headers={"HX-Request": "true"}, follow_redirects=False)
    assert (answer.status_code, answer.headers["hx-redirect"]) == (401, "/login")
    assert "<" not in answer.text


def test_a_refusal_is_a_page_in_the_readers_language(browser: TestClient) -> None:
    """With its own status; the API's refusals stay JSON."""
    browser.cookies.set("relay_language", "de")
    answer = browser.get("/nothing")
    assert answer.status_code == 404
    assert "Unter /nothing gibt es nichts." in answer.text
    assert browser.get("/api/v1/nothing").json()["detail"] == (
        "There is nothing at /api/v1/nothing."
    )


def test_a_form_that_is_too_large_is_refused_as_a_page(browser: TestClient) -> None:
    """Before it was read; the sentence is in the reader's language."""
    browser.cookies.set("relay_language", "de")
    answer = browser.post("/preferences", data={"next": "x" * 300_000}, headers=OWN_PAGE)
    assert answer.status_code == 413
    assert "größer als 256 KiB" in answer.text


def test_a_path_in_an_error_is_text(browser: TestClient) -> None:
    """What a link of a stranger makes us say cannot become markup."""
    answer = browser.get("/%3Cscript%3Ealert(1)%3C/script%3E")
    assert answer.status_code == 404
    assert "<script>" not in answer.text


def test_the_sidebar_shows_the_pages_that_there_are(browser: TestClient) -> None:
    """Each line leads to a page, and the present one is marked."""
    page = browser.get("/events").text
    sidebar = page.partition('id="sidebar"')[2].partition("</aside>")[0]
    links = re.findall(r'<li><a href="([^"]+)"( aria-current="page")?', sidebar)
    assert [path for path, current in links if current] == ["/events"]
    assert [browser.get(path).status_code for path, _ in links] == [200] * len(links)


def test_assets_are_kept_for_ever_and_compressed(browser: TestClient) -> None:
    """A page's files have their hash in the name; the plain and the compressed one are the same."""
    page = browser.get("/events").text
    paths = re.findall(r'(?:src|href)="(/static/[^"]+)"', page)
    assert len(paths) == 3
    for path in paths:
        small = browser.get(path, headers={"Accept-Encoding": "gzip"})
        plain = browser.get(path, headers={"Accept-Encoding": "identity"})
        assert "immutable" in small.headers["cache-control"]
        assert small.headers["content-encoding"] == "gzip"
        assert "content-encoding" not in plain.headers
        assert small.content == plain.content
        assert gzip.decompress(load_assets().files[Path(path).name].compressed) == plain.content


@pytest.mark.parametrize("name", ["manifest.json", "icons.json", "..%2Fshell.py", "base.css"])
def test_only_what_the_manifest_lists_is_served(browser: TestClient, name: str) -> None:
    """No other file of the directory, and none above it."""
    assert browser.get(f"/static/{name}").status_code == 404


def test_pages_are_compressed_for_who_can_read_that(browser: TestClient) -> None:
    """And whole for who cannot."""
    browser.get("/")
    small = browser.get("/", headers={"Accept-Encoding": "gzip"})
    plain = browser.get("/", headers={"Accept-Encoding": "identity"})
    assert small.headers["content-encoding"] == "gzip"
    assert "content-encoding" not in plain.headers
    strip = re.compile(r'data-now-ms="\d+"|(?:value="|Token": ")[\w-]{86}"')
    assert strip.sub("", small.text) == strip.sub("", plain.text)
    assert TOKEN.search(plain.text)
