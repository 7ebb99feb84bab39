"""Settings of the mail policy that cannot be used, and what of them a state file may hold."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from controlplane.core.csv_lists import first_sentence
from controlplane.core.policy_checks import (
    MOST_EXEMPT,
    MOST_EXTENSIONS,
    NEEDS_DATA,
    settings_problems,
    without_data,
)
from controlplane.core.policy_lists import PolicyList
from controlplane.core.policy_state import (
    DIGESTS,
    FROM_CLUSTER,
    MADE_HERE,
    PolicySettingsState,
    PolicyState,
    ThreatRuleState,
)
from nodeagent.policy.document import HttpDoor, PolicySettings
from nodeagent.policy.model import Stage, Verdict

DIGEST = 64 * "a"
EXTENSION = "cannot be used: an extension has small letters and digits and no dot."
ADDRESS = (
    "The address has to be an IP address that every node has, such as 127.0.0.1, 0.0.0.0 or ::."
)
USER = "The user name has printable ASCII characters and no colon."
URL = "The URL has to read https://HOST or https://HOST/PATH."


def problems(**settings: Any) -> dict[str, str]:
    """Return what is wrong with these settings, the others as they are by default."""
    return settings_problems(PolicySettings(**settings))


def test_the_defaults_can_be_used() -> None:
    """Who has set nothing has nothing to mend."""
    assert problems() == {}
    assert without_data(PolicySettings()) == {}


@given(
    st.sets(st.sampled_from(Stage)),
    st.sets(st.sampled_from(Stage)),
    st.booleans(),
)
def test_the_doors_without_data_are_named(
    milter: set[Stage], http: set[Stage], is_open: bool
) -> None:
    """Postfix asks always, Stalwart while its door is open; no other stage matters."""
    door = HttpDoor(is_enabled=is_open, stages=tuple(http))
    found = without_data(PolicySettings(stages=tuple(milter), http=door))
    assert ("stages" in found) is (Stage.DATA not in milter)
    assert ("http.stages" in found) is (is_open and Stage.DATA not in http)
    assert len(found) <= 2
    assert set(found.values()) <= {NEEDS_DATA}


@pytest.mark.parametrize(
    "settings",
    [
        {"blocked_extensions": ()},
        {"blocked_extensions": ("7z", "a_b-c", 20 * "x")},
        {"blocked_extensions": ("x",) * MOST_EXTENSIONS},
        {"rate_exempt": ("192.0.2.0/24", "2001:db8::1", "*@e.tld", "a@e.tld", "e.tld")},
        {"rate_exempt": ("a@e.tld",) * MOST_EXEMPT},
        {"http": {"address": "0.0.0.0"}},
        {"http": {"address": "2001:db8::1"}},
        {"http": {"username": "stalwart"}},
        {"http": {"username": 100 * "~"}},
        {"http": {"is_enabled": True, "password_sha256": DIGEST}},
        {"http": {"is_enabled": True, "token_sha256": DIGEST}},
        {"http": {"is_enabled": True, "header_sha256": DIGEST}},
        {"unsubscribe_url": "https://relay.e.tld"},
        {"unsubscribe_url": "https://relay.e.tld:8443/lists/end?a=b"},
        {"unsubscribe_url": "https://[2001:db8::1]/"},
        {"unsubscribe_url": "https://192.0.2.1"},
        {"threat_quarantine_score": 10, "threat_reject_score": 10},
        {"threat_quarantine_score": 0.5, "threat_reject_score": 1000},
    ],
)
def test_what_is_at_its_limit_can_be_used(settings: dict[str, Any]) -> None:
    """All of what the sentences promise."""
    assert problems(**settings) == {}


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        ("blocked_extensions", (".exe",), f'".exe" {EXTENSION}'),
        ("blocked_extensions", ("EXE",), f'"EXE" {EXTENSION}'),
        ("blocked_extensions", ("",), f'"" {EXTENSION}'),
        ("blocked_extensions", ("exe", "tar.gz"), f'"tar.gz" {EXTENSION}'),
        ("blocked_extensions", ("ü",), f'"ü" {EXTENSION}'),
        ("blocked_extensions", ("exe\n",), f'"exe\n" {EXTENSION}'),
        (
            "blocked_extensions",
            ("x",) * (MOST_EXTENSIONS + 1),
            "More than 200 extensions cannot be blocked.",
        ),
        ("rate_exempt", ("a@e.tld",) * (MOST_EXEMPT + 1), "More than 1000 cannot be exempt."),
        ("rate_exempt", ("A@e.tld",), '"A@e.tld" has to be written as "a@e.tld".'),
        ("rate_exempt", (" a@e.tld",), '" a@e.tld" has to be written as "a@e.tld".'),
        ("rate_exempt", ("192.0.2.1/32",), '"192.0.2.1/32" has to be written as "192.0.2.1".'),
        (
            "rate_exempt",
            ("192.0.2.1/24",),
            '"192.0.2.1/24" has host bits set; the network is 192.0.2.0/24.',
        ),
        (
            "rate_exempt",
            ("a@e.tld", "b@"),
            '"b@" has no domain behind the "@".',
        ),
        ("http.address", "", ADDRESS),
        ("http.address", "localhost", ADDRESS),
        ("http.address", "192.0.2.0/24", ADDRESS),
        ("http.address", "192.0.2.1:3002", ADDRESS),
        ("http.address", "[::1]", ADDRESS),
        ("http.username", "", USER),
        ("http.username", "a:b", USER),
        ("http.username", "a b", USER),
        ("http.username", "ü", USER),
        ("http.username", "a\n", USER),
        ("http.is_enabled", True, "The HTTP door needs credentials first."),
        ("unsubscribe_url", "", URL),
        ("unsubscribe_url", "http://relay.e.tld", URL),
        ("unsubscribe_url", "HTTPS://relay.e.tld", URL),
        ("unsubscribe_url", "https://", URL),
        ("unsubscribe_url", "https://relay.e.tld/a b", URL),
        ("unsubscribe_url", "https://user@relay.e.tld", URL),
        ("unsubscribe_url", "https://relay.e.tld:123456", URL),
        ("unsubscribe_url", "https://relay.e.tld\r\nBcc: all@e.tld", URL),
        ("unsubscribe_url", "https://relay.e.tld/>,<mailto:all@e.tld>\n", URL),
        (
            "threat_quarantine_score",
            10.01,
            "It cannot be above the score from which mail is refused.",
        ),
    ],
)
def test_what_cannot_be_used_is_one_sentence_at_its_field(
    field: str, value: object, sentence: str
) -> None:
    """And at no other field."""
    section, dot, name = field.partition(".")
    given_as = {section: {name: value}} if dot else {field: value}
    assert problems(**given_as) == {field: sentence}


def test_each_field_has_the_first_of_its_sentences() -> None:
    """All fields at once, as a form shows them."""
    found = problems(
        blocked_extensions=(".a", *("x",) * MOST_EXTENSIONS),
        rate_exempt=("A@e.tld", "b@"),
        http={"is_enabled": True, "address": "x", "username": ":"},
        unsubscribe_url="x",
        threat_quarantine_score=11,
    )
    assert list(found) == [
        "blocked_extensions",
        "rate_exempt",
        "http.address",
        "http.username",
        "http.is_enabled",
        "unsubscribe_url",
        "threat_quarantine_score",
    ]
    assert found["blocked_extensions"] == "More than 200 extensions cannot be blocked."
    assert found["rate_exempt"] == '"A@e.tld" has to be written as "a@e.tld".'


@given(
    st.text(max_size=40) | st.from_regex(r"https://[a-z.:/@0-9\[\]-]{0,30}", fullmatch=True),
    st.text(max_size=20),
    st.text(max_size=20),
    st.floats(0.1, 1000),
    st.floats(0.1, 1000),
)
def test_no_setting_breaks_out_of_its_line(
    url: str, name: str, extension: str, low: float, high: float
) -> None:
    """What is let through stands in a header, in a request, in a name of a file: one plain line."""
    found = problems(
        unsubscribe_url=url,
        http={"username": name},
        blocked_extensions=(extension,),
        threat_quarantine_score=low,
        threat_reject_score=high,
    )
    plain = {"unsubscribe_url": url, "http.username": name, "blocked_extensions": extension}
    for field, text in plain.items():
        is_plain = bool(text) and text.isascii() and text.isprintable() and " " not in text
        assert field in found or is_plain
    assert ("threat_quarantine_score" in found) is (low > high)
    assert all(sentence.endswith(".") for sentence in found.values())


SECRETS = {
    "password_sha256": DIGEST,
    "token_sha256": DIGEST,
    "header_sha256": DIGEST,
}


def set_everywhere() -> PolicySettings:
    """Return settings that differ from their defaults, with secrets and the cluster's part."""
    return PolicySettings(
        is_active=True,
        low=Verdict.REJECT,
        rate_exempt=("192.0.2.0/24",),
        trusted_networks=("198.51.100.0/24",),
        own_domains=("own.tld",),
        own_names=("node-a.own.tld",),
        pseudonym_key=64 * "b",
        spf={"is_enabled": True, "on_fail": "reject"},
        checks={"helo_is_qualified": True},
        http={**SECRETS, "username": "stalwart", "port": 3003, "is_enabled": True},
    )


