"""Setting a host up over SSH: compare its key, log in once, follow the steps."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from controlplane.relayctl.client import Client
from controlplane.relayctl.connection import connect, path_of
from controlplane.relayctl.errors import Misused, WaitedInVain
from controlplane.relayctl.files import read_text
from controlplane.relayctl.output import (
    JsonFlag,
    given,
    print_done,
    print_json,
    print_line,
    print_note,
)
from controlplane.relayctl.session_commands import secret

POLL_S: Final = 0.5


def register(group: typer.Typer) -> None:
    """Add the commands to `relayctl ssh`."""
    group.command("setup")(set_up)
    group.command("setup-cancel")(cancel)


def set_up(
    node: Annotated[str, typer.Argument(help="A node that was described, not enrolled yet.")],
    *,
    user: Annotated[str, typer.Option(help="root, or who may use sudo without a password.")] = (
        "root"
    ),
    key: Annotated[
        Path | None, typer.Option(help="A private key to log in with; left out: a password.")
    ] = None,
    passphrase: Annotated[bool, typer.Option(help="Ask for the key's passphrase.")] = False,
    host_key: Annotated[
        str | None, typer.Option(help="The host key's fingerprint; left out: you are asked.")
    ] = None,
    url: Annotated[
        str | None, typer.Option(help="Where the host reaches the control plane.")
    ] = None,
    as_json: JsonFlag = False,
) -> None:
    """Set a node's host up over SSH, from packages to the running agent.

    The password is asked for, or RELAYCTL_SSH_PASSWORD; a passphrase is asked for, or
    RELAYCTL_SSH_PASSPHRASE. Neither is stored.
    """
    with connect() as client:
        body = given(user=user, url=url, host_key=host_key or _compare(client, node))
        if key is None:
            body["password"] = secret("RELAYCTL_SSH_PASSWORD", f"Password of {user} on {node}")
        else:
            body["private_key"] = read_text(key)
            if passphrase:
                body["passphrase"] = secret("RELAYCTL_SSH_PASSPHRASE", "Passphrase of the key")
        setup = client.post(path_of("ssh", node, "setups"), body)
        setup = _follow(client, setup, is_silent=as_json)
    if as_json:
        print_json(setup)
    elif setup["is_ok"]:
        print_line(setup["text"])
    if not setup["is_ok"]:
        raise WaitedInVain(
            setup["text"] or "The control plane's process is gone: how it ended is unknown."
        )


def cancel(
    number: Annotated[int, typer.Argument(help="The setup's number.")], *, as_json: JsonFlag = False
) -> None:
    """Have a setup end as soon as it looks; what was done on the host stays there."""
    with connect() as client:
        setup = client.delete(path_of("ssh", "setups", number))
    print_done(setup, f"Setup {number} of {setup['node']} ends.", as_json=as_json)


def _compare(client: Client, node: str) -> str:
    shown = client.post(path_of("ssh", node, "host-key"))
    print_note(f"{shown['address']} port {shown['port']} shows the {shown['type']} key")
    print_note(str(shown["fingerprint"]))
    if not sys.stdin.isatty():
        raise Misused("Nobody can be asked here: compare it and give --host-key.")
    typer.confirm("Is that the host's?", abort=True, err=True)
    return str(shown["fingerprint"])


def _follow(client: Client, setup: dict[str, Any], *, is_silent: bool) -> dict[str, Any]:
    """Wait for the end and print each step when it is done; Ctrl-C leaves the setup running."""
    shown = 0
    print_note(f"Setup {setup['id']}; cancel it with: relayctl ssh setup-cancel {setup['id']}")
    while True:
        setup = client.get(path_of("ssh", "setups", setup["id"]))
        over = [line for line in setup["lines"] if line["ok"] is not None]
        for line in over[shown:] if not is_silent else ():
            print_line(f"{'ok    ' if line['ok'] else 'failed'}  {line['step']}: {line['text']}")
        shown = len(over)
        if setup["finished_at"] is not None or setup["is_lost"]:
            return setup
        time.sleep(POLL_S)
