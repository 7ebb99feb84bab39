"""The mail policy: on or off, who is blocked or allowed, what was decided, what was found."""

from __future__ import annotations

import base64
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated, Final

import typer

from controlplane.relayctl import (
    policy_list_commands,
    policy_log_commands,
    policy_quarantine_commands,
    policy_rule_commands,
    policy_settings_commands,
)
from controlplane.relayctl.connection import connect
from controlplane.relayctl.errors import Misused
from controlplane.relayctl.files import read_bytes
from controlplane.relayctl.output import (
    Columns,
    JsonFlag,
    print_done,
    print_facts,
    print_json,
    print_line,
    print_list,
    print_note,
)
from controlplane.relayctl.policy_list_commands import (
    API,
    Search,
    all_items,
    remove_values,
)
from nodeagent.policy.engine.values import list_value

_RESULTS: Final = "pass, fail, softfail, neutral, none, temperror, permerror."
UNITS: Final = {"m": "minutes", "h": "hours", "d": "days"}

policy = typer.Typer(help="The mail policy: what the relay takes.", no_args_is_help=True)
policy.add_typer(policy_list_commands.badword, name="badword")
policy.add_typer(policy_rule_commands.rate, name="rate")
policy.add_typer(policy_rule_commands.threat_rule, name="threat-rule")
policy.add_typer(policy_list_commands.category, name="category")
policy.add_typer(policy_list_commands.subscription, name="subscription")
policy.add_typer(policy_quarantine_commands.quarantine, name="quarantine")
policy.add_typer(policy_settings_commands.settings, name="settings")
policy.add_typer(policy_settings_commands.secret, name="secret")
policy_list_commands.register(policy)
policy_log_commands.register(policy)

Entry = Annotated[
    str,
    typer.Argument(
        help="IP address, network, example.com, *.example.com, user@example.com or *@example.com."
    ),
]
Reason = Annotated[str, typer.Option(help="Why.")]


def _expiry(text: str) -> str:
    """Return the moment of "30m", "2h", "5d", or of an ISO time with its zone."""
    match = re.fullmatch(r"(\d{1,5})([mhd])", text)
    if match is not None:
        length = timedelta(**{UNITS[match.group(2)]: int(match.group(1))})
        return (datetime.now(UTC) + length).isoformat()
    try:
        at = datetime.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(
            f"{text!r} is no time; write 30m, 2h, 5d or 2027-01-31T00:00Z."
        ) from error
    return (at if at.tzinfo is not None else at.replace(tzinfo=UTC)).isoformat()


Expires = Annotated[
    str | None,
    typer.Option(parser=_expiry, metavar="WHEN", help="Such as 30m, 2h, 5d, 2027-01-31 (UTC)."),
]


@policy.command("status")
def show_status(*, as_json: JsonFlag = False) -> None:
    """Show whether the policy is on, what it did in a day, and what each node has in force."""
    with connect() as client:
        found = client.get(f"{API}/status")
    if as_json:
        print_json(found)
        return
    print_facts({name: value for name, value in found.items() if name != "nodes"})
    columns: Columns = {
        "NODE": "node",
        "REVISION": "revision",
        "NEWEST": "is_current",
        "ASKED": lambda one: "never" if one["seen_s"] is None else f"{one['seen_s']:.0f} s ago",
        "PROBLEM": "problem",
    }
    print_list(found["nodes"], columns, "There is no node yet.", as_json=False)


@policy.command("on")
def switch_on(*, as_json: JsonFlag = False) -> None:
    """Have the hook judge mail; the nodes know within two seconds."""
    _switch(is_active=True, as_json=as_json)


@policy.command("off")
def switch_off(*, as_json: JsonFlag = False) -> None:
    """Let all mail pass unjudged."""
    _switch(is_active=False, as_json=as_json)


def _switch(*, is_active: bool, as_json: bool) -> None:
    with connect() as client:
        answer = client.patch(f"{API}/settings", {"is_active": is_active})
    print_done(answer, f"The policy is {'on' if is_active else 'off'}.", as_json=as_json)


@policy.command("block")
def block(
    entry: Entry, reason: Reason = "", expires: Expires = None, *, as_json: JsonFlag = False
) -> None:
    """Put an address, network or domain on the blocklist, in place of what is there."""
    _put("blocklist", entry, reason, expires, as_json=as_json)


