"""The rules at the end of a message: words, threats, attachments, authors, SPF, DKIM, DMARC."""

from __future__ import annotations

import base64
from dataclasses import replace

import pytest

from nodeagent.policy.document import AuthenticationCheck, Badword, PolicySettings, ThreatSetting
from nodeagent.policy.engine.authentication import (
    AuthenticationResults,
    DkimCheck,
    DmarcCheck,
    DmarcPolicy,
    Result,
    SpfCheck,
)
from nodeagent.policy.engine.content_checks import verdict_of_score
from nodeagent.policy.engine.words import BadwordSet, ScanFailed
from nodeagent.policy.model import (
    AddHeader,
    Decision,
    Envelope,
    Message,
    RuleKind,
    Severity,
    Stage,
    Verdict,
)
from nodeagent.policy.raw_message import from_bytes
from tests.policy.corpus.attacks import ATTACKS, REJECTED
from tests.policy.corpus.ordinary import ORDINARY
from tests.policy.policies import (
    RECIPIENT,
    SENDER,
    STRANGER,
    TRUSTED,
    allowed,
    blocked,
    decide,
    message_of,
    multipart,
    policy_of,
    rules_of,
)

CASINO = Badword(id=17, pattern="casino")
PLAIN = policy_of()
WITH_WORD = policy_of(CASINO)
OPEN = policy_of(has_threats=False, blocked_extensions=())


def encoded(text: str) -> str:
    """Return a text in base64."""
    return base64.b64encode(text.encode()).decode()


HIDING_PLACES: dict[str, Message] = {
    "the text": message_of("Visit our casino today."),
    "the subject": message_of(Subject="Visit our Casino"),
    "an encoded subject": message_of(Subject=f"=?utf-8?b?{encoded('your casino')}?="),
    "base64": message_of(encoded("the casino"), Content_Transfer_Encoding="base64"),
    "quoted-printable": message_of("cas=69no", Content_Transfer_Encoding="quoted-printable"),
    "HTML entities": message_of("<p>c&#97;sin&#x6f;</p>", Content_Type="text/html"),
    "the second part": multipart(
        ("Content-Type: text/plain", "nothing here"),
        ("Content-Type: text/html\r\nContent-Transfer-Encoding: base64", encoded("<b>casino</b>")),
    ),
}


@pytest.mark.parametrize("message", HIDING_PLACES.values(), ids=HIDING_PLACES)
def test_a_bad_word_is_found_wherever_a_reader_reads_it(message: Message) -> None:
    """And it is named by its number, once."""
    decision = decide(WITH_WORD, message=message)
    assert rules_of(decision) == ("badword:17",)
    fired = decision.fired[0]
    assert (fired.kind, fired.severity) == (RuleKind.BADWORD, Severity.MEDIUM)
    assert "casino" not in fired.text
    assert decide(PLAIN, message=message).fired == ()


@pytest.mark.parametrize(
    "message",
    [
        message_of("Our casinos and the mycasino."),
        message_of("Y2FzaW5v is base64, and a reader sees that"),
        multipart(("Content-Type: image/png", "casino")),
    ],
    ids=["other words", "noise", "an image"],
)
def test_what_nobody_reads_as_the_word_is_not_the_word(message: Message) -> None:
    """No substrings, no base64 noise, no bytes of images."""
    assert decide(WITH_WORD, message=message).fired == ()


@pytest.mark.parametrize("severity", Severity)
@pytest.mark.parametrize("verdict", Verdict)
def test_a_severity_does_what_the_settings_say(severity: Severity, verdict: Verdict) -> None:
    """Each of the four by itself; the reply has the code of the verdict."""
    word = CASINO.model_copy(update={"severity": severity})
    policy = policy_of(word, **{severity.value: verdict})
    decision = decide(policy, message=message_of("casino"))
    assert decision.verdict is verdict
    code = None if decision.reply is None else decision.reply.code
    assert code == {Verdict.REJECT: 550, Verdict.TEMPFAIL: 451}.get(verdict)
    assert rules_of(decision) == ("badword:17",)


