"""Tries a mail on a policy: what would be decided at each stage, by which rules, and why.

Nothing is looked up: what SPF, DKIM and DMARC would say is assumed by whoever tries, and counts
where a node would ask for it.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Final

from nodeagent.policy.engine.authentication import AuthenticationResults
from nodeagent.policy.engine.case import Given
from nodeagent.policy.engine.dmarc import author_domain
from nodeagent.policy.engine.judge import judge, needs_authentication
from nodeagent.policy.engine.policy import CompiledPolicy
from nodeagent.policy.engine.verdicts import OVERRULED_BY_ALLOWLIST, strength
from nodeagent.policy.model import (
    Decision,
    Envelope,
    Fired,
    Message,
    RuleKind,
    Session,
    Stage,
    Verdict,
)
from nodeagent.policy.places import HEALTH_CHECK
from nodeagent.policy.raw_message import from_bytes

_DONE: Final = {
    Verdict.ACCEPT: "It goes on.",
    Verdict.REJECT: "It is rejected for good",
    Verdict.TEMPFAIL: "It is put off, and the sender tries again",
    Verdict.DISCARD: "It is answered 250 and thrown away.",
    Verdict.QUARANTINE: "It is answered 250 and held in the quarantine.",
}
_ALONE: Final = {
    Verdict.ACCEPT: "only noted",
    Verdict.REJECT: "alone it rejects",
    Verdict.TEMPFAIL: "alone it puts off",
    Verdict.DISCARD: "alone it throws away",
    Verdict.QUARANTINE: "alone it holds in the quarantine",
}

TRUSTED: Final = (
    "A node looks up nothing here: the client is trusted, has logged in, or has no address."
)
SWITCHED_OFF: Final = "%(check)s is switched off, so what was assumed of it does not count."
HEALTH_CHECKED: Final = (
    "At CONNECT only the HTTP hook asks about 127.0.0.1: keepalived checks Postfix from there."
)
NOT_ASKED: Final = (
    "%(check)s is switched on, but no DNS is asked here: assume a result to try its rules."
)


@dataclass(frozen=True)
class Trial:
    """What is decided at one stage; at RCPT of one recipient."""

    stage: Stage
    decision: Decision
    sentences: tuple[str, ...]
    recipient: str | None = None


def try_mail(
    raw: bytes, session: Session, envelope: Envelope, policy: CompiledPolicy, given: Given
) -> tuple[Trial, ...]:
    """Return the decisions of all stages, also of those behind a refusal.

    Stages of which nothing is given (no HELO, no login, no sender) are left out. DATA is judged
    with the recipients that were taken, or with all where none was. A policy that is not active
    is tried as if it were. `given.authentication` is what is assumed.
    """
    policy = _active(policy)
    whole = from_bytes(raw)
    message = replace(whole, body=whole.body[: policy.settings.inspected_bytes])
    found = looked_up(session, policy, given.authentication)
    if found is not None and found.dmarc is not None:
        asked_about = author_domain(message.headers) or ""
        found = replace(found, dmarc=replace(found.dmarc, domain=asked_about))
    return tuple(_trials(message, session, envelope, policy, replace(given, authentication=found)))


def looked_up(
    session: Session, policy: CompiledPolicy, assumed: AuthenticationResults | None
) -> AuthenticationResults | None:
    """Return of what is assumed that which a node would have looked up; None where nothing."""
    if assumed is None or not needs_authentication(Stage.DATA, session, _active(policy)):
        return None
    settings = policy.settings
    return AuthenticationResults(
        spf=assumed.spf if settings.spf.is_enabled else None,
        dkim=assumed.dkim if settings.dkim.is_enabled else None,
        dmarc=assumed.dmarc if settings.dmarc.is_enabled else None,
    )


def notes_of(
    session: Session, policy: CompiledPolicy, assumed: AuthenticationResults | None
) -> tuple[str, ...]:
    """Return what to know of this trial beside its rules, a sentence each."""
    about_client = (HEALTH_CHECKED,) if session.client.ip == HEALTH_CHECK else ()
    return about_client + _notes_of_lookups(session, policy, assumed)


def _notes_of_lookups(
    session: Session, policy: CompiledPolicy, assumed: AuthenticationResults | None
) -> tuple[str, ...]:
    settings, wanted = policy.settings, assumed or AuthenticationResults()
    each = (
        ("SPF", settings.spf.is_enabled, wanted.spf is not None),
        ("DKIM", settings.dkim.is_enabled, wanted.dkim is not None),
        ("DMARC", settings.dmarc.is_enabled, wanted.dmarc is not None),
    )
    if not needs_authentication(Stage.DATA, session, _active(policy)) and any(
        is_enabled for _, is_enabled, _ in each
    ):
        return (TRUSTED,) if any(is_given for _, _, is_given in each) else ()
    return tuple(
        (SWITCHED_OFF if is_given else NOT_ASKED) % {"check": name}
        for name, is_enabled, is_given in each
        if is_enabled is not is_given
    )


def _active(policy: CompiledPolicy) -> CompiledPolicy:
    return replace(policy, settings=policy.settings.model_copy(update={"is_active": True}))


def _trials(
    message: Message, session: Session, envelope: Envelope, policy: CompiledPolicy, given: Given
) -> Iterator[Trial]:
    unknown = replace(given, authentication=None)  # a node looks up at the end of the message

    def ask(
        stage: Stage, known: Session, known_envelope: Envelope, mail: Message | None = None
    ) -> Trial:
        known_now = given if stage is Stage.DATA else unknown
        decision = judge(stage, known, known_envelope, mail, policy=policy, given=known_now)
        recipient = known_envelope.recipients[-1] if stage is Stage.RCPT else None
        return Trial(stage, decision, explain(decision), recipient)

    none = Envelope()
    yield ask(Stage.CONNECT, replace(session, helo=None, login=None), none)
    if session.helo is not None:
        yield ask(Stage.EHLO, replace(session, login=None), none)
    if session.login is not None:
        yield ask(Stage.AUTH, session, none)
    if envelope.sender is None:
        return
    yield ask(Stage.MAIL, session, Envelope(envelope.sender))
    taken: tuple[str, ...] = ()
    for recipient in envelope.recipients:
        trial = ask(Stage.RCPT, session, Envelope(envelope.sender, (*taken, recipient)))
        yield trial
        if trial.decision.verdict is Verdict.ACCEPT:
            taken += (recipient,)
    known = Envelope(envelope.sender, taken or envelope.recipients)
    yield ask(Stage.DATA, session, known, message)


def explain(decision: Decision) -> tuple[str, ...]:
    """Return what is done, then one sentence for each rule that fired; nothing personal."""
    done, reply = _DONE[decision.verdict], decision.reply
    if reply is not None:
        done = f"{done}: {reply.code} {reply.enhanced} {reply.text}"
    is_allowed = any(fired.kind is RuleKind.ALLOWLIST for fired in decision.fired)
    return (done, *(_sentence(fired, decision, is_allowed) for fired in decision.fired))


def _sentence(fired: Fired, decision: Decision, is_allowed: bool) -> str:
    said = f"{fired.rule}: {fired.text}; {_ALONE[fired.verdict]}"
    if fired.score:
        said += f", its score is {fired.score:.1f}"
    if is_allowed and fired.kind in OVERRULED_BY_ALLOWLIST and fired.verdict is not Verdict.ACCEPT:
        return f"{said}, but the allowlist overrules it."
    if strength(fired.verdict) > strength(decision.verdict):
        return f"{said}, but at the end of the message."
    return f"{said}."
