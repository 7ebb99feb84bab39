"""The queue in a real browser: the whole list is seen at a usual window's width."""

from __future__ import annotations

import pytest

from controlplane.store.queue_lists import store_batch
from nodeagent.core.queue_contract import QueuedMessage, QueueName, QueueReport
from tests.browser.checks import sideways_px
from tests.browser.conftest import Cluster, OpenPage

WAITING = QueuedMessage(
    id="4jWm8M3632zKH0Y",
    queue=QueueName.DEFERRED,
    arrived_at=1_795_000_000,
    size_bytes=48_213_000,
    sender="bounce-17-kundenservice=example.com@newsletter.shop.test",
    recipients=("sekretariat.buchhaltung@verwaltung.customer.test",),
    recipient_count=3,
    next_hop="mx.customer.test",
    reason="host mx.customer.test[203.0.113.25] said: 451 4.7.1 Greylisting in action, please "
    "come back later (in reply to RCPT TO command)",
)
HIDDEN_PX = "table => table.scrollWidth - table.clientWidth"


@pytest.mark.parametrize("language", ["en", "de"])
def test_all_columns_of_the_queue_are_seen(
    open_page: OpenPage, cluster: Cluster, language: str
) -> None:
    """With long addresses and a long reason, in both languages: nothing to scroll sideways."""
    report = QueueReport(
        session="one", sequence=1, upserts=(WAITING,), is_complete=True, scan_age_s=0.5
    )
    with cluster.database.write() as session:
        assert store_batch(session, "node-a", report)
    page = open_page("/queue", language=language)
    assert page.locator("tbody tr").count() == 1
    assert page.locator(".table-responsive").evaluate(HIDDEN_PX) == 0
    assert sideways_px(page) == 0
