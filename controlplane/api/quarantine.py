"""The quarantine: what the policy hook holds, why, a safe look into it, release and delete.

Whoever may read the queue may read what is held and why. The text of a mail is an Operator's, who
looks at what is audited; release and delete are actions on the queue.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Path, Query, status
from pydantic import BaseModel, Field, model_validator
from sqlmodel import Session

from controlplane.api.cluster_access import NOT_FOUND, Body, NodeKey
from controlplane.api.mail_security.log_views import FiredView, fired_view, shown_time
from controlplane.api.permissions import READ, OperateCaller
from controlplane.api.queue_actions import MOST_NAMED, ActionView, NamedMessage, action_views
from controlplane.api.queue_messages import (
    MOST_ROWS,
    HeadersWanted,
    ListView,
    MessageView,
    QueueIdKey,
    message_view,
)
from controlplane.errors import NotFound
from controlplane.store import audit, queue_actions
from controlplane.store.audit import Actor
from controlplane.store.clock import read_clock_s
from controlplane.store.crypto import SecretBoxDep
from controlplane.store.engine import (
    POLICY_LOG_LOCK,
    Database,
    DatabaseDep,
    ReadSession,
    WriteSession,
)
from controlplane.store.policy_quarantine import (
    Held,
    QuarantineFilter,
    find_held,
    find_one,
    held_among,
    matching_keys,
    note_action,
)
from controlplane.store.queue_headers import Headers, ask_for_headers, read_headers
from controlplane.store.queue_search import list_states
from nodeagent.core.queue_contract import ItemState, QueueVerb
from nodeagent.policy.model import Severity

router = APIRouter(prefix="/api/v1/mail-security/quarantine", tags=["mail-security"])

Key = tuple[str, str]


class QuarantineVerb(StrEnum):
    """What can be done with a message in quarantine."""

    RELEASE = "release"
    DELETE = "delete"


class HeldAction(BaseModel):
    """What was asked for last with a message, and how far that is."""

    id: int
    verb: QueueVerb
    state: ItemState


class HeldView(BaseModel):
    """One message in quarantine; null is what the policy log does not tell."""

    message: MessageView
    held_at: datetime = Field(description="When it was decided, by the node's clock.")
    decision: int = Field(description="The decision's number in the log; it may be gone there.")
    severity: Severity | None = Field(description="The worst of what fired.")
    rules: list[str] = Field(description="The names of the rules that fired.")
    subject: str | None
    client: str | None
    login: str | None
    action: HeldAction | None


class HeldDetail(HeldView):
    """One message in quarantine with its reasons."""

    message_id: str | None
    revision: int | None = Field(description="Of the policy that decided.")
    fired: list[FiredView]


class QuarantinePage(BaseModel):
    """One page of the quarantine, newest first."""

    messages: list[HeldView]
    total: int = Field(description="How many messages match in all.")
    after: str | None = Field(description="Continues behind this page; null: there is no more.")
    nodes: list[ListView]


class QuarantineQuery(QuarantineFilter):
    """Which messages, and which page of them."""

    after: str | None = Field(default=None, max_length=200)
    limit: int = Field(default=50, ge=1, le=MOST_ROWS)


class AttachmentView(BaseModel):
    """An attachment, by what it says of itself."""

    name: str = Field(description="Empty: it has none.")
    type: str
    size_bytes: int


class PreviewView(BaseModel):
    """A safe look into a message; it is kept for ten minutes."""

    node: str
    queue_id: str
    is_answered: bool = Field(description="False: the node has not answered yet.")
    headers: str | None = Field(description="Null: not answered, or not in the live queue.")
    text: str | None = Field(
        description="What a reader would see, as plain text; null: not answered, or the node's "
        "agent is of a version without it."
    )
    is_cut: bool = Field(description="There is more than is shown.")
    attachments: list[AttachmentView]


class QuarantineAction(Body):
    """What is to be done, and with which messages: named ones, or all that match a filter."""

    verb: QuarantineVerb
    messages: tuple[NamedMessage, ...] | None = Field(
        default=None, min_length=1, max_length=MOST_NAMED
    )
    filter: QuarantineFilter | None = Field(
        default=None, description="An empty filter is the whole quarantine."
    )

    @model_validator(mode="after")
    def _has_one_selection(self) -> QuarantineAction:
        if (self.messages is None) == (self.filter is None):
            raise ValueError("give either messages or a filter")
        return self


@router.get("", dependencies=[READ])
def list_quarantine(
    wanted: Annotated[QuarantineQuery, Query()], session: ReadSession
) -> QuarantinePage:
    """List what is in quarantine, newest first; what is in hold for another reason is not."""
    return quarantine_page(session, wanted)


@router.get("/messages/{name}/{queue_id}", dependencies=[READ], responses=NOT_FOUND)
def read_held(name: NodeKey, queue_id: QueueIdKey, session: ReadSession) -> HeldDetail:
    """Show one message in quarantine, and every rule that fired."""
    return held_detail(session, name, queue_id)


@router.post(
    "/messages/{name}/{queue_id}/preview",
    status_code=status.HTTP_202_ACCEPTED,
    responses=NOT_FOUND,
)
def ask_preview(
    name: NodeKey, queue_id: QueueIdKey, caller: OperateCaller, session: WriteSession
) -> HeadersWanted:
    """Ask the node for headers and text of one message; who looks at what is audited."""
    return HeadersWanted(id=wish_preview(session, caller.actor, name, queue_id))


@router.get("/previews/{number}", responses=NOT_FOUND)
def show_preview(
    number: Annotated[int, Path(ge=1, le=2**31 - 1)],
    caller: OperateCaller,
    database: DatabaseDep,
    box: SecretBoxDep,
) -> PreviewView:
    """Show headers, text and the names of attachments that the caller asked for."""
    with database.read() as session:
        return preview_view(read_headers(session, number, caller.actor.name, box))


@router.post("/actions", status_code=status.HTTP_202_ACCEPTED)
def create_action(
    body: QuarantineAction, caller: OperateCaller, database: DatabaseDep
) -> ActionView:
    """Release or delete messages of the quarantine; what is not in it is left out.

    A released message is delivered at once and not judged again. `delete` waits until its count is
    confirmed, as every action on the queue (`/api/v1/queue/actions`).
    """
    return start_action(database, caller.actor, body)


def quarantine_page(session: Session, wanted: QuarantineQuery) -> QuarantinePage:
    """Return one page of the quarantine."""
    page = find_held(session, wanted, wanted.limit, wanted.after)
    now_s = read_clock_s(session)
    return QuarantinePage(
        messages=[HeldView(**_held(one, now_s)) for one in page.held],
        total=page.total,
        after=page.after,
        nodes=[ListView(**vars(one)) for one in list_states(session)],
    )


def held_detail(session: Session, node: str, queue_id: str) -> HeldDetail:
    """Return one message in quarantine; raises NotFound."""
    held = _find(session, node, queue_id)
    return HeldDetail(
        **_held(held, read_clock_s(session)),
        message_id=held.reason.message_id,
        revision=held.reason.revision,
        fired=[fired_view(one) for one in held.reason.fired],
    )


def wish_preview(session: Session, actor: Actor, node: str, queue_id: str) -> int:
    """Ask for a message's headers and text, audited; return the wish's number; raises NotFound."""
    _find(session, node, queue_id)
    wish = ask_for_headers(session, node, queue_id, actor.name, wants_preview=True)
    audit.record(session, actor, "quarantine.preview", f"{node}/{queue_id}")
    return wish


def preview_view(found: Headers) -> PreviewView:
    """Return an answer as it is shown."""
    preview = found.preview
    attachments = () if preview is None else preview.attachments
    return PreviewView(
        node=found.node,
        queue_id=found.queue_id,
        is_answered=found.is_answered,
        headers=found.text,
        text=None if preview is None else preview.text,
        is_cut=preview is not None and preview.is_cut,
        attachments=[AttachmentView(**one.model_dump()) for one in attachments],
    )


def start_action(database: Database, actor: Actor, body: QuarantineAction) -> ActionView:
    """Select in short transactions, then let it run or wait for its confirmation."""
    chosen = body.model_dump(mode="json", exclude={"verb"}, exclude_none=True)
    with database.write() as session:
        verb = QueueVerb(body.verb.value)
        action = queue_actions.begin_action(session, verb, chosen, actor.name)
    for keys in _selections(database, body):
        with database.write() as session:
            queue_actions.select_named(session, action, keys)
        with database.write(POLICY_LOG_LOCK) as session:
            note_action(session, action, [queue_id for _node, queue_id in keys])
    with database.write() as session:
        row = queue_actions.end_selection(session, action)
        after = {"verb": body.verb.value, "messages": row.total, "state": row.state, **chosen}
        audit.record(session, actor, "quarantine.action", str(action), after=after)
        return action_views(session, [row])[0]


def _selections(database: Database, body: QuarantineAction) -> Iterator[Sequence[Key]]:
    """Yield, piece by piece, what of the selection is in quarantine."""
    if body.messages is not None:
        with database.read() as session:
            named = sorted({(one.node, one.queue_id) for one in body.messages})
            keys = held_among(session, named)
        if keys:
            yield keys
        return
    place: Key | None = None
    while True:
        with database.read() as session:
            keys = matching_keys(session, body.filter or QuarantineFilter(), place)
        if not keys:
            return
        yield keys
        place = keys[-1]


def _find(session: Session, node: str, queue_id: str) -> Held:
    held = find_one(session, node, queue_id)
    if held is None:
        raise NotFound(f"{node} has no message {queue_id} in quarantine.")
    return held


def _held(held: Held, now_s: float) -> dict[str, Any]:
    reason = held.reason
    action = None
    if reason.action is not None and held.verb is not None and held.item_state is not None:
        state = ItemState(held.item_state)
        action = HeldAction(id=reason.action, verb=QueueVerb(held.verb), state=state)
    return {
        "message": message_view(held.message, now_s),
        "held_at": shown_time(reason.at),
        "decision": reason.message,
        "severity": None if reason.severity is None else Severity(reason.severity),
        "rules": [str(one["rule"]) for one in reason.fired],
        "subject": reason.subject,
        "client": reason.client,
        "login": reason.login,
        "action": action,
    }
