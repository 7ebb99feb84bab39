"""One's own sessions, API tokens and second factor; with --all those of everybody."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Annotated, Any

import segno
import typer

from controlplane.core.permissions import Scope
from controlplane.relayctl.connection import connect, fetch, path_of
from controlplane.relayctl.errors import Misused
from controlplane.relayctl.output import (
    Columns,
    JsonFlag,
    print_done,
    print_json,
    print_line,
    print_list,
    print_note,
)
from controlplane.relayctl.session_commands import secret

sessions = typer.Typer(help="Open sessions.", no_args_is_help=True)
tokens = typer.Typer(help="API tokens, for programs.", no_args_is_help=True)
second_factor = typer.Typer(help="The own second factor.", no_args_is_help=True)

AllFlag = Annotated[bool, typer.Option("--all", help="Everybody's (Admin only).")]
Id = Annotated[str, typer.Argument(help="As the list shows it.")]


def _minute(field: str) -> Callable[[Any], object]:
    """Return what shows a time to the minute."""
    return lambda one: one[field] and one[field][:16]


_SESSION_COLUMNS: Columns = {
    "ID": "id",
    "USER": "user",
    "FROM": "address",
    "PROGRAM": "user_agent",
    "LAST SEEN (UTC)": _minute("last_seen_at"),
    "EXPIRES (UTC)": _minute("expires_at"),
    "THIS ONE": "is_current",
}
_TOKEN_COLUMNS: Columns = {
    "ID": "id",
    "USER": "user",
    "NAME": "name",
    "BEGINS WITH": "prefix",
    "SCOPE": "scope",
    "EXPIRES (UTC)": _minute("expires_at"),
    "LAST USED (UTC)": _minute("last_used_at"),
}


@sessions.command("list")
def list_sessions(*, everybody: AllFlag = False, as_json: JsonFlag = False) -> None:
    """List open sessions, the one used last first."""
    listed = fetch("/sessions" if everybody else "/profile/sessions")
    print_list(listed, _SESSION_COLUMNS, "No session is open.", as_json=as_json)


@sessions.command("revoke")
def revoke_session(
    id: Annotated[str | None, typer.Argument(help="As the list shows it.")] = None,  # noqa: A002 - shown to users
    *,
    others: Annotated[
        bool, typer.Option("--others", help="All of one's own but the one in use.")
    ] = False,
    everybody: AllFlag = False,
    as_json: JsonFlag = False,
) -> None:
    """End a session, or with --others all of one's own but the one in use."""
    if (id is None) is not others or (others and everybody):
        raise Misused("Name either a session or --others.")
    with connect() as client:
        if id is None:
            ended = client.delete("/profile/sessions")["ended"]
        else:
            client.delete(_own_or_any("sessions", id, everybody=everybody))
            ended = 1
    print_done({"ended": ended}, f"Ended {ended} sessions.", as_json=as_json)


@tokens.command("list")
def list_tokens(*, everybody: AllFlag = False, as_json: JsonFlag = False) -> None:
    """List API tokens, the newest first."""
    listed = fetch("/tokens" if everybody else "/profile/tokens")
    print_list(listed, _TOKEN_COLUMNS, "There is no API token.", as_json=as_json)


@tokens.command("create")
def create_token(
    name: Annotated[str, typer.Argument(help="What it is for.")],
    *,
    scope: Annotated[Scope, typer.Option(help="What it may do.")] = Scope.READ,
    days: Annotated[int, typer.Option(help="How long it lasts.", min=1, max=365)] = 90,
    as_json: JsonFlag = False,
) -> None:
    """Make an API token, which is shown this once; the password is asked for."""
    body = {"name": name, "scope": scope.value, "valid_days": days}
    with connect() as client:
        made = client.post("/profile/tokens", {**body, **_proof()})
    print_done(made, made["token"], as_json=as_json)
    if not as_json:
        print_note(f"It ends at {made['expires_at'][:16]} UTC; it is not shown again.")


@tokens.command("revoke")
def revoke_token(id: Id, *, everybody: AllFlag = False, as_json: JsonFlag = False) -> None:  # noqa: A002 - shown to users
    """Revoke an API token; it stops working at once."""
    with connect() as client:
        client.delete(_own_or_any("tokens", id, everybody=everybody))
    print_done({"revoked": id}, f"Revoked {id}.", as_json=as_json)


@second_factor.command("enrol")
def enrol(*, as_json: JsonFlag = False) -> None:
    """Begin to set up an authenticator app: prints its secret, as a QR code, too."""
    with connect() as client:
        begun = client.post("/profile/second-factor", _proof())
    if as_json:
        print_json(begun)
        return
    drawn = io.StringIO()
    segno.make(begun["otpauth_uri"]).terminal(drawn, compact=True)
    print_line(drawn.getvalue())
    print_line(begun["secret"])
    print_note("Add it to the app, then: relayctl second-factor confirm.")


@second_factor.command("confirm")
def confirm(*, as_json: JsonFlag = False) -> None:
    """Confirm it with a code of the app (asked for, or RELAYCTL_CODE); prints recovery codes."""
    with connect() as client:
        made = client.post("/profile/second-factor/confirm", {"code": _code()})
    _print_codes(made, as_json=as_json)


@second_factor.command("recovery-codes")
def renew_recovery_codes(*, as_json: JsonFlag = False) -> None:
    """Make new recovery codes; password and a code are asked for."""
    with connect() as client:
        body = {**_proof(), "code": _code()}
        made = client.post("/profile/second-factor/recovery-codes", body)
    _print_codes(made, as_json=as_json)


@second_factor.command("remove")
def remove(*, as_json: JsonFlag = False) -> None:
    """Remove the own second factor; password and a code are asked for."""
    with connect() as client:
        client.post("/profile/second-factor/remove", {**_proof(), "code": _code()})
    print_done({"removed": True}, "Logins need the password alone.", as_json=as_json)


def _proof() -> dict[str, str]:
    return {"current_password": secret("RELAYCTL_PASSWORD", "Present password")}


def _code() -> str:
    return secret("RELAYCTL_CODE", "Code of the second factor")


def _own_or_any(noun: str, key: str, *, everybody: bool) -> str:
    return path_of(noun, key) if everybody else path_of("profile", noun, key)


def _print_codes(made: dict[str, Any], *, as_json: bool) -> None:
    print_done(made, "\n".join(made["recovery_codes"]), as_json=as_json)
    if not as_json:
        print_note("Each opens one login without the app. They are not shown again.")
