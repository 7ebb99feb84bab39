"""The second factor on both databases: codes once each, sealed secrets, no free guesses."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from datetime import timedelta
from threading import Barrier

import pytest
from cryptography.fernet import Fernet
from passlib.totp import TOTP
from sqlmodel import select

from controlplane.core.permissions import UserRole
from controlplane.errors import Conflict, Invalid, NotFound, SetupFailed, Throttled
from controlplane.store import second_factor
from controlplane.store.audit import Actor
from controlplane.store.columns import utc_now
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.login_throttle import PAIR
from controlplane.store.passwords import PasswordCost
from controlplane.store.second_factor import CodeRefused, CodeRequired
from controlplane.store.user_sessions import IssuedSession, LoginRules, find_user
from controlplane.store.user_tables import LoginFailureRow, RecoveryCodeRow, SecondFactorRow
from controlplane.store.users import LoginRefused, log_in, prove
from tests.fakes.people import (
    add_user,
    audited,
    code_of,
    give_second_factor,
    let_codes_be_used_again,
    open_session,
)

RULES = LoginRules(
    cost=PasswordCost(rounds=1, memory_kib=8, parallelism=1), box=SecretBox(Fernet.generate_key())
)
GOOD = "seven-Relays-42"
OLGA = Actor("olga", "198.51.100.32")


@pytest.fixture
def users(database: Database) -> Database:
    """Give a database with one user."""
    add_user(database, "olga", UserRole.OPERATOR, GOOD, RULES)
    return database


def enter(users: Database, code: str = "", password: str = GOOD) -> IssuedSession:
    """Log in from olga's address."""
    return log_in(users, OLGA, password, RULES, code=code)


def failures(users: Database) -> int:
    """Return how many failures olga has from her address."""
    with users.read() as session:
        row = session.get(LoginFailureRow, (OLGA.name, OLGA.address))
    return 0 if row is None else row.failures


def test_a_login_needs_a_code_once_the_factor_is_confirmed(users: Database) -> None:
    """Not before: an app that was never set up locks nobody out."""
    with users.write() as session:
        secret = second_factor.enrol(session, OLGA, RULES).secret
    assert enter(users)
    with users.write() as session:
        second_factor.confirm(session, OLGA, code_of(secret), RULES, keep_id="")
    with pytest.raises(CodeRequired):
        enter(users)
    assert enter(users, code_of(secret, 1))


@pytest.mark.parametrize("code", ["000000", "12345", "1234567", "abcdef", "²²²²²²", "-", "A" * 64])
def test_a_wrong_code_is_refused(users: Database, code: str) -> None:
    """Whatever it looks like; an empty one asks for a code."""
    secret, _ = give_second_factor(users, "olga", RULES)
    assert code not in {code_of(secret), code_of(secret, 1)}
    with pytest.raises((CodeRefused, CodeRequired)):
        enter(users, code)


def test_a_code_may_be_typed_with_a_gap(users: Database) -> None:
    """As apps show it."""
    secret, _ = give_second_factor(users, "olga", RULES)
    code = code_of(secret)
    assert enter(users, f" {code[:3]} {code[3:]} ")


def test_a_used_code_is_refused_and_so_are_older_ones(users: Database) -> None:
    """Who looks over a shoulder is too late."""
    secret, _ = give_second_factor(users, "olga", RULES)
    older, newer = code_of(secret), code_of(secret, 1)
    enter(users, newer)
    with pytest.raises(CodeRefused, match="used already"):
        enter(users, newer)
    with pytest.raises(CodeRefused):
        enter(users, older)


def test_the_confirming_code_opens_no_login(users: Database) -> None:
    """It was used."""
    with users.write() as session:
        secret = second_factor.enrol(session, OLGA, RULES).secret
        code = code_of(secret)
        second_factor.confirm(session, OLGA, code, RULES, keep_id="")
    with pytest.raises(CodeRefused, match="used already"):
        enter(users, code)


@pytest.mark.parametrize("kind", ["app", "recovery"])
def test_of_two_logins_with_one_code_one_gets_in(users: Database, kind: str) -> None:
    """At the same moment, too."""
    secret, recovery = give_second_factor(users, "olga", RULES)
    code = code_of(secret) if kind == "app" else recovery[0]
    start = Barrier(2)

    def attempt(address: str) -> bool:
        start.wait(10)
        try:
            log_in(users, Actor("olga", address), GOOD, RULES, code=code)
        except CodeRefused:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(attempt, ["203.0.113.1", "203.0.113.2"])) == [False, True]


@pytest.mark.parametrize("minutes", [-10, -2, 2, 10])
def test_codes_of_other_minutes_are_refused(users: Database, minutes: int) -> None:
    """Half a minute of tolerance, no more."""
    secret, _ = give_second_factor(users, "olga", RULES)
    at = utc_now() + timedelta(minutes=minutes)
    with pytest.raises(CodeRefused):
        enter(users, str(TOTP(secret, format="base32").generate(at).token))


def test_a_recovery_code_opens_one_login(users: Database) -> None:
    """In any case and spacing; its use is audited with its address, and the others stay."""
    _, codes = give_second_factor(users, "olga", RULES)
    assert len(set(codes)) == second_factor.RECOVERY_CODES
    assert enter(users, codes[0].lower().replace("-", " "))
    assert ("olga", "second-factor.recovery-code-used", "olga") in audited(users)
    with pytest.raises(CodeRefused, match="used already"):
        enter(users, codes[0])
    with users.read() as session:
        assert second_factor.codes_left(session, "olga") == second_factor.RECOVERY_CODES - 1
    assert enter(users, codes[1])


