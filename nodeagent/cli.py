"""`relay-agent`: run the agent, enrol this host, and look at what the agent sees and plans."""

from __future__ import annotations

import json
import signal
import sys
from typing import Annotated

import typer
from pydantic import ValidationError
from rich.console import Console
from rich.table import Table

from nodeagent.adapters.api_client import enrol as send_enrolment
from nodeagent.adapters.api_client import fetch_ca
from nodeagent.adapters.beside import Beside
from nodeagent.adapters.identity import Identity, ssh_host_keys
from nodeagent.adapters.ledger import Ledger
from nodeagent.adapters.status_file import read_status
from nodeagent.assembly import build_agent, build_tracer
from nodeagent.core.enrol_wire import EnrolRequest
from nodeagent.core.log_format import configure_log
from nodeagent.errors import AgentError, Refused
from nodeagent.settings import load_settings

app = typer.Typer(help="The node agent of Mail-Relay HA.", no_args_is_help=True)
console = Console()


@app.command()
def run() -> None:
    """Run the agent until SIGTERM; systemd starts this."""
    settings = load_settings()
    tracer = build_tracer(settings)
    agent = build_agent(settings, tracer)

    def stop(_number: int, _frame: object) -> None:
        tracer.stop()
        agent.stop()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    tracer.start()
    beside = [Beside("nodeagent.queue_reporter"), Beside("nodeagent.policy.courier")]
    for process in beside:
        process.start()
    agent.run(settings.tick_s)
    for process in beside:
        process.stop()


@app.command()
def enrol(
    url: Annotated[str, typer.Option(help="The control plane, https://HOST:8443.")],
    token: Annotated[str, typer.Option(help="The one-time token of this node.")],
    node: Annotated[str, typer.Option(help="This node's name in the cluster.")],
) -> None:
    """Enrol this host: make its keys, send the public halves, trust the control plane's CA."""
    settings = load_settings()
    identity = Identity(settings.state_directory)
    _secret, dot, fingerprint = token.rpartition(".")
    if not dot:
        raise Refused("The token is not whole: it has no certificate fingerprint.")
    ca_pem = fetch_ca(url, fingerprint)
    identity.make_keys()
    try:
        request = EnrolRequest(
            token=token,
            node=node,
            public_key_pem=identity.public_key_pem(),
            ssh_public_key=identity.ssh_key.public_key(),
            ssh_host_keys=ssh_host_keys(),
        )
    except ValidationError as error:
        raise Refused(f"{node!r} is not a node name.") from error
    answer = send_enrolment(url, ca_pem, request)
    Ledger(settings.state_directory).note_instance(answer.instance_id)
    identity.save_enrolment(answer.node, url, answer.ca_pem)
    console.print(f"{answer.node} is enrolled at {url}.")


@app.command()
def status(*, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False) -> None:
    """Show what the agent saw in its last tick, in a few lines."""
    content = read_status(load_settings().run_directory)
    seen = content["observation"]
    guard = seen["guard"] or {}
    summary = {
        "node": seen["node"],
        "role": content["role"],
        "vrrp": seen["vrrp"],
        "holds_vips": seen["holds_vips"],
        "is_proven": guard.get("is_proven"),
        "generation": guard.get("generation"),
        "remaining_s": guard.get("remaining_s"),
        "has_pending": guard.get("has_pending"),
        "view_age_s": seen["view_age_s"],
        "push_age_s": seen["push_age_s"],
        "config_version": seen["config"]["live_version"],
        "config_error": seen["config"]["failed_reason"],
        "rule": content["rule"],
        "mirrors": {mirror["queue"]: mirror["messages"] for mirror in seen["mirrors"]},
        "age_s": content["age_s"],
    }
    _print(summary, as_json=as_json)


@app.command()
def explain(
    *, as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False
) -> None:
    """Show the last observation, the rule that matched, and the plan."""
    content = read_status(load_settings().run_directory)
    if as_json:
        sys.stdout.write(json.dumps(content, indent=2) + "\n")
        return
    _print(content["observation"], as_json=False)
    console.print(f"[bold]{content['rule']}[/bold]: {content['comment']}")
    for action in content["plan"] or [{"action": "nothing"}]:
        console.print(f"  -> {action}")


def _print(content: dict[str, object], *, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(json.dumps(content) + "\n")
        return
    table = Table(show_header=False, box=None)
    for name, value in content.items():
        shown = f"{value:.1f}" if isinstance(value, float) else str(value)
        table.add_row(f"[dim]{name}[/dim]", shown)
    console.print(table)


def main() -> None:
    """Run the command line; an error is one sentence on standard error and exit code 1."""
    configure_log()
    try:
        app()
    except AgentError as error:
        sys.stderr.write(f"relay-agent: {error}\n")
        sys.exit(1)