@policy.command("unblock")
def unblock(entry: Entry, *, as_json: JsonFlag = False) -> None:
    """Take an entry off the blocklist."""
    remove_values("blocklist", [_value(entry)], as_json=as_json)


@policy.command("allow")
def allow(
    entry: Entry, reason: Reason = "", expires: Expires = None, *, as_json: JsonFlag = False
) -> None:
    """Put an address, network or domain on the allowlist, which wins, in place of what is there."""
    _put("allowlist", entry, reason, expires, as_json=as_json)


@policy.command("disallow")
def disallow(entry: Entry, *, as_json: JsonFlag = False) -> None:
    """Take an entry off the allowlist."""
    remove_values("allowlist", [_value(entry)], as_json=as_json)


@policy.command("blocklist")
def list_blocked(search: Search = "", *, as_json: JsonFlag = False) -> None:
    """List the blocklist, newest first."""
    _list("blocklist", search, as_json=as_json)


@policy.command("allowlist")
def list_allowed(search: Search = "", *, as_json: JsonFlag = False) -> None:
    """List the allowlist, newest first."""
    _list("allowlist", search, as_json=as_json)


def _put(name: str, entry: str, reason: str, expires: str | None, *, as_json: bool) -> None:
    body = {"value": entry, "reason": reason, "expires_at": expires}
    with connect() as client:
        answer = client.put(f"{API}/{name}", body)
    print_done(answer, f"{answer['value']} is on the {name}.", as_json=as_json)


def _value(entry: str) -> str:
    """Return an entry in the one form in which it is stored; raises Misused."""
    try:
        return list_value(entry)
    except ValueError as error:
        raise Misused(f"{str(error).rstrip('.')}.") from error


def _list(name: str, search: str, *, as_json: bool) -> None:
    columns: Columns = {
        "ENTRY": "value",
        "REASON": "reason",
        "EXPIRES (UTC)": lambda one: one["expires_at"] and one["expires_at"][:19],
        "BY": "origin",
    }
    print_list(all_items(name, search), columns, f"The {name} is empty.", as_json=as_json)


@policy.command("try")
def try_mail(
    file: Annotated[Path, typer.Argument(help="The mail as it is sent; -: stdin.")],
    *,
    sender: Annotated[str, typer.Option("--from", help='Left out or "": a bounce.')] = "",
    recipients: Annotated[list[str], typer.Option("--to", help="Can be repeated.")],
    client_address: Annotated[str | None, typer.Option("--client", help="IP address.")] = None,
    helo: Annotated[str | None, typer.Option(help="How the client greets.")] = None,
    login: Annotated[str | None, typer.Option(help="The SASL user, for a client with one.")] = None,
    client_name: Annotated[str | None, typer.Option(help="Its host name, as verified.")] = None,
    spf: Annotated[str | None, typer.Option(help=f"What SPF says: {_RESULTS}")] = None,
    dkim: Annotated[str | None, typer.Option(help="What DKIM says.")] = None,
    dmarc: Annotated[str | None, typer.Option(help="What DMARC says.")] = None,
    dmarc_policy: Annotated[
        str | None,
        typer.Option(help="The author's domain asks for: none, quarantine, reject."),
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show which rules would fire on a mail, at which stage and why; nothing is sent.

    No DNS is asked: assume what SPF, DKIM and DMARC would say to try their rules.
    """
    assumed = {"spf": spf, "dkim": dkim, "dmarc": dmarc, "dmarc_policy": dmarc_policy}
    body = {
        **assumed,
        "client": client_address,
        "client_name": client_name,
        "helo": helo,
        "login": login,
        "sender": sender,
        "recipients": recipients,
        "raw_base64": base64.b64encode(read_bytes(file)).decode(),
    }
    with connect() as client:
        result = client.post(f"{API}/try", body)
    if as_json:
        print_json(result)
        return
    for stage in result["stages"]:
        where = f"{stage['stage']} {stage['recipient'] or ''}".strip()
        print_line(f"{where}: {stage['verdict']}")
        for line in (*stage["sentences"], *stage["changes"]):
            print_line(f"  {line}")
    for note in (*result["problems"], *result["notes"]):
        print_note(note)
    print_line(f"The mail gets: {result['verdict']} (revision {result['revision']}).")
