"""The link to unsubscribe in a mail: one click for providers, one button for people, no hint."""

from __future__ import annotations

import re
from email import message_from_bytes
from email.message import Message
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import select
from sqlmodel import col

from controlplane.core.policy_drafts import CategoryDraft, SubscriptionDraft
from controlplane.errors import Throttled
from controlplane.gui.protection import FORM_TYPE
from controlplane.gui.unsubscribe import LONGEST_KIND, MISSES_A_MINUTE, MOST_ADDRESSES, Misses
from controlplane.store.audit import Actor
from controlplane.store.engine import Database
from controlplane.store.policy_items import put
from controlplane.store.policy_kinds import CATEGORIES, SUBSCRIPTIONS
from controlplane.store.policy_tables import SubscriptionRow
from tests.fakes.people import audited

BODY = {"List-Unsubscribe": "One-Click"}
WRONG = "x" * 32


@pytest.fixture
def mailbox(anonymous: TestClient) -> TestClient:
    """Give the client of somebody who has no account, and whose misses were not counted yet."""
    anonymous.app.state.misses = Misses()  # type: ignore[attr-defined]
    return anonymous


@pytest.fixture
def link(sqlite_database: Database) -> str:
    """Give the path in a subscriber's mail."""
    admin = Actor("admin")
    news = put(sqlite_database, CATEGORIES, CategoryDraft(address="news@example.com"), admin)[0]
    kind = SUBSCRIPTIONS.within(category=news["id"])
    put(sqlite_database, kind, SubscriptionDraft(address="ann@a.test"), admin)
    with sqlite_database.read() as session:
        token = session.execute(select(col(SubscriptionRow.token))).scalar_one()
    return f"/unsubscribe/{token}"


def subscribers(database: Database) -> list[str]:
    """Return who is subscribed."""
    with database.read() as session:
        return list(session.execute(select(col(SubscriptionRow.address))).scalars())


def test_a_provider_unsubscribes_with_one_click(
    mailbox: TestClient, link: str, sqlite_database: Database
) -> None:
    """As RFC 8058 has it: no cookie, no origin, no token of a form; audited."""
    answer = mailbox.post(link, data=BODY)
    assert answer.status_code == 200
    assert subscribers(sqlite_database) == []
    assert ("subscriber", "subscription.delete", "ann@a.test") in audited(sqlite_database)
    assert "set-cookie" not in answer.headers


def test_the_body_may_be_multipart(
    mailbox: TestClient, link: str, sqlite_database: Database
) -> None:
    """RFC 8058 allows both kinds of forms."""
    answer = mailbox.post(link, files={"List-Unsubscribe": (None, "One-Click")})
    assert answer.status_code == 200
    assert subscribers(sqlite_database) == []


def test_a_second_click_is_as_good_as_the_first(mailbox: TestClient, link: str) -> None:
    """Word for word."""
    first, second = mailbox.post(link, data=BODY), mailbox.post(link, data=BODY)
    assert (second.status_code, second.text) == (200, first.text)
    assert mailbox.get(link).status_code == 200


def test_a_get_shows_a_button_and_changes_nothing(
    mailbox: TestClient, link: str, sqlite_database: Database
) -> None:
    """Scanners follow every link; a HEAD or other methods change nothing either."""
    page = mailbox.get(link)
    assert page.status_code == 200
    assert page.text.count("<button") == 1
    assert f'action="{link}"' in page.text
    for method in ("HEAD", "OPTIONS", "PUT", "DELETE", "PATCH"):
        mailbox.request(method, link)
    assert subscribers(sqlite_database) == ["ann@a.test"]


def test_the_button_does_what_it_says(
    mailbox: TestClient, link: str, sqlite_database: Database
) -> None:
    """The page's own form, sent as a browser does."""
    page = mailbox.get(link).text
    fields = dict(re.findall(r'name="([^"]+)" value="([^"]+)"', page))
    assert fields == BODY
    answer = mailbox.post(link, data=fields)
    assert "You are unsubscribed." in answer.text
    assert subscribers(sqlite_database) == []


def test_pages_tell_nobody_who_or_what(mailbox: TestClient, link: str) -> None:
    """A link that is forwarded gives away neither the subscriber nor the list; no script runs."""
    for answer in (mailbox.get(link), mailbox.post(link, data=BODY), mailbox.get(link)):
        assert "ann@a.test" not in answer.text
        assert "news@example.com" not in answer.text
        assert "<script" not in answer.text
        assert "/login" not in answer.text
        assert answer.headers["referrer-policy"] == "no-referrer"
        assert answer.headers["cache-control"] == "no-store"
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        assert "set-cookie" not in answer.headers


