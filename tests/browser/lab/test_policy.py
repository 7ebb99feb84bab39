"""A bad word is added, tried and met: the mail is held, looked at and released, all by clicks."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from typing import Final

import pytest
from playwright.sync_api import Page, expect

from lab.layout import NODES
from tests.browser.lab.acts import apply, expect_live, go, look_until, newest_version
from tests.browser.lab.conftest import Photograph, Visit
from tests.e2e.accounting import Load
from tests.e2e.driver import Lab, until
from tests.e2e.judging import (
    RECIPIENT,
    SENDER,
    delivered,
    end_judging,
    is_taken,
    speak,
    wait_for_policy,
)

PHRASE: Final = "cheap pills"
SUBJECT: Final = "Offer of the week"
TEXT: Final = "Buy CHEAP  pills today"
RULE: Final = "badword:"
ORDINARY: Final = 60


@pytest.fixture
def _judged_no_more(lab: Lab) -> Iterator[None]:
    """Leave a lab that judges no mail to the other tests."""
    yield
    lab.repair()
    end_judging(lab)


def open_tab(page: Page, name: str) -> None:
    """Choose one of the pages of the mail policy."""
    go(page, "Mail policy")
    with page.expect_navigation():
        page.locator("main").get_by_role("link", name=name, exact=True).first.click()


def switch_on(page: Page) -> None:
    """Have mail judged: by the policy, and by Postfix, which has to be told to ask it."""
    go(page, "Mail policy")
    page.get_by_role("button", name="Switch the policy on").click()
    page.get_by_role("button", name="Let Postfix ask it").click()
    expect(page.get_by_text("The policy is on, and Postfix is set to ask it.")).to_be_visible()
    go(page, "Configuration")
    apply(page, "Ask the hook")
    for node in NODES:
        expect_live(page, node, newest_version(page))


def add_word(page: Page) -> None:
    """Have mails with a phrase held."""
    open_tab(page, "Bad words")
    page.get_by_role("link", name="Add a bad word").click()
    page.get_by_label("Word, phrase or pattern").fill(PHRASE)
    page.get_by_label("Severity").select_option("medium")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("The entry is saved.")).to_be_visible()


def try_mail(page: Page) -> None:
    """Ask what would happen to a mail with that phrase."""
    open_tab(page, "Try a mail")
    page.get_by_label("Sender", exact=True).fill(SENDER)
    page.get_by_label("Recipients").fill(RECIPIENT)
    page.get_by_label("Subject").fill(SUBJECT)
    page.get_by_label("Text", exact=True).fill(TEXT)
    page.get_by_role("button", name="Try it").click()
    result = page.locator("section", has=page.get_by_role("heading", name="What would happen"))
    expect(result).to_contain_text("in quarantine")
    expect(page.locator("main")).to_contain_text(RULE)


def open_held(page: Page) -> None:
    """Open the one mail in quarantine, and have its node show what is in it."""
    held = page.get_by_role("region", name="Quarantine").get_by_role("row").nth(1)
    look_until(page, "/policy/quarantine", held)
    expect(held).to_contain_text(SENDER)
    held.get_by_role("link").first.click()
    page.get_by_role("button", name="Look into it").click()
    expect(page.locator("#preview")).to_contain_text(TEXT)
    expect(page.locator("#preview")).to_contain_text(SUBJECT)


def test_a_word_is_added_and_what_it_holds_is_looked_at_and_released(
    lab: Lab, _judged_no_more: None, visit: Visit, photograph: Photograph
) -> None:
    """What `try` says happens to the mail; ordinary ones pass, and the day's numbers have all."""
    page = visit("/")
    page.on("dialog", lambda dialog: dialog.accept())
    switch_on(page)
    add_word(page)
    wait_for_policy(lab)
    try_mail(page)
    photograph(page, "policy-try")
    with Load(lab, rate=20, count=ORDINARY) as load:
        load.wait_for_count()
    identity = uuid.uuid4().hex
    headers = ("--header", f"X-Relay-Test-Id: {identity}", "--header", f"Subject: {SUBJECT}")
    assert is_taken(speak(lab, *headers, "--body", TEXT))
    open_held(page)
    photograph(page, "policy-quarantine")
    assert delivered(identity) == []
    page.get_by_role("button", name="Release").click()
    until(lambda: len(delivered(identity)) == 1, "the released mail is delivered", 60)
    fired = page.locator("section", has_text="Rules that fired most").get_by_text(RULE)
    look_until(page, "/policy", fired)
    expect(page.locator("#policy-state")).to_contain_text(f"{ORDINARY}")
    page.get_by_role("heading", name="The last 24 hours").scroll_into_view_if_needed()
    photograph(page, "policy")
    open_tab(page, "Decisions")
    expect(page.locator("main")).to_contain_text("in quarantine")
