"""Guessing is slowed down from one address and from many, and no stranger locks anybody out."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
from sqlmodel import select

from controlplane.errors import Invalid, Throttled
from controlplane.store.audit import Actor, AuditFilter, list_entries
from controlplane.store.columns import utc_now
from controlplane.store.engine import Database
from controlplane.store.login_throttle import ADDRESS, ANYBODY, PAIR, USER, count_attempt
from controlplane.store.passwords import PasswordCost
from controlplane.store.pruning import prune_logins
from controlplane.store.user_sessions import LoginRules
from controlplane.store.user_tables import KnownAddressRow, LoginFailureRow, UserSessionRow
from controlplane.store.users import (
    FIRST_PASSWORD,
    LoginRefused,
    change_password,
    ensure_first_admin,
    log_in,
)

RULES = LoginRules(cost=PasswordCost(rounds=1, memory_kib=8, parallelism=1))
ADMIN = Actor("admin", "198.51.100.30")
GOOD = "seven-Relays-42"


@pytest.fixture
def users(database: Database) -> Database:
    """Give a database with its first admin."""
    ensure_first_admin(database, RULES)
    return database


def enter(users: Database, actor: Actor = ADMIN) -> None:
    """Log in with the right password."""
    log_in(users, actor, FIRST_PASSWORD, RULES)


def guess(users: Database, actor: Actor = ADMIN, times: int = 1) -> None:
    """Use a wrong password, which must be looked at each time."""
    for _ in range(times):
        with pytest.raises(LoginRefused):
            log_in(users, actor, "guess", RULES)


def fail(users: Database, name: str, address: str, failures: int) -> None:
    """Have that many failures on one counter, the last a moment ago."""
    with users.write() as session:
        session.merge(LoginFailureRow(user_name=name, address=address, failures=failures))


def failures(users: Database, name: str, address: str) -> int | None:
    """Return what a counter says."""
    with users.read() as session:
        row = session.get(LoginFailureRow, (name, address))
    return None if row is None else row.failures


def pass_time(users: Database, **span: float) -> None:
    """Let time pass for every counter and every known address."""
    with users.write() as session:
        for table in (LoginFailureRow, KnownAddressRow):
            for row in session.exec(select(table)).all():
                row.last_at -= timedelta(**span)
                session.add(row)


def test_five_failures_of_a_user_from_an_address_are_free(users: Database) -> None:
    """Then even the right password has to wait, and it works afterwards."""
    guess(users, times=PAIR.free_failures)
    with pytest.raises(Throttled, match="try again in"):
        enter(users)
    pass_time(users, seconds=3)
    enter(users)


def test_guessing_the_current_password_is_throttled_too(users: Database) -> None:
    """A stolen session is no way around the throttle."""
    for _ in range(5):
        with pytest.raises(Invalid):
            change_password(users, ADMIN, current="guess", new=GOOD, rules=RULES)
    with pytest.raises(Throttled):
        change_password(users, ADMIN, current=FIRST_PASSWORD, new=GOOD, rules=RULES)


@pytest.mark.parametrize(("count", "wait_s"), [(5, 2), (6, 4), (9, 32), (40, 900)])
def test_each_failure_doubles_the_wait(users: Database, count: int, wait_s: int) -> None:
    """From two seconds up to a quarter of an hour."""
    fail(users, "admin", ADMIN.address, count)
    with pytest.raises(Throttled) as refused:
        enter(users)
    said = int("".join(char for char in refused.value.detail if char.isdigit()))
    assert wait_s - 2 <= said <= wait_s + 1


def test_one_address_cannot_try_many_users(users: Database) -> None:
    """Each name once is still one guesser; other addresses go on."""
    for number in range(ADDRESS.free_failures):
        guess(users, Actor(f"user-{number}", "203.0.113.9"))
    with pytest.raises(Throttled):
        log_in(users, Actor("user-99", "203.0.113.9"), "guess", RULES)
    guess(users, Actor("user-99", "203.0.113.10"))


def test_many_addresses_cannot_try_one_user(users: Database) -> None:
    """Each address once is still one target; other users are not affected."""
    for number in range(USER.free_failures):
        guess(users, Actor("admin", f"203.0.113.{number}"))
    with pytest.raises(Throttled):
        log_in(users, Actor("admin", "203.0.113.99"), "guess", RULES)
    guess(users, Actor("eve", "203.0.113.99"))


def test_the_wait_of_a_user_under_attack_stays_below_a_minute(users: Database) -> None:
    """Whoever comes from a new address can still get in."""
    fail(users, "admin", ANYBODY, 10_000)
    with pytest.raises(Throttled):
        enter(users)
    pass_time(users, seconds=USER.longest_wait_s)
    enter(users)


@pytest.mark.parametrize("address", [ADMIN.address, "127.0.0.1", "::1"])
def test_strangers_make_nobody_wait_who_is_known(users: Database, address: str) -> None:
    """An address of an earlier login, and the host itself, see only their own failures."""
    enter(users)
    fail(users, "admin", ANYBODY, 10_000)
    fail(users, ANYBODY, address, 10_000)
    me = Actor("admin", address)
    guess(users, me, times=PAIR.free_failures - 1)
    enter(users, me)
    assert failures(users, "admin", ANYBODY) == 10_000


def test_an_address_is_known_for_a_while_only(users: Database) -> None:
    """After three months without a login it is a stranger's again."""
    enter(users)
    pass_time(users, days=91)
    fail(users, "admin", ANYBODY, 10_000)
    with pytest.raises(Throttled):
        enter(users)