def test_german_browsers_get_german(mailbox: TestClient, link: str) -> None:
    """By Accept-Language alone; nonsense in it is English."""
    german = mailbox.get(link, headers={"Accept-Language": "de-AT,de;q=0.9"})
    assert "Abbestellen" in german.text
    assert 'lang="de-DE"' in german.text
    odd = mailbox.get(link, headers={"Accept-Language": "\x7f;q=x,,,"})
    assert "Unsubscribe" in odd.text


ODD_PATHS = (
    *(WRONG, "x" * 15, "x" * 65, "x" * 5000, "..%2f..%2flogin", "%00", "a%0d%0ab" * 4),
    *("' OR 1=1 --padding-padding", "%ff" * 20, "ünïcödé-token-ünïcödé", "%25" * 10),
)


@pytest.mark.parametrize("token", ODD_PATHS)
def test_other_links_are_not_known_and_nothing_more_is_said(
    mailbox: TestClient, link: str, sqlite_database: Database, token: str
) -> None:
    """The same page for all of them, by GET and by POST."""
    known = mailbox.get(f"/unsubscribe/{WRONG}")
    for answer in (
        mailbox.get(f"/unsubscribe/{token}"),
        mailbox.post(f"/unsubscribe/{token}", data=BODY),
    ):
        assert answer.status_code == 404
        if "/unsubscribe/" in str(answer.url) and "%2f" not in token:
            assert answer.text == known.text
    assert subscribers(sqlite_database) == ["ann@a.test"]
    del link


