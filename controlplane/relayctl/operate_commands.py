"""What operators look at and do: status, attention, leases, queue, events, switchover, adopt."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any, Final

import typer

from controlplane.core.attention import Severity
from controlplane.relayctl.client import Client
from controlplane.relayctl.connection import connect, fetch, path_of
from controlplane.relayctl.errors import Misused, WaitedInVain
from controlplane.relayctl.output import (
    Columns,
    JsonFlag,
    age,
    print_facts,
    print_json,
    print_line,
    print_list,
    print_note,
    print_table,
)

POLL_S: Final = 0.5
FOLLOW_S: Final = 1.0
MAX_EVENTS: Final = 1000


def register(app: typer.Typer) -> None:
    """Add the commands to `app`."""
    app.command("status")(status)
    app.command("attention")(attention)
    app.command("system")(system)
    app.command("lease")(lease)
    app.command("events")(events)
    app.command("audit")(audit)
    app.command("switchover")(switchover)
    app.command("explain")(explain)
    app.command("adopt")(adopt)


def status(*, as_json: JsonFlag = False) -> None:
    """Show who is active, who holds which lease, and whether a switchover is under way."""
    with connect() as client:
        shown = {
            "cluster": client.get("/cluster")["settings"]["name"],
            "nodes": client.get("/nodes"),
            "leases": client.get("/leases"),
            "queue": client.get("/queue"),
            "switchover": client.get("/switchover", limit=1)["current"],
        }
    if as_json:
        print_json(shown)
        return
    headings = ("NODE", "ROLE", "VRRP", "VIPS", "QUEUE", "LAST PUSH", "CONFIG", "SEEN")
    totals = {one["node"]: one["total"] for one in shown["queue"]["nodes"]}
    rows = [_node_row(view, totals) for view in shown["nodes"]]
    print_table(headings, rows, "There is no node yet.")
    _print_leases(shown["leases"])
    if shown["switchover"] is not None:
        wish = shown["switchover"]
        print_line(f"Switchover from {wish['source']} to {wish['destination']} is under way.")


def _node_row(view: dict[str, Any], totals: dict[str, int]) -> tuple[object, ...]:
    name, state = view["node"]["name"], view["status"]
    report = state["report"]
    if report is None:
        role = "enrolled" if state["is_enrolled"] else "not enrolled"
        return (name, role, None, None, None, None, None, age(state["last_seen_s"]))
    pushes = [f"{one['peer']} {one['age_s']:.1f} s old" for one in report["pushes"]]
    return (
        name,
        report["role"],
        report["vrrp"],
        report["holds_vips"],
        totals.get(name),
        pushes,
        report["config_version"],
        age(state["last_seen_s"]),
    )


def attention(*, as_json: JsonFlag = False) -> None:
    """Show what needs attention, the worst first, with the next step to take."""
    columns: Columns = {
        "SEVERITY": "severity",
        "SINCE": "since",
        "WHAT": "text",
        "NEXT STEP": "step",
    }
    print_list(fetch("/attention"), columns, "Nothing needs attention.", as_json=as_json)


def system(*, as_json: JsonFlag = False) -> None:
    """Show how database, jobs, certificates, agents, clocks and disks are."""
    found = fetch("/system")
    if as_json:
        print_json(found)
        return
    database = found["database"]
    print_facts(
        {
            "version": found["version"],
            "answered_by": f"process {found['process_id']} on {found['host']}",
            "database": f"{database['kind']} {database['version']}",
            "schema": f"{database['migration']} of {database['newest_migration']}",
            "database_size_bytes": database["size_bytes"],
            "database_latency_ms": round(database["latency_ms"], 1),
            "disk_free_bytes": found["disk_free_bytes"],
        }
    )
    days: Columns = {"CERTIFICATE": "name", "DAYS LEFT": lambda one: int(one["days_left"])}
    print_list(found["certificates"], days, "There is no certificate.", as_json=False)
    jobs: Columns = {
        "JOB": "name",
        "LAST RUN (UTC)": lambda one: one["last_began_at"] and one["last_began_at"][:19],
        "ERROR": "last_error",
        "NEXT RUN (UTC)": lambda one: one["next_at"] and one["next_at"][:19],
    }
    print_list(found["jobs"], jobs, "That process runs no jobs.", as_json=False)
    nodes: Columns = {
        "NODE": "node",
        "AGENT": "agent_version",
        "CLOCK": lambda one: one["clock_offset_s"] and f"{one['clock_offset_s']:+.1f} s",
        "DISK FREE": "disk_free_bytes",
        "INODES FREE": "disk_free_inodes",
    }
    print_list(found["nodes"], nodes, "There is no node yet.", as_json=False)


def lease(*, as_json: JsonFlag = False) -> None:
    """Show who holds the lease of each queue."""
    _print_leases(fetch("/leases"), as_json=as_json)


def _print_leases(listed: list[dict[str, Any]], *, as_json: bool = False) -> None:
    columns: Columns = {
        "QUEUE OF": "queue",
        "HELD BY": lambda one: (
            one["holder"] if one["is_held"] else f"nobody (last {one['holder']})"
        ),
        "GENERATION": "generation",
        "REMAINING": lambda one: f"{one['remaining_s']:.1f} s" if one["is_held"] else "expired",
        "GRANTED TO": "granted_to",
        "NOTE": lambda one: "confirmed dead" if one["confirmed_dead"] else None,
    }
    print_list(listed, columns, "No node has enrolled yet.", as_json=as_json)


def events(
    node: Annotated[str | None, typer.Option(help="Only of this node.")] = None,
    kind: Annotated[str | None, typer.Option(help="Only of this kind.")] = None,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=MAX_EVENTS)] = 50,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on as they come.")] = False,
    *,
    severity: Annotated[Severity | None, typer.Option(help="Only as grave as this.")] = None,
    text: Annotated[str | None, typer.Option(help="Only with this in the text.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Show events, oldest first; with --follow and --json one JSON object a line."""
    grave = None if severity is None else severity.value
    wanted = {"node": node, "kind": kind, "severity": grave, "text": text}
    with connect() as client:
        listed = list(reversed(client.get("/events", **wanted, limit=limit)))
        if as_json and not follow:
            print_json(listed)
            return
        _print_events(listed, as_json=as_json)
        last = listed[-1]["number"] if listed else 0
        while follow:
            time.sleep(FOLLOW_S)
            listed = client.get("/events", **wanted, after=last, limit=MAX_EVENTS)
            _print_events(listed, as_json=as_json)
            last = listed[-1]["number"] if listed else last


