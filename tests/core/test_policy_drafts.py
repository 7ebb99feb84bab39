"""What administrators write into the lists of the mail policy: one form, or one sentence."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from controlplane.core.csv_lists import first_sentence
from controlplane.core.policy_drafts import (
    MOST_SENDERS,
    BadwordDraft,
    CategoryDraft,
    Draft,
    ListDraft,
    NamedSubscriptionDraft,
    RateDraft,
    SubscriptionDraft,
    ThreatDraft,
)
from nodeagent.policy.document import Badword, Category, Posting, RateRule, Subscription
from nodeagent.policy.engine.checked_entries import problem_of
from nodeagent.policy.engine.values import list_value
from nodeagent.policy.model import Verdict

COMPLETE: dict[type[Draft], dict[str, Any]] = {
    ListDraft: {"value": "e.tld"},
    BadwordDraft: {"pattern": "casino"},
    RateDraft: {"subject": "client", "window": "hour", "limit": 5},
    ThreatDraft: {},
    CategoryDraft: {"address": "news@e.tld"},
    SubscriptionDraft: {"address": "reader@e.tld"},
    NamedSubscriptionDraft: {"address": "reader@e.tld", "category": "news@e.tld"},
}
MODELS = list(COMPLETE)


def made(model: type[Draft], **changes: object) -> Any:
    """Return a draft that is complete, with these changes."""
    return model(**{**COMPLETE[model], **changes})


def sentence(model: type[Draft], **changes: object) -> str:
    """Return why there is no such draft."""
    with pytest.raises(ValidationError) as refused:
        made(model, **changes)
    return first_sentence(refused.value)


@pytest.mark.parametrize(
    ("typed", "kept"),
    [
        (" 192.0.2.1 ", "192.0.2.1"),
        ("192.0.2.1/32", "192.0.2.1"),
        ("192.0.2.0/24", "192.0.2.0/24"),
        ("0.0.0.0/0", "0.0.0.0/0"),
        ("::ffff:192.0.2.1", "192.0.2.1"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("2001:DB8:0::1", "2001:db8::1"),
        ("2001:db8::1/128", "2001:db8::1"),
        ("2001:DB8::/32", "2001:db8::/32"),
        ("Example.COM.", "example.com"),
        ("*.Example.com", "*.example.com"),
        ("MÜLLER.example", "xn--mller-kva.example"),
        ("*@MÜLLER.example", "*@xn--mller-kva.example"),
        ("User@Example.com", "user@example.com"),
        ('"user"@example.com', "user@example.com"),
        ('"a b"@example.com', '"a b"@example.com'),
        ("user@[192.0.2.1]", "user@[192.0.2.1]"),
        ("user@[IPv6:2001:DB8::1]", "user@[ipv6:2001:db8::1]"),
        ("_dmarc.example.com", "_dmarc.example.com"),
    ],
)
def test_two_spellings_of_a_value_are_one_entry(typed: str, kept: str) -> None:
    """And what is kept is kept when it is typed again."""
    assert made(ListDraft, value=typed).value == kept
    assert made(ListDraft, value=kept).value == kept


NETWORKS = "is not a valid network such as 192.0.2.0/24 or 2001:db8::/32."


@pytest.mark.parametrize(
    ("typed", "why"),
    [
        ("192.0.2.1/24", "has host bits set; the network is 192.0.2.0/24."),
        ("::ffff:192.0.2.1/120", "has host bits set; the network is 192.0.2.0/24."),
        ("192.0.2.0/33", NETWORKS),
        ("2001:db8::/129", NETWORKS),
        ("e.tld/24", NETWORKS),
        ("192.0.2.0/x", "is not a network such as 192.0.2.0/24 or 2001:db8::/32."),
        ("192.0.2.0/", "is not a network such as 192.0.2.0/24 or 2001:db8::/32."),
        ("192.0.2.0/²", "is not a network such as 192.0.2.0/24 or 2001:db8::/32."),
        ("1.2.3", "is not a valid IP address."),
        ("256.0.0.1", "is not a valid IP address."),
        ("2001:db8:::1", "is not a valid IP address."),
        ("fe80::1%eth0", "has a zone, which means something on one host only."),
        (".e.tld", 'starts with a dot; write "*.example.com" for all subdomains.'),
        ("@e.tld", 'has nothing before the "@"; write "*@example.com" for all of a domain.'),
        ("user@", 'has no domain behind the "@".'),
        ("a b@e.tld", "has a local part that would have to stand in quotes."),
        ("a@b@e.tld", "has a local part that would have to stand in quotes."),
        ("a\x00b@e.tld", "has a character in its local part that no address can have."),
        ('"*"@e.tld', "would be read as all addresses of its domain."),
        ("user@[x]", "has a domain in brackets that is no IP address."),
        ("user@[fe80::1%eth0]", "has a domain in brackets that is no IP address."),
        ("e..tld", "is not a valid domain name."),
        ("-e.tld", "is not a valid domain name."),
        (f"{64 * 'a'}.tld", "is not a valid domain name."),
        ("e e.tld", "contains a space; a domain name has none."),
        ("*.", "has no domain name."),
        ("*@", "has no domain name."),
        ("*.*.tld", "has no valid domain name."),
        ("*.1.2", "has a domain name that ends in a number, so it is none."),
        ("xn--a.example", "has a domain name that IDNA does not allow."),
    ],
)
def test_a_value_that_is_none_has_its_sentence(typed: str, why: str) -> None:
    """It names the value as it was typed, without what a terminal would obey."""
    assert sentence(ListDraft, value=typed) == f'"{typed.replace(chr(0), "?")}" {why}'


@pytest.mark.parametrize("typed", ["", " ", "\t\n", "\u00a0"])
def test_an_empty_value_is_told_what_there_may_be(typed: str) -> None:
    """Not the name of a type."""
    assert sentence(ListDraft, value=typed) == (
        "The value is empty; an IP address, a network, a domain or an address is needed."
    )


def test_a_long_value_is_quoted_short() -> None:
    """The first eighty characters are enough to find it."""
    name = 6 * f"{62 * 'a'}."
    assert sentence(ListDraft, value=name) == (
        f'"{name[:80]}…" has a domain name that is too long.'
    )
    assert sentence(ListDraft, value=1001 * "x") == (
        "value cannot be used: String should have at most 1000 characters."
    )


@given(st.text(max_size=80) | st.text("a1.:/@*-_[]%\"'é ", max_size=40))
def test_a_value_is_kept_in_a_form_that_stays_or_refused_in_one_line(typed: str) -> None:
    """Whatever was pasted; and it is the form that the nodes compare with."""
    try:
        kept = made(ListDraft, value=typed).value
    except ValidationError as refused:
        said = first_sentence(refused)
        assert said.endswith(".")
        assert said.isprintable() or "cannot be used" in said
        return
    assert kept == list_value(kept) == made(ListDraft, value=f" {kept} ").value
    assert kept == kept.strip()


@pytest.mark.parametrize(
    "moment",
    [
        datetime(1970, 1, 1, tzinfo=UTC),
        datetime(2027, 1, 31, 12, 30, 15, tzinfo=UTC),
        datetime(9998, 12, 31, 23, 59, 59, tzinfo=UTC),
    ],
)
def test_an_expiry_is_a_moment_of_these_years(moment: datetime) -> None:
    """The first and the last second of them, too."""
    assert made(ListDraft, expires_at=moment.isoformat()).expires_at == moment


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("tomorrow", "A time with its zone is needed, such as 2027-01-31T14:30:00Z."),
        ("1969-12-31T23:59:59Z", "A time between 1970 and 9998 is needed."),
        ("9999-01-01T00:00:00Z", "A time between 1970 and 9998 is needed."),
        ("2027-01-31T00:00:00", "A time with its zone is needed, such as 2027-01-31T14:30:00Z."),
    ],
)
def test_an_expiry_that_is_no_such_moment_is_refused(typed: str, said: str) -> None:
    """A time without its zone is another one on each node."""
    assert sentence(ListDraft, expires_at=typed) == said


TEXTS = [(ListDraft, "reason", 500), (CategoryDraft, "name", 100), (BadwordDraft, "pattern", 1000)]


@pytest.mark.parametrize(("model", "field", "most"), TEXTS)
def test_a_text_is_one_line_of_a_length(model: type[Draft], field: str, most: int) -> None:
    """As long as it may be it is kept whole; one character more is refused, and so is a break."""
    text = "x" * most
    assert getattr(made(model, **{field: text}), field) == text
    assert sentence(model, **{field: f"{text}x"}) == (
        f"{field} cannot be used: String should have at most {most} characters."
    )
    for sign in ("\n", "\r", "\t", "\x00", "\x1b", "\x7f"):
        assert sentence(model, **{field: f"a{sign}b"}).startswith(f"{field} cannot be used: ")


@pytest.mark.parametrize("model", MODELS)
def test_a_field_that_there_is_not_is_refused_by_its_name(model: type[Draft]) -> None:
    """A mistyped field must not be a default in silence; the id is never the user's."""
    for name in ("expire_at", "id", "token"):
        assert sentence(model, **{name: 1}) == (
            f"{name} cannot be used: Extra inputs are not permitted."
        )