BAD_BODIES: tuple[dict[str, Any], ...] = (
    {},
    {"data": {"List-Unsubscribe": "one-click"}},
    {"data": {"list-unsubscribe": "One-Click"}},
    {"data": {"List-Unsubscribe": ["One-Click", "Two-Click"]}},
    {"json": BODY},
    {"content": b"List-Unsubscribe=One-Click"},
    {"content": b"List-Unsubscribe=One-Click", "headers": {"Content-Type": "text/plain"}},
    {"files": {"other": (None, "One-Click")}},
    {"files": {"List-Unsubscribe": (None, "no")}},
    {"data": {**BODY, "padding": "x" * 5000}},
    {"content": b"&" * 4000, "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
    {"content": b"\xff\x00=", "headers": {"Content-Type": "application/x-www-form-urlencoded"}},
    {"content": b"--\r\n\r\n", "headers": {"Content-Type": "multipart/form-data"}},
    {"content": b"--b\r\n" * 700, "headers": {"Content-Type": "multipart/form-data; boundary=b"}},
)


@pytest.mark.parametrize("sent", BAD_BODIES, ids=lambda sent: str(sent)[:40])
def test_a_post_that_asks_for_nothing_changes_nothing(
    mailbox: TestClient, link: str, sqlite_database: Database, sent: dict[str, Any]
) -> None:
    """Some programs POST to whatever they find."""
    answer = mailbox.post(link, **sent)
    assert answer.status_code == 400
    assert subscribers(sqlite_database) == ["ann@a.test"]


def test_a_body_above_the_limit_is_refused(
    mailbox: TestClient, link: str, sqlite_database: Database
) -> None:
    """Before it is read."""
    answer = mailbox.post(link, content=b"x" * (256 * 1024 + 1))
    assert answer.status_code == 413
    assert subscribers(sqlite_database) == ["ann@a.test"]


@pytest.mark.parametrize("media", ["multipart/form-data; boundary=b", FORM_TYPE, "text/plain"])
@pytest.mark.parametrize("length", [LONGEST_KIND, LONGEST_KIND + 1, 60_000])
def test_a_long_content_type_is_refused_unread(
    mailbox: TestClient,
    sqlite_database: Database,
    link: str,
    monkeypatch: pytest.MonkeyPatch,
    *,
    media: str,
    length: int,
) -> None:
    """Whoever asks: reading its parameters takes the square of their number."""
    read: list[bytes] = []

    def note(content: bytes) -> Message:
        read.append(content)
        return message_from_bytes(content)

    monkeypatch.setattr("controlplane.gui.unsubscribe.message_from_bytes", note)
    body = f"--b\r\n{PART}\r\n\r\nOne-Click\r\n--b--\r\n".encode()
    if media == FORM_TYPE:
        body = b"List-Unsubscribe=One-Click"
    for path in (link, f"/unsubscribe/{WRONG}"):
        kind = {"Content-Type": media.ljust(length, ";")}
        answer = mailbox.post(path, content=body, headers=kind)
        if length > LONGEST_KIND:
            assert answer.status_code == 422
            assert answer.json()["detail"] == "The Content-Type is longer than 200 characters."
            assert read == []
            assert subscribers(sqlite_database) == ["ann@a.test"]
    assert bool(subscribers(sqlite_database)) is (length > LONGEST_KIND or media == "text/plain")


PART = 'Content-Disposition: form-data; name="List-Unsubscribe"'


@pytest.mark.parametrize(
    "head",
    [
        f"{PART}\r\nContent-Type: text/plain; charset*=utf-8''%00",
        f'{PART}\r\nContent-Type: text/plain; charset="a\0b"',
        f"{PART}\r\nContent-Type: text/plain; charset=idna",
        f"{PART}\r\nContent-Type: text/plain; charset=no-such-charset",
        f"{PART}\r\nContent-Transfer-Encoding: x-uuencode",
        f"{PART}\r\nContent-Type: message/rfc822",
        f"{PART}\r\nContent-Type: multipart/mixed; boundary=c",
        "Content-Disposition: form-data; name*0*=x''%ff; name*1*=%00",
    ],
)
def test_a_part_that_lies_about_itself_asks_for_nothing(
    mailbox: TestClient, link: str, sqlite_database: Database, head: str
) -> None:
    """Nobody believes its character set; a stranger gets a page and never a fault."""
    body = b"--b\r\n" + head.encode() + b"\r\n\r\n\xff\x80One-Click\r\n--b--\r\n"
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    assert mailbox.post(link, content=body, headers=kind).status_code == 400
    assert subscribers(sqlite_database) == ["ann@a.test"]


def test_the_character_set_of_a_part_does_not_matter(
    mailbox: TestClient, link: str, sqlite_database: Database
) -> None:
    """What RFC 8058 asks for is ASCII in each of them."""
    head = f"{PART}\r\nContent-Type: text/plain; charset*=utf-8''%00\r\n\r\n"
    body = f"--b\r\n{head}One-Click\r\n--b--\r\n".encode()
    kind = {"Content-Type": "multipart/form-data; boundary=b"}
    assert mailbox.post(link, content=body, headers=kind).status_code == 200
    assert subscribers(sqlite_database) == []


def test_guessing_is_slowed_down_and_known_links_are_not(
    mailbox: TestClient, link: str, sqlite_database: Database
) -> None:
    """Behind a proxy whoever guesses has the address of all subscribers: their links go on."""
    for _ in range(MISSES_A_MINUTE + 5):
        assert mailbox.get(link).status_code == 200
    mailbox.app.state.misses = _OneMinute()  # type: ignore[attr-defined]
    statuses = [
        mailbox.post(f"/unsubscribe/{WRONG}", data=BODY).status_code
        for _ in range(MISSES_A_MINUTE + 1)
    ]
    assert statuses == [404] * MISSES_A_MINUTE + [429]
    assert mailbox.get(f"/unsubscribe/{WRONG}").status_code == 429
    assert mailbox.get(link).status_code == 200
    assert subscribers(sqlite_database) == ["ann@a.test"]
    assert mailbox.post(link, data=BODY).status_code == 200
    assert subscribers(sqlite_database) == []
    assert mailbox.post(link, data=BODY).status_code == 200  # one that has ended is known, too


class _OneMinute(Misses):
    """Counts all within one minute, however long the test takes."""

    def refuse_guessing(self, address: str, now_s: float) -> None:
        """Judge at a fixed time."""
        super().refuse_guessing(address, now_s * 0)

    def note(self, address: str, now_s: float) -> None:
        """Count at a fixed time."""
        super().note(address, now_s * 0)


def test_misses_count_for_a_minute_and_in_bounded_memory() -> None:
    """Other addresses are not slowed down by them."""
    misses = Misses()
    for _ in range(MISSES_A_MINUTE):
        misses.refuse_guessing("192.0.2.1", 59.0)
        misses.note("192.0.2.1", 59.0)
    with pytest.raises(Throttled):
        misses.refuse_guessing("192.0.2.1", 59.9)
    misses.refuse_guessing("192.0.2.2", 59.9)
    misses.refuse_guessing("192.0.2.1", 60.0)
    for number in range(MOST_ADDRESSES + 10):
        misses.note(str(number), 61.0)
    assert len(misses._counts) == MOST_ADDRESSES


def test_an_administrators_session_is_no_part_of_it(
    browser: TestClient, link: str, sqlite_database: Database
) -> None:
    """Whoever is signed in by chance: the subscriber did it."""
    browser.app.state.misses = Misses()  # type: ignore[attr-defined]
    assert browser.post(link, data=BODY).status_code == 200
    deeds = [row for row in audited(sqlite_database) if row[1] == "subscription.delete"]
    assert [actor for actor, _, _ in deeds] == ["subscriber"]
