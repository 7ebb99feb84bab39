"""Which counts a question raises: one for each rate that it falls under, whatever is decided."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from typing import Final

from nodeagent.policy.document import RateRule, RateSubject
from nodeagent.policy.engine.policy import CompiledPolicy
from nodeagent.policy.engine.values import domain_of, lookup_address, plain_ip
from nodeagent.policy.model import Envelope, Session, Stage

EVERY_STAGE: Final = frozenset(Stage)
_IPV6: Final = 6
_HOST_BITS: Final = 64  # a customer has at least a /64


def rate_keys(
    stage: Stage,
    session: Session,
    envelope: Envelope,
    policy: CompiledPolicy,
    asked: Collection[Stage] = EVERY_STAGE,
) -> tuple[tuple[RateRule, str], ...]:
    """Return what has to be counted now, by 1 each: the rule, and what it is counted under.

    `asked` are the stages at which this door is asked. The text names subject and value: it is
    personal, and has to be hashed before it is kept or told. It is given once a hit, so twice where
    two recipients of one domain are counted together.

    A message is counted once, by client, sender and login at MAIL and by recipient domain at each
    RCPT; where the door is not asked there, at DATA. What is rejected for whatever reason counts
    as well. Who is exempt by network or login is not counted at all; an exempt sender, which
    anybody can write, only not as a sender, an exempt recipient only not as a recipient.
    """
    if not (policy.rates and policy.settings.is_active) or not _is_counted(stage, asked):
        return ()
    if policy.surroundings.is_exempt(session):
        return ()
    keys = tuple(_keys(stage, session, envelope, policy, asked))
    return tuple((rule, key) for rule in policy.rates for of, key in keys if of is rule.subject)


def _is_counted(stage: Stage, asked: Collection[Stage]) -> bool:
    """Tell whether anything can be counted at this stage."""
    if stage is Stage.DATA:
        return Stage.MAIL not in asked or Stage.RCPT not in asked
    return stage is Stage.MAIL or stage is Stage.RCPT


def _keys(
    stage: Stage,
    session: Session,
    envelope: Envelope,
    policy: CompiledPolicy,
    asked: Collection[Stage],
) -> Iterator[tuple[RateSubject, str]]:
    if stage is Stage.MAIL or (stage is Stage.DATA and Stage.MAIL not in asked):
        yield from _of_message(session, envelope, policy)
    if stage is Stage.RCPT:
        recipients = envelope.recipients[-1:]
    elif stage is Stage.DATA and Stage.RCPT not in asked:
        recipients = envelope.recipients
    else:
        return
    for recipient in recipients:
        domain = domain_of(recipient)
        if domain and not policy.surroundings.is_address_exempt(recipient):
            yield RateSubject.RECIPIENT_DOMAIN, f"{RateSubject.RECIPIENT_DOMAIN} {domain}"


def _of_message(
    session: Session, envelope: Envelope, policy: CompiledPolicy
) -> Iterator[tuple[RateSubject, str]]:
    ip = session.client.ip
    if ip is not None:
        ip = plain_ip(ip)
        value = f"{int(ip) >> _HOST_BITS:x}/64" if ip.version == _IPV6 else str(ip)
        yield RateSubject.CLIENT, f"{RateSubject.CLIENT} {value}"
    # all bounces have the null sender: they are limited by their client
    if envelope.sender and not policy.surroundings.is_address_exempt(envelope.sender):
        yield RateSubject.SENDER, f"{RateSubject.SENDER} {lookup_address(envelope.sender)}"
    if session.login is not None:
        yield RateSubject.LOGIN, f"{RateSubject.LOGIN} {lookup_address(session.login)}"
