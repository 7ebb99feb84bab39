"""Users, sessions, API tokens and the second factor, as an operator types them."""

from __future__ import annotations

import json

import pytest
from fastapi import FastAPI

from controlplane.core.permissions import UserRole
from controlplane.store.engine import Database
from tests.api.conftest import CHEAP, PASSWORD
from tests.cli.conftest import Operator, Served
from tests.fakes.people import add_user, code_of, let_codes_be_used_again, open_session


def log_in(operator: Operator, served: Served, user: str) -> None:
    """Log in as somebody else."""
    options = ("--url", served.url, "--fingerprint", served.fingerprint, "--user", user)
    done = operator("login", *options)
    assert done.code == 0, done.err


def test_a_new_user_gets_in_with_what_was_printed(relayctl: Operator, served: Served) -> None:
    """One line on standard output, and the role that was asked for."""
    added = relayctl("users", "add", "nina", "--role", "Operator")
    password = added.out.strip()
    assert "must change it" in added.err
    relayctl.set(RELAYCTL_PASSWORD=password, RELAYCTL_NEW_PASSWORD="nina-Relays-42")
    log_in(relayctl, served, "nina")
    assert relayctl("passwd").code == 0
    assert relayctl("status").code == 0
    refused = relayctl("users", "list")
    assert (refused.code, "needs Admin" in refused.err) == (1, True)


def test_users_are_changed(relayctl: Operator, sqlite_database: Database) -> None:
    """Role, disabled, enabled, reset, removed; the list shows each."""
    add_user(sqlite_database, "olga", UserRole.OPERATOR, PASSWORD, CHEAP)
    assert relayctl.json("users", "role", "olga", "ReadOnly")["role"] == "ReadOnly"
    assert relayctl("users", "disable", "olga").out == "olga is disabled.\n"
    assert "disabled" in relayctl("users", "list").out
    assert relayctl.json("users", "enable", "olga")["is_disabled"] is False
    assert relayctl.json("users", "reset-password", "olga")["name"] == "olga"
    assert "must change password" in relayctl("users", "list").out
    assert relayctl("users", "reset-second-factor", "olga").code == 1
    assert relayctl.json("users", "end-sessions", "olga") == {"ended": 0}
    assert relayctl.json("users", "remove", "olga") == {"removed": "olga"}
    assert [one["name"] for one in relayctl.json("users", "list")] == ["admin"]
    assert relayctl("users", "role", "admin", "root").code == 2


def test_the_last_admin_stays(relayctl: Operator) -> None:
    """Exit code 1 with the reason."""
    refused = relayctl("users", "remove", "admin")
    assert (refused.code, "last Admin" in refused.err) == (1, True)


def test_sessions_are_listed_and_revoked(relayctl: Operator, sqlite_database: Database) -> None:
    """One by its id, then all others; everybody's with --all."""
    for _ in range(3):
        open_session(sqlite_database, "admin", CHEAP)
    listed = relayctl.json("sessions", "list")
    (here,) = [one for one in listed if one["is_current"]]
    other = next(one["id"] for one in listed if not one["is_current"])
    assert other in relayctl("sessions", "list").out
    assert relayctl("login").code == 0
    assert "relayctl/" in relayctl("sessions", "list").out
    (here,) = [one for one in relayctl.json("sessions", "list") if one["is_current"]]
    assert relayctl.json("sessions", "revoke", other) == {"ended": 1}
    assert relayctl("sessions", "revoke", "--others").out == "Ended 3 sessions.\n"
    assert [one["id"] for one in relayctl.json("sessions", "list", "--all")] == [here["id"]]
    assert relayctl("sessions", "revoke").code == 2
    assert relayctl("sessions", "revoke", "x", "--others").code == 2


def test_an_administrator_revokes_the_session_of_another(
    relayctl: Operator, sqlite_database: Database
) -> None:
    """With --all, not without."""
    add_user(sqlite_database, "olga", UserRole.OPERATOR, PASSWORD, CHEAP)
    open_session(sqlite_database, "olga", CHEAP)
    everybody = relayctl.json("sessions", "list", "--all")
    (olga,) = [one["id"] for one in everybody if one["user"] == "olga"]
    assert relayctl("sessions", "revoke", olga).code == 1
    assert relayctl("sessions", "revoke", olga, "--all").code == 0