def _print_events(listed: list[dict[str, Any]], *, as_json: bool) -> None:
    for one in listed:
        if as_json:
            print_json(one, is_one_line=True)
        else:
            where = one["node"] or "control plane"
            print_line(f"{one['received_at'][:19]} {where} {one['kind']}: {one['text']}")


def audit(
    actor: Annotated[str | None, typer.Option(help="Only by this user.")] = None,
    action: Annotated[str | None, typer.Option(help="Only this action, or vip.* say.")] = None,
    target: Annotated[str | None, typer.Option(help="Only of this, or its beginning*.")] = None,
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=MAX_EVENTS)] = 50,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Show who changed what, newest first."""
    listed = fetch("/audit", actor=actor, action=action, target=target, limit=limit)
    columns: Columns = {
        "AT (UTC)": lambda one: one["at"][:19],
        "WHO": "actor",
        "FROM": "address",
        "WHAT": "action",
        "OF": "target",
    }
    print_list(listed, columns, "Nothing was changed yet.", as_json=as_json)


def switchover(
    destination: Annotated[str, typer.Argument(help="The node that shall take over.")],
    source: Annotated[str | None, typer.Option(help="The active node, when several are.")] = None,
    wait: Annotated[bool, typer.Option("--wait", help="Until it is done or given up.")] = False,
    timeout: Annotated[float, typer.Option(help="Seconds to wait.", min=0.1)] = 60.0,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Hand the VIP and the queue over to another node; exit code 5 when --wait saw it fail."""
    body = {"destination": destination}
    if source is not None:
        body["source"] = source
    with connect() as client:
        wish = client.post("/switchover", body)
        if wait:
            wish = _wait_for(client, wish["id"], timeout)
    if as_json:
        print_json(wish)
    if wish["finished_at"] is None:
        sentence = f"{wish['source']} was asked to hand over to {wish['destination']}."
    elif wish["is_ok"]:
        sentence = f"{wish['destination']} has taken over from {wish['source']}{_figures(wish)}."
    else:
        raise WaitedInVain(f"Nothing was handed over: {wish['text']}")
    if not as_json:
        print_line(sentence)


