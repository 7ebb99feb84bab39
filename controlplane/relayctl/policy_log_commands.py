"""The log of the mail policy: what was decided, which rules fired, and who was connected."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from time import sleep
from typing import Annotated, Any, Final

import typer

from controlplane.relayctl.connection import connect, fetch, path_of
from controlplane.relayctl.output import (
    Columns,
    JsonFlag,
    print_facts,
    print_json,
    print_line,
    print_list,
    print_note,
)
from controlplane.relayctl.policy_list_commands import API
from nodeagent.policy.model import RuleKind, Severity, Stage, Verdict

FOLLOW_S: Final = 1.0
MOST_ROWS: Final = 500

Node = Annotated[str | None, typer.Option(help="Only of this node.")]
ClientAddress = Annotated[str | None, typer.Option("--client", help="IP address, or its begin*.")]
Since = Annotated[str | None, typer.Option(help="Not older than this time, with its zone.")]
Until = Annotated[str | None, typer.Option(help="Older than this time, with its zone.")]
Limit = Annotated[int, typer.Option(help="How many.", min=1, max=MOST_ROWS)]
Follow = Annotated[bool, typer.Option("--follow", "-f", help="Go on as they come.")]


def register(app: typer.Typer) -> None:
    """Add the commands to `relayctl policy`."""
    app.command("threats")(list_threats)
    app.command("log")(show_log)
    app.command("connections")(show_connections)
    app.command("show")(show_decision)


def list_threats(
    *,
    severity: Annotated[Severity | None, typer.Option(help="Only of this severity.")] = None,
    kind: Annotated[RuleKind | None, typer.Option("--type", help="Only of this part.")] = None,
    since: Annotated[str | None, typer.Option(help="A time with its zone, or a day.")] = None,
    until: Annotated[str | None, typer.Option(help="Older than this.")] = None,
    limit: Limit = 50,
    as_json: JsonFlag = False,
) -> None:
    """List the rules that fired, newest first."""
    page = fetch(
        f"{API}/threats",
        severity=severity and severity.value,
        type=kind and kind.value,
        from_date=since,
        to_date=until,
        limit=limit,
    )
    if as_json:
        print_json(page)
        return
    columns: Columns = {
        "AT (UTC)": lambda one: one["at"][:19],
        "NODE": "node",
        "STAGE": "stage",
        "VERDICT": "verdict",
        "RULE": "rule",
        "SEVERITY": "severity",
        "CLIENT": "client",
        "SENDER": "sender",
        "WHY": "text",
    }
    print_list(page["threats"], columns, "No rule has fired.", as_json=False)
    more = "more than " if page["has_more_than"] else ""
    print_note(f"{len(page['threats'])} of {more}{page['total']}.")


def show_log(
    *,
    verdict: Annotated[Verdict | None, typer.Option(help="Only with this verdict.")] = None,
    stage: Annotated[Stage | None, typer.Option(help="Only at this stage.")] = None,
    node: Node = None,
    sender: Annotated[str | None, typer.Option(help="Address, @domain, or its begin*.")] = None,
    client_address: ClientAddress = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    follow: Follow = False,
    as_json: JsonFlag = False,
) -> None:
    """Show decisions, oldest first; with --follow and --json one JSON object a line."""
    wanted = {
        "verdict": verdict and verdict.value,
        "stage": stage and stage.value,
        "node": node,
        "sender": sender,
        "client": client_address,
        "since": since,
        "until": until,
    }
    _show(_Log("log", "entries", _decision), wanted, limit, follow=follow, as_json=as_json)


def show_connections(
    *,
    node: Node = None,
    client_address: ClientAddress = None,
    since: Since = None,
    until: Until = None,
    limit: Limit = 50,
    follow: Follow = False,
    as_json: JsonFlag = False,
) -> None:
    """Show SMTP sessions that ended, oldest first; with --follow and --json one object a line."""
    wanted = {"node": node, "client": client_address, "since": since, "until": until}
    log = _Log("connections", "connections", _connection)
    _show(log, wanted, limit, follow=follow, as_json=as_json)


def show_decision(
    number: Annotated[int, typer.Argument(help="The decision's number.", min=1)],
    *,
    as_json: JsonFlag = False,
) -> None:
    """Show one decision with every rule that fired."""
    found = fetch(path_of("mail-security", "log", number))
    if as_json:
        print_json(found)
        return
    print_facts({name: value for name, value in found.items() if name not in {"fired", "rules"}})
    columns: Columns = {
        "RULE": "rule",
        "ALONE": "verdict",
        "SEVERITY": "severity",
        "SCORE": "score",
        "MATCHED": "matched",
        "WHY": "text",
    }
    print_list(found["fired"], columns, "No rule fired.", as_json=False)


@dataclass(frozen=True)
class _Log:
    """A log that can be followed: its path, the field with its entries, and an entry's line."""

    path: str
    entries: str
    line: Callable[[dict[str, Any]], str]


def _show(
    log: _Log, wanted: dict[str, str | None], limit: int, *, follow: bool, as_json: bool
) -> None:
    with connect() as client:
        page = client.get(f"{API}/{log.path}", **wanted, limit=limit)
        listed = list(reversed(page[log.entries]))
        if as_json and not follow:
            print_json(listed)
            return
        _print(log, listed, as_json=as_json)
        last = max((one["number"] for one in listed), default=0)
        while follow:
            sleep(FOLLOW_S)
            # What has arrived since, in its order: a node may tell late of what was long ago.
            page = client.get(f"{API}/{log.path}", **wanted, limit=MOST_ROWS, newer_than=last)
            _print(log, page[log.entries], as_json=as_json)
            last = max([last, *(one["number"] for one in page[log.entries])])


def _print(log: _Log, listed: Sequence[dict[str, Any]], *, as_json: bool) -> None:
    for one in listed:
        if as_json:
            print_json(one, is_one_line=True)
        else:
            # A stranger's line feed begins no line of the log.
            print_line(" ".join(log.line(one).split()))


def _decision(one: dict[str, Any]) -> str:
    reply = " ".join(str(part) for part in (one["reply_code"], one["reply"]) if part)
    facts = _facts(
        {
            "client": one["client"],
            "login": one["login"],
            "from": "<>" if one["sender"] == "" else one["sender"],
            "to": ", ".join(one["recipients"]),
            "queue": one["queue_id"],
            "rules": ", ".join(one["rules"]),
        }
    )
    parts = (one["at"][:19], one["node"], one["stage"], one["verdict"], reply, facts)
    return " ".join(part for part in parts if part)


def _connection(one: dict[str, Any]) -> str:
    facts = _facts({name: one[name] for name in ("client", "helo", "login")})
    parts = (one["at"][:19], one["node"], one["door"], f"messages={one['messages']}", facts)
    return " ".join(part for part in parts if part)


def _facts(told: dict[str, str | None]) -> str:
    return " ".join(f"{name}={value}" for name, value in told.items() if value)
