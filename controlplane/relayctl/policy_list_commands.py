"""The lists of the mail policy: bad words, categories, subscriptions; export and import of all."""

from __future__ import annotations

import codecs
import csv
import io
import json
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from controlplane.core.policy_lists import PolicyList
from controlplane.relayctl.connection import connect, path_of
from controlplane.relayctl.errors import Misused, Refused
from controlplane.relayctl.files import read_bytes, read_text, write_text
from controlplane.relayctl.output import (
    Columns,
    JsonFlag,
    given,
    print_done,
    print_line,
    print_list,
    print_note,
)
from nodeagent.policy.document import BadwordCategory, Posting
from nodeagent.policy.model import Severity

API: Final = "/mail-security"
PAGE: Final = 1000
SEEN_BYTES: Final = 4096
MEDIA: Final = {"csv": "text/csv", "json": "application/json"}

badword = typer.Typer(help="Words that mail must not have in it.", no_args_is_help=True)
category = typer.Typer(help="Addresses that stand for subscribers.", no_args_is_help=True)
subscription = typer.Typer(help="Who is subscribed to what.", no_args_is_help=True)

Search = Annotated[str, typer.Option(help="Only what has this in it.")]
Pattern = Annotated[str, typer.Argument(help="A word, a phrase or a regular expression.")]
Address = Annotated[str, typer.Argument(help="The category, for instance news@example.com.")]
Subscriber = Annotated[str, typer.Argument(help="The subscriber's address.")]
Replace = Annotated[bool, typer.Option("--replace", help="Remove all others.")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Only show.")]


class FileFormat(StrEnum):
    """How a file is written."""

    CSV = "csv"
    JSON = "json"


@dataclass(frozen=True)
class PolicyFile:
    """What is imported."""

    content: bytes
    format: FileFormat


Name = Annotated[PolicyList, typer.Argument(help="Which list.")]


def register(app: typer.Typer) -> None:
    """Add the commands that are about any list to `app`."""
    app.command("export")(export_list)
    app.command("import")(import_list)


def all_items(name: str, search: str) -> list[dict[str, Any]]:
    """Return a whole list, page after page."""
    listed: list[dict[str, Any]] = []
    before: int | None = None
    with connect() as client:
        while True:
            page = client.get(f"{API}/{name}", search=search, before=before, limit=PAGE)
            listed += page["items"]
            before = page["next_before"]
            if before is None:
                return listed


def remove_values(name: str, values: Sequence[str], *, as_json: bool) -> None:
    """Delete entries by value and say so; raises Refused when there was none."""
    with connect() as client:
        done = client.post(f"{API}/{name}/bulk-delete", {"values": list(values)})
    if done["removed"] == 0:
        raise Refused(f"{values[0]} is not among the {name}.")
    print_done(done, f"Removed {', '.join(values)}.", as_json=as_json)


@badword.command("list")
def list_badwords(search: Search = "", *, as_json: JsonFlag = False) -> None:
    """List the bad words, newest first."""
    columns: Columns = {
        "PATTERN": "pattern",
        "REGEX": "is_regex",
        "SEVERITY": "severity",
        "CATEGORY": "category",
        "ON": "is_enabled",
        "BY": "origin",
    }
    print_list(all_items("badwords", search), columns, "There is no bad word.", as_json=as_json)


@badword.command("add")
def add_badword(
    pattern: Pattern,
    *,
    regex: Annotated[bool, typer.Option("--regex", help="It is one, in RE2's syntax.")] = False,
    severity: Annotated[Severity, typer.Option(help="The settings say what it does.")] = (
        Severity.MEDIUM
    ),
    kind: Annotated[BadwordCategory, typer.Option("--category", help="What it stands for.")] = (
        BadwordCategory.CUSTOM
    ),
    off: Annotated[bool, typer.Option("--off", help="Keep it, but do not look for it.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Add a bad word, or replace the one that is there: what is left out gets its default."""
    body = {
        "pattern": pattern,
        "is_regex": regex,
        "severity": severity.value,
        "category": kind.value,
        "is_enabled": not off,
    }
    with connect() as client:
        answer = client.put(f"{API}/badwords", body)
    print_done(answer, f"Stored {pattern}.", as_json=as_json)


@badword.command("remove")
def remove_badword(pattern: Pattern, *, as_json: JsonFlag = False) -> None:
    """Remove a bad word."""
    remove_values("badwords", [pattern], as_json=as_json)


@category.command("list")
def list_categories(search: Search = "", *, as_json: JsonFlag = False) -> None:
    """List the categories, newest first."""
    columns: Columns = {
        "CATEGORY": "address",
        "NAME": "name",
        "WHO MAY WRITE": "posting",
        "AND ALSO": "allowed_senders",
        "ON": "is_enabled",
    }
    print_list(all_items("categories", search), columns, "There is no category.", as_json=as_json)


@category.command("add")
def add_category(
    address: Address,
    *,
    name: Annotated[str | None, typer.Option(help="As List-Id shows it.")] = None,
    posting: Annotated[Posting | None, typer.Option(help="Who may write to it.")] = None,
    sender: Annotated[
        list[str] | None, typer.Option(help="Who may always write; can be repeated.")
    ] = None,
    off: Annotated[bool, typer.Option("--off", help="Keep it, but take no mail for it.")] = False,
    as_json: JsonFlag = False,
) -> None:
    """Add a category, or replace the one that is there: what is left out gets its default."""
    body = given(
        address=address,
        name=name,
        posting=posting and posting.value,
        allowed_senders=sender,
        is_enabled=not off,
    )
    with connect() as client:
        answer = client.put(f"{API}/categories", body)
    print_done(answer, f"Stored {answer['address']}.", as_json=as_json)


@category.command("remove")
def remove_category(address: Address, *, as_json: JsonFlag = False) -> None:
    """Remove a category with all its subscriptions."""
    remove_values("categories", [address.lower()], as_json=as_json)


@subscription.command("list")
def list_subscriptions(
    of: Annotated[str | None, typer.Option("--category", help="Only of this category.")] = None,
    search: Search = "",
    *,
    as_json: JsonFlag = False,
) -> None:
    """List who is subscribed, newest first."""
    name = "subscriptions" if of is None else _of_category(of)
    columns: Columns = {"CATEGORY": "category", "SUBSCRIBER": "address", "BY": "origin"}
    print_list(all_items(name, search), columns, "Nobody is subscribed.", as_json=as_json)


@subscription.command("add")
def add_subscription(
    address: Address, subscriber: Subscriber, *, as_json: JsonFlag = False
) -> None:
    """Subscribe an address to a category; repeated, it changes nothing."""
    with connect() as client:
        answer = client.put(f"{API}/{_of_category(address)}{path_of(subscriber)}")
    sentence = f"{answer['address']} is subscribed to {answer['category']}."
    print_done(answer, sentence, as_json=as_json)


@subscription.command("remove")
def remove_subscription(
    address: Address, subscriber: Subscriber, *, as_json: JsonFlag = False
) -> None:
    """End one subscription."""
    with connect() as client:
        client.delete(f"{API}/{_of_category(address)}{path_of(subscriber)}")
    print_done({"removed": subscriber}, f"Removed {subscriber}.", as_json=as_json)


@subscription.command("import")
def import_subscriptions(
    file: Annotated[Path, typer.Argument(help="CSV category,address; -: stdin.")],
    of: Annotated[
        str | None, typer.Option("--category", help="The file has one address a line, for this.")
    ] = None,
    replace: Replace = False,
    dry_run: DryRun = False,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Subscribe all that a file names: all of it or nothing."""
    text = read_text(file)
    if of is not None:
        if replace:
            raise Misused("--replace is about all categories; it does not go with --category.")
        text = _as_csv(of, text)
    file_of = PolicyFile(text.encode(), FileFormat.CSV)
    _send(PolicyList.SUBSCRIPTIONS, file_of, replace=replace, dry_run=dry_run, as_json=as_json)


def export_list(
    name: Name,
    file: Annotated[Path | None, typer.Argument(help="Where to; left out: stdout.")] = None,
    file_format: Annotated[FileFormat, typer.Option("--format", help="csv or json.")] = (
        FileFormat.CSV
    ),
) -> None:
    """Write a list of the policy as a file that can be imported again."""
    with connect() as client:
        parts = client.stream(f"{API}/{name.value}/export", format=file_format.value)
        if file is not None:
            write_text(file, "".join(parts))
            return
        for part in parts:
            typer.echo(part, nl=False)


def import_list(
    name: Name,
    file: Annotated[
        Path, typer.Argument(help="CSV with its columns named first, JSON, or JSON lines.")
    ],
    replace: Replace = False,
    dry_run: DryRun = False,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Add or change what a file names: all of it, or nothing and a sentence a line."""
    content = read_bytes(file)
    start = content[:SEEN_BYTES].removeprefix(codecs.BOM_UTF8).lstrip()
    is_json = start.startswith((b"[", b"{"))
    named = PolicyFile(content, FileFormat.JSON if is_json else FileFormat.CSV)
    _send(name, named, replace=replace, dry_run=dry_run, as_json=as_json)


def _send(
    name: PolicyList, file: PolicyFile, *, replace: bool, dry_run: bool, as_json: bool
) -> None:
    path = f"{API}/{name.value}/import{'/preview' if dry_run else ''}"
    with connect() as client:
        media = MEDIA[file.format.value]
        done = client.post_file(path, file.content, media, replace=json.dumps(replace))
    problems = done.get("problems", {})
    counts = ", ".join(f"{count} {verb}" for verb, count in done.items() if verb != "problems")
    print_done(done, f"{name.value}: {counts}.", as_json=as_json)
    if dry_run and not as_json:
        for where, why in problems.items():
            print_line(f"{where}: {why}")
        print_note("Nothing was changed.")


def _of_category(address: str) -> str:
    return f"categories{path_of(address, 'subscriptions')}"


def _as_csv(address: str, text: str) -> str:
    """Return CSV of a text with one subscriber a line; what follows a # is a comment."""
    made = io.StringIO()
    writer = csv.writer(made)
    writer.writerow(("category", "address"))
    lines = (line.partition("#")[0].strip() for line in text.splitlines())
    writer.writerows((address, line) for line in lines if line)
    return made.getvalue()