@pytest.mark.parametrize(
    ("model", "field"),
    [
        (model, name)
        for model in MODELS
        for name, info in model.model_fields.items()
        if info.is_required()
    ],
)
def test_a_field_that_is_needed_is_named_when_it_is_missing(model: type[Draft], field: str) -> None:
    """The first one that is not there."""
    values = {name: value for name, value in COMPLETE[model].items() if name != field}
    with pytest.raises(ValidationError) as refused:
        model(**values)
    assert first_sentence(refused.value) == f"{field} cannot be used: Field required."


@pytest.mark.parametrize("model", MODELS)
def test_a_draft_is_read_again_as_it_was_written(model: type[Draft]) -> None:
    """As JSON, and as the dictionary that the store takes; and nobody changes one."""
    draft = made(model)
    assert model.model_validate_json(draft.model_dump_json()) == draft
    assert model(**draft.model_dump()) == draft
    field = next(iter(model.model_fields))
    with pytest.raises(ValidationError, match="frozen"):
        setattr(draft, field, getattr(draft, field))


REGEX = "The regular expression cannot be used: "


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("(", f"{REGEX}a group that begins with ( has no )."),
        (
            "(?=a)b",
            (
                f"{REGEX}look-ahead, look-behind and other extensions of Perl are not possible in "
                "a search of bounded time."
            ),
        ),
        (
            r"(a)\1",
            (
                f"{REGEX}it has an escape that does not exist here; back references are not "
                "possible in a search of bounded time."
            ),
        ),
        (
            "(a{1000}){1000}",
            f"{REGEX}a repetition is too large, or its bounds are the wrong way round.",
        ),
        ("a*", "The regular expression matches the empty text, so it would match every mail."),
        ("a|", "The regular expression matches the empty text, so it would match every mail."),
    ],
)
def test_a_pattern_is_compiled_when_it_is_typed(pattern: str, said: str) -> None:
    """The same signs as a word are a word."""
    assert sentence(BadwordDraft, pattern=pattern, is_regex=True) == said
    assert made(BadwordDraft, pattern=pattern).pattern == pattern