def test_the_strongest_of_many_words_decides() -> None:
    """All are listed, what decided first."""
    words = [
        Badword(id=number, pattern=f"word{number}", severity=severity)
        for number, severity in enumerate(Severity, start=1)
    ]
    decision = decide(policy_of(*words), message=message_of("word1 word2 word3 word4"))
    assert decision.verdict is Verdict.REJECT
    assert rules_of(decision) == ("badword:3", "badword:4", "badword:2", "badword:1")
    assert decision.reply is not None
    assert decision.reply.text.endswith("(badword:3)")


def test_a_regular_expression_matches_but_is_not_quoted() -> None:
    """What it matched is not known, and the expression is no part of the mail."""
    policy = policy_of(Badword(id=3, pattern="win [0-9]+ euros", is_regex=True))
    decision = decide(policy, message=message_of("You WIN 500 euros"))
    assert rules_of(decision) == ("badword:3",)
    assert decision.fired[0].matched is None


class Exhausted(BadwordSet):
    """A set whose search ran out of memory."""

    def find(self, text: str) -> tuple[Badword, ...]:
        """Fail as RE2 does."""
        del text
        raise ScanFailed("the search for bad words ran out of memory")


def test_a_search_that_was_given_up_is_a_fault_and_no_acceptance() -> None:
    """What could not be searched is not known to be clean."""
    decision = decide(replace(WITH_WORD, words=Exhausted()))
    assert (decision.verdict, decision.fired[0].kind) == (Verdict.TEMPFAIL, RuleKind.FAULT)
    assert decision.reply is not None
    assert (decision.reply.code, decision.reply.enhanced) == (451, "4.3.0")


@pytest.mark.parametrize("name", ORDINARY)
def test_an_ordinary_mail_goes_on(name: str) -> None:
    """Nothing in the corpus of ordinary mails is held or refused."""
    decision = decide(PLAIN, message=from_bytes(ORDINARY[name]))
    assert decision.verdict is Verdict.ACCEPT, rules_of(decision)


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_is_held_or_refused(name: str) -> None:
    """By the score that its author said it deserves."""
    raw, score = ATTACKS[name]
    decision = decide(PLAIN, message=from_bytes(raw))
    expected = {Verdict.REJECT} if score >= REJECTED else {Verdict.QUARANTINE, Verdict.REJECT}
    assert decision.verdict in expected, rules_of(decision)
    allowing = policy_of(allowed(f"*@{SENDER.partition('@')[2]}"))
    assert decide(allowing, message=from_bytes(raw)).verdict is Verdict.ACCEPT


SCORES = [(0.0, Verdict.ACCEPT), (4.9, Verdict.ACCEPT), (5.0, Verdict.QUARANTINE)]
SCORES += [(9.9, Verdict.QUARANTINE), (10.0, Verdict.REJECT), (1e6, Verdict.REJECT)]


@pytest.mark.parametrize(("score", "verdict"), SCORES)
def test_scores_have_two_thresholds(score: float, verdict: Verdict) -> None:
    """Mixed-up thresholds give the stronger verdict."""
    assert verdict_of_score(score, PolicySettings()) is verdict
    mixed = PolicySettings(threat_quarantine_score=10, threat_reject_score=1)
    assert verdict_of_score(5, mixed) is Verdict.REJECT


def test_small_scores_add_up() -> None:
    """Each rule alone would have been passed over; together they are a threat."""
    raw, _ = next(
        (raw, score)
        for raw, score in ATTACKS.values()
        if len([f for f in decide(PLAIN, message=from_bytes(raw)).fired if f.score]) > 1
    )
    message = from_bytes(raw)
    scored = [fired for fired in decide(PLAIN, message=message).fired if fired.score]
    each = 4.0
    entries = [ThreatSetting(rule=f.rule.removeprefix("threat:"), score=each) for f in scored]
    policy = policy_of(*entries, threat_reject_score=each * len(scored), blocked_extensions=())
    decision = decide(policy, message=message)
    assert decision.verdict is Verdict.REJECT
    assert decision.fired[0].rule == "threat:total"
    assert sum(fired.score for fired in decision.fired) == each * len(scored)
    off = [entry.model_copy(update={"is_enabled": False}) for entry in entries]
    assert decide(policy_of(*off), message=message).verdict is Verdict.ACCEPT


