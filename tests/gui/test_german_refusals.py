"""What forms of policy, quarantine and alerts refuse on German pages: nothing of it in English."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping
from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.store.engine import Database
from nodeagent.policy.engine.threats import THREAT_RULES
from tests.gui.conftest import post
from tests.gui.test_policy_settings import as_shown, stored

ENGLISH = re.compile(
    r"\b(the|there|this|has|have|is|are|cannot|should|must|which|of|no|and|or|be|by|nothing)\b"
    r"|[Ii]nput|Value error|String|[Uu]nexpected"
)
OWN_WORDS = re.compile(r"is_\w+|\w+_\w+|[\w*-]+@[\w.-]+|\"[^\"]*\"")
"""Names of settings, addresses, and what was typed."""
SAID = re.compile(
    r'<p class="field-error"[^>]*>(.*?)</p>|role="alert">(.*?)</div>|<p role="alert">(.*?)</p>'
    r'|<th scope="row" class="nowrap">(?:line|entry) \d+</th><td>(.*?)</td>',
    re.DOTALL,
)
TAG = re.compile(r"<[^>]+>")
WORD = {"pattern": "casino", "severity": "high", "category": "spam", "is_enabled": "on"}
RATE = {"subject": "login", "window": "hour", "limit": "5", "verdict": "reject"}
NEWS = {"address": "news@lists.example", "posting": "anybody", "is_enabled": "on"}
ENTRY = {"listing": "block", "value": "a.example"}
HOOK = {"url": "jsons://hooks.example.com/x", "is_enabled": "on"}
LINES = {"format": "csv", "listing": "block"}
MAIL = {"sender": "a@a.example", "recipients": "b@b.example", "text": "x"}


@pytest.fixture
def german(watched: TestClient) -> TestClient:
    """Give a browser of an Admin who reads German."""
    del watched.headers["Authorization"]
    watched.headers["Accept-Language"] = "de"
    return watched


def said(page: str) -> list[str]:
    """Return what a page says of what it refused."""
    found = (next(filter(None, groups), "") for groups in SAID.findall(page))
    return [" ".join(html.unescape(TAG.sub(" ", one)).split()) for one in found]


def refused(browser: TestClient, path: str, /, **fields: Any) -> list[str]:
    """Send a form that is refused; return what is said, not one sentence of which is English."""
    answer = post(browser, path, **fields)
    assert answer.status_code in {404, 409, 422}, answer.text
    return in_german(answer.text)


def in_german(page: str) -> list[str]:
    """Return what a page says, after a look for English."""
    sentences = said(page)
    assert sentences, page
    for one in sentences:
        assert not ENGLISH.search(OWN_WORDS.sub("", one)), one
    return sentences


WRONG: Mapping[str, tuple[tuple[str, Mapping[str, Any]], ...]] = {
    "lists": (
        ("/policy/lists/new", {"listing": "block", "value": ""}),
        ("/policy/lists/new", {"listing": "neither", "value": "a.example"}),
        ("/policy/lists/new", {**ENTRY, "value": "a b"}),
        ("/policy/lists/new", {**ENTRY, "value": "x" * 1001}),
        ("/policy/lists/new", {**ENTRY, "reason": "x" * 501}),
        ("/policy/lists/new", {**ENTRY, "reason": "a\tb"}),
        ("/policy/lists/new", {**ENTRY, "expires_at": "tomorrow"}),
        ("/policy/lists/new", {**ENTRY, "expires_at": "9999-12-31"}),
        ("/policy/lists/7", ENTRY),
        ("/policy/lists/delete", {}),
        ("/policy/lists/7/delete", {}),
    ),
    "words": (
        ("/policy/words/new", {**WORD, "pattern": ""}),
        ("/policy/words/new", {**WORD, "pattern": "\u200b"}),
        ("/policy/words/new", {**WORD, "pattern": "(a", "is_regex": "on"}),
        ("/policy/words/new", {**WORD, "severity": "grave"}),
        ("/policy/words/new", {**WORD, "category": "none"}),
        ("/policy/words/7", WORD),
    ),
    "rates": (
        ("/policy/rates/new", {**RATE, "limit": ""}),
        ("/policy/rates/new", {**RATE, "limit": "0"}),
        ("/policy/rates/new", {**RATE, "limit": str(2**31)}),
        ("/policy/rates/new", {**RATE, "limit": "1.5"}),
        ("/policy/rates/new", {**RATE, "limit": "many"}),
        ("/policy/rates/new", {**RATE, "verdict": "discard"}),
        ("/policy/rates/new", {**RATE, "window": "week"}),
        ("/policy/rates/7", RATE),
    ),
    "categories": (
        ("/policy/categories/_new", {**NEWS, "address": ""}),
        ("/policy/categories/_new", {**NEWS, "address": "news"}),
        ("/policy/categories/_new", {**NEWS, "name": "\u202e"}),
        ("/policy/categories/_new", {**NEWS, "posting": "nobody"}),
        ("/policy/categories/_new", {**NEWS, "allowed_senders": "a.example"}),
        ("/policy/categories/_new", {**NEWS, "allowed_senders": "a@a.tld " * 1001}),
        ("/policy/categories/7", NEWS),
        ("/policy/categories/7/subscribe", {"address": "a@a.example"}),
        ("/policy/categories/7/unsubscribe", {"subscription": "x"}),
        ("/policy/categories/7/unsubscribe", {"subscription": "7"}),
    ),
    "imports": (
        ("/policy/words/import", {"format": "csv", "text": ""}),
        ("/policy/words/import", {"format": "csv", "text": "word\nx"}),
        ("/policy/words/import", {"format": "csv", "text": "pattern,colour\nx,red"}),
        ("/policy/words/import", {"format": "csv", "text": "pattern,severity\nx"}),
        ("/policy/words/import", {"format": "csv", "text": "pattern,severity\nx,grave\ny,grave"}),
        ("/policy/words/import", {"format": "csv", "text": "severity,pattern\nlow,"}),
        ("/policy/words/import", {"format": "csv", "text": 'pattern\n"x'}),
        ("/policy/words/import", {"format": "json", "text": "nonsense"}),
        ("/policy/words/import", {"format": "json", "text": '[{"pattern": 7}]'}),
        ("/policy/words/import", {"format": "json", "text": '[{"pattern": "x", "y": 1}]'}),
        ("/policy/words/import", {"format": "json", "text": '[{"is_regex": true}]'}),
        ("/policy/words/import", {"format": "json", "text": '[{"pattern": "x", "is_regex": "?"}]'}),
        ("/policy/rates/import", {"format": "csv", "text": "subject,window,limit\nlogin,day,x"}),
        ("/policy/rates/import", {"format": "csv", "text": "subject,window,limit\nlogin,day,0"}),
        ("/policy/rates/import", {"format": "csv", "text": "subject,window,limit\nall,day,1"}),
        ("/policy/lists/import", {**LINES, "text": "value,expires_at\na.tld,soon"}),
        ("/policy/lists/import", {**LINES, "text": "value,expires_at\na.tld,2037-01-31"}),
        ("/policy/lists/import", {**LINES, "text": "value,expires_at\na.tld,2037-01-31T10:00"}),
        ("/policy/lists/import", {**LINES, "text": "value,reason\na.tld," + "x" * 501}),
        ("/policy/lists/import", {**LINES, "listing": "none", "text": "value\na.tld"}),
    ),
    "settings": (
        ("/policy/settings/content", {}),
        ("/policy/settings/limits", {"stages": ["lunch"]}),
        ("/policy/settings/nothing", {}),
        ("/policy/settings/http-credentials", {"kind": "basic", "name": ""}),
        ("/policy/settings/http-credentials", {"kind": "basic", "name": "a b"}),
        ("/policy/settings/http-credentials", {"kind": "magic"}),
        ("/policy/settings/http-credentials/magic/withdraw", {}),
        ("/policy/threat-rules/sql-union", {"score": "-1"}),
        ("/policy/threat-rules/sql-union", {"score": "1001"}),
        ("/policy/threat-rules/sql-union", {"score": "much"}),
        ("/policy/threat-rules/none", {"score": "1"}),
    ),
    "trials": (
        ("/policy/try", {**MAIL, "recipients": ""}),
        ("/policy/try", {**MAIL, "recipients": "b@b.example\n" * 101}),
        ("/policy/try", {**MAIL, "client": "home"}),
        ("/policy/try", {**MAIL, "helo": "x" * 1001}),
        ("/policy/try", {**MAIL, "subject": "x" * 1001}),
        ("/policy/try", {**MAIL, "spf": "maybe"}),
        ("/policy/try", {**MAIL, "dmarc_policy": "maybe"}),
    ),
    "alerts": (
        ("/alerts/settings", {"cool_down_minutes": "0"}),
        ("/alerts/settings", {"cool_down_minutes": "1441"}),
        ("/alerts/settings", {"cool_down_minutes": ""}),
        ("/alerts/settings", {"cool_down_minutes": "soon"}),
        ("/alerts/rules/queue-size", {"threshold": ""}),
        ("/alerts/rules/queue-size", {"threshold": "0"}),
        ("/alerts/rules/queue-size", {"threshold": "1e13"}),
        ("/alerts/rules/queue-size", {"threshold": "nan"}),
        ("/alerts/rules/queue-size", {"threshold": "many"}),
        ("/alerts/rules/moon", {"threshold": "1"}),
        ("/alerts/channels/_new", {**HOOK, "name": ""}),
        ("/alerts/channels/_new", {**HOOK, "name": "a/b"}),
        ("/alerts/channels/_new", {"name": "x", "url": ""}),
        ("/alerts/channels/_new", {"name": "x", "url": "nonsense"}),
        ("/alerts/channels/_new", {"name": "x", "url": "file:///etc/passwd"}),
        ("/alerts/channels/_new", {"name": "x", "url": "json://169.254.169.254/"}),
        ("/alerts/channels/_new", {"name": "x", "url": "jsons://a.example/ b"}),
        ("/alerts/channels/_new", {"name": "x", "url": "jsons://a.example/?template=/etc/x"}),
        ("/alerts/channels/_new", {"name": "x", "url": "jsons://a.example/" + "x" * 2000}),
        ("/alerts/channels/nobody", HOOK),
        ("/alerts/channels/nobody/test", {}),
        ("/alerts/channels/nobody/delete", {}),
    ),
    "quarantine": (
        ("/policy/quarantine", {"verb": "release"}),
        ("/policy/quarantine", {"verb": "burn", "chosen": "node-a/ABCDEF123"}),
        ("/policy/quarantine", {"verb": "delete", "all": "on", "severity": "grave"}),
        ("/policy/quarantine/node-a/ABCDEF123/preview", {}),
    ),
}
"""By the part of the pages: a form, and what somebody may send with it."""


@pytest.mark.parametrize(
    ("path", "fields"), [one for part in WRONG.values() for one in part], ids=str
)
def test_a_form_refuses_in_german(german: TestClient, path: str, fields: Mapping[str, Any]) -> None:
    """Beside its field, above the form or on a page of its own, each sentence of it."""
    refused(german, path, **fields)


@pytest.mark.parametrize(
    ("group", "change", "count"),
    [
        ("content", {"medium": "burn", "threat_reject_score": "-1"}, 2),
        ("content", {"threat_quarantine_score": "11"}, 1),
        ("content", {"blocked_extensions": "e.xe"}, 1),
        ("content", {"blocked_extensions": "e.xe", "threat_quarantine_score": "11"}, 2),
        ("checks", {"checks.most_recipients": "none"}, 1),
        ("checks", {"rate_exempt": "not/a/network"}, 1),
        ("checks", {"rate_exempt": "A@b.example"}, 1),
        ("http", {"http.port": "70000"}, 1),
        ("http", {"http.port": "0", "http.address": "x" * 101}, 2),
        ("http", {"http.address": "nowhere"}, 1),
        ("http", {"http.is_enabled": "on"}, 1),
        ("limits", {"inspected_bytes": "1"}, 1),
        ("log", {"unsubscribe_url": "http://a.example"}, 1),
    ],
)
def test_settings_are_refused_in_german(
    german: TestClient,
    sqlite_database: Database,
    group: str,
    change: Mapping[str, Any],
    count: int,
) -> None:
    """Beside the fields, and not once more above them."""
    fields = {**as_shown(group, stored(sqlite_database)), **change}
    sentences = refused(german, f"/policy/settings/{group}", **fields)
    assert len([one for one in sentences if "nichts geändert" not in one]) == count, sentences


TAKEN: Mapping[str, tuple[str, Mapping[str, str], str]] = {
    "blocklist": ("/policy/lists/new", ENTRY, '"a.example" steht schon auf der Sperrliste'),
    "allowlist": (
        "/policy/lists/new",
        {**ENTRY, "listing": "allow"},
        "auf der Freigabeliste, als",
    ),
    "word": ("/policy/words/new", WORD, 'Das verbotene Wort "casino" gibt es schon'),
    "rate": ("/policy/rates/new", RATE, 'Das Ratenlimit "login" gibt es schon'),
    "category": ("/policy/categories/_new", NEWS, 'Die Kategorie "news@lists.example" gibt es'),
    "channel": ("/alerts/channels/_new", {**HOOK, "name": "hook"}, "einen Eintrag dieses Namens"),
}


@pytest.mark.parametrize("name", TAKEN)
def test_what_is_there_already_is_said_in_german(german: TestClient, name: str) -> None:
    """With its number where it has one, and nothing is overwritten."""
    path, fields, words = TAKEN[name]
    assert post(german, path, **fields).status_code == 303
    (sentence,) = refused(german, path, **fields)
    assert words in sentence, sentence
    assert name == "channel" or sentence.endswith("als Nummer 1.")


def test_an_entry_cannot_become_another(german: TestClient) -> None:
    """The one that is in the way is named, by the form of the one that was changed."""
    for value in ("a.example", "b.example"):
        assert post(german, "/policy/lists/new", **{**ENTRY, "value": value}).status_code == 303
    (sentence,) = refused(german, "/policy/lists/2", value="A.example")
    assert sentence == '"a.example" steht schon auf der Sperrliste, als Nummer 1.'


def test_a_subscriber_who_is_there_already(german: TestClient) -> None:
    """On the page of the category."""
    page = post(german, "/policy/categories/_new", **NEWS).headers["location"].partition("?")[0]
    assert post(german, f"{page}/subscribe", address="ann@a.example").status_code == 303
    (sentence,) = refused(german, f"{page}/subscribe", address="ANN@a.example")
    assert sentence == 'Das Abonnement "ann@a.example" gibt es schon, als Nummer 1.'
    refused(german, f"{page}/subscribe", address="nobody")


@pytest.mark.parametrize(
    "path",
    [
        *("/policy/lists/7", "/policy/words/7", "/policy/rates/7", "/policy/categories/7"),
        *("/policy/log/7", "/policy/quarantine/node-a/ABCDEF123", "/policy/threat-rules/none"),
        *("/alerts/rules/moon", "/alerts/channels/nobody"),
        *("/policy/lists?listing=none", "/policy/lists?before=x", "/policy/words?severity=grave"),
        *("/policy/words?search=" + "x" * 321, "/policy/rates?subject=all"),
        "/policy/quarantine?severity=grave",
        *("/policy/log?verdict=none", "/policy/log?before=x", "/policy/threats?severity=grave"),
        *("/policy/categories?before=x", "/policy/lists/0", "/policy/lists/x"),
    ],
)
def test_an_address_that_leads_nowhere_is_told_in_german(german: TestClient, path: str) -> None:
    """What is not there, and a filter that cannot be."""
    answer = german.get(path)
    assert answer.status_code in {404, 422}, answer.status_code
    in_german(answer.text)


def test_threat_rules_are_told_in_german(german: TestClient) -> None:
    """All of the list, and each on its page."""
    pages = [german.get(f"/policy/threat-rules{one}").text for one in ("", "/sql-union")]
    for rule in THREAT_RULES:
        assert html.escape(rule.description) not in pages[0], rule.name
        assert rule.description not in html.unescape(pages[0]), rule.name
    assert all("Der Text hängt ein UNION SELECT an" in html.unescape(page) for page in pages)
