"""The second factor: codes of an authenticator app (TOTP, RFC 6238), and recovery codes.

Theory of operation. The secret is sealed with the key outside the database. It counts once a code
of it was entered, so that nobody locks themselves out with an app that was never set up. A code
holds for its half minute and one before and after; each is taken once, because the time step of
the last one is kept and nothing up to it is taken again. That is written in the transaction of the
login itself: of two logins with one code, one gets in. A recovery code has 80 random bits and is
deleted by its use.
"""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import Final

from passlib.exc import TokenError, UsedTokenError
from passlib.totp import TOTP
from sqlalchemy import delete
from sqlmodel import Session, col, select

from controlplane.errors import Conflict, NotFound, SetupFailed, Unauthenticated
from controlplane.store import audit
from controlplane.store.audit import Actor
from controlplane.store.columns import utc_now
from controlplane.store.crypto import SecretBox
from controlplane.store.user_sessions import LoginRules, end_sessions, token_hash
from controlplane.store.user_tables import RecoveryCodeRow, SecondFactorRow

ISSUER: Final = "Mail-Relay HA"
TOLERANCE_S: Final = 30
RECOVERY_CODES: Final = 10
CODE_CHARACTERS: Final = 16
GROUP: Final = 4
ALPHABET: Final = "ABCDEFGHJKLMNPQRSTUVWXYZ23456789"
"""32 letters and digits that are not taken for one another."""


class CodeRequired(Unauthenticated):
    """This user has a second factor: send a code of the authenticator app, too."""

    reason = "code-required"


class CodeRefused(Unauthenticated):
    """The code is wrong; codes of an authenticator app change every half minute."""

    reason = "code-wrong"


@dataclass(frozen=True)
class Enrolment:
    """A secret that is not confirmed yet; it is shown this once."""

    secret: str
    otpauth_uri: str


def is_active(session: Session, user_name: str) -> bool:
    """Tell whether logins of this user need a code."""
    row = session.get(SecondFactorRow, user_name)
    return row is not None and row.confirmed_at is not None


def active_users(session: Session) -> set[str]:
    """Return who has a second factor."""
    confirmed = col(SecondFactorRow.confirmed_at).is_not(None)
    return set(session.exec(select(SecondFactorRow.user_name).where(confirmed)))


def codes_left(session: Session, user_name: str) -> int:
    """Return how many recovery codes a user has left."""
    owner = col(RecoveryCodeRow.user_name) == user_name
    return len(session.exec(select(RecoveryCodeRow.code_sha256).where(owner)).all())


def enrol(session: Session, actor: Actor, rules: LoginRules) -> Enrolment:
    """Make a secret for the actor, in place of one that was never confirmed; raises Conflict."""
    row = session.get(SecondFactorRow, actor.name)
    if row is not None and row.confirmed_at is not None:
        raise Conflict("You have a second factor already; remove it first.")
    totp = TOTP.new()
    secret = str(totp.base32_key)
    row = row or SecondFactorRow(user_name=actor.name, secret_sealed="")
    row.secret_sealed = _box(rules).seal(secret)
    row.created_at = utc_now()
    row.last_counter = 0
    session.add(row)
    audit.record(session, actor, "second-factor.enrol", actor.name)
    return Enrolment(secret, str(totp.to_uri(label=actor.name, issuer=ISSUER)))


def confirm(
    session: Session, actor: Actor, code: str, rules: LoginRules, keep_id: str
) -> list[str]:
    """Make the enrolled secret count; return the recovery codes, which are shown this once.

    The actor's other sessions end: they were opened with the password alone. Raises NotFound
    without an enrolment, Conflict when it was confirmed, CodeRefused.
    """
    row = session.get(SecondFactorRow, actor.name)
    if row is None:
        raise NotFound("No second factor is being set up; begin with that.")
    if row.confirmed_at is not None:
        raise Conflict("The second factor is confirmed already.")
    _take_totp(session, row, code, rules)
    row.confirmed_at = utc_now()
    end_sessions(session, actor.name, but=keep_id)
    audit.record(session, actor, "second-factor.confirm", actor.name)
    return _new_recovery_codes(session, actor.name)


def require_code(session: Session, actor: Actor, code: str, rules: LoginRules) -> None:
    """Take a code of a user who has a second factor, once; whoever has none needs no code.

    Raises CodeRequired without a code, CodeRefused for a wrong or used one.
    """
    row = session.get(SecondFactorRow, actor.name)
    if row is None or row.confirmed_at is None:
        return
    given = "".join(code.split()).replace("-", "").upper()
    if not given:
        raise CodeRequired
    if given.isdigit():
        _take_totp(session, row, given, rules)
    else:
        _take_recovery_code(session, actor, given)


def renew_recovery_codes(session: Session, actor: Actor) -> list[str]:
    """Replace all recovery codes; raises NotFound without a second factor."""
    if not is_active(session, actor.name):
        raise NotFound("You have no second factor.")
    audit.record(session, actor, "second-factor.recovery-codes", actor.name)
    return _new_recovery_codes(session, actor.name)


def remove(session: Session, actor: Actor, user_name: str) -> None:
    """Take a user's second factor away, recovery codes too; raises NotFound."""
    if not forget(session, user_name):
        raise NotFound(f"{user_name} has no second factor.")
    audit.record(session, actor, "second-factor.remove", user_name)


def forget(session: Session, user_name: str) -> bool:
    """Delete what is stored of a second factor; tell whether there was any."""
    row = session.get(SecondFactorRow, user_name)
    if row is not None:
        session.delete(row)
    session.exec(delete(RecoveryCodeRow).where(col(RecoveryCodeRow.user_name) == user_name))
    return row is not None


def _take_totp(session: Session, row: SecondFactorRow, code: str, rules: LoginRules) -> None:
    totp = TOTP(_box(rules).open(row.secret_sealed), format="base32")
    try:
        match = totp.match(
            code, utc_now(), window=TOLERANCE_S, last_counter=row.last_counter or None
        )
    except UsedTokenError as error:
        raise CodeRefused("This code was used already; wait for the next one.") from error
    except TokenError as error:
        raise CodeRefused from error
    row.last_counter = match.counter
    session.add(row)


def _take_recovery_code(session: Session, actor: Actor, code: str) -> None:
    row = session.get(RecoveryCodeRow, (actor.name, token_hash(code)))
    if row is None:
        raise CodeRefused("This recovery code is wrong, or was used already.")
    session.delete(row)
    audit.record(session, actor, "second-factor.recovery-code-used", actor.name)


def _new_recovery_codes(session: Session, user_name: str) -> list[str]:
    session.exec(delete(RecoveryCodeRow).where(col(RecoveryCodeRow.user_name) == user_name))
    plain = [
        "".join(secrets.choice(ALPHABET) for _ in range(CODE_CHARACTERS))
        for _ in range(RECOVERY_CODES)
    ]
    session.add_all(
        RecoveryCodeRow(user_name=user_name, code_sha256=token_hash(one)) for one in plain
    )
    return ["-".join(one[at : at + GROUP] for at in range(0, len(one), GROUP)) for one in plain]


def _box(rules: LoginRules) -> SecretBox:
    if rules.box is None:
        raise SetupFailed("The key that opens second factors is not at hand here.")
    return rules.box
