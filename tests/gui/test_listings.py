"""Lists: filters and the place in the list stand in the address; HTMX gets the rows alone."""

from __future__ import annotations

import html
import re

import pytest
from fastapi import Request
from fastapi.testclient import TestClient

from controlplane.gui.forms import Field, Form
from controlplane.gui.listings import PAGE_SIZE, cut_page, listing_url
from controlplane.gui.templating import environment
from controlplane.store.engine import Database
from controlplane.store.reports import add_event

PARTIAL = {"HX-Request": "true", "HX-Request-Type": "partial"}


def _asked(query: str) -> Request:
    scope = {"type": "http", "path": "/e", "query_string": query.encode(), "headers": []}
    return Request({**scope, "server": ("relay.test", 443), "scheme": "https"})


def test_a_list_is_cut_into_pages() -> None:
    """One row more than a page says that there is a next one, which begins behind the last."""
    filters = Form((Field("kind", "Kind"),)).posted({"kind": ["a&b"]})
    first = cut_page(_asked(""), filters, [9, 8, 7], lambda row: row, size=2)
    assert (list(first.rows), first.first_url) == ([9, 8], None)
    assert first.next_url == "/e?kind=a%26b&before=8"
    last = cut_page(_asked("before=8"), filters, [7], lambda row: row, size=2)
    assert (last.first_url, last.next_url) == ("/e?kind=a%26b", None)
    assert listing_url("/e", filters, before=None) == "/e?kind=a%26b"


@pytest.fixture
def many(browser: TestClient, sqlite_database: Database) -> TestClient:
    """Give a browser of a cluster where more has happened than a page shows."""
    with sqlite_database.write() as session:
        for number in range(PAGE_SIZE + 7):
            kind = "switchover" if number % 2 else "restored"
            add_event(session, kind, f"number {number:03}", node="node-a")
    return browser


def _numbers(page: str) -> list[int]:
    return [int(number) for number in re.findall(r"number (\d{3})", page)]


def test_all_pages_together_show_each_row_once(many: TestClient) -> None:
    """Following the link to the next page to its end."""
    found, path = [], "/events"
    while path:
        page = many.get(path).text
        found += _numbers(page)
        links = re.findall(r'href="(/events\?[^"]*before=[^"]*)"', page)
        path = html.unescape(links[0]) if links else ""
    assert found == sorted(range(PAGE_SIZE + 7), reverse=True)


def test_filters_choose_and_stay_filled(many: TestClient) -> None:
    """What was chosen is what the page shows, and what the next page's link keeps."""
    page = many.get("/events?kind=switchover").text
    assert {number % 2 for number in _numbers(page)} == {1}
    assert '<option value="switchover" selected>' in page


def test_htmx_gets_the_rows_alone(many: TestClient) -> None:
    """No second page within the page."""
    answer = many.get("/events?kind=switchover", headers=PARTIAL)
    assert answer.status_code == 200
    assert answer.text.lstrip().startswith('<section class="card" id="listing">')
    assert "<html" not in answer.text


@pytest.mark.parametrize("query", ["kind=NO!", "before=x", "before=-1", "node=A%20b"])
def test_an_address_that_makes_no_sense_is_explained(many: TestClient, query: str) -> None:
    """One sentence, no rows, and no crash."""
    answer = many.get(f"/events?{query}")
    assert answer.status_code == 422
    assert _numbers(answer.text) == []
    assert 'role="alert"' in answer.text


@pytest.mark.parametrize(("language", "words"), [("en", "12,345 rows"), ("de", "12.345 Zeilen")])
def test_a_count_in_a_sentence_is_written_like_every_other_number(
    language: str, words: str
) -> None:
    """With the separators of the language."""
    template = environment(language).from_string(
        '{{ ngettext("%(num)s row", "%(num)s rows", 12345) }}'
    )
    assert template.render() == words
