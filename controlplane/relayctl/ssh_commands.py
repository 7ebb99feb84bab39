"""SSH between the nodes: fingerprints, rotation of keys, tests of peers."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from controlplane.relayctl.connection import connect, fetch, path_of
from controlplane.relayctl.errors import WaitedInVain
from controlplane.relayctl.files import read_text
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

ssh = typer.Typer(help="SSH between the nodes.", no_args_is_help=True)

POLL_S: Final = 0.5
Name = Annotated[str, typer.Argument(help="The node's name.")]


def _key(view: dict[str, Any] | None) -> str:
    if view is None:
        return "unknown"
    whose = f", given by {view['given_by']}" if view.get("given_by") else ""
    return f"{view['fingerprint'] or 'unreadable'} ({view['type']}{whose})"


def _pin(view: dict[str, Any]) -> str:
    return f"{'revoked: ' if view['is_revoked'] else ''}{_key(view)}"


_COLUMNS: Columns = {
    "NODE": "node",
    "REACHED AT": lambda one: f"{one['ssh_user']}@{one['address']} port {one['ssh_port']}",
    "ITS KEY": lambda one: _key(one["client_key"]),
    "NEW KEY": lambda one: _key(one["next_key"]) if one["is_rotating"] else None,
    "HOST KEYS": lambda one: [_key(key) for key in one["host_keys"]],
    "PINNED": lambda one: [_pin(key) for key in one["pinned_host_keys"]],
}


@ssh.command("list")
def list_keys(*, as_json: JsonFlag = False) -> None:
    """List the fingerprints of all nodes' keys and host keys."""
    print_list(fetch("/ssh"), _COLUMNS, "There is no node yet.", as_json=as_json)


@ssh.command("rotate")
def rotate_key(name: Name, *, as_json: JsonFlag = False) -> None:
    """Have a node replace its SSH key; the old one stays in use until all peers take the new."""
    with connect() as client:
        answer = client.post(path_of("ssh", name, "rotation"))
    print_done(answer, f"{name} was asked for a new key.", as_json=as_json)


@ssh.command("use-key")
def use_key(
    name: Name,
    key: Annotated[Path, typer.Argument(help='A private key, OpenSSH or PEM; "-": stdin.')],
    *,
    passphrase: Annotated[bool, typer.Option(help="Ask for the key's passphrase.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Have a node use a private key of yours, by a rotation; `rotate` ends that again.

    A passphrase is asked for, or RELAYCTL_SSH_PASSPHRASE; the key is stored without it.
    """
    body = {"private_key": read_text(key)}
    if passphrase:
        body["passphrase"] = secret("RELAYCTL_SSH_PASSPHRASE", "Passphrase of the key")
    with connect() as client:
        answer = client.put(path_of("ssh", name, "key"), body)
    text = f"{name} was given the key {answer['next_key']['fingerprint']}."
    print_done(answer, text, as_json=as_json)


@ssh.command("keep")
def keep_key(name: Name, *, as_json: JsonFlag = False) -> None:
    """Have a node keep its SSH key after all."""
    with connect() as client:
        client.delete(path_of("ssh", name, "rotation"))
    print_done({"kept": name}, f"{name} keeps its key.", as_json=as_json)


@ssh.command("known-hosts")
def show_known_hosts(
    *, pins: Annotated[bool, typer.Option("--pins", help="Only lines of yours.")] = False
) -> None:
    """Print the host keys that the nodes trust of each other, as a known_hosts file."""
    with connect() as client:
        text = client.get_text(f"/ssh/known-hosts?only_pins={str(pins).lower()}")
    sys.stdout.write(text)


@ssh.command("pin")
def pin_host_keys(
    lines: Annotated[Path, typer.Argument(help='Lines of known_hosts; "-": stdin.')],
    *,
    as_json: JsonFlag = False,
) -> None:
    """Pin host keys of nodes by known_hosts lines of yours; they replace the ones before."""
    with connect() as client:
        answer = client.put("/ssh/known-hosts", {"known_hosts": read_text(lines)})
    for node in answer if not as_json else ():
        if node["host_key_finding"]:
            print_note(node["host_key_finding"])
    print_done(answer, "The host keys to trust are saved.", as_json=as_json)


@ssh.command("test")
def ask_for_test(
    node: Annotated[str, typer.Argument(help="The node that connects.")],
    peer: Annotated[str, typer.Argument(help="The node that it connects to.")],
    timeout: Annotated[float, typer.Option(help="Seconds to wait for the last step.")] = 70.0,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Have a node take each step of a push to a peer, without pushing anything."""
    shown = 0
    ends = time.monotonic() + timeout
    with connect() as client:
        test = client.post("/ssh/tests", {"node": node, "peer": peer})
        while test["finished_at"] is None and not test["is_over"]:
            if time.monotonic() > ends:
                raise WaitedInVain(f"{node} did not finish within {timeout:g} s.")
            time.sleep(POLL_S)
            test = client.get(path_of("ssh", "tests", test["id"]))
            shown = _print_steps(test, shown, is_silent=as_json)
    if as_json:
        print_json(test)
    elif test["finished_at"] is not None:
        print_line(test["text"])
    if not test["is_ok"]:
        raise WaitedInVain(_failure(test))


def _print_steps(test: dict[str, Any], shown: int, *, is_silent: bool) -> int:
    """Print the steps that are new, and return how many there are."""
    for line in test["lines"][shown:] if not is_silent else ():
        print_line(f"{'ok    ' if line['ok'] else 'failed'}  {line['step']}: {line['text']}")
    return len(test["lines"])


def _failure(test: dict[str, Any]) -> str:
    if test["is_over"]:
        return f"{test['node']} did not report in time: whether it reaches the peer is unknown."
    return f"A push from {test['node']} to {test['peer']} would fail."