def test_a_word_has_something_to_see() -> None:
    """A space alone would be in every mail."""
    assert sentence(BadwordDraft, pattern=" ") == "The word has no visible letter."


@pytest.mark.parametrize(
    ("model", "field", "choices"),
    [
        (BadwordDraft, "severity", "low, medium, high or critical"),
        (BadwordDraft, "category", "spam, adult, phishing, malware or custom"),
        (RateDraft, "subject", "client, sender, login or recipient-domain"),
        (RateDraft, "window", "minute, hour or day"),
        (RateDraft, "verdict", "accept, reject, tempfail, discard or quarantine"),
        (CategoryDraft, "posting", "subscribers, allowed or anybody"),
    ],
)
def test_a_choice_is_told_what_there_is(model: type[Draft], field: str, choices: str) -> None:
    """In the words of the field, each of which it takes."""
    assert sentence(model, **{field: "other"}) == f"{field} has to be one of {choices}."
    assert sentence(model, **{field: choices.partition(",")[0].upper()}) == (
        f"{field} has to be one of {choices}."
    )
    if field != "verdict":
        for choice in choices.replace(" or ", ", ").split(", "):
            assert getattr(made(model, **{field: choice}), field) == choice


@pytest.mark.parametrize("verdict", Verdict)
def test_a_rate_puts_off_or_rejects(verdict: Verdict) -> None:
    """Nothing else is an answer to somebody who sends too much."""
    if verdict in {Verdict.TEMPFAIL, Verdict.REJECT}:
        assert made(RateDraft, verdict=verdict.value).verdict is verdict
        return
    assert sentence(RateDraft, verdict=verdict.value) == (
        "A rate can put mail off or reject it, nothing else."
    )


@pytest.mark.parametrize(
    ("model", "field", "least", "most"),
    [(RateDraft, "limit", 1, 2**31 - 1), (ThreatDraft, "score", 0, 1000)],
)
def test_a_number_has_its_bounds(model: type[Draft], field: str, least: int, most: int) -> None:
    """Both are in."""
    for value in (least, most, str(least), str(most)):
        assert getattr(made(model, **{field: value}), field) == int(value)
    for value in (least - 1, most + 1, "nan", "-inf", "many", "", []):
        assert sentence(model, **{field: value}).startswith(field)


def test_a_rate_is_counted_in_whole_mails() -> None:
    """No half of one."""
    assert sentence(RateDraft, limit="many") == "limit has to be a whole number."
    assert sentence(RateDraft, limit=1.5).startswith("limit cannot be used: ")
    assert made(RateDraft, limit=2.0).limit == 2


