"""Users: list, add, change, disable, remove, and reset what somebody has forgotten or lost."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from controlplane.core.permissions import UserRole
from controlplane.relayctl.connection import connect, fetch, path_of, remove
from controlplane.relayctl.output import Columns, JsonFlag, print_done, print_list, print_note

users = typer.Typer(help="Who may log in (Admin only).", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The user's name.")]
Role = Annotated[UserRole, typer.Option(help="What the user may do.")]


@users.command("list")
def list_users(*, as_json: JsonFlag = False) -> None:
    """List all users."""
    print_list(fetch("/users"), _COLUMNS, "There is no user.", as_json=as_json)


def _state(user: dict[str, Any]) -> str:
    if user["is_disabled"]:
        return "disabled"
    return "must change password" if user["must_change_password"] else "active"


_COLUMNS: Columns = {
    "USER": "name",
    "ROLE": "role",
    "STATE": _state,
    "SECOND FACTOR": "has_second_factor",
    "LAST LOGIN (UTC)": lambda user: user["last_login_at"] and user["last_login_at"][:16],
}


@users.command("add")
def add_user(name: Name, role: Role, *, as_json: JsonFlag = False) -> None:
    """Create a user; prints the one-time password, which is shown this once."""
    with connect() as client:
        made = client.post("/users", {"name": name, "role": role.value})
    _print_password(made, as_json=as_json)


@users.command("role")
def set_role(
    name: Name,
    role: Annotated[UserRole, typer.Argument(help="The new role.")],
    *,
    as_json: JsonFlag = False,
) -> None:
    """Give a user another role; it counts at once."""
    _change(name, {"role": role.value}, f"{name} is {role.value} now.", as_json=as_json)


@users.command("disable")
def disable_user(name: Name, *, as_json: JsonFlag = False) -> None:
    """Let a user in no more: sessions end, API tokens are refused."""
    _change(name, {"is_disabled": True}, f"{name} is disabled.", as_json=as_json)


@users.command("enable")
def enable_user(name: Name, *, as_json: JsonFlag = False) -> None:
    """Let a disabled user in again."""
    _change(name, {"is_disabled": False}, f"{name} is enabled.", as_json=as_json)


def _change(name: str, body: dict[str, Any], sentence: str, *, as_json: bool) -> None:
    with connect() as client:
        answer = client.patch(path_of("users", name), body)
    print_done(answer, sentence, as_json=as_json)


@users.command("remove")
def remove_user(name: Name, *, as_json: JsonFlag = False) -> None:
    """Delete a user with sessions and API tokens."""
    remove("users", name, as_json=as_json)


@users.command("reset-password")
def reset_password(name: Name, *, as_json: JsonFlag = False) -> None:
    """Give a user a one-time password, which is shown this once; their sessions end."""
    with connect() as client:
        made = client.post(path_of("users", name, "reset-password"))
    _print_password(made, as_json=as_json)


@users.command("reset-second-factor")
def reset_second_factor(name: Name, *, as_json: JsonFlag = False) -> None:
    """Take away the second factor of a user who lost it; their sessions end."""
    with connect() as client:
        client.delete(path_of("users", name, "second-factor"))
    print_done({"reset": name}, f"{name} logs in with the password alone.", as_json=as_json)


@users.command("end-sessions")
def end_sessions(name: Name, *, as_json: JsonFlag = False) -> None:
    """End all sessions of a user; their API tokens stay."""
    with connect() as client:
        answer = client.delete(path_of("users", name, "sessions"))
    print_done(answer, f"Ended {answer['ended']} sessions.", as_json=as_json)


def _print_password(made: dict[str, str], *, as_json: bool) -> None:
    print_done(made, made["one_time_password"], as_json=as_json)
    if not as_json:
        ends = made["expires_at"][:16]
        print_note(f"{made['name']} must change it by {ends} UTC; it is not shown again.")
