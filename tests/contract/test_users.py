"""Users on both databases: first admin, logins, audit rows, hashing that strangers share."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlmodel import select

from controlplane.errors import Throttled
from controlplane.store import passwords
from controlplane.store.audit import Actor, AuditFilter, list_entries, record, redact
from controlplane.store.columns import utc_now
from controlplane.store.engine import Database
from controlplane.store.passwords import PasswordCost, hash_password, verify_password, weakness
from controlplane.store.user_sessions import LoginRules, find_user, log_out
from controlplane.store.user_tables import UserRow, UserSessionRow
from controlplane.store.users import (
    FIRST_PASSWORD,
    LoginRefused,
    change_password,
    ensure_first_admin,
    log_in,
    reset_admin,
)

CHEAP = PasswordCost(rounds=1, memory_kib=8, parallelism=1)
RULES = LoginRules(cost=CHEAP)
ADMIN = Actor("admin", "198.51.100.30")
GOOD = "seven-Relays-42"


@pytest.fixture
def users(database: Database) -> Database:
    """Give a database with its first admin."""
    ensure_first_admin(database, RULES)
    return database


def test_instances_that_start_together_make_one_admin(database: Database) -> None:
    """Whoever comes second finds it done."""
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: ensure_first_admin(database, RULES), range(4)))
    assert made.count(True) == 1
    with database.read() as session:
        assert len(session.exec(select(UserRow)).all()) == 1


def test_a_login_is_found_by_its_token_until_it_ends(users: Database) -> None:
    """Token in, user out; after logging out, nobody."""
    issued = log_in(users, ADMIN, FIRST_PASSWORD, RULES)
    with users.read() as session:
        found = find_user(session, issued.token)
    assert found is not None
    assert (found.name, found.must_change_password) == ("admin", True)
    assert abs(found.expires_at - utc_now() - timedelta(hours=12)) < timedelta(minutes=1)
    log_out(users, ADMIN, issued.token)
    with users.read() as session:
        assert find_user(session, issued.token) is None


def test_a_changed_password_ends_every_other_session(users: Database) -> None:
    """Only the fresh session is left, and only the new password works."""
    for _ in range(2):
        log_in(users, ADMIN, FIRST_PASSWORD, RULES)
    fresh = change_password(users, ADMIN, current=FIRST_PASSWORD, new=GOOD, rules=RULES)
    with users.read() as session:
        assert len(session.exec(select(UserSessionRow)).all()) == 1
        found = find_user(session, fresh.token)
    assert found is not None
    assert found.must_change_password is False
    with pytest.raises(LoginRefused):
        log_in(users, ADMIN, FIRST_PASSWORD, RULES)
    assert log_in(users, ADMIN, GOOD, RULES).must_change_password is False


def test_a_reset_admin_starts_over(users: Database) -> None:
    """First password, no session, no wait."""
    change_password(users, ADMIN, current=FIRST_PASSWORD, new=GOOD, rules=RULES)
    for _ in range(5):
        with pytest.raises(LoginRefused):
            log_in(users, ADMIN, "guess", RULES)
    reset_admin(users, RULES)
    with users.read() as session:
        assert session.exec(select(UserSessionRow)).all() == []
    assert log_in(users, ADMIN, FIRST_PASSWORD, RULES).must_change_password is True


def test_audit_rows_come_back_as_they_were_written(database: Database) -> None:
    """Nested values, times with their zone, secrets replaced; newest first."""
    before = {"port": 25, "password": "hidden-1", "list": [{"key_pem": "hidden-2"}, 3]}
    with database.write() as session:
        record(session, ADMIN, "route.update", "@e.com", before=before, after=None)
        record(session, ADMIN, "vip.create", "198.51.100.100", after={"password": None})
    with database.read() as session:
        newest, oldest = list_entries(session, AuditFilter())
        since = list_entries(session, AuditFilter(since=utc_now() + timedelta(hours=1)))
    assert (newest.action, oldest.before) == ("vip.create", redact(before))
    assert "hidden" not in str(oldest.before)
    assert newest.after == {"password": None}
    assert newest.at.utcoffset() == timedelta(0)
    assert since == []


def test_hashes_are_argon2id_with_the_cost_asked_for() -> None:
    """RFC 9106 text form; the same password never gives the same hash."""
    first, second = hash_password(GOOD, CHEAP), hash_password(GOOD, CHEAP)
    assert first.startswith("$argon2id$v=19$m=8,t=1,p=1$")
    assert first != second
    assert verify_password(GOOD, first)
    assert not verify_password(GOOD.upper(), first)
    assert not verify_password("x" * 100_000, first)


def test_strangers_cannot_ask_for_many_hashes_at_once() -> None:
    """With all slots taken the next login is told to try again."""
    taken = threading.Event()
    done = threading.Event()

    def hold() -> None:
        with passwords._hashing():
            taken.set()
            done.wait(60)

    holders = [threading.Thread(target=hold) for _ in range(passwords.HASHES_AT_ONCE)]
    for holder in holders:
        taken.clear()
        holder.start()
        assert taken.wait(60)
    with pytest.raises(Throttled, match="at this moment"):
        hash_password(GOOD, CHEAP)
    done.set()
    for holder in holders:
        holder.join()
    assert hash_password(GOOD, CHEAP)


@pytest.mark.parametrize(
    "password", ["seven-Relays-42", "NewAdmin123!", "lang-genug-ä", "a b c d e f"]
)
def test_a_decent_password_will_do(password: str) -> None:
    """Length and variety decide, not a recipe of character classes."""
    assert weakness(password, "admin") is None
