"""Which finding decides, how findings are listed and worded, and what becomes of recipients."""

from __future__ import annotations

import re
from itertools import product

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeagent.policy.document import ListEntry, Listing, PolicySettings, Privacy
from nodeagent.policy.engine.categories import Categories
from nodeagent.policy.engine.outcome import MOST_FORGED, refusing_forged, with_somebody
from nodeagent.policy.engine.privacy import LONGEST, Redactor, storable
from nodeagent.policy.engine.verdicts import (
    MOST_FIRED,
    MOST_TEXT,
    OVERRULED_BY_ALLOWLIST,
    REFUSED,
    Finding,
    Wording,
    deciding,
    distinct,
    fit_rule,
    listed,
    one_line,
    strength,
)
from nodeagent.policy.model import (
    STRENGTH,
    AddHeader,
    AddRecipient,
    ChangeHeader,
    ChangeSender,
    Decision,
    DeleteRecipient,
    Envelope,
    Fired,
    RuleKind,
    Stage,
    Verdict,
)
from tests.policy.policies import NOW_S, decide, message_of, policy_of

some = settings(max_examples=60)
POOL = [
    Finding(Fired(kind, rule, "why", verdict))
    for kind, rule, verdict in product(
        (RuleKind.BLOCKLIST, RuleKind.RATE, RuleKind.THREAT, RuleKind.FAULT), "ab", Verdict
    )
]
found = st.lists(st.sampled_from(POOL), max_size=8)
stages = st.sampled_from(Stage)
ACTS_AT_DATA = (Verdict.DISCARD, Verdict.QUARANTINE)


def test_the_order_of_verdicts_is_the_one_of_the_manual() -> None:
    """From the mildest: accept < quarantine < discard < tempfail < reject."""
    ordered = ("accept", "quarantine", "discard", "tempfail", "reject")
    assert ordered == STRENGTH
    assert [strength(verdict) for verdict in STRENGTH] == list(range(5))
    assert set(STRENGTH) == set(Verdict)


@some
@given(found, stages, st.booleans())
def test_what_decides_is_the_first_of_the_strongest_that_may(
    findings: list[Finding], stage: Stage, is_allowed: bool
) -> None:
    """Written down a second time, as one would look for it by hand."""
    may = [
        one
        for one in findings
        if one.fired.verdict is not Verdict.ACCEPT
        and (stage is Stage.DATA or one.fired.verdict not in ACTS_AT_DATA)
        and not (is_allowed and one.fired.kind in {RuleKind.BLOCKLIST, RuleKind.THREAT})
    ]
    ranks = [STRENGTH.index(one.fired.verdict) for one in may]
    expected = may[ranks.index(max(ranks))] if may else None
    assert deciding(findings, stage, is_allowed) is expected


@pytest.mark.parametrize("kind", list(RuleKind))
@pytest.mark.parametrize("verdict", list(Verdict))
@pytest.mark.parametrize("stage", [Stage.CONNECT, Stage.RCPT, Stage.DATA])
def test_the_allowlist_overrules_content_and_blocklist_alone(
    kind: RuleKind, verdict: Verdict, stage: Stage
) -> None:
    """Every kind of rule with every verdict, with and without an entry that fits."""
    finding = Finding(Fired(kind, "x", "why", verdict))
    acts = verdict is not Verdict.ACCEPT and (stage is Stage.DATA or verdict not in ACTS_AT_DATA)
    assert (deciding([finding], stage, is_allowed=False) is finding) is acts
    overruled = kind.value in {"blocklist", "badword", "threat", "attachment"}
    assert (kind in OVERRULED_BY_ALLOWLIST) is overruled
    assert (deciding([finding], stage, is_allowed=True) is finding) is (acts and not overruled)


@some
@given(found)
def test_each_rule_stands_once_with_the_worst_that_it_found(findings: list[Finding]) -> None:
    """At the place where it fired first."""
    kept = distinct(findings)
    keys = [(one.fired.kind, one.fired.rule) for one in kept]
    assert keys == list(dict.fromkeys((one.fired.kind, one.fired.rule) for one in findings))
    for one in kept:
        same = [other for other in findings if other.fired.kind is one.fired.kind]
        same = [other for other in same if other.fired.rule == one.fired.rule]
        assert strength(one.fired.verdict) == max(strength(two.fired.verdict) for two in same)
    assert distinct(kept) == kept


@some
@given(found, stages, st.booleans())
def test_leaving_out_doubles_decides_nothing_else(
    findings: list[Finding], stage: Stage, is_allowed: bool
) -> None:
    """At a stage where all verdicts act, the same verdict comes out."""
    before, after = (
        deciding(each, Stage.DATA, is_allowed) for each in (findings, distinct(findings))
    )
    assert (before and before.fired.verdict) == (after and after.fired.verdict)
    assert deciding((), stage, is_allowed) is None


