"""`relay-controlplane`: serve, back up, restore, hand out enrolment tokens, reset the admin."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, TypeVar

import typer
from pydantic import ValidationError

from controlplane import backup as backups
from controlplane.api.error_handlers import field_sentences
from controlplane.api.user_auth import login_rules
from controlplane.errors import ControlPlaneError, SetupFailed
from controlplane.server import make_state_dir, open_database, serving_lock
from controlplane.server import serve as run_server
from controlplane.settings import Settings
from controlplane.store import agents, audit
from controlplane.store.audit import SYSTEM
from controlplane.store.engine import Database
from controlplane.store.users import reset_admin
from controlplane.tls import ca_fingerprint
from nodeagent.core.log_format import configure_log
from nodeagent.core.names import is_node_name

T = TypeVar("T")

app = typer.Typer(
    help="The control plane of a Mail-Relay HA cluster. Settings come from RELAY_* variables.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line; an error of ours ends it with one sentence and exit code 1."""
    os.umask(0o077)
    configure_log()
    try:
        app()
    except ControlPlaneError as error:
        typer.echo(f"relay-controlplane: {error.detail}", err=True)
        raise SystemExit(1) from error


@app.command()
def serve() -> None:
    """Serve the API and the GUI over HTTPS until told to stop."""
    run_server(_settings())


@app.command()
def backup(file: Path) -> None:
    """Write a consistent copy of the embedded database to FILE, also while serving."""
    backups.back_up(_settings(), file)
    typer.echo(
        f"Backed up to {file}. Keep secret.key and tls/ca.pem of the state directory with it."
    )


@app.command()
def restore(
    file: Annotated[Path | None, typer.Argument(help="A file made by `backup`.")] = None,
    *,
    adopt_database: Annotated[
        bool, typer.Option(help="The database was restored by its own tool; only mark it.")
    ] = False,
) -> None:
    """Put a backup in place; leases wait until every node has reported what it remembers."""
    if (file is None) is not adopt_database:
        raise SetupFailed("Name either a backup file or --adopt-database.")
    settings = _settings()
    make_state_dir(settings.state_dir)
    with serving_lock(settings.state_dir, is_shared=False):
        instance_id = (
            backups.adopt_database(settings) if file is None else backups.restore(settings, file)
        )
    typer.echo(
        f"Restored as instance {instance_id}. No lease is granted until every node has reported; "
        "strike off nodes that are gone for good."
    )


@app.command()
def token(
    nodes: list[str],
    *,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
) -> None:
    """Make a one-time enrolment token for each NODE, good for 24 hours."""
    wrong = [name for name in nodes if not is_node_name(name)]
    if wrong:
        raise SetupFailed(f"{wrong[0]} is not a node name: use a-z, 0-9 and inner hyphens.")
    settings = _settings()
    issued = _with_database(settings, lambda database: _issue(database, settings, nodes))
    if as_json:
        typer.echo(json.dumps({one.node: one.text for one in issued}))
        return
    for one in issued:
        until = datetime.fromtimestamp(one.expires_at, UTC).strftime("%Y-%m-%d %H:%M UTC")
        typer.echo(f"{one.node}  {one.text}  (until {until})")


@app.command("reset-admin")
def reset_first_admin() -> None:
    """Give `admin` its first password back and end all of its sessions."""
    settings = _settings()
    _with_database(settings, lambda database: reset_admin(database, login_rules(settings)))
    typer.echo("admin has its first password again and must change it at the next login.")


def _issue(database: Database, settings: Settings, nodes: list[str]) -> list[agents.IssuedToken]:
    fingerprint = ca_fingerprint(settings.state_dir)
    with database.write() as session:
        issued = [agents.issue_token(session, name, fingerprint) for name in nodes]
        for one in issued:
            audit.record(session, SYSTEM, "node.enrolment-token", one.node)
    return issued


def _with_database(settings: Settings, use: Callable[[Database], T]) -> T:
    make_state_dir(settings.state_dir)
    database = open_database(settings)
    try:
        return use(database)
    finally:
        database.close()


def _settings() -> Settings:
    try:
        return Settings()
    except ValidationError as error:
        fields = field_sentences(error.errors())
        text = " ".join(f"RELAY_{name.upper()}: {fields[name]}" for name in fields)
        raise SetupFailed(text) from error
