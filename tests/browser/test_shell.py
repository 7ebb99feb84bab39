"""The shell in a real browser: languages, themes, sizes, keyboard, accessibility, weight."""

from __future__ import annotations

import re
from collections.abc import Callable
from statistics import median

import pytest
from playwright.sync_api import Page, expect

from controlplane.core.permissions import UserRole
from controlplane.store.passwords import hash_password
from controlplane.store.user_tables import UserRow
from tests.browser.checks import sideways_px, violations
from tests.browser.conftest import CHEAP, Cluster, OpenPage
from tests.browser.opening import PHONE

SIGNED_IN = [
    "/",
    "/nodes",
    "/nodes/_new",
    "/nodes/node-a",
    "/nodes/node-a/remove",
    "/switchover",
    "/cluster",
    "/cluster/vips/new",
    "/tls",
    "/ssh",
    "/ssh/node-a/setup",
    "/ssh/node-a/key",
    "/ssh/known-hosts",
    "/mail",
    "/mail/recipient-domains",
    "/mail/routes/new",
    "/mail/trusted-networks/import",
    "/mail/settings",
    "/policy",
    "/policy/lists",
    "/policy/words/new",
    "/policy/rates",
    "/policy/lists/import",
    "/configuration",
    "/configuration/diff",
    "/configuration/import",
    "/trace",
    "/policy/categories",
    "/policy/categories/_new",
    "/policy/log",
    "/policy/threats",
    "/policy/connections",
    "/policy/quarantine",
    "/policy/try",
    "/policy/settings",
    "/policy/threat-rules",
    "/policy/threat-rules/sql-union",
    "/events",
    "/alerts",
    "/alerts/channels/_new",
    "/alerts/rules/queue-size",
    "/audit",
    "/system",
    "/about",
    "/manuals/README.md",
    "/manuals/howto/monitor.md",
    "/users",
    "/users/admin",
    "/profile",
    "/profile/tokens",
    "/profile/second-factor",
    "/password",
]
LARGEST_KIB = 200
LOADS = 3
PAINT_MS = """() => new Promise(resolve => new PerformanceObserver(list => {
    const paint = list.getEntriesByName("first-contentful-paint")[0];
    if (paint) resolve(paint.startTime);
}).observe({ type: "paint", buffered: true }))"""
FIRST_PASSWORD, NEW_PASSWORD = "Newcomer-1-first", "Newcomer-2-second"


@pytest.mark.timeout(900)
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_every_page_is_accessible(open_page: OpenPage, theme: str) -> None:
    """No violation of WCAG 2.1 AA is found, with open menus either."""
    page = open_page("/login", theme=theme, signed_in=False)
    assert violations(page) == []
    page = open_page("/", theme=theme)
    for path in SIGNED_IN:
        page.goto(path)
        for menu in page.locator("details.menu > summary").all():
            menu.click()
            assert violations(page) == [], path


def test_a_phone_shows_every_page_without_scrolling_sideways(open_page: OpenPage) -> None:
    """Tables scroll within their card; the page does not. German has the longest words."""
    page = open_page("/login", size=PHONE, language="de", signed_in=False)
    assert sideways_px(page) == 0
    page = open_page("/", size=PHONE, language="de")
    for path in SIGNED_IN:
        page.goto(path)
        assert sideways_px(page) == 0, path


def test_the_menu_of_a_phone_opens_and_closes(open_page: OpenPage) -> None:
    """By its button, by Escape, and by a click beside it; accessible while open."""
    page = open_page("/", size=PHONE)
    button, sidebar = page.get_by_role("button", name="Menu"), page.locator("#sidebar")
    expect(sidebar).to_be_hidden()
    button.click()
    expect(sidebar).to_be_visible()
    assert violations(page) == []
    page.keyboard.press("Escape")
    expect(sidebar).to_be_hidden()
    expect(button).to_be_focused()
    button.click()
    page.mouse.click(PHONE[0] - 10, 400)
    expect(sidebar).to_be_hidden()
    button.click()
    sidebar.get_by_role("link", name="Events").click()
    expect(page.get_by_role("heading", name="Events", level=1)).to_be_visible()


def test_the_language_of_the_browser_and_of_choice(open_page: OpenPage) -> None:
    """A German browser gets German; what one chooses comes before that and stays."""
    page = open_page("/events", language="de")
    expect(page.get_by_role("heading", name="Ereignisse", level=1)).to_be_visible()
    page.locator("summary", has_text="Sprache und Farbschema").click()
    page.get_by_role("button", name="English").click()
    expect(page.get_by_role("heading", name="Events", level=1)).to_be_visible()
    page.goto("/")
    expect(page.get_by_role("heading", name="Leases")).to_be_visible()
    expect(page.get_by_role("columnheader", name="Last report")).to_be_visible()


