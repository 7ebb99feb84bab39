"""Categories: which addresses exist, who may write, and every subscriber exactly once."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.document import Badword, Category, Posting, Subscription
from nodeagent.policy.engine.authentication import (
    AuthenticationResults,
    DmarcCheck,
    Result,
    SpfCheck,
)
from nodeagent.policy.engine.categories import Categories
from nodeagent.policy.engine.values import lookup_address
from nodeagent.policy.model import (
    AddRecipient,
    Change,
    DeleteRecipient,
    Envelope,
    RuleKind,
    Stage,
    Verdict,
)
from tests.policy.policies import STRANGER, TRUSTED, decide, message_of, policy_of, rules_of

NEWS, TECH, OLD, EMPTY = (
    "news@lists.example.net",
    "tech@lists.example.net",
    "old@lists.example.net",
    "nobody@lists.example.net",
)
TOKEN = "t" * 16


def subscribed(number: int, category: int, address: str) -> Subscription:
    """Return a subscription."""
    return Subscription(id=number, category=category, address=address, token=TOKEN)


CATEGORIES = (
    Category(id=1, address=NEWS),
    Category(
        id=2,
        address=TECH,
        posting=Posting.ALLOWED,
        allowed_senders=("boss@example.org", "*@staff.example.org"),
    ),
    Category(id=3, address=OLD, is_enabled=False),
    Category(id=4, address=EMPTY, posting=Posting.ANYBODY),
    Category(id=5, address="all@example.com", posting=Posting.ANYBODY),
    subscribed(11, 1, "alice@example.org"),
    subscribed(12, 1, "bob@example.com"),
    subscribed(13, 2, "bob@example.com"),
    subscribed(14, 2, "carol@example.org"),
    subscribed(15, 3, "alice@example.org"),
    subscribed(16, 5, "dora@example.org"),
)
POLICY = policy_of(*CATEGORIES, adds_headers=False)


def at_rcpt(*recipients: str, sender: str = "alice@example.org", session=STRANGER):
    """Return the decision about the last of these recipients."""
    return decide(POLICY, Stage.RCPT, session, Envelope(sender, recipients))


def at_data(*recipients: str, sender: str = "alice@example.org", **more):
    """Return the decision about a mail to these recipients."""
    return decide(POLICY, Stage.DATA, envelope=Envelope(sender, recipients), **more)


def delivered(changes: tuple[Change, ...], *recipients: str) -> list[str]:
    """Return who gets the mail after the changes, subscribers by their addresses."""
    left = list(recipients)
    for change in changes:
        if isinstance(change, DeleteRecipient):
            left = [one for one in left if one.lower() != change.address.lower()]
        elif isinstance(change, AddRecipient):
            left.append(change.address)
    found = []
    for one in left:
        local, _, domain = one.partition("@")
        if domain == "list.relay.invalid":
            member, _, category = local.partition(".")
            known = POLICY.categories.find_member(int(member), int(category))
            assert known is not None
            found.append(known[1].address)
        else:
            found.append(one)
    return found


ADDRESSES = [
    (NEWS, ""),
    ("NEWS@Lists.Example.Net.", ""),
    ("typo@lists.example.net", "550 5.1.1"),
    ("news+tag@lists.example.net", "550 5.1.1"),
    (OLD, "550 5.1.1"),
    (EMPTY, "550 5.2.4"),
    ("postmaster@lists.example.net", ""),
    ("Abuse@lists.example.net", ""),
    ("typo@sub.lists.example.net", ""),
    ("all@example.com", ""),
    ("typo@example.com", ""),
    ("anybody@example.org", ""),
    ("11.1@list.relay.invalid", "550 5.1.1"),
    ("x@sub.list.relay.invalid", "550 5.1.1"),
]


@pytest.mark.parametrize(("recipient", "code"), ADDRESSES)
def test_addresses_of_a_categorys_domain_are_known_or_rejected(recipient: str, code: str) -> None:
    """But a recipient domain's other addresses are its next hop's, and postmaster always is."""
    for session in (STRANGER, TRUSTED):
        decision = at_rcpt(recipient, session=session)
        reply = decision.reply
        assert (f"{reply.code} {reply.enhanced}" if reply else "") == code
        assert all(fired.kind is RuleKind.CATEGORY for fired in decision.fired)


def test_the_current_recipient_is_judged_not_the_first() -> None:
    """Neither does a known one hide an unknown one, nor the other way round."""
    assert at_rcpt(NEWS, "typo@lists.example.net").verdict is Verdict.REJECT
    assert at_rcpt("typo@lists.example.net", NEWS).verdict is Verdict.ACCEPT


def test_addresses_are_looked_at_once_more_at_data() -> None:
    """Where the MTA does not ask at RCPT, the mail is rejected in the end."""
    decision = at_data(NEWS, "typo@lists.example.net")
    assert (decision.verdict, decision.reply.code) == (Verdict.REJECT, 550)
    assert rules_of(decision) == ("category:unknown-address",)


def test_with_no_enabled_category_a_domain_is_nobodys() -> None:
    """A category that is switched off keeps its own address closed, not its domain."""
    policy = policy_of(*CATEGORIES[2:3])
    typo = decide(policy, Stage.RCPT, envelope=Envelope("a@b.example", ("typo@lists.example.net",)))
    own = decide(policy, Stage.RCPT, envelope=Envelope("a@b.example", (OLD,)))
    assert (typo.verdict, own.verdict) == (Verdict.ACCEPT, Verdict.REJECT)


POSTING = [
    (NEWS, "alice@example.org", True),
    (NEWS, "ALICE@EXAMPLE.ORG", True),
    (NEWS, "bob@example.com", True),
    (NEWS, "carol@example.org", False),
    (NEWS, "boss@example.org", False),
    (NEWS, "", False),
    (TECH, "carol@example.org", False),
    (TECH, "boss@example.org", True),
    (TECH, "anybody@staff.example.org", True),
    (TECH, "x@sub.staff.example.org", False),
    (TECH, "", False),
    ("all@example.com", "stranger@example.net", True),
    ("all@example.com", "", False),
]


@pytest.mark.parametrize(("category", "sender", "may"), POSTING)
def test_who_may_write_to_a_category(category: str, sender: str, may: bool) -> None:
    """Subscribers, allowed senders or anybody, as it is set; a bounce never is distributed."""
    decision = at_data(category, sender=sender, message=message_of(From="boss@example.org"))
    assert decision.verdict is (Verdict.ACCEPT if may else Verdict.REJECT)
    if not may:
        assert (decision.reply.code, decision.reply.enhanced) == (550, "5.7.2")
        assert decision.changes == ()


def test_a_login_may_write_whatever_sender_it_names() -> None:
    """The login is proved, the sender is not."""
    session = replace(STRANGER, login="alice@example.org")
    assert at_data(NEWS, sender="x@example.net", session=session).verdict is Verdict.ACCEPT
    other = replace(STRANGER, login="mallory@example.org")
    assert at_data(NEWS, sender="x@example.net", session=other).verdict is Verdict.REJECT


@pytest.mark.parametrize(
    ("from_header", "dmarc", "may"),
    [
        ("Alice <alice@example.org>", Result.PASS, True),
        ("Alice <alice@example.org>", Result.NONE, False),
        ("Alice <alice@example.org>", Result.FAIL, False),
        ("alice@example.org, mallory@example.net", Result.PASS, False),
        ('"alice@example.org" <mallory@example.net>', Result.PASS, False),
    ],
)
def test_an_author_may_write_where_dmarc_vouches_for_him(from_header, dmarc, may) -> None:
    """Mail programs of mailers have envelope senders of their own."""
    results = AuthenticationResults(dmarc=DmarcCheck(dmarc, "example.org"))
    mail = message_of(From=from_header)
    sent = at_data(NEWS, sender="bounce+1@mailer.example", message=mail, authentication=results)
    assert sent.verdict is (Verdict.ACCEPT if may else Verdict.REJECT)


@pytest.mark.parametrize(
    ("category", "sender", "spf", "may"),
    [
        (NEWS, "alice@example.org", SpfCheck(Result.FAIL, "example.org"), False),
        (NEWS, "alice@example.org", SpfCheck(Result.SOFTFAIL, "example.org"), True),
        (NEWS, "alice@example.org", SpfCheck(Result.TEMPERROR, "example.org"), True),
        (NEWS, "alice@example.org", SpfCheck(Result.FAIL, "mx.example", is_of_helo=True), True),
        (TECH, "boss@staff.example.org", SpfCheck(Result.FAIL, "staff.example.org"), False),
        ("all@example.com", "stranger@example.net", SpfCheck(Result.FAIL, "example.net"), True),
    ],
)
def test_a_forged_sender_is_nobody_who_may_write(
    category: str, sender: str, spf: SpfCheck, may: bool
) -> None:
    """Also where a failed SPF is only noted, as it is by default; anybody is anybody."""
    results = AuthenticationResults(spf=spf)
    mail = message_of(From="boss@example.org")
    sent = at_data(category, sender=sender, message=mail, authentication=results)
    assert sent.verdict is (Verdict.ACCEPT if may else Verdict.REJECT)


def test_whoever_logged_in_is_no_forger() -> None:
    """Trusted clients send from where no SPF record allows it."""
    results = AuthenticationResults(spf=SpfCheck(Result.FAIL, "example.org"))
    session = replace(STRANGER, login="somebody")
    sent = at_data(NEWS, sender="alice@example.org", session=session, authentication=results)
    assert sent.verdict is Verdict.ACCEPT


def test_a_forbidden_category_rejects_the_whole_mail() -> None:
    """At the end of the message there is one answer for all recipients."""
    decision = at_data("dave@example.com", TECH, sender="alice@example.org")
    assert (decision.verdict, decision.changes) == (Verdict.REJECT, ())


@pytest.mark.parametrize(
    ("recipients", "expected"),
    [
        ((NEWS,), ["alice@example.org", "bob@example.com"]),
        ((NEWS, "bob@example.com"), ["bob@example.com", "alice@example.org"]),
        (("BOB@Example.com", NEWS), ["BOB@Example.com", "alice@example.org"]),
        ((NEWS, TECH), ["alice@example.org", "bob@example.com", "carol@example.org"]),
        ((NEWS, "News@lists.example.net"), ["alice@example.org", "bob@example.com"]),
        (("dave@example.com",), ["dave@example.com"]),
    ],
)
def test_every_subscriber_gets_it_once(recipients, expected) -> None:
    """Named directly, subscribed twice, or the category written twice: it makes no difference."""
    policy_sender = "bob@example.com" if TECH not in recipients else "boss@staff.example.org"
    decision = at_data(
        *recipients, sender=policy_sender, session=replace(STRANGER, login="bob@example.com")
    )
    if TECH in recipients:
        assert decision.verdict is Verdict.ACCEPT
    assert delivered(decision.changes, *recipients) == expected


def test_mail_that_is_quarantined_is_expanded_too() -> None:
    """What is released later goes on without being judged again."""
    policy = policy_of(*CATEGORIES, Badword(id=1, pattern="casino"), adds_headers=False)
    mail = message_of("casino")
    decision = decide(policy, envelope=Envelope("alice@example.org", (NEWS,)), message=mail)
    assert decision.verdict is Verdict.QUARANTINE
    assert delivered(decision.changes, NEWS) == ["alice@example.org", "bob@example.com"]


def test_what_makes_no_sense_is_left_out_and_said() -> None:
    """A node compiles into what it can."""
    compiled = Categories.compile(
        [
            Category(id=1, address=NEWS),
            Category(id=2, address=NEWS),
            Category(id=3, address="no address"),
            Category(id=4, address="x@list.relay.invalid"),
        ],
        [
            subscribed(1, 9, "a@example.org"),
            subscribed(2, 1, NEWS),
            subscribed(3, 1, "no-domain"),
            subscribed(4, 1, "a@example.org"),
            subscribed(5, 1, "A@example.ORG"),
        ],
    )
    assert list(compiled.by_address) == [NEWS]
    assert [member.id for member in compiled.by_address[NEWS].members] == [4]
    assert [problem.split(":")[0] for problem in compiled.problems] == [
        "Category 2 is left out",
        "Category 3 is left out",
        "Category 4 is left out",
        "Subscription 1 is left out",
        "Subscription 2 is left out",
        "Subscription 3 is left out",
    ]


def test_a_subscription_is_found_by_both_numbers_only() -> None:
    """An internal address of a category that was deleted and made anew is nobody's."""
    assert POLICY.categories.find_member(11, 1)[1].address == "alice@example.org"
    assert POLICY.categories.find_member(11, 2) is None
    assert POLICY.categories.find_member(99, 1) is None


