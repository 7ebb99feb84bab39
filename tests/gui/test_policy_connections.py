"""The page of connections: its filters, pages and export, and the ways to and from decisions."""

from __future__ import annotations

import csv
import html
import io
import re
from datetime import UTC, datetime, timedelta

import pytest
from fastapi.testclient import TestClient

from controlplane.core.permissions import UserRole
from controlplane.store.engine import Database
from nodeagent.policy.log_wire import Door
from tests.fakes.policy_logs import START_S, accepted, blocked, bring, connection
from tests.gui.conftest import HOSTILE, HTMX, open_as

PAGE = "/policy/connections"
LEADS_TO_DECISIONS = re.compile(r'href="(/policy/log\?[^"]+)"')
LEADS_TO_CONNECTIONS = re.compile(r'href="(/policy/connections\?[^"]+)"')
LEADS_TO_EXPORT = re.compile(r'href="(/api/v1/mail-security/connections/export[^"]*)"')


@pytest.fixture
def logged(watched: TestClient, sqlite_database: Database) -> TestClient:
    """Give a browser, and two sessions that brought mail: node-a's was refused in between."""
    del watched.headers["Authorization"]
    bring(
        sqlite_database,
        connection(START_S - 100, client="192.0.2.66", helo="before"),
        blocked(START_S, client="192.0.2.66"),
        connection(START_S + 2.5, client="192.0.2.66", helo="behind", login="ann", messages=1234),
    )
    bring(sqlite_database, connection(client="2001:db8::1", helo="elsewhere"), node="node-b")
    return watched


def at(seconds: float) -> str:
    """Return a time in seconds after the decision."""
    return (datetime.fromtimestamp(START_S, UTC) + timedelta(seconds=seconds)).isoformat()


def shown(client: TestClient, path: str = PAGE) -> list[str]:
    """Return what the shown clients called themselves, in the order of the rows."""
    page = client.get(path)
    assert page.status_code == 200, page.text
    return re.findall(r">(before|behind|elsewhere|mail \d+)<", page.text)


def way(found: re.Pattern[str], page: str) -> str:
    """Return the one address to which such a link leads."""
    (link,) = set(found.findall(page))
    return html.unescape(link)


def test_the_tab_leads_to_the_newest_connections(logged: TestClient) -> None:
    """It stands beside the two other logs, and is the present one on its page."""
    overview = logged.get("/policy").text
    tabs = re.findall(r'href="(/policy/(?:log|threats|connections))"', overview)
    assert tabs[:3] == ["/policy/log", "/policy/threats", PAGE]
    page = logged.get(PAGE).text
    assert re.findall(r'<a [^>]*href="([^"]+)" aria-current="page"', page)[-1] == PAGE
    assert shown(logged) == ["behind", "elsewhere", "before"]
    for words in ("ann", "1,234", "node-b", "2001:db8::1"):
        assert words in page


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ("node=node-a", ["behind", "before"]),
        ("node=node-b&client=192.0.2.66", []),
        ("client=192.0.*", ["behind", "before"]),
        ("client=2001:DB8:0::1", ["elsewhere"]),
        ("node=&client=+", ["behind", "elsewhere", "before"]),
    ],
)
def test_filters_choose_connections(logged: TestClient, query: str, found: list[str]) -> None:
    """HTMX gets the list alone; what was typed stays in the form."""
    assert shown(logged, f"{PAGE}?{query}") == found
    part = logged.get(f"{PAGE}?{query}", headers=HTMX).text
    assert "<html" not in part
    assert ("No connection fits." in part) == (not found)
    assert bool(LEADS_TO_EXPORT.search(part)) == bool(found)
    assert 'value="2001:' in logged.get(f"{PAGE}?client=2001:").text


def test_times_are_the_viewers_and_go_with_the_export(logged: TestClient) -> None:
    """Without a zone they are of his; the file has what the page shows."""
    logged.cookies.set("relay_zone", "Asia/Tokyo")
    begin = datetime.fromtimestamp(START_S, UTC)
    tokyo = (begin + timedelta(hours=9, seconds=1)).strftime("%Y-%m-%d %H:%M:%S")
    later, earlier = f"{PAGE}?since={tokyo}", f"{PAGE}?until={tokyo}&node=node-a"
    assert (shown(logged, later), shown(logged, earlier)) == (["behind"], ["before"])
    export = logged.get(way(LEADS_TO_EXPORT, logged.get(earlier).text))
    assert export.headers["content-type"].startswith("text/csv")
    assert [row["helo"] for row in csv.DictReader(io.StringIO(export.text))] == ["before"]