@some
@given(found, stages)
def test_the_log_names_what_decided_then_the_worst(findings: list[Finding], stage: Stage) -> None:
    """Everything once, in falling order behind the first."""
    kept = distinct(findings)
    first = deciding(kept, stage, is_allowed=False)
    shown = listed(kept, first)
    assert sorted(shown, key=repr) == sorted((one.fired for one in kept), key=repr)
    rest = [strength(fired.verdict) for fired in shown[first is not None :]]
    assert rest == sorted(rest, reverse=True)
    if first is not None:
        assert shown[0] is first.fired


@pytest.mark.parametrize("count", [0, 1, MOST_FIRED - 1, MOST_FIRED, MOST_FIRED + 1, 1000])
def test_a_flood_of_rules_is_cut_behind_what_decided(count: int) -> None:
    """However late it fired."""
    many = [Finding(Fired(RuleKind.BADWORD, f"badword:{n}", "x")) for n in range(count)]
    last = Finding(Fired(RuleKind.RATE, "rate:1", "x", Verdict.TEMPFAIL))
    shown = listed([*many, last], last)
    assert len(shown) == min(count + 1, MOST_FIRED)
    assert shown[0] is last.fired


@pytest.mark.parametrize(
    ("verdict", "code", "enhanced"),
    [(Verdict.REJECT, 550, "5.7.1"), (Verdict.TEMPFAIL, 451, "4.7.1")],
)
def test_a_refusal_names_its_rule(verdict: Verdict, code: int, enhanced: str) -> None:
    """At the end of the reply, so that whoever calls can read it to the postmaster."""
    reply = REFUSED.reply(verdict, "blocklist:17")
    assert reply is not None
    assert (reply.code, reply.enhanced) == (code, enhanced)
    assert reply.text == "A rule of this relay refuses it; ask the postmaster why (blocklist:17)"


@pytest.mark.parametrize("verdict", [Verdict.ACCEPT, Verdict.DISCARD, Verdict.QUARANTINE])
def test_who_is_not_refused_hears_nothing(verdict: Verdict) -> None:
    """There is no reply to a mail that goes on, is held or thrown away."""
    assert Wording("x").reply(verdict, "a:1") is None


anything = st.text(st.characters(codec=None), max_size=60)


@some
@given(anything, anything, st.sampled_from([Verdict.REJECT, Verdict.TEMPFAIL]))
def test_no_text_breaks_out_of_a_reply(text: str, rule: str, verdict: Verdict) -> None:
    """A plugin's words and the names of its rules are anything."""
    reply = Wording(text * 20).reply(verdict, rule)
    assert reply is not None
    assert re.fullmatch(r"[ -~]*", reply.text)
    assert len(reply.text) <= MOST_TEXT
    assert re.fullmatch(r"[A-Za-z0-9:._-]{0,100}", fit_rule(rule))


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("as it is ~", "as it is ~"),
        ("a\r\nb", "a?b"),
        ("ä", "?"),
        ("a\0\x7fb", "a?b"),
        ("\udcff", "?"),
        ("x" * 401, "x" * 400),
    ],
)
def test_a_line_has_printable_ascii_only(text: str, shown: str) -> None:
    """Several characters in a row that cannot be shown are one question mark."""
    assert one_line(text) == shown
    assert one_line(one_line(text)) == shown


ADDRESSES = ("a@x.example", "A@X.EXAMPLE", "b@x.example", "c@x.example")
recipients = st.lists(st.sampled_from(ADDRESSES), max_size=3).map(tuple)
CHANGES = (
    *map(AddRecipient, ADDRESSES),
    *map(DeleteRecipient, ADDRESSES),
    AddHeader("X-A", "b"),
    ChangeSender("s@x.example"),
    ChangeHeader("X-A", 1, ""),
)
changes = st.lists(st.sampled_from(CHANGES), max_size=5).map(tuple)
NO_CATEGORIES = Categories()