def without_what_is_not_set() -> dict[str, Any]:
    """Return what an administrator has set of it."""
    left_out = FROM_CLUSTER | MADE_HERE
    return set_everywhere().model_dump(
        mode="json", exclude={**dict.fromkeys(left_out, True), "http": set(DIGESTS)}
    )


def test_a_state_file_has_what_was_set_and_no_secret() -> None:
    """Every field that an administrator sets, none of the others, and it is read again."""
    state = PolicySettingsState(**without_what_is_not_set())
    text = state.model_dump_json()
    assert DIGEST not in text
    assert 64 * "b" not in text
    assert "own.tld" not in text
    assert json.loads(text) == without_what_is_not_set()
    assert PolicySettingsState.model_validate_json(text) == state
    assert PolicySettings(**json.loads(text)).http.port == 3003


def test_nothing_is_forgotten_when_a_setting_is_added() -> None:
    """A new field is in the file unless it is named as one that is not."""
    fields = set(PolicySettings.model_fields) - FROM_CLUSTER - MADE_HERE
    assert set(PolicySettingsState.model_fields) == fields
    door: Any = PolicySettingsState.model_fields["http"].annotation
    assert set(door.model_fields) == set(HttpDoor.model_fields) - DIGESTS
    assert PolicySettingsState().model_dump() == PolicySettings().model_dump(
        exclude={**dict.fromkeys(FROM_CLUSTER | MADE_HERE, True), "http": set(DIGESTS)}
    )


