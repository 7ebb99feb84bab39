"""The links around a list: an address says what was chosen, and a time keeps its zone."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import parse_qs, urlsplit
from zoneinfo import ZoneInfo

import pytest
from fastapi import Request
from hypothesis import given
from hypothesis import strategies as st

from controlplane.gui.forms import Field, FilledForm, Form
from controlplane.gui.listings import (
    TIMES,
    cut_page,
    export_url,
    listing_url,
    read_filters,
    typed_times,
)

BERLIN = ZoneInfo("Europe/Berlin")
FORM = Form((Field("kind", "Kind"), Field("text", "Text"), *TIMES))
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)


def asked(url: str) -> Request:
    """Return the request that follows a link."""
    parts = urlsplit(url)
    scope = {"type": "http", "path": parts.path, "query_string": parts.query.encode()}
    return Request({**scope, "headers": [], "server": ("relay.test", 443), "scheme": "https"})


def typed(**values: str) -> FilledForm:
    """Return the filters as they were typed."""
    return FORM.posted({name: [value] for name, value in values.items()})


@given(st.dictionaries(st.sampled_from(("kind", "text")), st.lists(TEXTS, max_size=3)))
def test_a_link_chooses_what_its_page_chose(values: dict[str, list[str]]) -> None:
    """Any letters, any number of values; what is empty is left out, and a link is plain ASCII."""
    filters = FORM.posted(values)
    url = listing_url("/events", filters)
    again = read_filters(asked(url), FORM)
    assert url.isascii()
    assert listing_url("/events", again) == url
    for name in ("kind", "text"):
        assert again.values[name] == [one for one in values.get(name, []) if one]


@given(st.integers(0, 12), st.integers(1, 5))
def test_all_pages_together_are_the_list(count: int, size: int) -> None:
    """Each row once, in order; the last page is the only one without a next."""
    rows, found, url = list(range(count, 0, -1)), [], "/events?kind=a"
    for _page in range(count + 2):
        request = asked(url)
        before = int(request.query_params.get("before", count + 1))
        rest = [row for row in rows if row < before][: size + 1]
        page = cut_page(request, read_filters(request, FORM), rest, lambda row: row, size=size)
        found += page.rows
        assert len(page.rows) <= size
        assert (page.first_url is None) is ("before" not in request.query_params)
        if page.next_url is None:
            break
        assert parse_qs(urlsplit(page.next_url).query)["kind"] == ["a"]
        url = page.next_url
    assert found == rows


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("2026-01-31 14:30", datetime(2026, 1, 31, 13, 30, tzinfo=UTC)),
        ("2026-07-31T14:30", datetime(2026, 7, 31, 12, 30, tzinfo=UTC)),
        (" 2026-01-31 ", datetime(2026, 1, 30, 23, 0, tzinfo=UTC)),
        ("2026-01-31T14:30+00:00", datetime(2026, 1, 31, 14, 30, tzinfo=UTC)),
        ("2026-01-31T14:30Z", datetime(2026, 1, 31, 14, 30, tzinfo=UTC)),
        ("yesterday", None),
        ("", None),
    ],
)
def test_a_time_without_a_zone_is_the_viewers(text: str, at: datetime | None) -> None:
    """One with a zone says what it means; what is no time chooses nothing."""
    expected = {} if at is None else {"since": at}
    assert typed_times(typed(since=text), BERLIN) == expected


def test_an_export_is_of_the_same_times_wherever_it_is_read() -> None:
    """The address of an export has the zone in it, which a program that follows it has not."""
    filters = typed(kind="a&b", since="2026-01-31 14:30", until="soon")
    times = typed_times(filters, BERLIN)
    url = export_url("/api/v1/events.csv", filters, times)
    assert parse_qs(urlsplit(url).query) == {
        "kind": ["a&b"],
        "since": ["2026-01-31T14:30:00+01:00"],
        "until": ["soon"],
    }
    again = read_filters(asked(url), FORM)
    assert typed_times(again, ZoneInfo("Asia/Tokyo")) == times


def test_a_cursor_that_is_none_is_no_part_of_a_link() -> None:
    """Zero is one."""
    assert listing_url("/e", typed(), before=None) == "/e"
    assert listing_url("/e", typed(), before=0) == "/e?before=0"
    assert listing_url("/e", typed(kind="a"), before=5, size=None) == "/e?kind=a&before=5"
