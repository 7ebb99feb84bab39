"""The queues of all nodes: counts, messages, headers, and bulk actions until their final count."""

from __future__ import annotations

import re
from typing import Annotated, Any, Final

import typer

from controlplane.relayctl.connection import connect, fetch, path_of
from controlplane.relayctl.message_actions import (
    After,
    All,
    Ids,
    Limit,
    Node,
    NodeName,
    QueueId,
    Recipient,
    Sender,
    Timeout,
    Wait,
    Yes,
    action_sentence,
    ask_node,
    print_page,
    run_action,
    select_messages,
)
from controlplane.relayctl.output import (
    Columns,
    JsonFlag,
    age,
    given,
    print_done,
    print_facts,
    print_json,
    print_line,
    print_list,
    print_more,
    print_note,
    print_table,
)
from nodeagent.core.queue_contract import QueueName, QueueVerb

UNITS_S: Final = {"s": 1, "m": 60, "h": 3600, "d": 86400}

queue = typer.Typer(help="The messages that wait on all nodes.")


def _duration_s(text: str) -> float:
    """Return the seconds of "90s", "30m", "2h" or "5d"."""
    match = re.fullmatch(r"(\d{1,9})([smhd])", text)
    if match is None:
        raise typer.BadParameter(f"{text!r} is no length of time; write 90s, 30m, 2h or 5d.")
    return float(int(match.group(1)) * UNITS_S[match.group(2)])


InQueue = Annotated[QueueName | None, typer.Option("--queue", help="Only in this queue.")]
Domain = Annotated[str | None, typer.Option(help="Recipient domain, or next hop last tried.")]
Reason = Annotated[str | None, typer.Option(help="Part of why it was deferred.")]
Older = Annotated[
    float | None,
    typer.Option("--older", parser=_duration_s, metavar="AGE", help="Such as 90s, 30m, 2h, 5d."),
]
Younger = Annotated[
    float | None,
    typer.Option("--younger", parser=_duration_s, metavar="AGE", help="The same."),
]


@queue.callback(invoke_without_command=True)
def show_counts(context: typer.Context, *, as_json: JsonFlag = False) -> None:
    """Show the queues of all nodes in one list; further commands show and change messages."""
    if context.invoked_subcommand is not None:
        return
    shown = fetch("/queue")
    if as_json:
        print_json(shown)
        return
    places = ("incoming", "active", "deferred", "hold", "pending", "retired", "quarantined")
    rows = [
        (
            one["node"],
            *(one["counts"][place] for place in places),
            one["total"],
            [f"{mirror['queue']} {mirror['messages']}" for mirror in one["mirrors"]],
            age(one["reported_age_s"]),
        )
        for one in shown["nodes"]
    ]
    headings = ("NODE", *(place.upper() for place in places), "TOTAL", "MIRRORS", "REPORTED")
    print_table(headings, rows, "No node has reported yet.")
    print_line(f"{shown['total']} messages in all; mirrors are copies.")


@queue.command("list")
def list_messages(
    *,
    node: Node = None,
    in_queue: InQueue = None,
    sender: Sender = None,
    recipient: Recipient = None,
    domain: Domain = None,
    reason: Reason = None,
    older: Older = None,
    younger: Younger = None,
    oldest_first: Annotated[bool, typer.Option("--oldest-first", help="Else newest.")] = False,
    after: After = None,
    limit: Limit = 50,
    as_json: JsonFlag = False,
) -> None:
    """List messages, as the nodes last listed them."""
    wanted = _filter(node, in_queue, sender, recipient, domain, reason, older, younger)
    page = fetch("/queue/messages", **wanted, oldest_first=oldest_first, after=after, limit=limit)
    if as_json:
        print_json(page)
        return
    columns: Columns = {
        "MESSAGE": lambda one: f"{one['node']}/{one['queue_id']}",
        "QUEUE": "queue",
        "AGE": lambda one: age(one["age_s"]),
        "SIZE": "size_bytes",
        "SENDER": lambda one: one["sender"] or "<>",
        "RECIPIENTS": _recipients,
        "REASON": "reason",
    }
    print_page(page, columns, "No message matches.")
    for one in page["nodes"]:
        if not one["is_complete"]:
            print_note(f"The list of {one['node']} is not whole yet.")
        print_note(f"{one['node']}: {one['messages']} messages, seen {age(one['listed_age_s'])}.")
    print_more(page["after"])


