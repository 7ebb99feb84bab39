"""Refusals of the mail policy on German pages: not one of them is English."""

from __future__ import annotations

import html
import re
from typing import Any

import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from controlplane.api.error_handlers import field_sentences
from controlplane.core.policy_checks import NEEDS_DATA, NO_DATA, settings_problems
from controlplane.core.policy_drafts import (
    BadwordDraft,
    CategoryDraft,
    Draft,
    ListDraft,
    NamedSubscriptionDraft,
    RateDraft,
)
from controlplane.gui.language import Localizer
from controlplane.gui.sentences import translate_sentence
from nodeagent.policy.document import HttpDoor, PolicySettings
from nodeagent.policy.engine.trying import HEALTH_CHECKED, NOT_ASKED, SWITCHED_OFF, TRUSTED
from nodeagent.policy.engine.words import pattern_problem
from tests.gui.conftest import post

GERMAN = Localizer("de")
MANY = tuple(f"192.0.2.{number}" for number in range(200)) * 6


def refusals(draft: type[Draft], **values: Any) -> list[str]:
    """Return what the API says of values that cannot be used."""
    with pytest.raises(ValidationError) as refused:
        draft(**values)
    return list(field_sentences(refused.value.errors()).values())


def in_german(sentence: str) -> str:
    """Return a sentence as a German page shows it, which is not as the API says it."""
    shown = translate_sentence(GERMAN, sentence)
    assert shown != sentence
    assert not re.search(r"\b(the|has|have|is|are|cannot|should|which)\b", shown), shown
    return shown


@pytest.mark.parametrize(
    "value",
    [
        *(
            "",
            " ",
            ".example.com",
            "a" * 400 + ".example.com",
            "a@",
            "@example.com",
            "fe80::1%eth0",
        ),
        *("192.0.2.0/x", "192.0.2.0/40", "192.0.2.300", "192.0.2.1/24", "\x01b@example.com"),
        *("a b@example.com", "x" * 300 + "@example.com", "a@[example]", "nodot", "a b.example"),
        *("a..example", "example.7", "xn--a.example", "*@", '"*"@example.com', "a@b@", "a@-b.test"),
        "a@" + "b." * 200 + "test",
    ],
)
def test_values_of_lists(value: str) -> None:
    """Each in one sentence, with the value in it where it has one."""
    for sentence in refusals(ListDraft, value=value):
        in_german(sentence)


WRONG_PATTERNS = (
    *("(a", "a)", "[a", "a\\", "*a", "a**", "(?=a)", "(?<!a)b", r"(a)\1", "a{3,1}", "a{9999}"),
    *("[z-a]", "[[:no:]]", r"\p{Nope}", "(?P<n", "a*", ".{0,40}x.{0,40}", "((a{100}){100}){100}"),
    *("\\pL{900}", "invoice.{0,40}payment"),
)


@pytest.mark.parametrize("pattern", WRONG_PATTERNS)
def test_regular_expressions(pattern: str) -> None:
    """RE2's own words are for programmers."""
    (sentence,) = refusals(BadwordDraft, pattern=pattern, is_regex=True)
    assert "regulär" in in_german(sentence)


@given(st.text("ab01(){}[]|*+?.\\^$,-:=!<>P", min_size=1, max_size=12))
def test_whatever_is_typed_as_an_expression_is_refused_in_german(pattern: str) -> None:
    """No reason of RE2's is left that we have no words for."""
    problem = pattern_problem(pattern, is_regex=True)
    if problem is not None:
        in_german(problem.removesuffix(".") + ".")


@pytest.mark.parametrize(
    ("draft", "values"),
    [
        (BadwordDraft, {"pattern": "\u200b"}),
        (BadwordDraft, {"pattern": ""}),
        (BadwordDraft, {"pattern": "x" * 1001}),
        (RateDraft, {"subject": "login", "window": "hour", "limit": 5, "verdict": "discard"}),
        (RateDraft, {"subject": "login", "window": "hour", "limit": 0}),
        (RateDraft, {"subject": "login", "window": "hour", "limit": 2**31}),
        (RateDraft, {"subject": "login", "window": "hour"}),
        (CategoryDraft, {"address": " "}),
        (CategoryDraft, {"address": "news"}),
        (CategoryDraft, {"address": "a@list.relay.invalid"}),
        (CategoryDraft, {"address": "a@b.test", "name": "\u202e"}),
        (CategoryDraft, {"address": "a@b.test", "allowed_senders": ["b.test"]}),
        (NamedSubscriptionDraft, {"address": "*@b.test", "category": "a@b.test"}),
        (ListDraft, {"value": "b.test", "reason": "x" * 501}),
    ],
)
def test_other_entries(draft: type[Draft], values: dict[str, Any]) -> None:
    """Words, rates, categories and subscriptions."""
    for sentence in refusals(draft, **values):
        in_german(sentence)


@pytest.mark.parametrize(
    "settings",
    [
        PolicySettings(blocked_extensions=("exe.",)),
        PolicySettings(blocked_extensions=("exe",) * 201),
        PolicySettings(rate_exempt=MANY),
        PolicySettings(rate_exempt=("A@b.test",)),
        PolicySettings(rate_exempt=("nonsense",)),
        PolicySettings(http=HttpDoor(address="nowhere")),
        PolicySettings(http=HttpDoor(is_enabled=True)),
        PolicySettings(http=HttpDoor(username="a:b")),
        PolicySettings(unsubscribe_url="http://a.test"),
        PolicySettings(threat_quarantine_score=11),
    ],
    ids=lambda settings: next(iter(settings_problems(settings))),
)
def test_settings(settings: PolicySettings) -> None:
    """What is wrong beyond a field's own form."""
    found = settings_problems(settings)
    assert found
    for sentence in found.values():
        in_german(sentence)


@pytest.mark.parametrize("sentence", [NEEDS_DATA, NO_DATA])
def test_categories_and_their_stage(sentence: str) -> None:
    """What a door leaves out, and what cannot be added therefore."""
    assert "DATA" in in_german(sentence)


def test_notes_of_a_trial() -> None:
    """The names of the checks stay."""
    in_german(TRUSTED)
    assert "127.0.0.1" in in_german(HEALTH_CHECKED)
    for pattern in (SWITCHED_OFF, NOT_ASKED):
        assert in_german(pattern % {"check": "DMARC"}).startswith("DMARC ")


def test_a_german_page_says_it_beside_the_field(watched: TestClient) -> None:
    """And what was typed stays."""
    del watched.headers["Authorization"]
    watched.headers["Accept-Language"] = "de"
    form = {"pattern": "(cheap", "is_regex": "on", "severity": "high", "category": "spam"}
    answer = post(watched, "/policy/words/new", **form)
    page = html.unescape(answer.text)
    assert answer.status_code == 422, page
    assert "Einer Gruppe, die mit ( beginnt, fehlt das )." in page
    assert 'value="(cheap"' in page