def test_a_token_works_in_the_environment_until_it_is_revoked(relayctl: Operator) -> None:
    """Printed once, used by a program without a login, then dead."""
    made = relayctl("tokens", "create", "backup job", "--days", "7")
    assert "not shown again" in made.err
    (listed,) = relayctl.json("tokens", "list")
    assert (listed["name"], listed["scope"]) == ("backup job", "read")
    assert made.out.startswith(listed["prefix"])
    assert made.out.strip() not in relayctl("tokens", "list").out
    relayctl.set(RELAYCTL_TOKEN=made.out.strip())
    assert relayctl("status").code == 0
    refused = relayctl("vips", "remove", "198.51.100.100")
    assert (refused.code, "scope read" in refused.err) == (1, True)
    relayctl.set(RELAYCTL_TOKEN="")
    assert relayctl("tokens", "revoke", listed["id"]).code == 0
    assert relayctl.json("tokens", "list", "--all") == []
    relayctl.set(RELAYCTL_TOKEN=made.out.strip())
    assert relayctl("status").code == 3


@pytest.fixture
def secured(relayctl: Operator, app: FastAPI, sqlite_database: Database) -> str:
    """Give the operator a second factor by their own commands; return its secret."""
    del app
    secret = relayctl.json("second-factor", "enrol")["secret"]
    relayctl.set(RELAYCTL_CODE=code_of(secret))
    assert len(relayctl("second-factor", "confirm").out.split()) == 10
    let_codes_be_used_again(sqlite_database, "admin")
    return str(secret)


def test_the_app_can_scan_what_is_printed(relayctl: Operator) -> None:
    """Blocks of a QR code, and the secret to be typed in."""
    shown = relayctl("second-factor", "enrol")
    assert "▀" in shown.out or "█" in shown.out
    assert "relayctl second-factor confirm" in shown.err


def test_login_asks_for_the_code(relayctl: Operator, secured: str) -> None:
    """From the environment; without one and without a terminal it says which variable."""
    relayctl.set(RELAYCTL_CODE=code_of(secured))
    assert relayctl("login").code == 0
    relayctl.set(RELAYCTL_CODE="")
    refused = relayctl("login")
    assert (refused.code, "set RELAYCTL_CODE" in refused.err) == (2, True)
    relayctl.set(RELAYCTL_CODE="000000")
    wrong = relayctl("login")
    assert (wrong.code, "The code is wrong" in wrong.err) == (3, True)


def test_the_second_factor_is_renewed_and_removed(
    relayctl: Operator, secured: str, sqlite_database: Database
) -> None:
    """Each with password and code."""
    relayctl.set(RELAYCTL_CODE="000000")
    assert relayctl("second-factor", "remove").code == 1
    relayctl.set(RELAYCTL_CODE=code_of(secured))
    assert len(relayctl.json("second-factor", "recovery-codes")["recovery_codes"]) == 10
    let_codes_be_used_again(sqlite_database, "admin")
    relayctl.set(RELAYCTL_CODE=code_of(secured))
    assert relayctl("second-factor", "remove").code == 0
    assert relayctl("login").code == 0


def test_an_operator_takes_a_node_out_of_service(
    paired: Operator, served: Served, sqlite_database: Database
) -> None:
    """Maintenance is daily work; the node's address is not."""
    add_user(sqlite_database, "olga", UserRole.OPERATOR, PASSWORD, CHEAP)
    paired.config.unlink()
    log_in(paired, served, "olga")
    assert json.loads(paired.config.read_text())["token"]
    assert paired.json("nodes", "set", "node-b", "--maintenance")["is_maintenance"] is True
    assert paired("nodes", "set", "node-b", "--address", "198.51.100.13").code == 1
    assert paired.json("nodes", "set", "node-b", "--no-maintenance")["is_maintenance"] is False
