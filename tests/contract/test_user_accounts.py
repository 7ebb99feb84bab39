"""Users on both databases: what an Admin does to them, and the Admin that is always left."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from threading import Barrier

import pytest
from sqlmodel import select

from controlplane.core.permissions import Scope, UserRole
from controlplane.errors import Conflict, Forbidden, NotFound, Unauthenticated
from controlplane.store.api_tokens import find_owner
from controlplane.store.audit import Actor
from controlplane.store.columns import utc_now
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.passwords import PasswordCost, hash_password
from controlplane.store.user_accounts import (
    UserChange,
    change_user,
    create_user,
    delete_user,
    list_users,
    read_user,
    reset_password,
    reset_second_factor,
)
from controlplane.store.user_sessions import LoginRules, find_user, revoke_all
from controlplane.store.user_tables import (
    ApiTokenRow,
    KnownAddressRow,
    LoginFailureRow,
    RecoveryCodeRow,
    SecondFactorRow,
    UserRow,
    UserSessionRow,
)
from controlplane.store.users import (
    FIRST_ADMIN,
    FIRST_PASSWORD,
    LoginRefused,
    PasswordExpired,
    change_password,
    log_in,
    reset_admin,
)
from tests.fakes.people import add_user, audited, give_second_factor, make_token, open_session

RULES = LoginRules(
    cost=PasswordCost(rounds=1, memory_kib=8, parallelism=1),
    box=SecretBox(b"MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="),
)
GOOD = "seven-Relays-42"
ALICE, BOB = Actor("alice", "198.51.100.30"), Actor("bob", "198.51.100.31")
OF_A_USER = (
    UserSessionRow,
    ApiTokenRow,
    SecondFactorRow,
    RecoveryCodeRow,
    LoginFailureRow,
    KnownAddressRow,
)
DEMOTE = UserChange(role=UserRole.OPERATOR)
DISABLE = UserChange(is_disabled=True)


@pytest.fixture
def users(database: Database) -> Database:
    """Give a database with the Admin alice and the Operator olga."""
    add_user(database, "alice", UserRole.ADMIN, GOOD, RULES)
    add_user(database, "olga", UserRole.OPERATOR, GOOD, RULES)
    return database


def admins(users: Database) -> list[str]:
    """Return the Admins who may log in."""
    with users.read() as session:
        found = list_users(session)
    return [one.row.name for one in found if one.row.role == "Admin" and not one.row.is_disabled]


def test_a_new_user_must_change_the_one_time_password(users: Database) -> None:
    """It opens a session that is good for that alone, and the change opens everything."""
    password = create_user(users, ALICE, "rita", UserRole.READ_ONLY, RULES).text
    rita = Actor("rita", "198.51.100.33")
    assert log_in(users, rita, password, RULES).must_change_password is True
    fresh = change_password(users, rita, current=password, new=GOOD, rules=RULES)
    assert (fresh.must_change_password, fresh.role) == (False, UserRole.READ_ONLY)
    assert ("alice", "user.create", "rita") in audited(users)


@pytest.mark.parametrize("name", ["olga", "system"])
def test_a_name_is_given_once(users: Database, name: str) -> None:
    """Nor may a user be called like the program in the audit log."""
    with pytest.raises(Conflict, match="is taken"):
        create_user(users, ALICE, name, UserRole.ADMIN, RULES)
    with users.read() as session:
        assert [one.row.name for one in list_users(session)] == ["alice", "olga"]


def test_one_time_passwords_differ_and_are_long(users: Database) -> None:
    """93 bits each."""
    made = {reset_password(users, ALICE, "olga", RULES).text for _ in range(20)}
    assert len(made) == 20
    assert {len(one) for one in made} == {16}


def _let_it_expire(users: Database, name: str) -> None:
    with users.write() as session:
        row = session.get_one(UserRow, name)
        assert row.password_expires_at is not None
        row.password_expires_at = utc_now()
        session.add(row)


def test_a_one_time_password_expires(users: Database) -> None:
    """No login, no session that it opened, no API token of the user; a new one works again."""
    api_token = make_token(users, "olga", Scope.READ)
    password = reset_password(users, ALICE, "olga", RULES)
    left = password.expires_at - utc_now()
    assert timedelta(hours=23) < left <= timedelta(hours=RULES.one_time_password_hours)
    session_token = log_in(users, Actor("olga"), password.text, RULES).token
    _let_it_expire(users, "olga")
    with pytest.raises(PasswordExpired, match="has expired; ask an Admin"):
        log_in(users, Actor("olga"), password.text, RULES)
    with users.read() as session:
        assert find_user(session, session_token) is None
        assert find_owner(session, api_token) is None
    assert ("olga", "session.password-expired", "olga") in audited(users)
    again = reset_password(users, ALICE, "olga", RULES).text
    assert log_in(users, Actor("olga"), again, RULES).must_change_password is True


def test_only_who_has_the_password_learns_that_it_expired(users: Database) -> None:
    """Who guesses is told what everybody is told."""
    reset_password(users, ALICE, "olga", RULES)
    _let_it_expire(users, "olga")
    with pytest.raises(LoginRefused):
        log_in(users, Actor("olga"), "guessed-Relays-42", RULES)


def test_an_own_password_never_expires(users: Database) -> None:
    """Changed in time, the end is gone; nor has that of the first admin any."""
    olga = Actor("olga")
    password = reset_password(users, ALICE, "olga", RULES).text
    change_password(users, olga, current=password, new="olgas-Relays-42", rules=RULES)
    reset_admin(users, RULES)
    with users.read() as session:
        assert session.get_one(UserRow, "olga").password_expires_at is None
        assert session.get_one(UserRow, FIRST_ADMIN).password_expires_at is None


def test_an_admin_who_may_never_come_does_not_count(users: Database) -> None:
    """With a one-time password alone: else the last one could go, and that one run out unused."""
    create_user(users, ALICE, "bob", UserRole.ADMIN, RULES)
    for forbidden in (
        lambda: change_user(users, ALICE, "alice", DEMOTE),
        lambda: change_user(users, BOB, "alice", DISABLE),
        lambda: delete_user(users, ALICE, "alice"),
        lambda: reset_password(users, BOB, "alice", RULES),
    ):
        with pytest.raises(Conflict, match="last Admin"):
            forbidden()
    assert log_in(users, ALICE, GOOD, RULES).role is UserRole.ADMIN


def test_all_sessions_of_a_user_are_ended(users: Database) -> None:
    """Theirs alone, counted and audited; of nobody, nothing."""
    tokens = [open_session(users, "olga", RULES) for _ in range(2)]
    own = open_session(users, "alice", RULES)
    with users.write() as session:
        assert revoke_all(session, ALICE, "olga") == 2
        assert revoke_all(session, ALICE, "olga") == 0
        with pytest.raises(NotFound, match="no user nobody"):
            revoke_all(session, ALICE, "nobody")
    with users.read() as session:
        assert [find_user(session, token) for token in tokens] == [None, None]
        assert find_user(session, own) is not None
    assert audited(users).count(("alice", "session.revoke-all", "olga")) == 1


def test_a_new_role_counts_at_once(users: Database) -> None:
    """Also for the session and the token that were open before."""
    session_token = open_session(users, "olga", RULES)
    api_token = make_token(users, "olga", Scope.ADMIN)
    change_user(users, ALICE, "olga", UserChange(role=UserRole.READ_ONLY))
    with users.read() as session:
        by_session, by_token = find_user(session, session_token), find_owner(session, api_token)
    assert by_session is not None
    assert by_token is not None
    assert by_session.role is by_token.role is UserRole.READ_ONLY


def test_a_disabled_user_is_out_at_once_and_can_be_let_in_again(users: Database) -> None:
    """Sessions end, API tokens are dead, the right password is refused like a wrong one."""
    session_token = open_session(users, "olga", RULES)
    api_token = make_token(users, "olga", Scope.READ)
    change_user(users, ALICE, "olga", DISABLE)
    with users.read() as session:
        assert find_user(session, session_token) is None
        assert find_owner(session, api_token) is None
    with pytest.raises(LoginRefused, match="User name or password is wrong"):
        log_in(users, Actor("olga"), GOOD, RULES)
    change_user(users, ALICE, "olga", UserChange(is_disabled=False))
    with users.read() as session:
        assert find_user(session, session_token) is None
        assert find_owner(session, api_token) is not None
    assert log_in(users, Actor("olga"), GOOD, RULES)


def test_a_session_that_outlived_the_disabling_is_dead_too(users: Database) -> None:
    """The check does not rely on the sessions having been deleted."""
    token = open_session(users, "olga", RULES)
    with users.write() as session:
        row = session.get_one(UserRow, "olga")
        row.is_disabled = True
        session.add(row)
    with users.read() as session:
        assert find_user(session, token) is None


def test_a_deleted_user_leaves_nothing_behind(users: Database) -> None:
    """A new user of the same name inherits no token, session or second factor."""
    log_in(users, Actor("olga", "198.51.100.32"), GOOD, RULES)
    with pytest.raises(LoginRefused):
        log_in(users, Actor("olga", "198.51.100.34"), "guess", RULES)
    token = make_token(users, "olga", Scope.READ)
    give_second_factor(users, "olga", RULES)
    delete_user(users, ALICE, "olga")
    add_user(users, "olga", UserRole.ADMIN, GOOD, RULES)
    with users.read() as session:
        assert find_owner(session, token) is None
        for table in OF_A_USER:
            owners = {row.user_name for row in session.exec(select(table))}
            assert "olga" not in owners, table
    assert ("alice", "user.delete", "olga") in audited(users)


def test_a_reset_password_ends_sessions_and_must_be_changed(users: Database) -> None:
    """The old one is gone, and API tokens wait for the new one."""
    session_token = open_session(users, "olga", RULES)
    api_token = make_token(users, "olga", Scope.READ)
    password = reset_password(users, ALICE, "olga", RULES).text
    with users.read() as session:
        assert find_user(session, session_token) is None
        owner = find_owner(session, api_token)
    assert owner is not None
    assert owner.must_change_password is True
    with pytest.raises(LoginRefused):
        log_in(users, Actor("olga"), GOOD, RULES)
    assert log_in(users, Actor("olga"), password, RULES).must_change_password is True


def test_a_lost_second_factor_is_taken_away(users: Database) -> None:
    """Then the password alone will do, in a new session."""
    token = open_session(users, "olga", RULES)
    give_second_factor(users, "olga", RULES)
    reset_second_factor(users, ALICE, "olga")
    with users.read() as session:
        assert read_user(session, "olga").has_second_factor is False
        assert find_user(session, token) is None
    assert log_in(users, Actor("olga"), GOOD, RULES)
    assert ("alice", "second-factor.remove", "olga") in audited(users)
    with pytest.raises(NotFound, match="no second factor"):
        reset_second_factor(users, ALICE, "olga")


def test_nobody_goes_round_their_own_password(users: Database) -> None:
    """A stolen session of an Admin resets neither their password nor their second factor."""
    give_second_factor(users, "alice", RULES)
    with pytest.raises(Conflict, match="present one"):
        reset_password(users, ALICE, "alice", RULES)
    with pytest.raises(Conflict, match="with a code of it"):
        reset_second_factor(users, ALICE, "alice")


@pytest.mark.parametrize("change", [DEMOTE, DISABLE], ids=["demote", "disable"])
def test_the_last_admin_stays(users: Database, change: UserChange) -> None:
    """Neither demoted nor disabled nor deleted; a disabled Admin beside does not count."""
    add_user(users, "bob", UserRole.ADMIN, GOOD, RULES)
    change_user(users, ALICE, "bob", DISABLE)
    with pytest.raises(Conflict, match="last Admin"):
        change_user(users, ALICE, "alice", change)
    with pytest.raises(Conflict, match="last Admin"):
        delete_user(users, ALICE, "alice")
    assert admins(users) == ["alice"]


def test_an_admin_who_is_not_the_last_may_go(users: Database) -> None:
    """Also by their own hand."""
    add_user(users, "bob", UserRole.ADMIN, GOOD, RULES)
    change_user(users, ALICE, "alice", DEMOTE)
    assert admins(users) == ["bob"]


@pytest.mark.parametrize("change", [DEMOTE, DISABLE, None], ids=["demote", "disable", "delete"])
def test_two_admins_who_remove_each_other_at_once_leave_one(
    users: Database, change: UserChange | None
) -> None:
    """Whoever comes second is no longer an Admin, and is refused."""
    add_user(users, "bob", UserRole.ADMIN, GOOD, RULES)
    start = Barrier(2)

    def strike(actor: Actor, name: str) -> bool:
        start.wait(10)
        try:
            if change is None:
                delete_user(users, actor, name)
            else:
                change_user(users, actor, name, change)
        except (Forbidden, Conflict):
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        tries = [pool.submit(strike, ALICE, "bob"), pool.submit(strike, BOB, "alice")]
        done = [one.result() for one in tries]
    assert sorted(done) == [False, True]
    assert admins(users) == (["alice"] if done[0] else ["bob"])


def test_two_admins_who_step_down_at_once_leave_one(users: Database) -> None:
    """Each demotes themselves, and the second is told to stay."""
    add_user(users, "bob", UserRole.ADMIN, GOOD, RULES)
    start = Barrier(2)

    def step_down(actor: Actor) -> bool:
        start.wait(10)
        try:
            change_user(users, actor, actor.name, DEMOTE)
        except Conflict:
            return False
        return True

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(step_down, [ALICE, BOB])) == [False, True]
    assert len(admins(users)) == 1


def test_who_is_no_admin_any_more_changes_nothing(users: Database) -> None:
    """However long ago the request was let through."""
    olga = Actor("olga")
    for attempt in (
        lambda: create_user(users, olga, "mallory", UserRole.ADMIN, RULES),
        lambda: change_user(users, olga, "olga", UserChange(role=UserRole.ADMIN)),
        lambda: delete_user(users, olga, "alice"),
        lambda: reset_password(users, olga, "alice", RULES),
        lambda: reset_second_factor(users, olga, "alice"),
    ):
        with pytest.raises(Forbidden, match="no longer an Admin"):
            attempt()
    with users.read() as session:
        assert [(one.row.name, one.row.role) for one in list_users(session)] == [
            ("alice", "Admin"),
            ("olga", "Operator"),
        ]


def test_a_password_change_does_not_undo_what_an_admin_did_meanwhile(
    users: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The Admin's reset comes between the look at the old password and the new one."""

    def hash_slowly(password: str, cost: PasswordCost) -> str:
        monkeypatch.undo()
        reset_password(users, ALICE, "olga", RULES)
        return hash_password(password, cost)

    monkeypatch.setattr("controlplane.store.users.hash_password", hash_slowly)
    with pytest.raises(Unauthenticated, match="meanwhile"):
        change_password(users, Actor("olga"), current=GOOD, new="other-Relays-43", rules=RULES)
    with users.read() as session:
        assert session.get_one(UserRow, "olga").must_change_password is True


def test_the_host_lets_an_admin_in_again(users: Database) -> None:
    """`reset-admin` makes `admin` an Admin with the first password and no second factor."""
    add_user(users, "admin", UserRole.READ_ONLY, GOOD, RULES)
    give_second_factor(users, "admin", RULES)
    change_user(users, ALICE, "admin", DISABLE)
    reset_admin(users, RULES)
    issued = log_in(users, Actor("admin"), FIRST_PASSWORD, RULES)
    assert (issued.role, issued.must_change_password) == (UserRole.ADMIN, True)
