"""Laws of the engine, for any session and any mail: it answers, always alike, and never milder."""

from __future__ import annotations

from dataclasses import replace
from ipaddress import ip_address

from hypothesis import given, settings
from hypothesis import strategies as st

from nodeagent.policy.document import (
    AuthenticationCheck,
    Badword,
    Category,
    Posting,
    RateRule,
    RateSubject,
    RateWindow,
    SenderChecks,
    Subscription,
)
from nodeagent.policy.engine.authentication import (
    AuthenticationResults,
    DkimCheck,
    DmarcCheck,
    Result,
    SpfCheck,
)
from nodeagent.policy.engine.case import Case, Given
from nodeagent.policy.engine.judge import conclude, find, judge
from nodeagent.policy.engine.limits import rate_keys
from nodeagent.policy.engine.sections import Entry
from nodeagent.policy.engine.trying import explain
from nodeagent.policy.engine.verdicts import Finding, strength
from nodeagent.policy.model import (
    AddHeader,
    ChangeHeader,
    Client,
    Decision,
    Envelope,
    Fired,
    Header,
    Message,
    RuleKind,
    Session,
    Stage,
    Verdict,
)
from tests.policy.policies import NOW_S, allowed, blocked, policy_of

NAMES = ("mail.example.org", "relay1.example.com", "spam.example", "desk", "[192.0.2.1]", "")
ADDRESSES = (
    *("alice@example.org", "bob@example.com", "x@spam.example", "", "postmaster", "no address"),
    *("news@lists.example.net", "typo@lists.example.net", "1.1@list.relay.invalid"),
)
wild = st.text(st.characters(codec=None), max_size=30)
names = st.sampled_from(NAMES) | wild
addresses = st.sampled_from(ADDRESSES) | wild
clients = st.builds(
    Client,
    st.sampled_from(["203.0.113.7", "10.1.2.3", "2001:db8:1::1", "::ffff:203.0.113.7"]).map(
        ip_address
    )
    | st.none(),
    name=st.none() | names,
)
sessions = st.builds(Session, clients, st.none() | names, st.none() | addresses)
envelopes = st.builds(Envelope, st.none() | addresses, st.lists(addresses, max_size=4).map(tuple))
values = (
    st.sampled_from(
        [
            " alice@example.org",
            " Casino",
            " =?utf-8?b?Y2FzaW5v?=",
            " multipart/mixed; boundary=b",
            " text/html; charset=utf-7",
            " base64",
            " relay1.example.com; spf=pass",
        ]
    )
    | wild
)
headers = st.lists(
    st.builds(
        Header,
        st.sampled_from(
            [
                *("From", "Subject", "Content-Type", "Content-Transfer-Encoding"),
                *("X-Relay-Policy", "Authentication-Results"),
            ]
        )
        | wild,
        values,
    ),
    max_size=6,
).map(tuple)
pieces = st.sampled_from(
    [
        *(b"--b\r\n", b"--b--", b"\r\n\r\n", b"Content-Type: text/html\r\n", b"casino", b"\0"),
        *(b"<script>alert(1)</script>", b"' OR 1=1 --", b"PK\x03\x04", b"Y2FzaW5v", b"&#99;"),
    ]
) | st.binary(max_size=30)
bodies = st.lists(pieces, max_size=12).map(b"".join)
messages = st.builds(
    lambda head, body, more: Message(head, body, len(body) + more),
    headers,
    bodies,
    st.integers(0, 9),
)


def said(spf: Result, dkim: Result, dmarc: Result) -> AuthenticationResults:
    """Return what was looked up."""
    return AuthenticationResults(SpfCheck(spf), (DkimCheck(dkim),), DmarcCheck(dmarc))


RATE = RateRule(id=1, subject=RateSubject.CLIENT, window=RateWindow.DAY, limit=1)
verdicts = st.sampled_from(Verdict)
known = st.builds(
    Given,
    st.just(NOW_S),
    st.sampled_from([(), (RATE,), (RATE.model_copy(update={"verdict": Verdict.REJECT}),)]),
    st.none() | st.builds(said, *(3 * [st.sampled_from(Result)])),
)
ENTRIES: tuple[Entry, ...] = (
    blocked("spam.example", 1),
    blocked("*@spam.example", 2),
    Badword(id=1, pattern="casino"),
    Category(id=1, address="news@lists.example.net", posting=Posting.ANYBODY),
    Subscription(id=1, category=1, address="bob@example.com", token="t" * 16),
)
CHECKS = SenderChecks(helo_is_qualified=True, sender_is_not_ours=True, most_recipients=2)
POLICIES = (
    policy_of(*ENTRIES),
    policy_of(*ENTRIES, checks=CHECKS, medium=Verdict.REJECT, trusted_skip_content=True),
    policy_of(
        *ENTRIES,
        medium=Verdict.DISCARD,
        spf=AuthenticationCheck(is_enabled=True, on_fail=Verdict.TEMPFAIL),
        dmarc=AuthenticationCheck(is_enabled=True, on_fail=Verdict.QUARANTINE),
    ),
)
cases = st.builds(
    Case,
    st.sampled_from(Stage),
    sessions,
    envelopes,
    messages,
    st.sampled_from(POLICIES),
    known,
)
findings = st.builds(
    lambda kind, rule, verdict: Finding(Fired(kind, rule, "x", verdict)),
    st.sampled_from([kind for kind in RuleKind if kind is not RuleKind.ALLOWLIST]),
    st.sampled_from("abcdef"),
    verdicts,
)


