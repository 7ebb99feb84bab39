"""The quarantine: what the policy holds, why, release and delete until the final count."""

from __future__ import annotations

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
    ask_node,
    print_page,
    run_action,
    select_messages,
)
from controlplane.relayctl.output import (
    Columns,
    JsonFlag,
    given,
    print_facts,
    print_json,
    print_line,
    print_list,
    print_more,
    print_note,
)
from nodeagent.policy.model import Severity

API: Final = "/mail-security/quarantine"

quarantine = typer.Typer(help="What the policy holds back.", no_args_is_help=True)

Rule = Annotated[str | None, typer.Option(help="Only what this rule held, or its begin*.")]
OfSeverity = Annotated[Severity | None, typer.Option(help="Only of this severity.")]


@quarantine.command("list")
def list_held(
    *,
    node: Node = None,
    sender: Sender = None,
    recipient: Recipient = None,
    rule: Rule = None,
    severity: OfSeverity = None,
    after: After = None,
    limit: Limit = 50,
    as_json: JsonFlag = False,
) -> None:
    """List what is in quarantine, newest first."""
    wanted = _filter(node, sender, recipient, rule, severity)
    page = fetch(API, **wanted, after=after, limit=limit)
    if as_json:
        print_json(page)
        return
    columns: Columns = {
        "MESSAGE": lambda one: f"{one['message']['node']}/{one['message']['queue_id']}",
        "HELD (UTC)": lambda one: one["held_at"][:19],
        "SENDER": lambda one: one["message"]["sender"] or "<>",
        "RECIPIENTS": lambda one: one["message"]["recipients"],
        "SUBJECT": "subject",
        "SEVERITY": "severity",
        "RULES": "rules",
    }
    print_page(page, columns, "Nothing is in quarantine.")
    print_more(page["after"])


@quarantine.command("show")
def show_held(
    node: NodeName,
    queue_id: QueueId,
    preview: Annotated[
        bool, typer.Option("--preview", help="Ask the node for the text; this is audited.")
    ] = False,
    timeout: Timeout = 30.0,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Show why a message is held, and what it says when asked for."""
    path = path_of("mail-security", "quarantine", "messages", node, queue_id)
    with connect() as client:
        shown = client.get(path)
        answer = None
        if preview:
            answers = ("mail-security", "quarantine", "previews")
            answer = ask_node(client, f"{path}/preview", answers, node, timeout)
    if as_json:
        print_json({**shown, "preview": answer} if preview else shown)
        return
    message = shown.pop("message")
    fired = shown.pop("fired")
    print_facts({**message, **{name: value for name, value in shown.items() if name != "rules"}})
    columns: Columns = {"RULE": "rule", "SEVERITY": "severity", "SCORE": "score", "WHY": "text"}
    print_list(fired, columns, "No rule is known.", as_json=False)
    if answer is not None:
        _print_preview(answer)


def _print_preview(answer: dict[str, Any]) -> None:
    for part in (answer["headers"], answer["text"]):
        if part is not None:
            print_line(f"\n{part.rstrip()}")
    for one in answer["attachments"]:
        print_line(f"Attachment: {one['name']} ({one['type']}, {one['size_bytes']} bytes)")
    if answer["is_cut"]:
        print_note("There is more of it than is shown.")


def _act(verb: str, help_text: str) -> None:
    """Add the command of one verb."""

    def command(
        messages: Ids = None,
        *,
        node: Node = None,
        sender: Sender = None,
        recipient: Recipient = None,
        rule: Rule = None,
        severity: OfSeverity = None,
        everything: All = False,
        yes: Yes = False,
        wait: Wait = True,
        timeout: Timeout = 300.0,
        as_json: JsonFlag = False,
    ) -> None:
        wanted = _filter(node, sender, recipient, rule, severity)
        run_action(
            f"{API}/actions",
            verb,
            select_messages(messages or [], wanted, everything=everything),
            is_sure=yes,
            wait_s=timeout if wait else None,
            as_json=as_json,
        )

    quarantine.command(verb, help=help_text)(command)


def _filter(
    node: str | None,
    sender: str | None,
    recipient: str | None,
    rule: str | None,
    severity: Severity | None,
) -> dict[str, object]:
    grave = None if severity is None else severity.value
    return given(node=node, sender=sender, recipient=recipient, rule=rule, severity=grave)


_act("release", "Let messages of the quarantine go their way; they are not judged again.")
_act("delete", "Delete messages of the quarantine for good; asks with the count.")
