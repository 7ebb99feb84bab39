"""CSV of the mail lists, and trying a route."""

from __future__ import annotations

import time
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from controlplane.relayctl.connection import connect, fetch, path_of
from controlplane.relayctl.errors import WaitedInVain
from controlplane.relayctl.files import read_text, write_text
from controlplane.relayctl.mail_commands import routes
from controlplane.relayctl.output import JsonFlag, print_json, print_line, print_note

lists = typer.Typer(help="The mail lists as CSV.", no_args_is_help=True)

POLL_S: Final = 0.5
MARKS: Final = {"client": ">", "server": "<", "node": "*"}


class ListName(StrEnum):
    """The lists that go in and out as CSV."""

    DOMAINS = "recipient-domains"
    POLICIES = "sender-policies"
    ROUTES = "routes"
    NETWORKS = "trusted-networks"


Name = Annotated[ListName, typer.Argument(help="Which list.")]


@lists.command("export")
def export_list(
    name: Name,
    file: Annotated[Path | None, typer.Argument(help="Where to; left out: stdout.")] = None,
) -> None:
    """Write a list as CSV, without passwords."""
    with connect() as client:
        text = client.get_text(path_of("lists", name.value, "csv"))
    if file is None:
        typer.echo(text, nl=False)
    else:
        write_text(file, text)


@lists.command("import")
def import_list(
    name: Name,
    file: Annotated[Path, typer.Argument(help="CSV, the columns named first; -: stdin.")],
    replace: Annotated[bool, typer.Option("--replace", help="Remove all others.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show.")] = False,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Add or change what a CSV file names: all of it, or nothing and a sentence a line."""
    body = {"csv": read_text(file), "replace": replace}
    with connect() as client:
        path = path_of("lists", name.value, "csv")
        if dry_run:
            change = client.post(f"{path}/preview", body)["change"]
        else:
            change = client.post(path, body)
    if as_json:
        print_json(change)
        return
    for verb in ("added", "changed", "removed"):
        print_line(f"{verb}: {change[f'{verb}_count']}")
    if dry_run:
        print_note("Nothing was changed.")


@routes.command("try")
def try_route(
    sender: Annotated[str, typer.Argument(help="The route: user@example.com or @example.com.")],
    recipient: Annotated[str, typer.Argument(help="To whom; no message is sent.")],
    node: Annotated[str | None, typer.Option(help="Which node tries; left out: active.")] = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Have a node talk SMTP to the next hop up to RCPT, and show it; exit code 5 on refusal."""
    with connect() as client:
        test = client.post("/route-tests", {"sender": sender, "recipient": recipient, "node": node})
    while test["finished_at"] is None and not test["is_over"]:
        time.sleep(POLL_S)
        test = fetch(path_of("route-tests", test["id"]))
    _print_test(test, as_json=as_json)


def _print_test(test: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        print_json(test)
    else:
        for line in test["lines"]:
            print_line(f"{MARKS[line['speaker']]} {line['text']}")
    if test["is_over"]:
        raise WaitedInVain(f"{test['node']} did not report in time.")
    if not test["is_ok"]:
        raise WaitedInVain(test["text"])
    if not as_json:
        print_line(test["text"])