def test_new_recovery_codes_replace_the_old_ones(users: Database) -> None:
    """A lost list is worth nothing then."""
    _, old = give_second_factor(users, "olga", RULES)
    with users.write() as session:
        new = second_factor.renew_recovery_codes(session, OLGA)
    with pytest.raises(CodeRefused):
        enter(users, old[0])
    assert enter(users, new[0])


def test_what_is_stored_opens_nothing_by_itself(users: Database) -> None:
    """The secret is sealed, recovery codes are hashed, and another key opens neither."""
    secret, codes = give_second_factor(users, "olga", RULES)
    with users.read() as session:
        sealed = session.get_one(SecondFactorRow, "olga").secret_sealed
        hashed = {row.code_sha256 for row in session.exec(select(RecoveryCodeRow))}
    assert secret not in sealed
    assert not hashed & {one.replace("-", "") for one in codes}
    other = replace(RULES, box=SecretBox(Fernet.generate_key()))
    with pytest.raises(SetupFailed, match="does not open"):
        log_in(users, OLGA, GOOD, other, code=code_of(secret))


def test_no_secret_is_in_the_audit_log(users: Database) -> None:
    """Neither the secret nor a code."""
    secret, codes = give_second_factor(users, "olga", RULES)
    enter(users, codes[0])
    assert secret not in str(audited(users))
    assert codes[0] not in str(audited(users))


def test_a_known_password_buys_no_free_guesses_at_the_code(users: Database) -> None:
    """Wrong codes wait like wrong passwords, and logins without a code do not help."""
    secret, _ = give_second_factor(users, "olga", RULES)
    for number in range(PAIR.free_failures):
        with pytest.raises((CodeRefused, CodeRequired)):
            enter(users, "000000" if number % 2 else "")
    assert failures(users) == PAIR.free_failures
    with pytest.raises(Throttled):
        enter(users, code_of(secret))


def test_a_proved_password_takes_back_no_guesses_at_the_code(users: Database) -> None:
    """A stolen session with a known password is no way round the wait."""
    give_second_factor(users, "olga", RULES)
    with pytest.raises(Invalid, match="wrong"):
        prove(users, OLGA, GOOD, RULES, code="000000")
    prove(users, OLGA, GOOD, RULES)
    assert failures(users) == 1


def test_a_whole_login_takes_its_failures_back(users: Database) -> None:
    """The first step without a code and a typing error cost nothing in the end."""
    secret, _ = give_second_factor(users, "olga", RULES)
    for code in ("", "000000"):
        with pytest.raises((CodeRefused, CodeRequired)):
            enter(users, code)
    enter(users, code_of(secret))
    assert failures(users) == 0


def test_a_wrong_password_says_nothing_of_the_second_factor(users: Database) -> None:
    """Not even with a right code, which stays unused."""
    secret, _ = give_second_factor(users, "olga", RULES)
    with pytest.raises(LoginRefused):
        enter(users, code_of(secret), password="guess")
    assert enter(users, code_of(secret, 1))


def test_each_refusal_is_audited_by_its_kind(users: Database) -> None:
    """`code-required` means that somebody knew the password."""
    give_second_factor(users, "olga", RULES)
    for code in ("", "000000"):
        with pytest.raises((CodeRefused, CodeRequired)):
            enter(users, code)
    with pytest.raises(LoginRefused):
        enter(users, password="guess")
    actions = [action for _, action, _ in audited(users)][-3:]
    assert actions == ["session.code-required", "session.code-wrong", "session.refused"]


def test_confirming_ends_the_sessions_of_the_password_alone(users: Database) -> None:
    """But the one that confirms."""
    kept, other = open_session(users, "olga", RULES), open_session(users, "olga", RULES)
    with users.read() as session:
        known = find_user(session, kept)
    assert known is not None
    with users.write() as session:
        secret = second_factor.enrol(session, OLGA, RULES).secret
        second_factor.confirm(session, OLGA, code_of(secret), RULES, known.credential_id)
    with users.read() as session:
        assert find_user(session, kept) is not None
        assert find_user(session, other) is None


def test_enrolling_again_needs_the_removal_of_the_old_one(users: Database) -> None:
    """An unconfirmed secret is replaced; a confirmed one stays."""
    with users.write() as session:
        first = second_factor.enrol(session, OLGA, RULES).secret
        second = second_factor.enrol(session, OLGA, RULES).secret
        with pytest.raises(CodeRefused):
            second_factor.confirm(session, OLGA, code_of(first), RULES, keep_id="")
        second_factor.confirm(session, OLGA, code_of(second), RULES, keep_id="")
        with pytest.raises(Conflict, match="remove it first"):
            second_factor.enrol(session, OLGA, RULES)
        with pytest.raises(Conflict, match="confirmed already"):
            second_factor.confirm(session, OLGA, code_of(second, 1), RULES, keep_id="")
    let_codes_be_used_again(users, "olga")
    assert enter(users, code_of(second))


def test_what_was_never_set_up_is_not_there(users: Database) -> None:
    """One sentence each."""
    with users.write() as session:
        with pytest.raises(NotFound, match="begin with that"):
            second_factor.confirm(session, OLGA, "123456", RULES, keep_id="")
        with pytest.raises(NotFound, match="no second factor"):
            second_factor.renew_recovery_codes(session, OLGA)