def _wait_for(client: Client, number: int, timeout_s: float) -> dict[str, Any]:
    """Return the switchover once it is finished; each step is told as soon as it was seen."""
    ends, told = time.monotonic() + timeout_s, set()
    while time.monotonic() < ends:
        one = client.get(path_of("switchover", number))
        for step in one["steps"]:
            if step["state"] == "done" and step["name"] not in told:
                told.add(step["name"])
                print_note(f"{step['name']}.")
        if one["finished_at"] is not None:
            return dict(one)
        time.sleep(POLL_S)
    raise WaitedInVain(f"The switchover was not finished within {timeout_s:g} s.")


def _figures(wish: dict[str, Any]) -> str:
    parts = []
    if wish["messages"] is not None:
        parts.append(f"{wish['messages']} messages")
    if wish["stall_ms"] is not None:
        parts.append(f"SMTP stood still for {wish['stall_ms']:.0f} ms")
    return f" ({', '.join(parts)})" if parts else ""


def explain(
    node: Annotated[str, typer.Argument(help="The node's name.")], *, as_json: JsonFlag = False
) -> None:
    """Show the rule that a node last followed, and what it saw, as it reported them."""
    with connect() as client:
        view = client.get(path_of("nodes", node))
        leases = [one for one in client.get("/leases") if node in {one["queue"], one["holder"]}]
    report = view["status"]["report"]
    shown = {
        "node": node,
        "rule": report["rule"] if report is not None else None,
        "reported_s_ago": view["status"]["last_seen_s"],
        "report": report,
        "leases": leases,
    }
    if as_json:
        print_json(shown)
        return
    if report is None:
        print_line(f"{node} has never reported.")
        return
    print_line(f"Rule: {report['rule'] or 'none'} ({age(view['status']['last_seen_s'])})")
    print_facts({name: value for name, value in report.items() if not isinstance(value, dict)})
    _print_leases(leases)
    print_note(f"On {node} itself, `relay-agent explain` shows the whole observation and plan.")


def adopt(
    confirm_dead: Annotated[
        str, typer.Option("--confirm-dead", help="The node whose host is off.", metavar="NODE")
    ],
    yes: Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")] = False,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Vouch that a host is off, so that its peer adopts its queue without waiting.

    Safe exactly when the host is really off: what a host that still runs delivers besides its peer
    goes out twice.
    """
    with connect() as client:
        seen = client.get(path_of("nodes", confirm_dead))["status"]["last_seen_s"]
        if not yes:
            _ask(confirm_dead, seen)
        after = client.post(path_of("nodes", confirm_dead, "confirm-dead"))
    if as_json:
        print_json(after)
    else:
        print_line(f"The queue of {confirm_dead} is free; its peer adopts it now.")


def _ask(node: str, seen_s: float | None) -> None:
    print_note(
        f"{node} was last seen {age(seen_s)}.\n"
        f"This is safe exactly when the host {node} is really off (power cut, or its disk out).\n"
        "If it still runs, every message that its peer adopts can be delivered twice."
    )
    if not sys.stdin.isatty():
        raise Misused("Nobody can be asked here: --yes says that the host is off.")
    typer.confirm(f"Is the host {node} off?", abort=True, err=True)
