"""The cluster at a glance: what needs attention now, and how queues and mail flow went."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Annotated

from fastapi import APIRouter, Query
from pydantic import BaseModel, ConfigDict, Field

from controlplane.api.permissions import READ
from controlplane.core.attention import Severity, find_attention
from controlplane.store.engine import ReadSession
from controlplane.store.samples import read_history
from controlplane.store.situation import read_situation

router = APIRouter(prefix="/api/v1", tags=["overview"])

HOUR_S = 3600
MOST_HOURS = 30 * 24


class AttentionView(BaseModel):
    """One thing that needs attention."""

    rule: str = Field(description="The name of the rule that holds.", examples=["silent"])
    severity: Severity = Field(
        description="bad: mail is in danger or waits; warn: it may come to that; info: neither."
    )
    text: str = Field(examples=["node-a has stopped reporting."])
    step: str = Field(description="What to do next.")
    since: datetime | None = Field(description="Null: not known, or not a matter of time.")


class SeriesView(BaseModel):
    """One node's samples: a value for each moment of `at`, null where nothing is known."""

    node: str
    queue: dict[str, list[int | None]] = Field(
        description="The largest count of each step, by place."
    )
    flow: dict[str, list[int | None]] = Field(
        description="What happened in each step, as Postfix logged it: messages accepted; "
        "recipients delivered, deferred and bounced; commands and messages rejected."
    )


class HistoryView(BaseModel):
    """The samples of all nodes."""

    step_s: int = Field(description="The length of a step in seconds.")
    at: list[int] = Field(description="The begin of each step, in seconds since 1970.")
    nodes: list[SeriesView]


class HistoryQuery(BaseModel):
    """How far to look back."""

    model_config = ConfigDict(extra="forbid")

    hours: float = Field(
        default=1, gt=0, le=MOST_HOURS, description="At most 30 days; a day is kept every 10 s."
    )


@router.get("/attention", dependencies=[READ])
def list_attention(session: ReadSession) -> list[AttentionView]:
    """List what needs attention, the worst first; empty: nothing that is known of."""
    return [
        AttentionView(
            rule=one.rule,
            severity=one.severity,
            text=one.text,
            step=one.step,
            since=None if one.since_s is None else datetime.fromtimestamp(one.since_s, UTC),
        )
        for one in find_attention(read_situation(session))
    ]


@router.get("/samples", dependencies=[READ])
def read_samples(query: Annotated[HistoryQuery, Query()], session: ReadSession) -> HistoryView:
    """Show how many messages waited and went, over time; in as fine steps as a chart can show."""
    history = read_history(session, max(1, int(query.hours * HOUR_S)))
    nodes = [SeriesView(node=one.node, queue=one.queue, flow=one.flow) for one in history.nodes]
    return HistoryView(step_s=history.step_s, at=history.at, nodes=nodes)
