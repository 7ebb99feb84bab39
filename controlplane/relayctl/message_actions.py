"""Bulk actions on queued messages: how they are chosen, confirmed and followed to their count."""

from __future__ import annotations

import sys
import time
from typing import Annotated, Any, Final

import typer

from controlplane.relayctl.client import Client
from controlplane.relayctl.connection import connect, path_of
from controlplane.relayctl.errors import Misused, WaitedInVain
from controlplane.relayctl.output import (
    Columns,
    print_done,
    print_line,
    print_list,
    print_note,
)

POLL_S: Final = 0.5
ENDED: Final = ("finished", "cancelled")

Node = Annotated[str | None, typer.Option(help="Only of this node.")]
Sender = Annotated[str | None, typer.Option(help='Part of the sender; "" for bounces.')]
Recipient = Annotated[str | None, typer.Option(help="Part of a recipient.")]
After = Annotated[str | None, typer.Option(help="Go on behind this place.")]
Limit = Annotated[int, typer.Option(help="How many.", min=1, max=500)]
NodeName = Annotated[str, typer.Argument(help="The node that has it.")]
QueueId = Annotated[str, typer.Argument(help="Postfix's queue id.")]
Ids = Annotated[
    list[str] | None, typer.Argument(help="Messages as NODE/QUEUE-ID; else give a filter or --all.")
]
All = Annotated[bool, typer.Option("--all", help="Every message that matches; without filter all.")]
Yes = Annotated[bool, typer.Option("--yes", help="Do not ask; for scripts.")]
Wait = Annotated[bool, typer.Option("--wait/--no-wait", help="Until the final count.")]
Timeout = Annotated[float, typer.Option(help="Seconds to wait.", min=0.1)]


def run_action(
    path: str,
    verb: str,
    selection: dict[str, Any],
    *,
    is_sure: bool,
    wait_s: float | None,
    as_json: bool,
) -> None:
    """Have something done with what `select_messages` gave, and print how far it came.

    It asks first where the action needs it, and waits for the count unless `wait_s` is None.
    """
    with connect() as client:
        action = client.post(path, {"verb": verb, **selection})
        if action["state"] == "unconfirmed":
            action = confirm_action(client, action, is_sure=is_sure)
        if wait_s is not None:
            action = wait_for_action(client, action, wait_s)
    print_done(action, action_sentence(action), as_json=as_json)


def ask_node(
    client: Client, question: str, answers: tuple[str, ...], node: str, timeout_s: float
) -> dict[str, Any]:
    """Ask for what only the node has of a message, and wait for it; raises WaitedInVain.

    `question` is what is posted, `answers` the path whose numbers are the answers.
    """
    wanted = client.post(question)
    ends = time.monotonic() + timeout_s
    while time.monotonic() < ends:
        answer = client.get(path_of(*answers, wanted["id"]))
        if answer["is_answered"]:
            return dict(answer)
        time.sleep(POLL_S)
    raise WaitedInVain(f"{node} did not answer within {timeout_s:g} s.")


def print_page(page: dict[str, Any], columns: Columns, empty: str) -> None:
    """Print one page of messages and how many match."""
    print_list(page["messages"], columns, empty, as_json=False)
    print_line(f"{len(page['messages'])} of {page['total']} messages that match.")


def select_messages(
    messages: list[str], wanted: dict[str, object], *, everything: bool
) -> dict[str, Any]:
    """Return the selection of an action: named messages or a filter; raises Misused."""
    if messages and (wanted or everything):
        raise Misused("Name messages, or give a filter; not both.")
    if messages:
        pairs = [one.partition("/") for one in messages]
        if not all(slash for _node, slash, _id in pairs):
            raise Misused("A message is named NODE/QUEUE-ID.")
        return {"messages": [{"node": node, "queue_id": one} for node, _slash, one in pairs]}
    if not wanted and not everything:
        raise Misused("Name messages, give a filter, or say --all.")
    return {"filter": wanted}


def confirm_action(client: Client, action: dict[str, Any], *, is_sure: bool) -> dict[str, Any]:
    """Ask with the count; what is not confirmed is withdrawn."""
    path = path_of("queue", "actions", action["id"])
    if not is_sure:
        print_note(f"{action['total']} messages are selected. Deleted mail is gone for good.")
        if not sys.stdin.isatty():
            client.delete(path)
            raise Misused("Nobody can be asked here: --yes says that they may be deleted.")
        if not typer.confirm(f"Delete {action['total']} messages?", err=True):
            client.delete(path)
            raise typer.Abort
    return dict(client.post(f"{path}/confirm", {"count": action["total"]}))


def wait_for_action(client: Client, action: dict[str, Any], timeout_s: float) -> dict[str, Any]:
    """Ask until an action has ended; raises WaitedInVain."""
    ends = time.monotonic() + timeout_s
    while action["state"] not in ENDED:
        if time.monotonic() > ends:
            raise WaitedInVain(f"Not finished within {timeout_s:g} s: {action_sentence(action)}")
        time.sleep(POLL_S)
        action = client.get(path_of("queue", "actions", action["id"]))
    return action


def action_sentence(action: dict[str, Any]) -> str:
    """Return how far an action is, in one sentence."""
    counts = action["counts"]
    parts = [f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count]
    shown = ", ".join(parts) or "nothing to do"
    text = f"Action {action['id']} ({action['verb']}) is {action['state']}: {shown}."
    return f"{text} {action['error']}" if action["error"] else text
