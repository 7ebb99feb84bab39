"""Headers and texts of single messages: asked for, sealed at rest, gone after minutes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import delete, select
from sqlmodel import Session, col

from controlplane.errors import NotFound
from controlplane.store.clock import read_clock_s
from controlplane.store.crypto import SecretBox
from controlplane.store.queue_tables import QueueHeadersRow
from nodeagent.core.queue_contract import HeadersResult, HeadersWish, Preview

KEPT_S: Final = 600.0
ASKED_AT_ONCE: Final = 5


@dataclass(frozen=True)
class Headers:
    """An answer, or that there is none yet; `text` None: not in the node's live queue."""

    id: int
    node: str
    queue_id: str
    is_answered: bool
    text: str | None = None
    deferrals: tuple[str, ...] = ()
    preview: Preview | None = None


def ask_for_headers(
    session: Session,
    node: str,
    queue_id: str,
    requested_by: str,
    *,
    wants_preview: bool = False,
) -> int:
    """Note the wish; return its number."""
    row = QueueHeadersRow(
        node=node,
        queue_id=queue_id,
        wants_preview=wants_preview,
        requested_by=requested_by,
        requested_at=read_clock_s(session),
    )
    session.add(row)
    session.flush()
    assert row.id is not None  # noqa: S101 - a stored row has its id
    return row.id


def wishes_for(session: Session, node: str) -> tuple[HeadersWish, ...]:
    """Return the wishes that a node has not answered."""
    row = QueueHeadersRow
    rows = session.execute(
        select(row)
        .where(
            col(row.node) == node,
            col(row.answered_at).is_(None),
            col(row.requested_at) > read_clock_s(session) - KEPT_S,
        )
        .order_by(col(row.id))
        .limit(ASKED_AT_ONCE)
    ).scalars()
    return tuple(
        HeadersWish(request=one.id or 0, id=one.queue_id, has_preview=one.wants_preview)
        for one in rows
    )


def take_headers(
    session: Session, node: str, results: Sequence[HeadersResult], box: SecretBox
) -> None:
    """Keep a node's answers, each once."""
    for result in results:
        row = session.get(QueueHeadersRow, result.request)
        if row is None or row.node != node or row.answered_at is not None:
            continue
        content = result.model_dump(mode="json", include={"headers", "deferrals", "preview"})
        row.content_sealed = box.seal(json.dumps(content))
        row.answered_at = read_clock_s(session)
        session.add(row)
    session.flush()


def read_headers(session: Session, request: int, requested_by: str, box: SecretBox) -> Headers:
    """Return what a user asked for; raises `NotFound`, also for what somebody else asked."""
    row = session.get(QueueHeadersRow, request)
    limit_s = read_clock_s(session) - KEPT_S
    if row is None or row.requested_by != requested_by or row.requested_at < limit_s:
        raise NotFound(f"There is no answer {request}; ask for the headers again.")
    if row.content_sealed is None:
        return Headers(request, row.node, row.queue_id, is_answered=False)
    content = json.loads(box.open(row.content_sealed))
    preview = content.get("preview")
    return Headers(
        request,
        row.node,
        row.queue_id,
        is_answered=True,
        text=content["headers"],
        deferrals=tuple(content["deferrals"]),
        preview=None if preview is None else Preview.model_validate(preview),
    )


def prune_headers(session: Session) -> int:
    """Delete what was asked for minutes ago; return how many."""
    old = col(QueueHeadersRow.requested_at) < read_clock_s(session) - KEPT_S
    return session.connection().execute(delete(QueueHeadersRow).where(old)).rowcount
