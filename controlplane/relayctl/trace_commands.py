"""`relayctl trace`: find messages, show what happened to one, export what was found."""

from __future__ import annotations

import sys
from typing import Annotated, Any, Final

import typer

from controlplane.core.trace import TraceStatus
from controlplane.relayctl.connection import connect, fetch
from controlplane.relayctl.errors import Refused
from controlplane.relayctl.output import (
    Columns,
    JsonFlag,
    print_facts,
    print_json,
    print_line,
    print_list,
    print_more,
    print_note,
)

trace = typer.Typer(help="What happened to a mail, on every node.", no_args_is_help=True)

MAX_PAGE: Final = 500

Sender = Annotated[
    str | None, typer.Option(help="Address, @domain, or either's beginning with *; <> for none.")
]
Recipient = Annotated[str | None, typer.Option(help="Address, @domain, or a beginning with *.")]
Client = Annotated[str | None, typer.Option(help="IP address or host name, or a beginning with *.")]
QueueId = Annotated[str | None, typer.Option(help="Postfix's queue id.")]
MessageId = Annotated[str | None, typer.Option(help="The Message-ID header.")]
Status = Annotated[TraceStatus | None, typer.Option(help="What has become of it.")]
Since = Annotated[str | None, typer.Option(help="Not older than this time, ISO 8601 with zone.")]
Until = Annotated[str | None, typer.Option(help="Older than this time, ISO 8601 with zone.")]


def _recipients(message: dict[str, Any]) -> list[str]:
    return [one["recipient"] for one in message["deliveries"]]


COLUMNS: Final[Columns] = {
    "FIRST SEEN": "first_at",
    "QUEUE ID": "queue_id",
    "NODE": "node",
    "STATUS": "status",
    "SENDER": "sender",
    "RECIPIENTS": _recipients,
    "CLIENT": "client_address",
}


@trace.command("list")
def list_messages(
    *,
    sender: Sender = None,
    recipient: Recipient = None,
    client: Client = None,
    queue_id: QueueId = None,
    message_id: MessageId = None,
    status: Status = None,
    since: Since = None,
    until: Until = None,
    limit: Annotated[int, typer.Option(min=1, max=MAX_PAGE, help="How many.")] = 50,
    after: Annotated[str | None, typer.Option(help="The next page, as printed.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """List messages, newest first."""
    page = fetch(
        "/trace",
        sender=sender,
        recipient=recipient,
        client=client,
        queue_id=queue_id,
        message_id=message_id,
        status=None if status is None else status.value,
        since=since,
        until=until,
        limit=limit,
        after=after,
    )
    if as_json:
        print_json(page)
        return
    print_list(page["messages"], COLUMNS, "No message was found.", as_json=False)
    print_more(page["next"])


@trace.command()
def show(
    queue_id: Annotated[str, typer.Argument(help="Postfix's queue id.")],
    *,
    as_json: JsonFlag = False,
) -> None:
    """Show everything that happened to one message, on every node, in the order of time."""
    with connect() as client:
        found = client.get("/trace", queue_id=queue_id)["messages"]
        if not found:
            raise Refused(f"The trace knows no message {queue_id}.")
        answer = client.get(f"/trace/{found[0]['number']}")
    if as_json:
        print_json(answer)
        return
    message = answer["message"]
    print_facts({name: value for name, value in message.items() if name != "deliveries"})
    columns: Columns = {
        "RECIPIENT": "recipient",
        "STATUS": "status",
        "NODE": "node",
        "RELAY": "relay",
        "REPLY": "reply",
    }
    print_list(message["deliveries"], columns, "No recipient was tried yet.", as_json=False)
    for step in answer["steps"]:
        print_line(f"{step['at']} {step['node']} {step['service'] or step['kind']}: {step['text']}")
    if answer["is_cut"]:
        print_note("There is more than is shown.")


@trace.command()
def export(
    *,
    sender: Sender = None,
    recipient: Recipient = None,
    client: Client = None,
    queue_id: QueueId = None,
    message_id: MessageId = None,
    status: Status = None,
    since: Since = None,
    until: Until = None,
) -> None:
    """Print what a search finds as CSV, one line for each recipient."""
    with connect() as connection:
        parts = connection.stream(
            "/trace/export",
            sender=sender,
            recipient=recipient,
            client=client,
            queue_id=queue_id,
            message_id=message_id,
            status=None if status is None else status.value,
            since=since,
            until=until,
        )
        for part in parts:
            sys.stdout.write(part)
