"""A power loss of the active host, watched on the overview; its mail in the trace of both nodes."""

from __future__ import annotations

import socket
import threading
import time
from typing import Final

from playwright.sync_api import Page, expect

from lab import hosts
from lab.layout import HOSTS, VIP
from tests.browser.lab.acts import look_until, send, wait_for_delivery
from tests.browser.lab.conftest import Photograph, Visit
from tests.browser.opening import PHONE, WIDE
from tests.e2e.driver import Lab, until
from tests.e2e.scenes import mirrored

ANSWER_LIMIT_S: Final = 60.0
ADDRESS: Final = "watched@example.com"
RECORD: Final = """([dead, other]) => {
    window.isTheSame = true;
    window.seen = [];
    const words = selector => document.querySelector(selector)?.textContent ?? "";
    const look = () => {
        const now = {
            vip: words("#pic-vip-1 .pic-quiet").trim(),
            dead: words(`#pic-node-${dead} .pic-tone`).trim(),
            other: words(`#pic-node-${other} .pic-tone`).trim(),
        };
        const last = window.seen.at(-1);
        if (JSON.stringify(last?.state) !== JSON.stringify(now)) {
            window.seen.push({ state: now, at: Date.now() / 1000 });
        }
    };
    look();
    new MutationObserver(look).observe(
        document.querySelector(".live-content"),
        { childList: true, subtree: true, characterData: true },
    );
}"""


def answers(timeout_s: float = 0.2) -> bool:
    """Tell whether a 220 is to be had on the VIP at once."""
    try:
        with socket.create_connection((VIP, 25), timeout_s) as connection:
            return connection.recv(3) == b"220"
    except OSError:
        return False


def note_answer(noted: list[float]) -> None:
    """Note the moment, in seconds since 1970, at which the VIP answers for the first time."""
    deadline = time.monotonic() + ANSWER_LIMIT_S
    while not noted and time.monotonic() < deadline:
        if answers():
            noted.append(time.time())


def first(seen: list[dict[str, object]], name: str, words: str) -> float:
    """Return when a part of the picture first showed these words."""
    times = [float(one["at"]) for one in seen if words in one["state"][name]]
    assert times, f"{name} never showed {words}: {seen}"
    return times[0]


def test_a_failover_is_watched_live_and_its_mail_is_traced_on_both_nodes(
    lab: Lab, visit: Visit, photograph: Photograph
) -> None:
    """Nothing is reloaded; active, then silent, then back as the standby; the mail is adopted."""
    dead, other = lab.active(), lab.standby()
    with lab.sink_set("defer"):
        queue_id = send(lab, ADDRESS)
        until(lambda: mirrored(lab, other, dead) == 1, "the standby has a copy", 60)
        page = visit("/")
        expect(page.locator("[data-live-state=connected]")).to_be_visible()
        expect(page.locator("#tile-waiting")).to_have_text("1")
        photograph(page, "overview")
        page.emulate_media(color_scheme="dark")
        photograph(page, "overview-dark")
        page.emulate_media(color_scheme="light")
        page.set_viewport_size({"width": PHONE[0], "height": PHONE[1]})
        photograph(page, "overview-phone")
        page.set_viewport_size({"width": WIDE[0], "height": WIDE[1]})
        page.evaluate(RECORD, [dead, other])
        answered: list[float] = []
        hosts.kill(HOSTS[dead])
        asking = threading.Thread(target=note_answer, args=(answered,), daemon=True)
        asking.start()
        expect(page.locator(f"#node-{other}")).to_contain_text("ACTIVE")
        expect(page.locator(f"#node-{dead}")).to_contain_text("last said ACTIVE")
        expect(page.locator("#tile-active")).to_have_text(other)
        until(lambda: lab.queue_sizes()[other] == 1, "the mail is adopted", 60)
        expect(page.locator(f"#pic-node-{other}")).to_contain_text("1 message waits")
        photograph(page, "failover")
    asking.join(ANSWER_LIMIT_S)
    assert answered, "nothing answers on the VIP"
    wait_for_delivery(lab, ADDRESS)
    lab.boot(dead)
    expect(page.locator(f"#node-{dead}")).to_contain_text("STANDBY")
    seen = page.evaluate("window.seen")
    assert page.evaluate("window.isTheSame") is True
    shown_s = first(seen, "vip", other)
    print(f"\nthe page showed the failover {shown_s - answered[0]:+.2f} s after the first 220")
    assert shown_s <= first(seen, "dead", "unknown, last said ACTIVE")
    assert first(seen, "other", "ACTIVE") <= first(seen, "dead", "unknown, last said ACTIVE")
    assert first(seen, "dead", "unknown, last said ACTIVE") < first(seen, "dead", "STANDBY")
    assert seen[0]["state"] == {"vip": dead, "dead": "ACTIVE", "other": "STANDBY"}
    assert seen[-1]["state"] == {"vip": other, "dead": "STANDBY", "other": "ACTIVE"}
    trace(page, queue_id, (dead, other), photograph)


def trace(page: Page, queue_id: str, nodes: tuple[str, str], photograph: Photograph) -> None:
    """Find the mail by its queue id: accepted by one node, delivered by the other."""
    dead, other = nodes
    found = page.get_by_role("row", name=queue_id)
    look_until(page, f"/trace?queue_id={queue_id}", found.filter(has_text="delivered"))
    found.get_by_role("link", name=queue_id).click()
    steps = page.get_by_role("region", name="What happened")
    expect(steps.get_by_role("cell", name=dead, exact=True).first).to_be_visible()
    expect(steps.get_by_role("cell", name=other, exact=True).first).to_be_visible()
    recipient = page.get_by_role("region", name="Recipients").get_by_role("row", name=ADDRESS)
    expect(recipient).to_contain_text(other)
    photograph(page, "trace")
