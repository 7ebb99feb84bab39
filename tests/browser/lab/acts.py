"""What several of these tests do: send a mail, apply a configuration, look until it is there."""

from __future__ import annotations

import json
import re
import time

from playwright.sync_api import Locator, Page, expect

from lab.layout import CONTROL_PLANE_URL, VIP
from tests.e2e.accounting import JOURNAL
from tests.e2e.driver import Failed, Lab, until

LOOK_AGAIN_MS = 500
TABS = 80
IS_FOCUSED = "element => element === document.activeElement"


def send(lab: Lab, recipient: str, *, host: str = "client") -> str:
    """Send one mail through the VIP with swaks; return its queue id, raise Failed when refused."""
    words = ("--server", VIP, "--from", "someone@allowed-domain.tld", "--to", recipient)
    said = lab.execute(host, "swaks", *words)
    queued = re.search(r"queued as (\S+)", said)
    assert queued is not None, said
    return queued[1]


def is_taken(lab: Lab, recipient: str, *, host: str) -> bool:
    """Tell whether the relay takes mail for somebody from this host."""
    try:
        send(lab, recipient, host=host)
    except Failed:
        return False
    return True


def wait_for_delivery(lab: Lab, recipient: str) -> None:
    """Have the active node try its mail, until the destination has one for somebody."""

    def is_there() -> bool:
        lab.execute(lab.active(), "postqueue", "-f")
        lines = JOURNAL.read_text(encoding="utf-8").splitlines() if JOURNAL.exists() else []
        return any(recipient in json.loads(line)["to"] for line in lines)

    until(is_there, f"a mail for {recipient} is delivered", 90)


def go(page: Page, name: str) -> None:
    """Choose a page from the sidebar."""
    link = page.locator("#sidebar").get_by_role("link", name=name, exact=True)
    path = str(link.get_attribute("href"))
    link.click()
    page.wait_for_url(CONTROL_PLANE_URL + path)


def apply(page: Page, reason: str) -> None:
    """Look at the difference and apply it."""
    page.get_by_role("link", name="Look at the changes and apply").click()
    page.get_by_label("Reason").fill(reason)
    page.get_by_role("button", name="Apply to all nodes").click()
    expect_newest(page, reason)


def expect_newest(page: Page, reason: str) -> None:
    """Wait until the list of versions has this one on top."""
    versions = page.get_by_role("region", name="Versions")
    expect(versions.get_by_role("row").nth(1)).to_contain_text(reason)


def newest_version(page: Page) -> str:
    """Return the number on top of the list of versions."""
    versions = page.get_by_role("region", name="Versions")
    return versions.get_by_role("rowheader").first.get_by_role("link").inner_text()


def expect_live(page: Page, node: str, version: str) -> None:
    """Wait until a node says that it checked a version and runs it."""
    row = page.get_by_role("region", name="Nodes").get_by_role("row", name=node)
    expect(row).to_contain_text("checked by the node and live")
    expect(row.get_by_role("cell").nth(0)).to_have_text(version)


def look_until(page: Page, path: str, wanted: Locator, timeout_s: float = 60.0) -> None:
    """Load a page that does not follow by itself again and again, until something is on it."""
    deadline = time.monotonic() + timeout_s
    page.goto(path)
    while not wanted.count():
        assert time.monotonic() < deadline, f"{path} does not show {wanted}: {page.content()}"
        page.wait_for_timeout(LOOK_AGAIN_MS)
        page.goto(path)


def press(page: Page, wanted: Locator) -> None:
    """Choose a link or a button with the keyboard."""
    tab_to(page, wanted)
    page.keyboard.press("Enter")


def tab_to(page: Page, wanted: Locator) -> None:
    """Press Tab until the keyboard is there, as somebody without a mouse does."""
    wanted.wait_for()
    for _ in range(TABS):
        if wanted.evaluate(IS_FOCUSED):
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"{TABS} tabs do not lead to {wanted}")
