"""Who wrote a mail, by its From: comments and quoted names make nobody an author."""

from __future__ import annotations

import re
from email.utils import formataddr

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from nodeagent.policy.document import Category, Posting, Subscription
from nodeagent.policy.engine.authentication import (
    AuthenticationResults,
    DmarcCheck,
    DmarcPolicy,
    Result,
    SpfCheck,
)
from nodeagent.policy.engine.authors import MOST_AUTHORS, MOST_FROM_CHARS, addresses_in, authors
from nodeagent.policy.engine.content import Content
from nodeagent.policy.engine.dmarc import author_domain
from nodeagent.policy.engine.threat_evidence import Evidence
from nodeagent.policy.engine.values import domain_of
from nodeagent.policy.model import Decision, Envelope, Header, Verdict
from tests.policy.policies import blocked, decide, message_of, policy_of, rules_of

EVIL, VICTIM = "bad@evil.example", "alice@victim.example"

FORGERIES = (
    f"{EVIL} (<{VICTIM}>)",
    f"{EVIL} ({VICTIM})",
    f"{EVIL} (a (<{VICTIM}>) b)",
    f"{EVIL} (\\) <{VICTIM}> \\()",
    f'{EVIL} (5" <{VICTIM}> 5")',
    f"(<{VICTIM}>) {EVIL}",
    f"Bad <{EVIL} (<{VICTIM}>)>",
    f"Bad <{EVIL}> (<{VICTIM}>)",
    f"Bad <bad(<{VICTIM}>)@evil.example>",
    f"bad(<{VICTIM}>)@evil.example",
    f"bad@evil(<{VICTIM}>).example",
    f'"<{VICTIM}>" {EVIL}',
    f'"<{VICTIM}>" <{EVIL}>',
    f'"\\" <{VICTIM}>" {EVIL}',
    f'"( <{VICTIM}>" <{EVIL}> (")',
    f'"x." {EVIL}',
    f'"x"{EVIL}',
    f'Bad <"x"{EVIL}>',
    f'"x"<{EVIL}>"y"',
    f"=?utf-8?q?=3C{VICTIM}=3E?= <{EVIL}>",
    f"{VICTIM} <{EVIL}>",
)
"""Each was written by the evil one, as RFC 5322 has it."""

PLAIN = {
    "alice@example.org": ("alice@example.org",),
    " Alice Doe <alice@example.org>": ("alice@example.org",),
    ' "Doe, Alice" <alice@example.org> ': ("alice@example.org",),
    '"boss@bank.example" <eve@example.net>': ("eve@example.net",),
    "Doe, Alice <alice@example.org>": ("alice@example.org",),
    "\r\n\tAlice\r\n <alice@example.org>": ("alice@example.org",),
    "<a@example.org>, B < b@example.org >": ("a@example.org", "b@example.org"),
    "a@example.org, b@example.org (Bob)": ("a@example.org", "b@example.org"),
    "a@example.org, B <b@example.org>": ("a@example.org", "b@example.org"),
    "Team:a@example.org,B <b@example.org>;": ("a@example.org", "b@example.org"),
    "undisclosed:;": (),
    "a @ example . org": ("a@example.org",),
    "< a @\r\n example.org >": ("a@example.org",),
    '"alice"@example.org': ("alice@example.org",),
    'X <"al\\ice"@example.org>': ("alice@example.org",),
    '"<b@x.example>, c"@example.org': ("@example.org",),
    '"alice"."doe"@example.org': ("alice.doe@example.org",),
    '"alice."@example.org': ("@example.org",),
    '".alice"@example.org': ("@example.org",),
    "a@[192.0.2.1]": ("a@[192.0.2.1]",),
    "<a@[IPv6:2001:db8::1]>": ("a@[IPv6:2001:db8::1]",),
    "<@relay.example:a@example.org>": ("@relay.example:a@example.org",),
    "nobody": (),
    "<>": (),
    "()": (),
    '""': (),
    "": (),
}

BROKEN = {
    f"a <{EVIL}": (EVIL,),
    f"a <b (c), {EVIL}": (EVIL,),
    f"(c) <a <{EVIL}>": (EVIL,),
    "<a@example.org": ("a@example.org",),
    "a@example.org>": ("a@example.org",),
    "a@example.org)": ("a@example.org",),
    "a@example.org <>": ("a@example.org",),
    "Alice a@example.org": ("a@example.org",),
    "<a@x.example> <b@y.example>": ("a@x.example", "b@y.example"),
    "a@x.example <b@y.example": ("a@x.example", "b@y.example"),
    f"{EVIL} (<{VICTIM}>": (EVIL, VICTIM),
    f'"{EVIL} <{VICTIM}>': (EVIL, VICTIM),
    f"{EVIL} ((<{VICTIM}>)": (EVIL, VICTIM),
    f"{EVIL} (<{VICTIM}>\\)": (EVIL, f"{VICTIM}"),
    "a@example.org \\": ("a@example.org",),
}
"""What is no From, and could be read in more than one way: whoever may be meant is named."""