def asked(case: Case) -> Case:
    """Return the case as a door asks: there is a message at DATA only."""
    return case if case.stage is Stage.DATA else replace(case, message=None)


def decided(case: Case) -> Decision:
    """Return the decision."""
    return judge(
        case.stage,
        case.session,
        case.envelope,
        case.message,
        policy=case.policy,
        given=case.given,
    )


@given(cases)
@settings(max_examples=400)
def test_any_mail_gets_an_answer_that_a_door_can_give(case: Case) -> None:
    """No exception; a reply with refusals only, one line of ASCII; changes at DATA only."""
    case = asked(case)
    decision = decided(case)
    is_refusal = decision.verdict in {Verdict.REJECT, Verdict.TEMPFAIL}
    assert (decision.reply is not None) is is_refusal
    if decision.reply is not None:
        assert decision.reply.code // 100 == (5 if decision.verdict is Verdict.REJECT else 4)
        assert decision.reply.enhanced[:2] == f"{decision.reply.code // 100}."
        assert decision.reply.text.isascii()
        assert decision.reply.text.isprintable()
        assert len(decision.reply.text) <= 400
    if case.stage is not Stage.DATA:
        assert decision.changes == ()
        assert decision.verdict not in {Verdict.DISCARD, Verdict.QUARANTINE}
    for change in decision.changes:
        if isinstance(change, AddHeader | ChangeHeader):
            assert not set("\r\n\0") & set(change.name + change.value)
    assert len(explain(decision)) == len(decision.fired) + 1


@given(cases)
def test_the_same_question_gets_the_same_answer(case: Case) -> None:
    """Whoever asks, and however often."""
    assert decided(asked(case)) == decided(asked(case))


@given(cases)
def test_what_decided_stands_first_and_is_one_of_the_fired(case: Case) -> None:
    """So a log that keeps the first fifty keeps the reason."""
    decision = decided(asked(case))
    if decision.verdict is not Verdict.ACCEPT:
        assert decision.fired[0].verdict is decision.verdict
    names = [(fired.kind, fired.rule) for fired in decision.fired]
    assert len(names) == len(set(names))


@given(cases, findings)
def test_one_more_rule_never_makes_a_decision_milder(case: Case, finding: Finding) -> None:
    """Whatever fires on top, and wherever in the table it stands."""
    case = asked(case)
    found = tuple(find(case))
    before = strength(conclude(case, found).verdict)
    assert strength(conclude(case, (*found, finding)).verdict) >= before
    assert strength(conclude(case, (finding, *found)).verdict) >= before


@given(cases, st.sampled_from(["alice@example.org", "spam.example", "203.0.113.0/24", "desk.lan"]))
def test_an_entry_of_the_allowlist_never_makes_a_decision_stronger(case: Case, value: str) -> None:
    """With it a mail is treated as before, or milder."""
    case = asked(case)
    with_it = policy_of(*ENTRIES, allowed(value, 99))
    without = decided(replace(case, policy=POLICIES[0]))
    assert strength(decided(replace(case, policy=with_it)).verdict) <= strength(without.verdict)


@given(
    cases,
    st.sampled_from(
        [blocked("*@example.org", 99), blocked("203.0.113.7", 99), Badword(id=9, pattern="script")]
    ),
)
def test_an_entry_that_blocks_never_makes_a_decision_milder(case: Case, entry: Entry) -> None:
    """With it a mail is treated as before, or harder."""
    case = asked(case)
    with_it = policy_of(*ENTRIES, entry, medium=Verdict.DISCARD)
    without = policy_of(*ENTRIES, medium=Verdict.DISCARD)
    before = strength(decided(replace(case, policy=without)).verdict)
    assert strength(decided(replace(case, policy=with_it)).verdict) >= before


@given(cases)
def test_the_null_sender_is_never_rejected_as_a_sender(case: Case) -> None:
    """RFC 5321, 4.5.5: else no bounce ever arrives."""
    case = asked(replace(case, envelope=replace(case.envelope, sender="")))
    assert all(fired.kind is not RuleKind.SENDER for fired in decided(case).fired)


@given(cases)
def test_dns_failures_never_refuse_anything(case: Case) -> None:
    """Only what says "fail" does; what could not be looked up is as if it had not been asked."""
    for result in Result:
        if result is not Result.FAIL:
            results = said(result, result, result)
            decision = decided(
                asked(replace(case, given=replace(case.given, authentication=results)))
            )
            assert all(fired.kind is not RuleKind.AUTHENTICATION for fired in decision.fired)


@given(cases)
def test_what_fires_at_a_stage_fires_at_data_too(case: Case) -> None:
    """A door that is asked at DATA alone refuses what one that is asked everywhere refuses."""
    early = asked(case)
    late = replace(case, stage=Stage.DATA)
    if early.stage is Stage.RCPT:
        late = replace(
            late, envelope=replace(late.envelope, recipients=late.envelope.recipients[-1:])
        )
        early = replace(early, envelope=late.envelope)
    fired = {one.rule for one in decided(early).fired}
    assert fired <= {one.rule for one in decided(late).fired}


@given(cases)
def test_anything_can_be_counted(case: Case) -> None:
    """No session raises, and each key says what it is of."""
    rates = policy_of(
        *(RATE.model_copy(update={"id": n, "subject": s}) for n, s in enumerate(RateSubject, 1))
    )
    for stage in Stage:
        for rule, key in rate_keys(stage, case.session, case.envelope, rates, ()):
            assert key.startswith(f"{rule.subject} ")