def test_a_category_that_is_switched_off_has_its_subscribers_still() -> None:
    """A mail that was taken before has copies that wait; a new one is refused at RCPT."""
    compiled, member = POLICY.categories.find_member(15, 3)
    assert (compiled.category.is_enabled, member.id) == (False, 15)
    assert POLICY.categories.find_member(15, 1) is None


people = st.sampled_from([f"p{number}@example.org" for number in range(8)])


@given(
    st.lists(people, max_size=10),
    st.lists(people, max_size=10),
    st.lists(people, max_size=4),
    st.permutations(["a", "b"]),
)
def test_however_people_are_subscribed_nobody_is_missed_or_doubled(
    first, second, direct, order
) -> None:
    """The law: direct recipients and all subscribers, each once."""
    categories = Categories.compile(
        [
            Category(id=1, address="a@lists.example.net"),
            Category(id=2, address="b@lists.example.net"),
        ],
        [
            subscribed(number, category, address)
            for number, (category, address) in enumerate(
                [*((1, one) for one in first), *((2, one) for one in second)], start=1
            )
        ],
    )
    direct = list(dict.fromkeys(direct))
    recipients = (*direct, *(f"{name}@lists.example.net" for name in order))
    changes = tuple(categories.expand(recipients))
    added = [
        categories.find_member(*map(int, change.address.partition("@")[0].split(".")))[1].address
        for change in changes
        if isinstance(change, AddRecipient)
    ]
    gone = {change.address for change in changes if isinstance(change, DeleteRecipient)}
    got = [one for one in recipients if one not in gone] + added
    assert sorted(map(lookup_address, got)) == sorted({*first, *second, *direct})


def test_ten_thousand_subscribers_get_ten_thousand_recipients() -> None:
    """Each by an address of his own, which is no longer than a local part may be."""
    policy = policy_of(
        Category(id=1, address=NEWS, posting=Posting.ANYBODY),
        *(subscribed(number, 1, f"s{number}@example.org") for number in range(1, 10_001)),
        adds_headers=False,
    )
    changes = decide(policy, envelope=Envelope("x@example.org", (NEWS,))).changes
    added = {change.address for change in changes if isinstance(change, AddRecipient)}
    assert len(added) == len(changes) - 1 == 10_000
    assert max(len(address.partition("@")[0]) for address in added) <= 64
