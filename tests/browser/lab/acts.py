"""What several of these tests do: send a mail, look again until something is there, tab to it."""

from __future__ import annotations

import json
import re
import time

from playwright.sync_api import Locator, Page

from lab.layout import VIP
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
