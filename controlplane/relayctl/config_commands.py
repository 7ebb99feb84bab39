"""Settings, certificate and config versions."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from controlplane.relayctl.connection import connect, fetch, path_of
from controlplane.relayctl.errors import Misused, Refused
from controlplane.relayctl.files import read_text, write_text
from controlplane.relayctl.output import (
    Columns,
    JsonFlag,
    cell,
    print_facts,
    print_json,
    print_line,
    print_list,
    print_note,
    print_one,
    print_table,
)
from controlplane.relayctl.setting_pairs import changes_of, flat

config = typer.Typer(help="Config versions: preview, diff, apply, roll back.", no_args_is_help=True)
settings = typer.Typer(help="What all nodes share.", no_args_is_help=True)
certificate = typer.Typer(help="TLS certificate of GUI and SMTP.", no_args_is_help=True)

Reason = Annotated[str, typer.Option("--reason", "-m", help="Why, for the log.")]


@config.command("preview")
def preview(
    node: Annotated[str | None, typer.Option(help="Only this node.")] = None,
    path: Annotated[str | None, typer.Option(help="Print this file instead of the list.")] = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Show what the present settings would be as files; exit code 1 when they cannot be applied."""
    shown = fetch("/config/preview")
    if node is not None:
        shown["nodes"] = [one for one in shown["nodes"] if one["node"] == node]
    if as_json:
        print_json(shown)
    else:
        _print_preview(shown, path)
    if shown["problems"]:
        raise Refused("The settings have problems and cannot be applied.", shown["problems"])


def _print_preview(shown: dict[str, Any], path: str | None) -> None:
    if path is None:
        rows = [
            (one["node"], file["path"], file["mode"], file["size_bytes"])
            for one in shown["nodes"]
            for file in one["files"]
        ]
        print_table(("NODE", "FILE", "MODE", "BYTES"), rows, "There is nothing to render.")
        return
    files = [file for one in shown["nodes"] for file in one["files"] if file["path"] == path]
    if not files:
        raise Misused(f"No node gets a file {path}.")
    print_line(files[0]["content"] or "(hidden: it holds secrets)")


