"""Every page that a link of the GUI leads to, with what a real cluster puts on it.

No console error, no document without its policy, nothing sideways on a phone, nothing inaccessible;
in English and in German. And all of it without a mouse.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final

import pytest
from playwright.sync_api import Page, expect

from lab.settings import load
from tests.browser.checks import sideways_px, violations
from tests.browser.lab.acts import look_until, press, send, tab_to
from tests.browser.lab.conftest import Visit
from tests.browser.opening import PHONE, WIDE
from tests.e2e.driver import Lab

MOST_PAGES: Final = 110
LINKS: Final = """() => [...document.querySelectorAll("main a[href], #sidebar a[href]")]
    .map(link => link.getAttribute("href"))"""
NO_PAGES: Final = re.compile(r"/(?:csv|export)(?:$|\?)|^/api/|^/static/|\.json$|^[^/]|^//|^#")
NAMES: Final = re.compile(
    r"/\d+(?=/|$)|(?<=[?&])([a-z]+)=[^&]*"
    r"|(?<=/queue/messages/)[^?]+|(?<=/policy/threat-rules/)[^?]+|(?<=/alerts/rules/)[^?]+"
)
WAITING: Final = "a-rather-long-local-part-of-an-address@example.com"


@dataclass(frozen=True)
class Look:
    """Who looks: language, theme and size of the window."""

    language: str
    theme: str
    size: tuple[int, int]
    overview: str
    has_axe: bool = False  # a second or two a page; the other look takes the pages of test_shell.py


LOOKS: Final = {
    "english-wide-light": Look("en", "light", WIDE, "Overview", has_axe=True),
    "german-phone-dark": Look("de", "dark", PHONE, "Übersicht"),
}


def kind_of(path: str) -> str:
    """Return a path without the names and numbers in it: pages of one kind have the same."""
    return NAMES.sub(r"\1", path)


def walk(page: Page, look: Look) -> list[str]:
    """Follow the links from the overview, one page of each kind; return the paths."""
    waiting, kinds, seen, wrong = ["/"], {"/"}, [], []
    while waiting:
        path = waiting.pop(0)
        answer = page.goto(path)
        assert answer is not None
        assert answer.status == 200, f"{path}: {answer.status}"
        expect(page.get_by_role("heading", level=1)).to_be_visible()
        if wider_px := sideways_px(page):
            wrong.append(f"{path}: {wider_px} px too wide")
        if look.has_axe:
            wrong += [f"{path}: {one}" for one in violations(page)]
        seen.append(path)
        for href in page.evaluate(LINKS):
            if not NO_PAGES.search(href) and (kind := kind_of(href)) not in kinds:
                kinds.add(kind)
                waiting.append(href)
        assert len(seen) < MOST_PAGES, seen
    assert wrong == []
    return seen


@pytest.mark.parametrize("look", LOOKS.values(), ids=LOOKS.keys())
def test_every_page_holds_with_a_real_cluster_behind_it(lab: Lab, visit: Visit, look: Look) -> None:
    """Whatever a link leads to, in either language, theme and size."""
    with lab.sink_set("defer"):
        queue_id = send(lab, WAITING)
        page = visit("/", language=look.language, theme=look.theme, size=look.size)
        expect(page.locator("html")).to_have_attribute("lang", re.compile(f"^{look.language}"))
        overview = page.locator("#sidebar a").filter(has_text=look.overview)
        expect(overview).to_have_count(1)
        expect(page.locator("[data-live-state=connected]")).to_be_visible()
        expect(page.locator("#tile-waiting")).to_have_text("1")
        look_until(page, "/queue", page.get_by_role("link", name=queue_id))
        look_until(page, "/trace", page.get_by_role("link", name=queue_id))
        seen = walk(page, look)
    assert {kind_of(path) for path in seen} >= {
        "/",
        "/mail",
        "/mail/recipient-domains/edit?key",
        "/configuration/versions",
        "/queue/messages/",
        "/trace",
        "/events",
    }
    print(f"\n{len(seen)} pages: {' '.join(seen)}")


def test_a_mail_list_is_changed_by_the_keyboard_alone(visit: Visit) -> None:
    """Login, sidebar, list, form, and a question that is answered with no and with yes."""
    known, domain = load(), "keyboard.example"
    answers = [False, True]
    page = visit("/", signed_in=False)
    page.on("dialog", lambda one: one.accept() if answers.pop(0) else one.dismiss())
    for label, words in (("User", known.admin_user), ("Password", known.admin_password)):
        tab_to(page, page.get_by_label(label, exact=True))
        page.keyboard.type(words)
    page.keyboard.press("Enter")
    for name in ("Mail", "Recipient domains", "Add a domain"):
        press(page, page.get_by_role("link", name=name, exact=True))
    tab_to(page, page.get_by_label("Domain"))
    page.keyboard.type(domain)
    page.keyboard.press("Enter")
    listed = page.get_by_role("link", name=domain, exact=True)
    press(page, listed)
    remove = page.get_by_role("button", name="Remove")
    press(page, remove)
    expect(remove).to_be_focused()
    assert answers == [True]
    page.keyboard.press("Enter")
    expect(page.get_by_text(f"{domain} is removed")).to_be_visible()
    expect(listed).to_have_count(0)