def _recipients(message: dict[str, Any]) -> str:
    more = message["recipient_count"] - 1
    first = message["recipients"][0] if message["recipients"] else "none left"
    return f"{first} and {more} more" if more > 0 else first


def _filter(*values: object) -> dict[str, object]:
    names = ("node", "queue", "sender", "recipient", "domain", "reason")
    found = dict(zip((*names, "older_than_s", "younger_than_s"), values, strict=True))
    queue_name = found["queue"]
    if isinstance(queue_name, QueueName):
        found["queue"] = queue_name.value
    return given(**found)


@queue.command("show")
def show_message(
    node: NodeName,
    queue_id: QueueId,
    headers: Annotated[
        bool, typer.Option("--headers", help="Ask the node for the headers; this is audited.")
    ] = False,
    timeout: Timeout = 30.0,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Show one message: envelope, why it was deferred, and its headers when asked for."""
    with connect() as client:
        shown = client.get(path_of("queue", "messages", node, queue_id))
        answer = None
        if headers:
            question = path_of("queue", "messages", node, queue_id, "headers")
            answer = ask_node(client, question, ("queue", "headers"), node, timeout)
    if as_json:
        print_json({**shown, "answer": answer} if headers else shown)
        return
    print_facts(shown)
    if answer is None:
        return
    for deferral in answer["deferrals"]:
        print_line(deferral)
    if answer["headers"] is None:
        print_line(f"{queue_id} is not in the live queue of {node} any more.")
    else:
        print_line(f"\n{answer['headers'].rstrip()}")


def _act(verb: QueueVerb, help_text: str) -> None:
    """Add the command of one verb."""

    def command(
        messages: Ids = None,
        *,
        node: Node = None,
        in_queue: InQueue = None,
        sender: Sender = None,
        recipient: Recipient = None,
        domain: Domain = None,
        reason: Reason = None,
        older: Older = None,
        younger: Younger = None,
        everything: All = False,
        yes: Yes = False,
        wait: Wait = True,
        timeout: Timeout = 300.0,
        as_json: JsonFlag = False,
    ) -> None:
        wanted = _filter(node, in_queue, sender, recipient, domain, reason, older, younger)
        run_action(
            "/queue/actions",
            verb.value,
            select_messages(messages or [], wanted, everything=everything),
            is_sure=yes,
            wait_s=timeout if wait else None,
            as_json=as_json,
        )

    queue.command(verb.value, help=help_text)(command)


for _verb, _help in (
    (QueueVerb.HOLD, "Put messages on hold: nothing tries them until they are released."),
    (QueueVerb.RELEASE, "Release messages from hold."),
    (QueueVerb.REQUEUE, "Have messages pass through Postfix anew; each gets a new queue id."),
    (QueueVerb.FLUSH, "Have deferred messages tried now."),
    (QueueVerb.DELETE, "Delete messages for good; asks with the count."),
):
    _act(_verb, _help)


@queue.command("actions")
def list_actions(
    limit: Annotated[int, typer.Option(help="How many.", min=1, max=100)] = 20,
    *,
    as_json: JsonFlag = False,
) -> None:
    """List the last bulk actions, newest first."""
    columns: Columns = {
        "ACTION": "id",
        "VERB": "verb",
        "STATE": "state",
        "WHO": "requested_by",
        "AT (UTC)": lambda one: one["requested_at"][:19],
        "TOTAL": "total",
        "DONE": lambda one: one["counts"]["done"],
        "WAITING": lambda one: one["counts"]["waiting"],
        "NOT FOUND": lambda one: one["counts"]["not_found"],
        "ERROR": lambda one: one["error"] or None,
    }
    listed = fetch("/queue/actions", limit=limit)
    print_list(listed, columns, "Nothing was done to any queue yet.", as_json=as_json)


@queue.command("cancel")
def cancel_action(
    number: Annotated[int, typer.Argument(help="The action's number.")],
    *,
    as_json: JsonFlag = False,
) -> None:
    """Withdraw what an action has not done yet."""
    with connect() as client:
        action = client.delete(path_of("queue", "actions", number))
    print_done(action, action_sentence(action), as_json=as_json)