def attached(name: str) -> Message:
    """Return a mail with an attachment of this name."""
    head = f'Content-Type: application/x-any\r\nContent-Disposition: attachment; filename="{name}"'
    return multipart(("Content-Type: text/plain", "see there"), (head, "MZ"))


@pytest.mark.parametrize("verdict", Verdict)
def test_a_dangerous_attachment_does_what_the_settings_say(verdict: Verdict) -> None:
    """And the log's sentence does not name the file."""
    policy = policy_of(attachment_verdict=verdict, has_threats=False)
    decision = decide(policy, message=attached("secret plan.exe"))
    assert decision.verdict is verdict
    hit = next(fired for fired in decision.fired if fired.kind is RuleKind.ATTACHMENT)
    assert hit.rule == "attachment:extension"
    assert "secret" in (hit.matched or "")
    assert "secret" not in hit.text
    assert decide(policy, message=attached("plan.pdf")).verdict is Verdict.ACCEPT


SUSPICIOUS = message_of("casino", Content_Type="text/plain")


@pytest.mark.parametrize("session", [TRUSTED, replace(STRANGER, login="alice")])
def test_trusted_clients_are_looked_at_unless_the_settings_spare_them(session) -> None:
    """A hijacked account sends spam, too, so it is no default."""
    assert decide(WITH_WORD, session=session, message=SUSPICIOUS).verdict is Verdict.QUARANTINE
    spared = policy_of(CASINO, trusted_skip_content=True)
    assert decide(spared, session=session, message=SUSPICIOUS).fired == ()
    assert decide(spared, session=session, message=attached("x.exe")).fired == ()
    assert decide(spared, message=SUSPICIOUS).verdict is Verdict.QUARANTINE


def test_a_mail_that_was_cut_off_is_noted() -> None:
    """What was not looked at stands in the log; large mails are ordinary."""
    whole = message_of("Hello. " * 100)
    cut = replace(whole, body=whole.body[:70])
    decision = decide(PLAIN, message=cut)
    assert (decision.verdict, rules_of(decision)) == (Verdict.ACCEPT, ("unseen:body-cut",))


@pytest.mark.parametrize(
    ("value", "from_header", "fires"),
    [
        ("*@spam.example", "X <x@spam.example>", True),
        ("spam.example", "x@SPAM.example", True),
        ("x@spam.example", "Hello <a@b.example>, x@y.example, <x@spam.example>", True),
        ("*@spam.example", '"x@spam.example" <a@b.example>', False),
        ("*@spam.example", "a@b.example", False),
    ],
)
def test_the_author_is_looked_for_on_the_blocklist(value, from_header, fires) -> None:
    """The envelope sender is not what the reader sees."""
    decision = decide(
        policy_of(blocked(value, 5), has_threats=False), message=message_of(From=from_header)
    )
    assert rules_of(decision) == (("blocklist:5",) if fires else ())
    assert decision.verdict is (Verdict.REJECT if fires else Verdict.ACCEPT)


def said(spf=Result.NONE, dkim=Result.NONE, dmarc=Result.NONE, asks=DmarcPolicy.REJECT):
    """Return what was looked up."""
    return AuthenticationResults(
        SpfCheck(spf, "example.org"),
        (DkimCheck(dkim, "example.org", "s1"),),
        DmarcCheck(dmarc, "example.org", asks),
    )


CODES = {"spf": "5.7.23", "dkim": "5.7.20", "dmarc": "5.7.26"}


@pytest.mark.parametrize("method", CODES)
@pytest.mark.parametrize("result", Result)
@pytest.mark.parametrize("verdict", Verdict)
def test_a_check_acts_on_fail_alone_and_as_the_settings_say(method, result, verdict) -> None:
    """RFC 7372 has the enhanced codes; a DNS failure is never a fail."""
    check = AuthenticationCheck(is_enabled=True, on_fail=verdict)
    results = said(**{method: result})
    decision = decide(policy_of(**{method: check}), authentication=results)
    if result is not Result.FAIL:
        assert decision.fired == ()
        return
    assert decision.verdict is verdict
    assert rules_of(decision) == (f"{method}:fail",)
    if verdict is Verdict.REJECT:
        assert decision.reply.enhanced == CODES[method]
    off = policy_of(**{method: check.model_copy(update={"is_enabled": False})})
    assert decide(off, authentication=results).fired == ()
    assert decide(policy_of(**{method: check}), session=TRUSTED, authentication=results).fired == ()