def refused(model: Any, **values: object) -> str:
    """Return why a file with these values is refused."""
    with pytest.raises(ValidationError) as error:
        model(**values)
    return first_sentence(error.value)


EXTRA = "Extra inputs are not permitted."


@pytest.mark.parametrize(
    ("field", "value", "sentence"),
    [
        *((name, [], f"{name} cannot be used: {EXTRA}") for name in sorted(FROM_CLUSTER)),
        ("pseudonym_key", 64 * "b", f"pseudonym_key cannot be used: {EXTRA}"),
        *(
            ("http", {name: DIGEST}, f"http.{name} cannot be used: {EXTRA}")
            for name in sorted(DIGESTS)
        ),
        ("spf", {"x": 1}, f"spf.x cannot be used: {EXTRA}"),
        ("checks", {"helo": True}, f"checks.helo cannot be used: {EXTRA}"),
        ("privacy", "none", "privacy has to be one of full, pseudonymous or redacted."),
        ("low", "shout", "low has to be one of accept, reject, tempfail, discard or quarantine."),
        (
            "http",
            {"port": 0},
            "http.port cannot be used: Input should be greater than or equal to 1.",
        ),
        (
            "checks",
            {"most_recipients": 0},
            "checks.most_recipients cannot be used: Input should be greater than or equal to 1.",
        ),
    ],
)
def test_what_a_file_may_not_set_is_refused_by_its_name(
    field: str, value: object, sentence: str
) -> None:
    """A secret that somebody wrote into one, and a mistyped field, alike."""
    assert refused(PolicySettingsState, **{field: value}) == sentence


