"""Alerts: channels that notifications go to, thresholds of the rules, and what was sent."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Depends, Path, Query, Request, Response, status
from pydantic import BaseModel, ConfigDict, Field, SecretStr
from starlette.concurrency import run_in_threadpool

from controlplane.api.cluster_access import (
    CREATED,
    NOT_FOUND,
    Body,
    StoreDep,
    mark_created,
)
from controlplane.api.permissions import READ, AdminCaller
from controlplane.core.alert_rules import NoticeKind, Threshold, Unit
from controlplane.core.alert_state import CHANNEL_PATTERN, CoolDown, ThresholdValue
from controlplane.errors import SetupFailed
from controlplane.integrations.notifications import LATE, MOST_URL, Notifier, Outcome, describe
from controlplane.store import alert_channels, audit
from controlplane.store.alert_messages import Sent, list_sent
from controlplane.store.alert_settings import (
    SetRule,
    list_rules,
    set_pace,
    set_rule,
    settings_row,
)
from controlplane.store.alert_tables import AlertChannelRow
from controlplane.store.audit import Actor
from controlplane.store.cluster import ClusterStore, read_settings
from controlplane.store.engine import ReadSession, WriteSession

router = APIRouter(prefix="/api/v1/alerts", tags=["alerts"])

ChannelKey = Annotated[
    str, Path(pattern=CHANNEL_PATTERN, description="The channel's name.", examples=["on-call"])
]
RuleKey = Annotated[str, Path(pattern=r"^[a-z-]{1,40}$", examples=["queue-size"])]
TEST_TEXT = "This is a test: alerts of this cluster reach you here."


class ChannelBody(Body):
    """Where notifications go."""

    url: SecretStr | None = Field(
        default=None,
        max_length=MOST_URL,
        description="An Apprise URL. Null keeps the present one; it is never shown.",
        examples=["mailtos://user:password@example.com?to=admin@example.com"],
    )
    is_enabled: bool = True


class ChannelView(BaseModel):
    """A channel; its URL is not shown."""

    name: str
    has_url: bool = Field(description="False: it came with a state file and is yet to get one.")
    service: str = Field(examples=["E-Mail"])
    host: str = Field(description="Empty: a service of fixed place.", examples=["example.com"])
    is_enabled: bool
    last_at: datetime | None = Field(description="When something was sent last; null: never.")
    last_is_ok: bool | None
    last_text: str = Field(description="How that went.")


class OutcomeView(BaseModel):
    """How a test went."""

    is_ok: bool
    text: str = Field(examples=["The message was taken."])


class RuleBody(Body):
    """From when on a rule says something."""

    is_enabled: bool = True
    threshold: ThresholdValue


class RuleView(BaseModel):
    """A rule and its threshold."""

    name: str
    title: str
    explanation: str
    unit: Unit
    is_enabled: bool
    threshold: float
    default: float


class PaceBody(Body):
    """How often anything is said."""

    cool_down_minutes: CoolDown = Field(
        default=30, description="A rule says something new at most once in this."
    )
    tells_end: bool = Field(default=True, description="Say when something holds no longer.")


class NoticeView(BaseModel):
    """One rule's part of a message."""

    rule: str
    kind: NoticeKind


class DeliveryView(BaseModel):
    """A message's way to one channel."""

    channel: str
    attempts: int
    is_ok: bool | None = Field(description="Null: nothing was tried yet.")
    is_over: bool = Field(description="Nothing more is tried.")
    text: str


class SentView(BaseModel):
    """One message; without deliveries there was no channel for it."""

    number: int
    at: datetime
    title: str
    body: str
    notices: list[NoticeView]
    deliveries: list[DeliveryView]


class SentQuery(BaseModel):
    """Which page of the messages."""

    model_config = ConfigDict(extra="forbid")

    before: int | None = Field(default=None, ge=1, le=2**31 - 1)
    limit: int = Field(default=50, ge=1, le=200)


def get_notifier(request: Request) -> Notifier:
    """Give an endpoint what sends."""
    notifier = request.app.state.notifier
    if not isinstance(notifier, Notifier):
        raise SetupFailed("The application was started without what sends notifications.")
    return notifier


NotifierDep = Annotated[Notifier, Depends(get_notifier)]


@router.get("/channels")
def list_channels(caller: AdminCaller, session: ReadSession) -> list[ChannelView]:
    """List the channels; no URL is shown."""
    del caller
    return [channel_view(row) for row in alert_channels.list_channels(session)]


@router.put("/channels/{name}", responses=CREATED)
def put_channel(
    name: ChannelKey, body: ChannelBody, caller: AdminCaller, store: StoreDep, response: Response
) -> ChannelView:
    """Add or change a channel. Services: mail, webhook (JSON) and the usual chat services."""
    row, is_new = save_channel(store, name, body, caller.actor)
    mark_created(response, is_new=is_new)
    return channel_view(row)


