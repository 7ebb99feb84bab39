"""A subscriber's copy has the headers of his list, and none of another one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.codecs.list_headers import (
    Subscriber,
    for_subscriber,
    is_from,
    list_id,
    subscriber_ids,
)
from nodeagent.policy.document import Category, Posting
from nodeagent.policy.model import Header, Message
from nodeagent.policy.raw_message import from_bytes, to_bytes

NEWS = Category(id=2, address="news@example.com", name="The news")
URL = "https://relay.example.com/unsubscribe"
MAIL = Message(headers=(Header("From", " a@b.test"), Header("Subject", " x")), body=b"x")


def copy(
    category: Category = NEWS, url: str | None = URL, message: Message = MAIL
) -> dict[str, list[str]]:
    """Return the headers of a copy, by their names."""
    made = for_subscriber(message, Subscriber("s@c.test", "t" * 32, category), url)
    found: dict[str, list[str]] = {}
    for name, value in made.headers:
        found.setdefault(name, []).append(value.strip())
    return found


def test_a_copy_has_the_lists_headers() -> None:
    """RFC 2919, RFC 2369, RFC 8058; the mail's own headers stay below them."""
    found = copy()
    assert found["List-Id"] == ['"The news" <news.example.com>']
    assert found["List-Unsubscribe"] == [f"<{URL}/{'t' * 32}>"]
    assert found["List-Unsubscribe-Post"] == ["List-Unsubscribe=One-Click"]
    assert found["List-Post"] == ["<mailto:news@example.com>"]
    assert found["Precedence"] == ["list"]
    assert list(found)[-2:] == ["From", "Subject"]


@pytest.mark.parametrize("url", [f"{URL}/", "HTTPS://relay.example.com/u"])
def test_the_link_is_the_url_and_the_token(url: str) -> None:
    """With one slash between them."""
    assert copy(url=url)["List-Unsubscribe"] == [f"<{url.rstrip('/')}/{'t' * 32}>"]


@pytest.mark.parametrize("url", [None, "", "http://relay.example.com/u", "mailto:x@y.test"])
def test_without_an_https_url_nothing_is_promised(url: str | None) -> None:
    """RFC 8058 wants https, and a header that leads nowhere is worse than none."""
    assert not {"List-Unsubscribe", "List-Unsubscribe-Post"} & set(copy(url=url))


@pytest.mark.parametrize(
    ("posting", "is_told"),
    [(Posting.SUBSCRIBERS, True), (Posting.ANYBODY, True), (Posting.ALLOWED, False)],
)
def test_where_to_post_is_told_where_subscribers_may(posting: Posting, is_told: bool) -> None:
    """A list of announcements has no address to write to."""
    found = copy(NEWS.model_copy(update={"posting": posting}))
    assert ("List-Post" in found) is is_told


def test_another_lists_headers_are_taken_away() -> None:
    """Whoever wrote them, in any case; the rest is untouched."""
    names = ["List-ID", "list-unsubscribe", "LIST-UNSUBSCRIBE-POST", "List-Post", "List-Help"]
    names += ["List-Subscribe", "List-Owner", "List-Archive", "precedence"]
    brought = tuple(Header(name, " <https://evil.test>") for name in names)
    message = Message(headers=(*brought, Header("X-List-Id", " mine"), *MAIL.headers), body=b"x")
    found = copy(message=message)
    assert "evil" not in str(found)
    assert found["X-List-Id"] == ["mine"]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("", "<news.example.com>"),
        ('He said "no" <x>\\', '"He said no x" <news.example.com>'),
        ("Zürich\r\nBcc: x", '"Z rich Bcc: x" <news.example.com>'),
    ],
)
def test_a_lists_name_is_a_quoted_string(name: str, shown: str) -> None:
    """Nothing in it can end the string or the header."""
    assert copy(NEWS.model_copy(update={"name": name}))["List-Id"] == [shown]


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("news@example.com", "news.example.com"),
        ("News.Daily@Example.com", "news.daily.example.com"),
        ("a+b/c@example.com", "a-b-c.example.com"),
        ("..@example.com", "list.example.com"),
    ],
)
def test_a_lists_identifier_is_a_dotted_name(address: str, expected: str) -> None:
    """RFC 2919, 3: labels and dots alone."""
    category = Category(id=1, address=address)
    assert list_id(category) == expected
    assert re.fullmatch(r"[a-z0-9_.-]+", list_id(category))


def test_a_copy_is_known_as_the_lists_own() -> None:
    """And the mail it was made from is not."""
    made = for_subscriber(MAIL, Subscriber("s@c.test", "t" * 32, NEWS), URL)
    assert is_from(made, NEWS)
    assert is_from(from_bytes(to_bytes(made)), NEWS)
    assert not is_from(MAIL, NEWS)
    assert not is_from(made, Category(id=3, address="other@example.com"))


def test_two_lists_that_subscribe_to_each_other_make_no_loop() -> None:
    """The second takes the first one's List-Id away, and it is known all the same."""
    other = Category(id=3, address="other@example.com")
    first = for_subscriber(MAIL, Subscriber("other@example.com", "t" * 32, NEWS), URL)
    second = for_subscriber(first, Subscriber("news@example.com", "t" * 32, other), URL)
    assert is_from(second, NEWS)
    assert [value for name, value in second.headers if name == "List-Id"] == [
        " <other.example.com>"
    ]


@pytest.mark.parametrize("value", [" <NEWS.example.com>", " News\r\n <news.example.com> (x)"])
def test_the_list_is_known_in_any_form(value: str) -> None:
    """In any case, folded, with a name of any kind."""
    assert is_from(Message(headers=(Header("LIST-ID", value),)), NEWS)


@pytest.mark.parametrize(
    ("recipient", "ids"),
    [
        ("7.2@list.relay.invalid", (7, 2)),
        ("7.2@LIST.Relay.Invalid", (7, 2)),
        ("9007199254740991.1@list.relay.invalid", (9007199254740991, 1)),
        ("7.2@other.invalid", None),
        ("7.2.3@list.relay.invalid", None),
        ("07.2@list.relay.invalid", None),
        ("0.2@list.relay.invalid", None),
        ("-7.2@list.relay.invalid", None),
        ("7.99999999999999999@list.relay.invalid", None),
        ("\u0667.2@list.relay.invalid", None),
        ("bob@list.relay.invalid", None),
        ("", None),
    ],
)
def test_a_recipient_names_subscription_and_category(
    recipient: str, ids: tuple[int, int] | None
) -> None:
    """Two numbers, or it is nobody."""
    assert subscriber_ids(recipient) == ids


@given(name=st.text(max_size=100), token=st.from_regex(r"[A-Za-z0-9_-]{16,64}", fullmatch=True))
def test_a_copy_is_always_a_message(name: str, token: str) -> None:
    """Whatever the list is called, its headers are headers and the body stays."""
    category = NEWS.model_copy(update={"name": name})
    made = for_subscriber(MAIL, Subscriber("s@c.test", token, category), URL)
    again = from_bytes(to_bytes(made))
    assert again.headers == made.headers
    assert again.body == MAIL.body