def test_a_known_address_is_known_for_its_user_only(users: Database) -> None:
    """Having an account of one's own is no way to another's."""
    enter(users)
    fail(users, ANYBODY, ADMIN.address, 10_000)
    with pytest.raises(Throttled):
        log_in(users, Actor("eve", ADMIN.address), "guess", RULES)


def test_a_success_takes_its_own_failures_back_and_no_others(users: Database) -> None:
    """Somebody's typing errors do not add up over the months; strangers' guesses stay counted."""
    guess(users, Actor("admin", "203.0.113.1"), times=3)
    guess(users, times=2)
    assert failures(users, "admin", ANYBODY) == 5
    enter(users)
    assert failures(users, "admin", ANYBODY) == 3
    assert failures(users, ANYBODY, ADMIN.address) is None
    assert failures(users, "admin", ADMIN.address) is None


def test_failures_of_yesterday_are_forgotten(users: Database) -> None:
    """A counter starts over after a day."""
    fail(users, "admin", ADMIN.address, 40)
    pass_time(users, hours=25)
    guess(users, times=4)
    assert failures(users, "admin", ADMIN.address) == 4


@pytest.mark.parametrize(
    ("first", "second", "is_same"),
    [
        ("2001:db8:1:2::1", "2001:db8:1:2:ffff::9", True),
        ("2001:db8:1:2::1", "2001:db8:1:3::1", False),
        ("::ffff:203.0.113.1", "203.0.113.1", True),
        ("fe80::1%eth0", "fe80::2%eth0", True),
        ("203.0.113.1", "203.0.113.2", False),
    ],
)
def test_what_counts_as_one_address(
    users: Database, first: str, second: str, *, is_same: bool
) -> None:
    """A whole /64 of IPv6 is one customer; IPv4 is the same in either notation."""
    guess(users, Actor("admin", first), times=PAIR.free_failures)
    if is_same:
        with pytest.raises(Throttled):
            enter(users, Actor("admin", second))
    else:
        enter(users, Actor("admin", second))


def test_parallel_guesses_do_not_outrun_the_counter(users: Database) -> None:
    """Twelve at once: five are looked at, the rest are told to wait."""

    def outcome(_: int) -> type[Exception]:
        try:
            log_in(users, ADMIN, "guess", RULES)
        except (LoginRefused, Throttled) as error:
            return type(error)
        raise AssertionError

    with ThreadPoolExecutor(6) as pool:
        outcomes = list(pool.map(outcome, range(12)))
    assert outcomes.count(LoginRefused) == 5
    assert outcomes.count(Throttled) == 7


def test_hammering_writes_nothing(users: Database) -> None:
    """Who has to wait leaves no audit row and does not take the one writer."""
    guess(users, times=PAIR.free_failures)
    with users.read() as session:
        before = len(list_entries(session, AuditFilter()))
    with users.write():
        for _ in range(3):
            with pytest.raises(Throttled):
                count_attempt(users, ADMIN)
    with users.read() as session:
        entries = list_entries(session, AuditFilter())
    assert len(entries) == before
    assert (entries[0].action, entries[0].after) == ("session.refused", {"wait_s": 2})
    assert entries[1].after is None


def test_what_is_over_is_deleted(users: Database) -> None:
    """Ended sessions, failures of yesterday and addresses of last year do not pile up."""
    enter(users)
    enter(users)
    guess(users, Actor("eve", "203.0.113.1"))
    with users.write() as session:
        assert prune_logins(session) == 0
        over = utc_now() - timedelta(seconds=1)
        by_time, by_disuse = session.exec(select(UserSessionRow)).all()
        by_time.expires_at = by_disuse.idle_at = over
        session.add_all((by_time, by_disuse))
    pass_time(users, days=91)
    with users.write() as session:
        assert prune_logins(session) > 0
        for table in (UserSessionRow, LoginFailureRow, KnownAddressRow):
            assert session.exec(select(table)).all() == []
