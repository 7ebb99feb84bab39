"""The trace's pages: a search, a timeline, and strangers' texts that stay texts."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from controlplane.store.engine import TRACE_LOCK, Database
from controlplane.store.trace_intake import take_batch
from tests.fakes.postfix_queue import queue_id
from tests.fakes.traces import accepted, batch, entry, removed, tried

ONE, TWO = queue_id(1), queue_id(2)
SCRIPT = "<script>alert(1)</script>"


@pytest.fixture
def traced(browser: TestClient, sqlite_database: Database) -> TestClient:
    """Give a browser of a cluster that relayed one message and refused a hostile one."""
    refused = entry(
        9,
        f'smtpd[1]: NOQUEUE: reject: RCPT from u[192.0.2.66]: 554 no; from=<"{SCRIPT}"@x.test> '
        f"to=<r@z.test> proto=ESMTP helo=<{SCRIPT}>",
    )
    lines = [*accepted(ONE), tried(ONE, 1, "sent"), removed(ONE, 2), refused]
    with sqlite_database.write(TRACE_LOCK) as session:
        take_batch(session, "node-a", batch(lines))
    return browser


def test_a_search_leads_to_the_timeline(traced: TestClient) -> None:
    """The list links each message to its page, which shows each line and each recipient."""
    listed = traced.get("/trace", params={"recipient": "b@y.test"})
    assert listed.status_code == 200
    assert 'href="/trace/1"' in listed.text
    assert 'href="/trace/2"' not in listed.text
    shown = traced.get("/trace/1").text
    for text in (ONE, "said sent", "removed", "192.0.2.7"):
        assert text in shown


def test_what_a_stranger_wrote_is_never_markup(traced: TestClient) -> None:
    """Sender, HELO and the line itself are escaped on both pages."""
    for path in ("/trace", "/trace/2"):
        page = traced.get(path).text
        assert SCRIPT not in page
        assert "&lt;script&gt;alert(1)&lt;/script&gt;" in page


def test_times_are_the_viewers(traced: TestClient) -> None:
    """A time without a zone is read in the browser's; one that is none is refused."""
    traced.cookies.set("relay_zone", "Asia%2FTokyo")
    assert "/trace/1" in traced.get("/trace", params={"until": "2026-11-18 20:06:41"}).text
    assert "/trace/1" not in traced.get("/trace", params={"until": "2026-11-18 20:06:40"}).text
    refused = traced.get("/trace", params={"since": "yesterday", "sender": "kept@x.test"})
    assert refused.status_code == 422
    assert "kept@x.test" in refused.text


def test_the_export_has_the_filters_of_the_list(traced: TestClient) -> None:
    """What is seen is what is exported."""
    page = traced.get("/trace", params={"sender": "a@x.test"}).text
    assert "/api/v1/trace/export?sender=a%40x.test" in page


def test_an_unknown_message_is_a_page_too(traced: TestClient) -> None:
    """It may have been pruned."""
    answer = traced.get("/trace/77")
    assert answer.status_code == 404
    assert "older than what is kept" in answer.text