def from_headers(*values: str) -> tuple[Header, ...]:
    """Return these From headers."""
    return tuple(Header("From", value) for value in values)


@pytest.mark.parametrize("value", FORGERIES)
def test_comments_and_quoted_names_make_nobody_an_author(value: str) -> None:
    """Lists, DMARC and the threat rules all read the same one."""
    headers = from_headers(value)
    assert authors(headers) == (EVIL,)
    assert author_domain(headers) == "evil.example"
    assert Evidence(Content(headers=headers)).sender_domain == "evil.example"


@pytest.mark.parametrize(("value", "expected"), [*PLAIN.items(), *BROKEN.items()])
def test_the_authors_of_a_from(value: str, expected: tuple[str, ...]) -> None:
    """One or several, in a group or not, in obsolete forms and in wrong ones."""
    assert authors((Header(" FROM ", value), Header("To", " x@other.example"))) == expected


def test_who_is_named_in_two_froms_is_looked_up_twice() -> None:
    """Which of them a reader sees is not known."""
    assert authors(from_headers(EVIL, f"A <{VICTIM}>")) == (EVIL, VICTIM)
    assert author_domain(from_headers(EVIL, f"A <{VICTIM}>")) is None


@pytest.mark.parametrize(("value", "expected"), BROKEN.items())
def test_a_from_of_two_domains_vouches_for_neither(value: str, expected: tuple[str, ...]) -> None:
    """DMARC is asked about a domain only where there is one author's alone."""
    domains = {address.rpartition("@")[2] for address in expected}
    assert author_domain(from_headers(value)) == (domains.pop() if len(domains) == 1 else None)


mess = st.text(alphabet='ab@.,<>()":;\\ []\r\n\t=?\u00e9\udcff', max_size=60)
atoms = st.from_regex(r"[a-z0-9!#$%&'*+/=?^_`{|}~-]{1,9}", fullmatch=True)
domains = st.builds("{}.example".format, st.from_regex(r"[a-z0-9]{1,9}", fullmatch=True))
addresses = st.builds("{}@{}".format, atoms, domains)
comment_text = st.text(alphabet='ab@.,<>":; []', max_size=20)
comments = st.recursive(
    comment_text.map("({})".format),
    lambda inner: st.builds("({}{})".format, comment_text, inner),
    max_leaves=4,
)
names = st.text(alphabet='ab@.,<>():;\\" []\u00e9', max_size=20)


@given(mess)
def test_no_from_breaks_the_reading(value: str) -> None:
    """Any text gives addresses, each with an @ and without a space around it."""
    for address in authors(from_headers(value)):
        assert "@" in address
        assert address == address.strip()
    author_domain(from_headers(value))


@given(mess)
@example("a@b.example, c@d.example")
def test_the_domain_of_dmarc_is_that_of_each_author(value: str) -> None:
    """No mail passes DMARC for one domain with an author of another."""
    domain = author_domain(from_headers(value))
    if domain is not None:
        assert {domain_of(one) for one in authors(from_headers(value))} == {domain}


@example(".", "0@0.example", [])
@given(names, addresses, st.lists(comments, max_size=3))
def test_a_quoted_name_and_comments_never_hide_the_address(
    name: str, address: str, noise: list[str]
) -> None:
    """Whatever stands in them, and at each place where a comment may stand."""
    between = " ".join(noise)
    local, _, domain = address.partition("@")
    quoted = '"' + re.sub(r'(["\\])', r"\\\1", name) + '"'
    for value in (
        f"{between}{quoted}{between}<{address}>{between}",
        f"{quoted} <{between}{local}{between}@{between}{domain}{between}>",
        f"{between}{local}{between}@{between}{domain}{between}",
        f"{quoted} {address}",
        formataddr((name, address)),
    ):
        assert addresses_in(value) == [address], value


@given(st.lists(st.tuples(names, addresses), min_size=1, max_size=5))
def test_several_authors_are_all_named_in_their_order(people: list[tuple[str, str]]) -> None:
    """As a mail program writes them, alone and as a group."""
    value = ", ".join(formataddr(one) for one in people)
    expected = [address for _, address in people]
    assert addresses_in(value) == addresses_in(f"Team: {value};") == expected