def _background(page: Page) -> str:
    return str(page.evaluate("getComputedStyle(document.body).backgroundColor"))


def test_the_theme_changes_in_place_and_stays(open_page: OpenPage) -> None:
    """Nothing typed is lost by it, and the next page comes in it from the start."""
    page = open_page("/password")
    light = _background(page)
    page.get_by_label("Present password").fill("typed")
    page.locator("summary", has_text="Language and theme").click()
    page.get_by_role("button", name="Dark").click()
    expect(page.locator("html")).to_have_attribute("data-bs-theme", "dark")
    expect(page.get_by_label("Present password")).to_have_value("typed")
    dark = _background(page)
    assert dark != light
    page.goto("/")
    assert _background(page) == dark
    page.emulate_media(color_scheme="light")
    assert _background(page) == dark


def test_without_a_choice_the_theme_is_the_systems(open_page: OpenPage) -> None:
    """Also when the system changes while the page is open."""
    page = open_page("/")
    light = _background(page)
    page.emulate_media(color_scheme="dark")
    assert _background(page) != light


def test_the_first_login_by_keyboard_alone(open_page: OpenPage, cluster: Cluster) -> None:
    """Sign in, set a password, open the menu, change the language, sign out: no mouse."""
    with cluster.database.write() as session:
        row = UserRow(
            name="newcomer",
            password_hash=hash_password(FIRST_PASSWORD, CHEAP.cost),
            role=UserRole.READ_ONLY.value,
            must_change_password=True,
        )
        session.add(row)
    page = open_page("/events", signed_in=False)
    expect(page.get_by_label("User")).to_be_focused()
    page.keyboard.type("newcomer")
    page.keyboard.press("Tab")
    page.keyboard.type("wrong")
    page.keyboard.press("Enter")
    expect(page.get_by_role("alert")).to_contain_text("User name or password is wrong.")
    expect(page.get_by_label("User")).to_have_value("newcomer")
    expect(page.get_by_label("Password")).to_have_value("")
    page.keyboard.press("Tab")
    page.keyboard.type(FIRST_PASSWORD)
    page.keyboard.press("Enter")
    expect(page.get_by_text("opens nothing but this page")).to_be_visible()
    page.get_by_label("Present password").focus()
    for words in (FIRST_PASSWORD, NEW_PASSWORD, NEW_PASSWORD):
        page.keyboard.type(words)
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("status").first).to_contain_text("The new password holds")
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="To the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#content")).to_be_focused()
    account = page.locator("summary", has_text="newcomer")
    account.focus()
    page.keyboard.press("Enter")
    expect(page.get_by_role("button", name="Sign out")).to_be_visible()
    page.keyboard.press("Escape")
    expect(page.get_by_role("button", name="Sign out")).to_be_hidden()
    expect(account).to_be_focused()
    page.keyboard.press("Enter")
    for _ in range(3):
        page.keyboard.press("Tab")
    page.keyboard.press("Enter")
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()


def test_filters_and_pages_change_the_list_alone(open_page: OpenPage, cluster: Cluster) -> None:
    """The address follows, the way back too, and the page is not loaded anew."""
    for number in range(60):
        cluster.event("switchover", f"change {number}", node="node-b")
    cluster.event("restored", "only this one")
    page = open_page("/events")
    page.evaluate("window.isTheSame = true")
    page.get_by_label("Kind").select_option("switchover")
    expect(page.get_by_text("only this one")).to_be_hidden()
    expect(page).to_have_url(re.compile(r"/events\?(.*&)?kind=switchover(&|$)"))
    page.get_by_role("link", name="Next page").click()
    expect(page.get_by_text("change 0", exact=True)).to_be_visible()
    assert page.evaluate("window.isTheSame") is True
    page.go_back()
    expect(page.get_by_text("change 59", exact=True)).to_be_visible()
    page.reload()
    expect(page.get_by_label("Kind")).to_have_value("switchover")


@pytest.mark.timeout(900)
def test_every_page_is_light_to_load(
    open_page: OpenPage, weigh: Callable[[Page, str], int]
) -> None:
    """At most 200 KiB with a cold cache, as sent; the first paint is printed, not judged."""
    print()
    for path in ("/login", *SIGNED_IN):
        paints_ms = []
        for _ in range(LOADS):
            page = open_page("/healthz", signed_in=path != "/login")
            size_kib = weigh(page, path) / 1024
            assert size_kib <= LARGEST_KIB
            paints_ms.append(page.evaluate(PAINT_MS))
            page.context.close()
        paint = f"first contentful paint {median(paints_ms):.0f} ms (median of {LOADS})"
        print(f"{path}: {size_kib:.0f} KiB, {paint}")
