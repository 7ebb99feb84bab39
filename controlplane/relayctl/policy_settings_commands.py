"""The settings of the mail policy, and the secrets of its HTTP door."""

from __future__ import annotations

from typing import Annotated, Final

import typer

from controlplane.relayctl.connection import connect, fetch, path_of
from controlplane.relayctl.output import (
    JsonFlag,
    print_done,
    print_facts,
    print_json,
    print_line,
    print_note,
)
from controlplane.relayctl.policy_list_commands import API
from controlplane.relayctl.setting_pairs import changes_of, flat

SETTINGS: Final = f"{API}/settings"

settings = typer.Typer(help="What the policy goes by, beside its lists.", no_args_is_help=True)
secret = typer.Typer(help="Secrets of the HTTP door.", no_args_is_help=True)

Kind = Annotated[str, typer.Argument(help="bearer, basic or header.")]


@settings.command("show")
def show_settings(*, as_json: JsonFlag = False) -> None:
    """Show all settings; of secrets only whether there are any."""
    shown = fetch(SETTINGS)
    if as_json:
        print_json(shown)
    else:
        print_facts(flat(shown["settings"]))


@settings.command("set")
def set_settings(
    changes: Annotated[
        list[str], typer.Argument(help="NAME=VALUE, e.g. spf.is_enabled=true stages=mail,rcpt,data")
    ],
    *,
    as_json: JsonFlag = False,
) -> None:
    """Change settings; names are as `settings show` prints them, all changed together or none."""
    present = flat(fetch(SETTINGS)["settings"])
    lists = [name for name, value in present.items() if isinstance(value, list)]
    body = changes_of(changes, lists)
    with connect() as client:
        answer = client.patch(SETTINGS, body)
    print_done(answer, "Changed; the nodes have it within two seconds.", as_json=as_json)


@secret.command("make")
def make_secret(
    kind: Kind,
    name: Annotated[
        str | None, typer.Option(help="User name or name of the header; left out: the present one.")
    ] = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Make a new secret, shown this once; the old one of its kind opens nothing any more."""
    with connect() as client:
        made = client.post(f"{SETTINGS}/http-credentials", {"kind": kind, "name": name})
    if as_json:
        print_json(made)
        return
    print_line(made["secret"])
    if made["name"] is not None:
        print_note(f"It goes with the name {made['name']}.")


@secret.command("withdraw")
def withdraw_secret(kind: Kind, *, as_json: JsonFlag = False) -> None:
    """Let nobody in by this kind of secret; an open door keeps its last one."""
    with connect() as client:
        client.delete(SETTINGS + path_of("http-credentials", kind))
    print_done({"kind": kind}, f"Nobody is let in by {kind} any more.", as_json=as_json)