@given(mess)
def test_the_quick_way_reads_what_the_long_one_does(value: str) -> None:
    """An empty comment changes nothing, and takes the long way."""
    if not re.search(r'["()\\]', value):
        assert addresses_in(value) == addresses_in(f"() {value}") == addresses_in(f"{value} ()")


@given(mess)
def test_any_from_gives_a_bounded_number_of_authors(value: str) -> None:
    """Ten thousand addresses in From are no work."""
    assert len(authors(from_headers(*[value * 100] * 3))) <= MOST_AUTHORS
    assert len(authors(from_headers("a@b.example," * 10_000))) == MOST_AUTHORS


def test_a_from_is_read_up_to_its_limit() -> None:
    """At the limit as any other; beyond it, it vouches for nobody."""
    at_limit = EVIL + " " * (MOST_FROM_CHARS - len(EVIL))
    assert author_domain(from_headers(at_limit)) == "evil.example"
    assert author_domain(from_headers(at_limit + " ")) is None
    assert authors(from_headers(at_limit + " ")) == (EVIL,)


def test_many_froms_are_read_up_to_the_limit_together() -> None:
    """A mail of thousands of them costs no more than one."""
    short = from_headers(*(f"u{number}@a.example" for number in range(MOST_AUTHORS)))
    assert len(authors(short)) == MOST_AUTHORS
    filling = " " * (MOST_FROM_CHARS - len(EVIL))
    assert authors(from_headers(filling, EVIL, VICTIM)) == (EVIL,)
    assert authors(from_headers(filling + " ", EVIL)) == (EVIL[:-1],)
    assert authors(from_headers(*[filling] * 2, EVIL)) == ()


@pytest.mark.parametrize(
    "piece", ["(", ")", '"', "<", ">", "\\", "@", ".", " ", "a ", "a@", "<(", ",:"]
)
def test_a_hostile_from_takes_steps_in_proportion_to_its_length(piece: str) -> None:
    """The same signs again and again name at most so many, and none that was not there."""
    value = piece * (2 * MOST_FROM_CHARS // len(piece))
    assert len(authors(from_headers(f"A <{EVIL}>", value))) <= MOST_AUTHORS
    assert EVIL in addresses_in(f"A <{EVIL}> ({piece})")


@pytest.mark.parametrize("value", FORGERIES)
def test_a_comment_does_not_walk_past_the_blocklist(value: str) -> None:
    """Neither does a quoted name; who is named there only is not blocked for it."""
    mail = message_of(From=value)
    assert rules_of(decide(policy_of(blocked(EVIL)), message=mail))[0] == "blocklist:1"
    assert "blocklist:1" not in rules_of(decide(policy_of(blocked(VICTIM)), message=mail))


NEWS = "news@lists.example.net"
LIST = policy_of(
    Category(id=1, address=NEWS, posting=Posting.ALLOWED, allowed_senders=(VICTIM,)),
    Subscription(id=1, category=1, address="dora@example.org", token="t" * 16),
    spf={"is_enabled": True},
    dmarc={"is_enabled": True},
)


def posted(value: str, passed_for: str) -> Decision:
    """Return what becomes of a mail to the list from the evil one, who passes SPF and DMARC."""
    results = AuthenticationResults(
        SpfCheck(Result.PASS, "evil.example"),
        dmarc=DmarcCheck(Result.PASS, passed_for, DmarcPolicy.REJECT),
    )
    mail, envelope = message_of(From=value), Envelope(EVIL, (NEWS,))
    return decide(LIST, envelope=envelope, message=mail, authentication=results)


@pytest.mark.parametrize("value", [EVIL, *FORGERIES])
def test_a_comment_makes_nobody_a_subscriber(value: str) -> None:
    """DMARC of the evil one's domain says nothing about others."""
    assert rules_of(posted(value, "evil.example"))[0] == "category:1"


@pytest.mark.parametrize(
    ("value", "passed_for", "verdict"),
    [
        (VICTIM, "victim.example", Verdict.ACCEPT),
        (f'"<{EVIL}>" <Alice@VICTIM.example> ({EVIL})', "victim.example", Verdict.ACCEPT),
        (VICTIM, "evil.example", Verdict.REJECT),
        (VICTIM, "example", Verdict.REJECT),
        (VICTIM, "a.victim.example", Verdict.REJECT),
        (f"{VICTIM}, {VICTIM}", "victim.example", Verdict.REJECT),
        (f"{VICTIM}, {EVIL}", "victim.example", Verdict.REJECT),
    ],
)
def test_an_author_may_post_where_dmarc_passed_for_his_own_domain(
    value: str, passed_for: str, verdict: Verdict
) -> None:
    """What passed for another domain, or two authors, prove nobody."""
    assert posted(value, passed_for).verdict is verdict