@some
@given(recipients, changes, st.sampled_from([Verdict.ACCEPT, Verdict.QUARANTINE]))
def test_no_mail_is_left_without_a_recipient_unseen(
    to: tuple[str, ...], made: tuple[object, ...], verdict: Verdict
) -> None:
    """Carried out one after the other, as an MTA does, the changes leave somebody."""
    decision = Decision(verdict, changes=made)  # type: ignore[arg-type]
    outcome = with_somebody(decision, Envelope("s@x.example", to), NO_CATEGORIES)
    left = [one.lower() for one in to]
    for change in outcome.changes:
        if isinstance(change, AddRecipient):
            left.append(change.address.lower())
        elif isinstance(change, DeleteRecipient):
            left = [one for one in left if one != change.address.lower()]
    has_deletions = any(isinstance(one, DeleteRecipient) for one in made)
    if to and outcome.verdict is not Verdict.DISCARD:
        assert left
    if not to or not has_deletions:
        assert outcome == decision
    if outcome.verdict is Verdict.DISCARD:
        assert verdict is Verdict.ACCEPT
        assert outcome.changes == ()
        assert {fired.verdict for fired in outcome.fired} == {Verdict.DISCARD}
    else:
        assert outcome.verdict is verdict
        headers = [one for one in made if isinstance(one, AddHeader | ChangeHeader | ChangeSender)]
        kept = (AddHeader, ChangeHeader, ChangeSender)
        assert [one for one in outcome.changes if isinstance(one, kept)] == headers


@pytest.mark.parametrize(
    ("count", "is_refused"), [(0, False), (MOST_FORGED, False), (MOST_FORGED + 1, True)]
)
def test_one_header_too_many_in_our_name_is_refused(count: int, is_refused: bool) -> None:
    """What had fired is still told behind it."""
    fired = Fired(RuleKind.THREAT, "threat:x", "why")
    forged = [ChangeHeader("X-Relay-Policy", n, "") for n in range(1, count + 1)]
    refused = refusing_forged(Decision(fired=(fired,)), forged)
    assert (refused is not None) is is_refused
    if refused is not None:
        assert refused.reply is not None
        assert (refused.verdict, refused.reply.code) == (Verdict.REJECT, 550)
        assert [one.rule for one in refused.fired] == ["hook:forged-headers", "threat:x"]


@pytest.mark.parametrize(
    ("text", "kept"),
    [
        ("", ""),
        ("a\0b", "a\ufffdb"),
        ("\udcff", "\ufffd"),
        ("ä" * LONGEST, "ä" * LONGEST),
        ("ä" * (LONGEST + 1), "ä" * LONGEST),
    ],
)
def test_what_is_stored_is_text_of_bounded_length(text: str, kept: str) -> None:
    """A database takes no NUL and no half of a character."""
    assert storable(text) == kept


@some
@given(st.text(st.characters(codec=None), max_size=30).filter(bool))
def test_privacy_tells_all_or_a_pseudonym_or_nothing(value: str) -> None:
    """Three settings, and the same value of the same cluster is the same pseudonym."""
    value = value.encode("utf-8", "replace").decode()
    full = Redactor(PolicySettings(privacy=Privacy.FULL))
    keyed = PolicySettings(privacy=Privacy.PSEUDONYMOUS, pseudonym_key="0f" * 32)
    keyless = Redactor(PolicySettings(privacy=Privacy.PSEUDONYMOUS))
    assert full.text(value) == storable(value)
    assert keyless.text(value) is None
    shown = Redactor(keyed).text(value)
    assert shown is not None
    assert re.fullmatch(r"~[0-9a-f]{20}", shown)
    assert Redactor(keyed).text(value.casefold().casefold()) == Redactor(keyed).text(
        value.casefold()
    )


BLOCKS = tuple(
    ListEntry(id=number, value=value)
    for number, value in enumerate(
        ("203.0.113.0/24", "example.org", "*.example.org", "*@example.com", "alice@example.org"), 1
    )
)
ALLOWS = (ListEntry(id=9, value="203.0.113.7", listing=Listing.ALLOW),)
entries = st.lists(st.sampled_from(BLOCKS + ALLOWS), unique=True, max_size=6)


@settings(max_examples=25)
@given(entries, st.sampled_from(BLOCKS), stages)
def test_one_more_entry_of_the_blocklist_never_makes_a_decision_milder(
    present: list[ListEntry], more: ListEntry, stage: Stage
) -> None:
    """Whatever stands on both lists already, at every stage."""
    mail = message_of() if stage is Stage.DATA else None
    before = decide(policy_of(*present), stage, message=mail)
    rest = [one for one in present if one != more]
    after = decide(policy_of(*rest, more), stage, message=mail)
    assert strength(after.verdict) >= strength(before.verdict)


@settings(max_examples=25)
@given(entries, st.permutations(range(6)), stages)
def test_neither_the_order_of_entries_nor_dead_ones_decide_anything(
    present: list[ListEntry], order: list[int], stage: Stage
) -> None:
    """An entry that ended a second ago is as if it had never been there."""
    shuffled = [present[place] for place in order if place < len(present)]
    dead = [
        one.model_copy(update={"id": one.id + 100, "expires_at": NOW_S - 1})
        for one in BLOCKS + ALLOWS
    ]
    one = decide(policy_of(*present), stage)
    assert decide(policy_of(*shuffled), stage).verdict is one.verdict
    assert decide(policy_of(*dead, *present), stage) == one