@pytest.mark.parametrize(
    "query",
    [
        *("since=yesterday", "until=31.12.2026", "node=../x", "client=%00", "before=x"),
        f"client={'x' * 321}",
    ],
)
def test_a_filter_that_cannot_be_used_is_refused(logged: TestClient, query: str) -> None:
    """With the form as it was typed, and no row."""
    refused = logged.get(f"{PAGE}?{query}")
    assert refused.status_code == 422
    assert 'name="client"' in refused.text
    assert "elsewhere" not in refused.text
    if query.startswith("since"):
        assert 'value="yesterday"' in refused.text


@pytest.mark.parametrize(("count", "pages"), [(50, 1), (51, 2), (120, 3)])
def test_pages_have_every_connection_once(
    watched: TestClient, sqlite_database: Database, count: int, pages: int
) -> None:
    """Also where many ended in one moment; filters stay, and the first page is linked back."""
    many = [connection(START_S + number // 7, helo=f"mail {number}") for number in range(count)]
    bring(sqlite_database, *many)
    found, seen, path = list[str](), 0, f"{PAGE}?node=node-a"
    while path:
        seen += 1
        page = watched.get(path).text
        found += shown(watched, path)
        assert ("First page" in page) == (seen > 1)
        links = re.findall(r'href="(/policy/connections\?[^"]*before=[^"]*)"', page)
        path = html.unescape(links[0]) if links else ""
        assert "node=node-a" in path or not path
    assert (found, seen) == ([f"mail {number}" for number in reversed(range(count))], pages)


def test_a_decision_leads_to_its_connection_and_back(logged: TestClient) -> None:
    """Of the same client and node: what ended after it, and what was decided before the end."""
    decisions = logged.get("/policy/log").text
    number = re.findall(r'href="/policy/log/(\d+)"', decisions)[0]
    decision = logged.get(f"/policy/log/{number}").text
    there = way(LEADS_TO_CONNECTIONS, decision)
    assert shown(logged, there) == ["behind"]
    back = way(LEADS_TO_DECISIONS, logged.get(there).text)
    assert f'href="/policy/log/{number}"' in logged.get(back).text
    earlier = logged.get(PAGE, params={"until": at(-99), "node": "node-a"}).text
    before = way(LEADS_TO_DECISIONS, earlier)
    assert "No decision fits." in logged.get(before).text


@pytest.mark.parametrize(
    ("more", "leads"),
    [
        ({"client": "~0123456789abcdef0123"}, True),
        ({"client": HOSTILE}, True),
        ({"client": None}, False),
        ({"door": Door.HTTP}, False),
    ],
)
def test_no_link_where_nothing_could_be_found(
    logged: TestClient, sqlite_database: Database, more: dict[str, object], leads: bool
) -> None:
    """A pseudonym can be followed; a client that was not told cannot, nor has HTTP sessions."""
    client = more.get("client", "192.0.2.66")
    later = (
        accepted(START_S + 900, **more),
        connection(START_S + 901, client=client, helo="mail 1"),
    )
    bring(sqlite_database, *later, first=4)
    number = re.findall(r'href="/policy/log/(\d+)"', logged.get("/policy/log").text)[0]
    decision = logged.get(f"/policy/log/{number}").text
    links = LEADS_TO_CONNECTIONS.findall(decision)
    assert bool(links) == leads
    if leads:
        assert shown(logged, html.unescape(links[0])) == ["mail 1"]
    row = logged.get(PAGE, params={"since": at(900)}).text
    assert bool(LEADS_TO_DECISIONS.search(row)) == (client is not None)


def test_what_is_not_told_is_said_to_be_not_told(
    watched: TestClient, sqlite_database: Database
) -> None:
    """A redacted cluster has times, nodes and counts."""
    bring(sqlite_database, connection(client=None, helo=None, messages=0))
    page = watched.get(PAGE, headers=HTMX).text
    assert page.count("not told") == 2
    assert LEADS_TO_DECISIONS.search(page) is None
    assert ">0<" in page


def test_a_strangers_texts_stay_texts(watched: TestClient, sqlite_database: Database) -> None:
    """In cells and in links."""
    bring(sqlite_database, connection(client=HOSTILE, helo=HOSTILE, login=HOSTILE))
    page = watched.get(PAGE).text
    assert HOSTILE not in page
    assert "<script>alert" not in page
    assert page.count("&lt;script&gt;alert(1)&lt;/script&gt;") == 3
    assert watched.get(way(LEADS_TO_DECISIONS, page)).status_code == 200


def test_whoever_may_only_read_may_look(logged: TestClient, sqlite_database: Database) -> None:
    """In his language; nobody who is not signed in."""
    open_as(logged, sqlite_database, UserRole.READ_ONLY)
    german = logged.get(PAGE, headers={"Accept-Language": "de"}).text
    for words in ("Verbindungen", "Beendet", "zu diesem Client bis dahin"):
        assert words in german
    logged.cookies.clear()
    away = logged.get(PAGE, follow_redirects=False)
    assert away.status_code == 303
    assert away.headers["location"].startswith("/login")