@pytest.mark.parametrize(
    ("field", "least", "most"),
    [
        ("inspected_bytes", 65_536, 64 * 1024 * 1024),
        ("threat_reject_score", 0.001, 1000),
        ("decision_timeout_s", 0.001, 60),
    ],
)
def test_a_number_of_a_file_has_the_bounds_of_the_setting(
    field: str, least: float, most: float
) -> None:
    """Both are in; no hook waits for ever, and none reads a mail of any size."""
    for value in (least, most):
        assert getattr(PolicySettingsState(**{field: value}), field) == value
    for value in (0, -1, most + 1, None, "much"):
        assert refused(PolicySettingsState, **{field: value}).startswith(f"{field} ")


@pytest.mark.parametrize("name", PolicyList)
def test_a_list_is_there_empty_or_not_named(name: PolicyList) -> None:
    """An import empties a list only where the file says so."""
    entry = {"value": "e.tld", "anything": [1, None]}
    assert PolicyState().entries(name) is None
    assert PolicyState(**{name.value: None}).entries(name) is None
    assert PolicyState(**{name.value: []}).entries(name) == ()
    state = PolicyState(**{name.value: [entry, entry]})
    assert state.entries(name) == (entry, entry)
    others = [one for one in PolicyList if one is not name]
    assert [state.entries(one) for one in others] == [None] * len(others)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"greylist": []}, f"greylist cannot be used: {EXTRA}"),
        ({"blocklist": "e.tld"}, "blocklist cannot be used: Input should be a valid tuple."),
        ({"badwords": [1]}, "badwords.0 cannot be used: Input should be a valid dictionary."),
        (
            {"left_out": {"blocklist": -1}},
            "left_out.blocklist cannot be used: Input should be greater than or equal to 0.",
        ),
        ({"threat_rules": [{}]}, "threat_rules.0.rule cannot be used: Field required."),
        (
            {"threat_rules": [{"rule": 61 * "x"}]},
            "threat_rules.0.rule cannot be used: String should have at most 60 characters.",
        ),
        (
            {"threat_rules": [{"rule": "a"}, {"rule": "b", "score": 1001}]},
            "threat_rules.1.score cannot be used: Input should be less than or equal to 1000.",
        ),
    ],
)
def test_a_state_of_another_shape_is_one_sentence(values: dict[str, Any], sentence: str) -> None:
    """It names the place in the file."""
    assert refused(PolicyState, **values) == sentence


@given(
    st.dictionaries(st.sampled_from(PolicyList), st.integers(0, 2**40)),
    st.lists(
        st.builds(
            ThreatRuleState,
            rule=st.from_regex(r"[a-z-]{1,60}", fullmatch=True),
            is_enabled=st.booleans(),
            score=st.none() | st.integers(0, 1000).map(float),
        ),
        max_size=3,
    ),
    st.none() | st.lists(st.dictionaries(st.text(), st.integers() | st.text()), max_size=3),
)
def test_a_state_is_read_again_as_it_was_written(
    left_out: dict[PolicyList, int],
    rules: list[ThreatRuleState],
    entries: list[dict[str, Any]] | None,
) -> None:
    """Null stays null, an empty list empty, and what was left out is counted."""
    state = PolicyState(
        settings=PolicySettingsState(),
        threat_rules=tuple(rules),
        rates=None if entries is None else tuple(entries),
        left_out=left_out,
    )
    again = PolicyState.model_validate_json(state.model_dump_json())
    assert again == state
    assert (again.rates is None) is (entries is None)
