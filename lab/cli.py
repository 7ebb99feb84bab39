"""`relay-lab`: a whole cluster on this machine, with faults on demand."""

from __future__ import annotations

import json
import sys
from contextlib import AbstractContextManager
from enum import StrEnum
from typing import Annotated, Final

import typer
from rich.console import Console
from rich.table import Table

from lab import cluster, hosts, lifecycle, network, preflight
from lab.errors import LabError
from lab.lock import exclusive
from lab.progress import step
from lab.settings import Settings, load

app = typer.Typer(
    help=__doc__, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
)

HostName = Annotated[str, typer.Argument(metavar="HOST", help="cp, node-a, node-b, sink, client.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print JSON.")]
_PASS_THROUGH: Final = {"ignore_unknown_options": True, "allow_interspersed_args": False}


class Database(StrEnum):
    """What the control plane keeps its state in."""

    SQLITE = "sqlite"
    POSTGRES = "postgres"


@app.command()
def up(
    *,
    db: Annotated[Database, typer.Option(help="The control plane's database.")] = Database.SQLITE,
    push_interval: Annotated[
        float, typer.Option(min=0.1, max=3600, metavar="S", help="Seconds between two pushes.")
    ] = 1.0,
    advert_int: Annotated[
        float, typer.Option(min=0.01, max=40.95, metavar="S", help="keepalived's advert_int.")
    ] = 0.1,
    no_sink: Annotated[
        bool, typer.Option("--no-sink", help="Leave 198.51.100.20:25 free for your own.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Bring up a new lab, clearing what an earlier run left, and wait until it is ready."""
    settings = Settings(
        database=db.value,
        push_interval_s=push_interval,
        advert_interval_s=advert_int,
        has_sink=not no_sink,
    )
    with exclusive():
        lifecycle.up(settings)
    _show_status(as_json=as_json)


@app.command()
def down() -> None:
    """Remove every trace of the lab."""
    preflight.require_root()
    with exclusive(), step("removing the lab"):
        lifecycle.down()


@app.command()
def status(*, as_json: AsJson = False) -> None:
    """Show the VIP, how to log in, and every host."""
    preflight.require_root()
    _show_status(as_json=as_json)


@app.command(name="exec", context_settings=_PASS_THROUGH)
def exec_(
    host: HostName,
    command: Annotated[list[str], typer.Argument(metavar="-- COMMAND...", help="What to run.")],
) -> None:
    """Run a command inside a host; its exit code, signals and output are the command's own."""
    preflight.require_root()
    words = command[1:] if command[0] == "--" else command
    if not words:
        raise LabError("Say what to run: relay-lab exec HOST -- COMMAND...")
    hosts.become(hosts.named(host), words)


@app.command()
def kill(host: HostName) -> None:
    """Cut a host's power: link down, every process killed at once, the disk kept."""
    with _changing():
        hosts.kill(hosts.named(host))


@app.command()
def boot(host: HostName) -> None:
    """Start a host again from its disk."""
    with _changing():
        hosts.boot(hosts.named(host))


@app.command()
def reboot(host: HostName) -> None:
    """Shut a host down cleanly and start it again."""
    with _changing():
        hosts.reboot(hosts.named(host))


@app.command()
def pause(host: HostName) -> None:
    """Make a whole host stand still."""
    with _changing():
        hosts.pause(hosts.named(host))


@app.command()
def resume(host: HostName) -> None:
    """Let a host that stands still go on."""
    with _changing():
        hosts.resume(hosts.named(host))


@app.command()
def cut(
    host: HostName,
    other: Annotated[str | None, typer.Argument(metavar="[HOST]", help="Only between two.")] = None,
) -> None:
    """Drop all packets of a host, or those between two hosts, without taking a link down."""
    with _changing():
        network.cut(hosts.named(host), hosts.named(other) if other else None)


@app.command()
def heal() -> None:
    """Undo every cut."""
    with _changing():
        network.heal()


@app.command()
def wait(
    condition: Annotated[str, typer.Argument(help="ready, or active=HOST.")],
    timeout: Annotated[float, typer.Option(metavar="S", help="Give up after so long.")] = 60.0,
) -> None:
    """Wait until the pair is ready, or a host is the active one."""
    preflight.require_root()
    cluster.wait_for(condition, timeout)


def _changing() -> AbstractContextManager[None]:
    preflight.require_root()
    load()
    return exclusive()


def _show_status(*, as_json: bool) -> None:
    found = cluster.status()
    if as_json:
        sys.stdout.write(json.dumps(found, indent=2) + "\n")
        return
    console = Console()
    admin = found["admin"]
    console.print(f"VIP            {found['vip']}")
    console.print(f"control plane  {found['control_plane_url']}")
    console.print(f"log in as      {admin['user']} / {admin['password']}", highlight=False)
    table = Table("host", "address", "pid", "role", "vip", "generation", "queue", box=None)
    for name, host in found["hosts"].items():
        state = "off" if host["pid"] is None else f"{host['pid']}"
        cells = (
            host["role"] or "",
            "yes" if host["vip"] else "",
            host["generation"],
            host["queue"],
        )
        shown = ["" if cell is None else str(cell) for cell in cells]
        table.add_row(name, host["address"], "paused" if host["is_paused"] else state, *shown)
    console.print(table)


def main() -> None:
    """Run the command line; an error is one sentence on standard error and exit code 1."""
    try:
        app()
    except (LabError, OSError) as error:
        sys.stderr.write(f"relay-lab: {error}\n")
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
