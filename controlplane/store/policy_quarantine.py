"""The quarantine: mail that the policy hook put into Postfix's hold queue, and why.

Theory of operation. The node's list of its queue says what is in hold, the policy log says which
of it the hook held: a message is in quarantine while both say so. What is in hold for another
reason is not, and neither is what was released, even before the node's next list says that it left.
A row about a message is kept for as long as any node lists it. It belongs to the node that held the
message, also after another adopted it: no other node can change what is said of the reason.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pydantic import Field
from sqlalchemy import (
    ColumnElement,
    and_,
    delete,
    exists,
    func,
    not_,
    select,
    tuple_,
    update,
)
from sqlmodel import Session, col

from controlplane.store.clock import SECONDS_A_DAY, read_clock_s
from controlplane.store.policy_log_tables import PolicyQuarantineRow
from controlplane.store.queue_search import (
    MessageFilter,
    about_message,
    cursor_of,
    is_behind,
    place_columns,
    storable,
)
from controlplane.store.queue_tables import QueueActionItemRow, QueueActionRow, QueueMessageRow
from controlplane.store.receipts import rows_of
from nodeagent.core.queue_contract import ItemState, QueueName, QueueVerb
from nodeagent.policy.log_wire import LogEntry
from nodeagent.policy.model import RuleKind, Severity

UNLISTED_KEPT_S: Final = 7 * SECONDS_A_DAY
PRUNED_AT_ONCE: Final = 500
KEYS_AT_ONCE: Final = 1000
_LEAVES: Final = (QueueVerb.RELEASE.value, QueueVerb.DELETE.value)
_WORST_FIRST: Final = tuple(reversed(Severity))


class QuarantineFilter(MessageFilter):
    """Which messages of the quarantine."""

    rule: str | None = Field(
        default=None,
        min_length=1,
        max_length=100,
        description="A rule that fired, or the beginning of one with a `*` at the end.",
    )
    type: RuleKind | None = Field(default=None, description="Which part of the engine fired.")
    severity: Severity | None = Field(default=None, description="The worst of what fired.")


@dataclass(frozen=True)
class Held:
    """One message in quarantine; `verb` and `item_state` are of the action asked for last."""

    message: QueueMessageRow
    reason: PolicyQuarantineRow
    verb: str | None
    item_state: str | None


@dataclass(frozen=True)
class HeldPage:
    """Some of the quarantine, newest first; `after` continues behind it, None: no more."""

    held: list[Held]
    total: int
    after: str | None


def quarantine_row(entry: LogEntry, node: str, message: int, now_s: float) -> dict[str, Any]:
    """Return what is kept of a decision to hold a message."""
    severities = {one.severity for one in entry.fired}
    worst = next((one.value for one in _WORST_FIRST if one in severities), None)
    return {
        "queue_id": entry.queue_id,
        "node": node,
        "at": entry.at,
        "received_at": now_s,
        "message": message,
        "client": entry.client,
        "login": entry.login,
        "subject": entry.subject,
        "message_id": entry.message_id,
        "revision": entry.revision,
        "rules": _lines(one.rule for one in entry.fired),
        "kinds": _lines(one.kind.value for one in entry.fired),
        "severity": worst,
        "fired": [one.model_dump(mode="json") for one in entry.fired],
    }


def _lines(names: Iterable[str]) -> str:
    return "".join(f"\n{one}\n" for one in names)


def find_held(
    session: Session, wanted: QuarantineFilter, limit: int, after: str | None = None
) -> HeldPage:
    """Return one page of the quarantine; raises `Invalid` for a cursor that is none."""
    meets = _conditions(wanted)
    total = int(session.execute(_joined(select(func.count()), meets)).scalar_one())
    if after is not None:
        meets.append(is_behind(after))
    order = (one.desc() for one in place_columns())
    found = _select_held(meets).order_by(*order).limit(limit + 1)
    held = [Held(*row) for row in session.execute(found)]
    page = held[:limit]
    return HeldPage(page, total, cursor_of(page[-1].message) if len(held) > limit else None)


def find_one(session: Session, node: str, queue_id: str) -> Held | None:
    """Return one message of the quarantine, None when it is not there, or not any more."""
    meets = _conditions(QuarantineFilter(node=node, queue_id=queue_id))
    row = session.execute(_select_held(meets)).one_or_none()
    return None if row is None else Held(*row)


def matching_keys(
    session: Session, wanted: QuarantineFilter, after: tuple[str, str] | None
) -> list[tuple[str, str]]:
    """Return the next node and queue id pairs that match, in their order, at most a thousand."""
    node, queue_id = col(QueueMessageRow.node), col(QueueMessageRow.queue_id)
    meets = _conditions(wanted)
    if after is not None:
        meets.append(tuple_(node, queue_id) > tuple_(*after))
    found = _joined(select(node, queue_id), meets).order_by(node, queue_id).limit(KEYS_AT_ONCE)
    return [(row[0], row[1]) for row in session.execute(found)]


def held_among(session: Session, keys: Sequence[tuple[str, str]]) -> list[tuple[str, str]]:
    """Return which of these, at most a thousand, are in quarantine."""
    queue_id = col(QueueMessageRow.queue_id)
    meets = [*_conditions(QuarantineFilter()), queue_id.in_(rows_of(session, [k[1] for k in keys]))]
    found = _joined(select(col(QueueMessageRow.node), queue_id), meets)
    present = {(row[0], row[1]) for row in session.execute(found)}
    return sorted(present & set(keys))


def note_action(session: Session, action: int, queue_ids: Sequence[str]) -> None:
    """Note what was asked for with these messages; the caller holds `POLICY_LOG_LOCK`."""
    row = PolicyQuarantineRow
    session.execute(
        update(row)
        .where(col(row.queue_id).in_(rows_of(session, queue_ids)))
        .values(action=action)
        .execution_options(synchronize_session=False)
    )


def prune_quarantine(session: Session) -> int:
    """Delete what is known of messages that no node lists any more, a few at once."""
    row = PolicyQuarantineRow
    is_listed = exists().where(col(QueueMessageRow.queue_id) == col(row.queue_id))
    old = col(row.received_at) < read_clock_s(session) - UNLISTED_KEPT_S
    gone = select(col(row.queue_id)).where(old, not_(is_listed)).limit(PRUNED_AT_ONCE)
    done = delete(row).where(col(row.queue_id).in_(list(session.execute(gone).scalars())))
    return session.connection().execute(done).rowcount


def _select_held(meets: Sequence[ColumnElement[bool]]) -> Any:
    verb, state = col(QueueActionRow.verb), col(QueueActionItemRow.state)
    columns = select(QueueMessageRow, PolicyQuarantineRow, verb, state)
    return _joined(columns, meets)


def _joined(columns: Any, meets: Sequence[ColumnElement[bool]]) -> Any:
    """Join what is in hold with why, and with what was asked for last."""
    message, reason, item = QueueMessageRow, PolicyQuarantineRow, QueueActionItemRow
    is_item = and_(
        col(item.action) == col(reason.action),
        col(item.queue_id) == col(message.queue_id),
        col(item.node) == col(message.node),
    )
    return (
        columns.select_from(message)
        .join(reason, col(reason.queue_id) == col(message.queue_id))
        .outerjoin(QueueActionRow, col(QueueActionRow.id) == col(reason.action))
        .outerjoin(item, is_item)
        .where(*meets)
    )


def _conditions(wanted: QuarantineFilter) -> list[ColumnElement[bool]]:
    return [
        col(QueueMessageRow.queue) == QueueName.HOLD.value,
        not_(_has_left()),
        *about_message(wanted),
        *_about_reason(PolicyQuarantineRow, wanted),
    ]


def _has_left() -> ColumnElement[bool]:
    """Return whether the node said that it let the message go, which its list may not say yet."""
    state = func.coalesce(col(QueueActionItemRow.state), "")
    verb = func.coalesce(col(QueueActionRow.verb), "")
    return and_(state == ItemState.DONE.value, verb.in_(_LEAVES))


def _about_reason(row: Any, wanted: QuarantineFilter) -> Iterator[ColumnElement[bool]]:
    if wanted.rule is not None:
        name = storable(wanted.rule)
        text = f"\n{name.removesuffix('*')}" if name.endswith("*") else f"\n{name}\n"
        yield col(row.rules).contains(text, autoescape=True)
    if wanted.type is not None:
        yield col(row.kinds).contains(f"\n{wanted.type.value}\n", autoescape=True)
    if wanted.severity is not None:
        yield col(row.severity) == wanted.severity.value
