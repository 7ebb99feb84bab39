"""The page on which a mail is tried: what would happen at each stage, and why."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.core.permissions import UserRole
from controlplane.store.engine import Database
from tests.api.conftest import CHEAP, PASSWORD
from tests.fakes.people import add_user, open_session
from tests.gui.conftest import post

AUTHENTICATION = {f"{name}.on_fail": "accept" for name in ("spf", "dkim", "dmarc")}
HOSTILE = "<script>alert(1)</script>"
API = "/api/v1/mail-security"


@pytest.fixture
def tried(watched: TestClient) -> TestClient:
    """Give a browser whose control plane has a policy with one bad word and one blocked domain."""
    word = {"pattern": "cheap pills", "severity": "high"}
    assert watched.post(f"{API}/badwords", json=word).status_code == 201
    for value in ("*@bad.example", "*.dial-up.example"):
        entry = {"value": value, "reason": "test"}
        assert watched.post(f"{API}/blocklist", json=entry).status_code == 201
    del watched.headers["Authorization"]
    return watched


def ask(client: TestClient, **typed: Any) -> str:
    """Send the form and return the page."""
    form = {"sender": "a@good.example", "recipients": "b@y.example", **typed}
    answer = post(client, "/policy/try", **form)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_the_empty_form_says_what_it_does(tried: TestClient) -> None:
    """And shows no result."""
    page = tried.get("/policy/try").text
    assert "Nothing is sent" in page
    assert "What would happen" not in page


def test_a_harmless_mail_passes_every_stage(tried: TestClient) -> None:
    """Each stage is named, the recipient too."""
    page = ask(tried, subject="Lunch", text="At noon?")
    for words in ("accepted", "MAIL", "RCPT", "b@y.example", "end of message"):
        assert words in page


def test_a_bad_word_is_found_in_parts_and_in_a_whole_mail(tried: TestClient) -> None:
    """The rule is named; whoever tries it sees the reply that the client would get."""
    raw = "From: a@good.example\r\nSubject: hi\r\n\r\nCHEAP pills\r\n"
    for typed in ({"text": "Buy cheap  pills"}, {"raw": raw}, {"subject": "cheap pills!"}):
        page = ask(tried, **typed)
        assert "badword:1" in page
        assert "refused" in page
        assert "550 5.7.1" in page


def test_a_blocked_sender_is_refused_at_mail(tried: TestClient) -> None:
    """The rule of the list is named."""
    page = ask(tried, sender="eve@bad.example", text="hello")
    assert "blocklist:" in page
    assert "refused" in page


def test_several_recipients_are_judged_one_by_one(tried: TestClient) -> None:
    """Empty lines between them are nobody."""
    page = ask(tried, recipients="one@y.example\n\n  two@y.example \n", text="hello")
    assert page.count("one@y.example") >= 2
    assert page.count("two@y.example") >= 2


@pytest.mark.parametrize(
    ("typed", "says"),
    [
        ({"recipients": ""}, "Fill in this field."),
        ({"client": "not an address"}, "client"),
        ({"helo": "x" * 1001}, "helo"),
        ({"subject": "y" * 1001}, "subject"),
    ],
)
def test_what_cannot_be_tried_is_refused_with_everything_typed_kept(
    tried: TestClient, typed: dict[str, str], says: str
) -> None:
    """Beside its field."""
    form = {"sender": "kept@good.example", "recipients": "b@y.example", "text": "kept", **typed}
    answer = post(tried, "/policy/try", **form)
    assert answer.status_code == 422
    assert "kept@good.example" in answer.text
    assert says in answer.text


def test_a_strangers_mail_is_shown_as_text(tried: TestClient) -> None:
    """Whatever is typed and whatever matched."""
    page = ask(
        tried,
        sender=f'"{HOSTILE}"@bad.example',
        subject=HOSTILE,
        text=f"cheap pills {HOSTILE}",
        helo=HOSTILE,
    )
    assert HOSTILE not in page
    assert html.escape(HOSTILE, quote=False) in page or html.escape(HOSTILE) in page


def test_whoever_may_only_read_cannot_try(tried: TestClient, sqlite_database: Database) -> None:
    """The page says who can."""
    add_user(sqlite_database, "rita", UserRole.READ_ONLY, PASSWORD, CHEAP)
    tried.cookies.clear()
    tried.cookies.set("relay_session", open_session(sqlite_database, "rita", CHEAP))
    page = tried.get("/policy/try").text
    assert "An Operator can try mails." in page
    assert 'name="recipients"' not in page
    assert post(tried, "/policy/try", recipients="b@y.example").status_code == 403


def send(browser: TestClient, **typed: str) -> str:
    """Send the form with the client's address, and return the result above it."""
    form = {"client": "198.51.100.7", "sender": "a@good.example", "recipients": "b@y.example"}
    answer = post(browser, "/policy/try", **form | typed)
    assert answer.status_code == 200, answer.text
    return answer.text


def test_what_the_dns_would_say_can_be_chosen(tried: TestClient) -> None:
    """Left alone nothing is assumed; a note says what does not count, and a choice stays."""
    page = send(tried, spf="", dkim="", dmarc="", dmarc_policy="")
    assert "SPF is switched" not in page
    saved = AUTHENTICATION | {"dmarc.is_enabled": "on", "dmarc.on_fail": "reject"}
    assert post(tried, "/policy/settings/authentication", **saved).status_code == 303
    page = send(tried, dmarc="fail", dmarc_policy="quarantine", spf="pass")
    assert "dmarc:fail" in page
    assert "SPF is switched off" in page
    assert re.search(r'<option value="fail"[^>]*selected', page)
    assert "DMARC is switched on, but no DNS is asked" in send(tried)


def test_a_host_name_is_looked_for_on_the_lists(tried: TestClient) -> None:
    """As the MTA verified it."""
    assert "blocklist:" not in send(tried, client_name="mx.good.example")
    assert "blocklist:" in send(tried, client_name="p7.dial-up.example")