@pytest.mark.parametrize(
    ("model", "field"),
    [
        (CategoryDraft, "address"),
        (SubscriptionDraft, "address"),
        (NamedSubscriptionDraft, "address"),
        (NamedSubscriptionDraft, "category"),
    ],
)
def test_an_address_is_one_mailbox_in_one_form(model: type[Draft], field: str) -> None:
    """Space around it goes; nothing, a name alone and 321 characters are refused."""
    assert getattr(made(model, **{field: " News@E.Tld. "}), field) == "news@e.tld"
    assert sentence(model, **{field: ""}) == "The address is empty."
    assert sentence(model, **{field: " "}) == "The address is empty."
    assert sentence(model, **{field: "postmaster"}) == '"postmaster" has no "@".'
    longest = f"{255 * 'a'}@{60 * 'b'}.tld"
    assert getattr(made(model, **{field: longest}), field) == longest
    assert len(longest) == 320
    assert sentence(model, **{field: f"a{longest}"}) == (
        "The address is longer than 320 characters."
    )


@pytest.mark.parametrize("model", [CategoryDraft, SubscriptionDraft, NamedSubscriptionDraft])
@pytest.mark.parametrize(
    ("address", "why"),
    [
        ("*@e.tld", "is no single address."),
        ("1.2@list.relay.invalid", "is in a domain that only the relay itself writes to."),
    ],
)
def test_what_a_node_would_leave_out_is_not_stored(
    model: type[Draft], address: str, why: str
) -> None:
    """A wildcard gets no mail, and the relay's own addresses are no reader's."""
    assert sentence(model, address=address) == f'"{address}" {why}'


def test_a_category_has_a_name_that_can_be_shown() -> None:
    """It stands in `List-Id`; a separator of lines would end the header for some."""
    assert sentence(CategoryDraft, name="a\u2028b") == (
        "The name has a character that cannot be shown."
    )
    assert made(CategoryDraft, name="Neues für alle").name == "Neues für alle"


@pytest.mark.parametrize(
    ("given_as", "kept"),
    [
        ("", ()),
        ("A@e.tld  b@e.tld\na@E.tld", ("a@e.tld", "b@e.tld")),
        (["*@E.tld", "b@e.tld", "*@e.tld"], ("*@e.tld", "b@e.tld")),
        ([" a@e.tld "], ("a@e.tld",)),
        ((), ()),
    ],
)
def test_senders_come_as_a_list_or_as_a_cell(given_as: object, kept: tuple[str, ...]) -> None:
    """Each once, in their order, in one form; a list again on the way out."""
    draft = made(CategoryDraft, allowed_senders=given_as)
    assert draft.allowed_senders == kept
    assert draft.model_dump()["allowed_senders"] == list(kept)


@pytest.mark.parametrize(
    ("sender", "said"),
    [
        ("e.tld", '"e.tld" is no address; write "*@e.tld" for all of a domain.'),
        ("*.e.tld", '"*.e.tld" has no "@".'),
        ("192.0.2.1", '"192.0.2.1" has no "@".'),
        ("2001:db8::/32", '"2001:db8::/32" has no "@".'),
        (
            "@e.tld",
            '"@e.tld" has nothing before the "@"; write "*@example.com" for all of a domain.',
        ),
        (
            " ",
            "The value is empty; an IP address, a network, a domain or an address is needed.",
        ),
    ],
)
def test_a_sender_is_an_address_or_a_whole_domain(sender: str, said: str) -> None:
    """Who writes is no network and no subdomain; and what is advised would be taken."""
    assert sentence(CategoryDraft, allowed_senders=["a@e.tld", sender]) == said
    if '; write "' in said:
        advised = said.partition('; write "')[2].partition('"')[0]
        assert made(CategoryDraft, allowed_senders=[advised]).allowed_senders == (advised,)


def test_senders_are_at_most_a_thousand() -> None:
    """That many are kept."""
    senders = [f"a{number}@e.tld" for number in range(MOST_SENDERS + 1)]
    assert len(made(CategoryDraft, allowed_senders=senders[:-1]).allowed_senders) == 1000
    assert sentence(CategoryDraft, allowed_senders=senders).startswith("allowed_senders cannot be")


@given(
    st.lists(st.sampled_from(["a@e.tld", "A@E.tld", "*@e.tld", "b@[192.0.2.1]"]), max_size=6),
    st.sampled_from(Posting),
    st.text(st.characters(categories=["L", "N"]), max_size=20),
)
def test_what_becomes_a_draft_a_node_takes(senders: list[str], posting: Posting, name: str) -> None:
    """The check of the control plane and that of the engine are one."""
    draft = made(CategoryDraft, allowed_senders=senders, posting=posting, name=name)
    assert problem_of(Category(id=1, **draft.model_dump())) is None
    assert problem_of(Badword(id=1, **made(BadwordDraft).model_dump())) is None
    assert problem_of(RateRule(id=1, **made(RateDraft).model_dump())) is None
    reader = made(SubscriptionDraft).address
    assert problem_of(Subscription(id=1, category=1, address=reader, token="t" * 16)) is None