@config.command("diff")
def diff(
    from_version: Annotated[
        int | None, typer.Option("--from", help="A version; left out: the newest.")
    ] = None,
    to_version: Annotated[
        int | None, typer.Option("--to", help="A version; left out: the present settings.")
    ] = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Show what apply would change, or what differs between two versions."""
    shown = fetch("/config/diff", from_version=from_version, to_version=to_version)
    if as_json:
        print_json(shown)
    for one in [] if as_json else shown["files"]:
        print_line(f"{one['node']} {one['path']} ({one['change']})\n{one['text']}\n")
    if shown["problems"]:
        raise Refused("The settings have problems and cannot be applied.", shown["problems"])
    if not as_json and not shown["files"]:
        print_line("Nothing differs.")


@config.command("apply")
def apply(reason: Reason = "", *, as_json: JsonFlag = False) -> None:
    """Make a version of the present settings and assign it to all nodes."""
    with connect() as client:
        version = client.post("/config/apply", {"reason": reason})
    if as_json:
        print_json(version)
    else:
        print_line(f"Version {version['number']} ({version['sha256'][:12]}) is assigned.")
        print_note("relayctl nodes list shows when each node runs it.")


@config.command("rollback")
def roll_back(
    version: Annotated[int, typer.Argument(help="The version to go back to.")],
    reason: Reason = "",
    *,
    as_json: JsonFlag = False,
) -> None:
    """Assign the files of an old version again, as a new version; the settings stay."""
    with connect() as client:
        made = client.post(path_of("config", "rollback", version), {"reason": reason})
    if as_json:
        print_json(made)
    else:
        print_line(f"Version {made['number']} has the files of version {version}.")
        print_note("The settings are unchanged: relayctl config diff shows the difference.")


@config.command("versions")
def versions(*, as_json: JsonFlag = False) -> None:
    """List config versions, newest first."""
    columns: Columns = {
        "VERSION": "number",
        "MADE (UTC)": lambda one: one["created_at"][:19],
        "BY": "author",
        "HASH": lambda one: one["sha256"][:12],
        "RESTORED FROM": "restored_from",
        "WHY": "reason",
    }
    empty = "There is no version yet: relayctl config apply."
    print_list(fetch("/config/versions"), columns, empty, as_json=as_json)


@config.command("export")
def export_state(
    file: Annotated[Path | None, typer.Argument(help="Where to; left out: stdout.")] = None,
    *,
    subscriptions: Annotated[
        bool, typer.Option(help="With who is subscribed to what, which is personal data.")
    ] = True,
) -> None:
    """Write everything that was set, mail policy and alerts too, to a JSON file without secrets."""
    state = fetch("/state", subscriptions=json.dumps(subscriptions))
    if file is None:
        print_json(state)
    else:
        write_text(file, json.dumps(state, indent=2, ensure_ascii=False) + "\n")
        print_note(f"{file} holds the state without passwords and private keys.")
    policy = state["policy"]
    if policy["subscriptions"]:
        print_note("It names who is subscribed to what: --no-subscriptions leaves that out.")
    for name, count in policy["left_out"].items():
        print_note(f"{count} {name} are not in it: relayctl policy export {name} FILE")


@config.command("import")
def import_state(
    file: Annotated[Path, typer.Argument(help="A file that export wrote; -: stdin.")],
    yes: Annotated[bool, typer.Option("--yes", help="Import it; left out: only show.")] = False,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Show what a file would change; with --yes replace the whole state by it, or nothing."""
    try:
        state = json.loads(read_text(file))
    except (ValueError, RecursionError) as error:
        raise Misused(f"{file} is no JSON.") from error
    with connect() as client:
        shown = client.post("/state/preview", state)
        if not as_json:
            _print_state_changes(shown)
        if shown["problems"]:
            raise Refused("The file has problems; nothing was changed.", shown["problems"])
        if yes:
            expected = {
                "expected_revision": shown["revision"],
                "expected_policy_edits": shown["policy_edits"],
                "expected_alerts_digest": shown["alerts_digest"],
            }
            client.post("/state", {"state": state, **expected})
    if as_json:
        print_json({**shown, "is_imported": yes})
    elif yes:
        print_line("Imported; what is rendered into files needs: relayctl config apply.")
    else:
        print_note("Nothing was changed; --yes imports it.")


def _print_state_changes(shown: dict[str, Any]) -> None:
    for one in shown["settings"]:
        print_line(f"{one['name']}: {cell(one['before'])} -> {cell(one['after'])}")
    for name, change in shown["lists"].items():
        counts = ", ".join(
            f"{change[f'{verb}_count']} {verb}" for verb in ("added", "changed", "removed")
        )
        print_line(f"{name}: {counts}")
    for name in shown["untouched"]:
        print_note(f"{name} is not in the file and stays as it is.")
    for note in shown["notes"]:
        print_note(note)
    for one in shown["files"]:
        print_line(f"\n{one['node']} {one['path']} ({one['change']})\n{one['text']}")
    if not (shown["settings"] or shown["lists"] or shown["problems"]):
        print_line("Nothing differs.")


@settings.command("show")
def show_settings(*, as_json: JsonFlag = False) -> None:
    """Show the settings that all nodes share."""
    shown = fetch("/cluster")["settings"]
    if as_json:
        print_json(shown)
    else:
        print_facts(flat(shown))


@settings.command("set")
def set_settings(
    changes: Annotated[list[str], typer.Argument(help="NAME=VALUE, e.g. vrrp.advert_int_s=0.1")],
    *,
    as_json: JsonFlag = False,
) -> None:
    """Change settings; names are as `settings show` prints them, all changed together or none."""
    body = changes_of(changes)
    with connect() as client:
        after = client.patch("/cluster", body)
    if as_json:
        print_json(after)
    else:
        print_line("Changed; what is rendered into files needs: relayctl config apply.")


@certificate.command("show")
def show_certificate(*, as_json: JsonFlag = False) -> None:
    """Show the certificate of SMTP: the uploaded one, or the control plane's own."""
    print_one(fetch("/tls/certificate"), as_json=as_json)


@certificate.command("put")
def put_certificate(
    cert: Annotated[Path, typer.Argument(help="PEM file: the leaf, then its chain.")],
    key: Annotated[Path, typer.Argument(help="PEM file: the private key.")],
    name: Annotated[
        list[str] | None, typer.Option(help="A name that it must be valid for; may be repeated.")
    ] = None,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Replace the certificate of the GUI and, after the next apply, of SMTP."""
    body = {"cert_pem": read_text(cert), "key_pem": read_text(key), "names": name or []}
    with connect() as client:
        shown = client.put("/tls/certificate", body)
    if as_json:
        print_json(shown)
    else:
        print_line(f"Stored; valid until {shown['not_after'][:10]}, SHA-256 {shown['sha256']}.")