@router.delete("/channels/{name}", status_code=status.HTTP_204_NO_CONTENT, responses=NOT_FOUND)
def delete_channel(name: ChannelKey, caller: AdminCaller, session: WriteSession) -> None:
    """Remove a channel, and what still waits for it."""
    alert_channels.delete_channel(session, name, caller.actor)


@router.post("/channels/{name}/test", responses=NOT_FOUND)
async def test_channel(
    name: ChannelKey, caller: AdminCaller, store: StoreDep, notifier: NotifierDep
) -> OutcomeView:
    """Send a test notification now, and say in one sentence how it went."""
    outcome = await try_channel(store, notifier, name, caller.actor)
    return OutcomeView(is_ok=outcome.is_ok, text=outcome.text)


@router.get("/rules", dependencies=[READ])
def read_rules(session: ReadSession) -> list[RuleView]:
    """List the rules with their thresholds."""
    return [rule_view(one) for one in list_rules(session)]


@router.put("/rules/{name}", responses=NOT_FOUND)
def put_rule(name: RuleKey, body: RuleBody, caller: AdminCaller, session: WriteSession) -> RuleView:
    """Set from when on a rule says something, or switch it off."""
    wanted = Threshold(body.is_enabled, body.threshold)
    return rule_view(set_rule(session, name, wanted, caller.actor))


@router.get("/settings", dependencies=[READ])
def read_pace(session: ReadSession) -> PaceBody:
    """Show how often anything is said."""
    row = settings_row(session)
    return PaceBody(cool_down_minutes=row.cool_down_minutes, tells_end=row.tells_end)


@router.put("/settings")
def put_pace(body: PaceBody, caller: AdminCaller, session: WriteSession) -> PaceBody:
    """Set how often anything is said."""
    set_pace(session, body.cool_down_minutes, caller.actor, tells_end=body.tells_end)
    return body


@router.get("/recent", dependencies=[READ])
def list_recent(query: Annotated[SentQuery, Query()], session: ReadSession) -> list[SentView]:
    """List what was sent, the newest first."""
    return [sent_view(one) for one in list_sent(session, query.limit, query.before)]


def save_channel(
    store: ClusterStore, name: str, body: ChannelBody, actor: Actor
) -> tuple[AlertChannelRow, bool]:
    """Add or change a channel; return it, and whether it is new. Raises Invalid, Conflict."""
    url = None
    if body.url is not None:
        text = body.url.get_secret_value().strip()
        url = (text, describe(text))
    with store.database.write() as session:
        return alert_channels.put_channel(
            session, store.box, name, url, is_enabled=body.is_enabled, actor=actor
        )


async def try_channel(store: ClusterStore, notifier: Notifier, name: str, actor: Actor) -> Outcome:
    """Send a test notification; no thread of the requests waits for it. Raises NotFound."""
    url, title = await run_in_threadpool(_prepare_test, store, name, actor)
    begun = notifier.begin(url, title, TEST_TEXT)
    try:
        outcome = await asyncio.wait_for(asyncio.wrap_future(begun), notifier.deadline_s)
    except TimeoutError:
        outcome = LATE
    await run_in_threadpool(_note_test, store, name, outcome)
    return outcome


def _prepare_test(store: ClusterStore, name: str, actor: Actor) -> tuple[str, str]:
    with store.database.write() as session:
        row = alert_channels.read_channel(session, name)
        url = alert_channels.open_url(row, store.box)
        audit.record(session, actor, "alert-channel.test", name)
        return url, f"[{read_settings(session).name}] Test of alerts"


def _note_test(store: ClusterStore, name: str, outcome: Outcome) -> None:
    with store.database.write() as session:
        alert_channels.note_outcome(session, name, outcome)


def channel_view(row: AlertChannelRow) -> ChannelView:
    """Return a channel as it is shown."""
    return ChannelView(
        name=row.name,
        has_url=bool(row.url_sealed),
        service=row.service,
        host=row.host,
        is_enabled=row.is_enabled,
        last_at=None if row.last_at is None else datetime.fromtimestamp(row.last_at, UTC),
        last_is_ok=row.last_is_ok,
        last_text=row.last_text,
    )


def rule_view(one: SetRule) -> RuleView:
    """Return a rule as it is shown."""
    return RuleView(
        name=one.rule.name,
        title=one.rule.title,
        explanation=one.rule.explanation,
        unit=one.rule.unit,
        is_enabled=one.threshold.is_enabled,
        threshold=one.threshold.value,
        default=one.rule.threshold,
    )


def sent_view(one: Sent) -> SentView:
    """Return a message as it is shown."""
    return SentView(
        number=one.row.number or 0,
        at=datetime.fromtimestamp(one.row.at, UTC),
        title=one.row.title,
        body=one.row.body,
        notices=[NoticeView.model_validate(notice) for notice in one.row.rules],
        deliveries=[
            DeliveryView(
                channel=row.channel,
                attempts=row.attempts,
                is_ok=row.is_ok,
                is_over=row.due_at is None,
                text=row.text,
            )
            for row in one.deliveries
        ],
    )
