"""Thousands of messages are held, released and deleted in the browser, and counted to the last."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest
from playwright.sync_api import Page, expect

from lab.layout import NODES
from tests.browser.lab.acts import look_until
from tests.browser.lab.conftest import Photograph, Visit
from tests.e2e.accounting import Load, Shape, deliveries, queued_ids
from tests.e2e.driver import Lab, until

COUNT: Final = 2000
RATE: Final = 150.0
ATTEMPTS: Final = 5
SHOWN: Final = f"{COUNT:,}"
SHAPE: Final = Shape(recipient="bulk@example.com", size_bytes=600, per_session=10)
LIST: Final = "/queue?recipient=bulk%40example.com"


@pytest.fixture
def rare_retries(lab: Lab) -> Iterator[None]:
    """Have deferred mail rest for an hour, so that nothing moves by itself; then as before."""
    before = lab.api().call("GET", "cluster")["settings"]["queue"]
    rare = {"minimal_backoff_s": 3600, "maximal_backoff_s": 3600, "queue_run_delay_s": 3600}
    version = apply_queue_settings(lab, {**before, **rare})
    for node in NODES:
        until(
            lambda node=node: lab.agent_status(node)["config_version"] == version,
            f"{node} runs version {version}",
            60,
        )
    yield
    apply_queue_settings(lab, before)  # the next test waits until both nodes have it


def apply_queue_settings(lab: Lab, wanted: dict[str, object]) -> int:
    """Change how often Postfix tries again; return the version that says so."""
    api = lab.api()
    api.call("PATCH", "cluster", {"queue": wanted})
    answer = api.call("POST", "config/apply", {"reason": "retries of a test"})
    return int(answer["number"])


def act(page: Page, path: str, verb: str) -> None:
    """Choose all messages of a list, once it has all of them, and begin an action.

    A control plane that is busy may refuse for a moment; the page says so, and one tries again.
    """
    everything = page.get_by_label(f"all {SHOWN} messages that fit")
    refused = page.get_by_role("heading", name="This does not work now")
    for _ in range(ATTEMPTS):
        look_until(page, path, everything)
        everything.check()
        with page.expect_navigation():
            page.get_by_role("button", name=verb, exact=True).click()
        if not refused.count():
            return
    raise AssertionError(f"{verb} was refused {ATTEMPTS} times")


def expect_done(page: Page, verb: str) -> None:
    """Wait on the page that follows the actions until all of the newest one is done."""
    row = page.get_by_role("region", name="Actions on the queue").get_by_role("row").nth(1)
    expect(row.get_by_role("rowheader")).to_contain_text(verb)
    expect(row).to_contain_text("finished")
    columns = {"Messages": SHOWN, "Done": SHOWN, "Waiting": "0", "Not found": "0", "Unknown": "0"}
    heads = page.get_by_role("columnheader").all_text_contents()
    for name, count in columns.items():
        expect(row.locator("th, td").nth(heads.index(name))).to_have_text(count)


def test_thousands_are_held_released_and_deleted_with_a_real_count(
    lab: Lab, rare_retries: None, visit: Visit, photograph: Photograph
) -> None:
    """What the page counts is what lies on the disk."""
    del rare_retries
    active = lab.active()
    with lab.sink_set("defer"):
        with Load(lab, rate=RATE, count=COUNT, shape=SHAPE) as load:
            load.wait_for_count()
        assert len(load.acknowledged) == COUNT
        page = visit(LIST)
        look_until(page, LIST, page.get_by_text(f"all {SHOWN} messages that fit"))
        photograph(page, "queue")
        act(page, LIST, "Hold")
        expect_done(page, "Hold")
        held = lab.execute(active, "sh", "-c", "find /var/spool/postfix/hold -type f | wc -l")
        assert int(held) == COUNT
        act(page, f"{LIST}&queue=hold", "Release")
        expect_done(page, "Release")
        assert len(queued_ids(active)) == COUNT
        act(page, LIST, "Delete")
        expect(page.get_by_text("Deleted mail is gone for good.")).to_be_visible()
        assert len(queued_ids(active)) == COUNT
        page.get_by_role("button", name=f"Delete {SHOWN} messages").click()
        expect_done(page, "Delete")
        photograph(page, "queue-actions")
        until(lambda: not queued_ids(active), "the queue is empty", 60)
    assert not set(deliveries()) & set(load.acknowledged)