@pytest.mark.parametrize(
    ("asks", "on_fail", "verdict"),
    [
        (DmarcPolicy.NONE, Verdict.REJECT, Verdict.ACCEPT),
        (DmarcPolicy.QUARANTINE, Verdict.REJECT, Verdict.QUARANTINE),
        (DmarcPolicy.QUARANTINE, Verdict.DISCARD, Verdict.QUARANTINE),
        (DmarcPolicy.QUARANTINE, Verdict.ACCEPT, Verdict.ACCEPT),
        (DmarcPolicy.REJECT, Verdict.QUARANTINE, Verdict.QUARANTINE),
        (DmarcPolicy.REJECT, Verdict.REJECT, Verdict.REJECT),
        (None, Verdict.REJECT, Verdict.REJECT),
    ],
)
def test_dmarc_is_never_harder_than_its_domain_asks_for(asks, on_fail, verdict) -> None:
    """RFC 7489, 6.3: "none" is for domains that are still looking."""
    policy = policy_of(dmarc=AuthenticationCheck(is_enabled=True, on_fail=on_fail))
    decision = decide(policy, authentication=said(dmarc=Result.FAIL, asks=asks))
    assert (decision.verdict, rules_of(decision)) == (verdict, ("dmarc:fail",))


def test_an_allowlisted_sender_whom_spf_denies_is_not_believed() -> None:
    """Anybody can write a sender; without SPF there is nothing to deny it by."""
    policy = policy_of(CASINO, allowed("*@example.org", 2))
    mail = message_of("casino")
    assert decide(policy, message=mail).verdict is Verdict.ACCEPT
    forged = decide(policy, message=mail, authentication=said(spf=Result.FAIL))
    assert (forged.verdict, rules_of(forged)) == (Verdict.QUARANTINE, ("badword:17",))
    for result in set(Result) - {Result.FAIL}:
        believed = decide(policy, message=mail, authentication=said(spf=result))
        assert believed.verdict is Verdict.ACCEPT
    by_helo = AuthenticationResults(SpfCheck(Result.FAIL, "example.org", is_of_helo=True))
    assert decide(policy, message=mail, authentication=by_helo).verdict is Verdict.ACCEPT


def test_what_was_looked_up_is_told_to_the_next_hop() -> None:
    """In one header of ours."""
    results = said(Result.PASS, Result.PASS, Result.PASS)
    added = [
        one for one in decide(PLAIN, authentication=results).changes if isinstance(one, AddHeader)
    ]
    assert [one.name for one in added] == ["Authentication-Results", "X-Relay-Policy"]
    assert added[0].value.startswith(
        "relay1.example.com; spf=pass smtp.mailfrom=example.org; dkim="
    )


def test_headers_of_a_quarantined_mail_say_so() -> None:
    """Whoever releases it passes on why it was held, without naming the word."""
    decision: Decision = decide(WITH_WORD, message=message_of("casino"))
    headers = {one.name: one.value for one in decision.changes if isinstance(one, AddHeader)}
    assert headers["X-Relay-Policy"] == "verdict=quarantine; rules=badword:17; score=0.0"


def test_a_switched_off_content_check_finds_nothing() -> None:
    """Threats and attachments have switches of their own."""
    raw, _ = next(iter(ATTACKS.values()))
    assert decide(OPEN, message=from_bytes(raw)).verdict is Verdict.ACCEPT


def test_content_is_judged_at_data_only() -> None:
    """Nothing is known of it before."""
    for stage in set(Stage) - {Stage.DATA}:
        assert decide(WITH_WORD, stage, envelope=Envelope(SENDER, (RECIPIENT,))).fired == ()
