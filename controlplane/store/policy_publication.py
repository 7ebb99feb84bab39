"""Brings edits of the policy to the nodes: packs the sections that were touched, counts revisions.

Theory of operation. An edit, in its own transaction, writes rows and counts the `edits` of the
sections that they stand in. Right behind it, still before the edit is answered, these sections are
packed from one snapshot, outside of any writing transaction: a full section takes a good part of a
second, and every heartbeat would wait. A second short transaction puts the packed body in place
with the count that its snapshot had, and raises the revision. So what is published is always a
state that was, a later one is never replaced by an earlier one, and what a crash left unpacked is
seen (`edits` differs from `packed_edits`) and packed by the next run of the job.

The policy's revision is the count of publications plus the cluster's own revision: trusted
networks, recipient domains and nodes are part of a manifest, and are read when it is made.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from json.encoder import encode_basestring as _quoted
from typing import Any, Final, NamedTuple

import structlog
from sqlalchemy import Select, or_, select, update
from sqlmodel import Session, col

from controlplane.errors import Conflict, ControlPlaneError, NotFound
from controlplane.store.clock import read_clock_s
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import POLICY_LOCK, Database
from controlplane.store.policy_kinds import BY_SECTION
from controlplane.store.policy_revision import raise_revision, read_revision
from controlplane.store.policy_settings import settings_for_nodes
from controlplane.store.policy_tables import PolicyImportRow, PolicySectionRow, ThreatSettingRow
from nodeagent.policy.document import (
    ENTRIES_A_SECTION,
    Listing,
    Manifest,
    Section,
    SectionKind,
    ThreatSetting,
    list_section,
)
from nodeagent.policy.engine.sections import PackedSection, line_of, pack_lines

log = structlog.get_logger(__name__)

Place = tuple[SectionKind, int]
ABANDONED_S: Final = 20.0
"""An import touches its sections more often than that, and packs them in the end."""


class _Ready(NamedTuple):
    """A section packed from a snapshot in which it had this many edits."""

    place: Place
    edits: int
    packed: PackedSection


def touch(session: Session, kind: SectionKind, ids: Iterable[int]) -> set[Place]:
    """Note that entries with these ids were changed; return the sections to publish."""
    now_s = read_clock_s(session)
    row = PolicySectionRow
    places = {(kind, list_section(number)) for number in ids}
    for _, number in sorted(places):
        is_it = (col(row.kind) == kind.value, col(row.number) == number)
        counted = {"edits": col(row.edits) + 1, "touched_at": now_s}
        done: Any = session.execute(update(row).where(*is_it).values(counted))
        if not done.rowcount:
            session.add(row(kind=kind.value, number=number, edits=1, touched_at=now_s))
            session.flush()
    return places


def publish(database: Database, places: Iterable[Place]) -> None:
    """Bring sections to the nodes; where the database is busy the job does it in a moment.

    While an import is carried out it brings what touches its lists, together with its own.
    """
    for place in sorted(places):
        try:
            _publish_one(database, place)
        except ControlPlaneError as error:
            log.warning("section not published", section=place, detail=error.detail)


def publish_within(session: Session, places: Iterable[Place]) -> None:
    """Pack sections in the transaction that changed them, so that nodes get them all at once.

    For edits that are bounded, since everybody waits meanwhile; the caller raises a revision.
    Raises Conflict while an import is carried out: a half of it would go along.
    """
    wanted = set(places)
    if held_kinds(session) & {kind for kind, _ in wanted}:
        raise Conflict("A file is being imported into the mail policy; try again in a minute.")
    for place in sorted(wanted):
        edits = session.execute(select(col(PolicySectionRow.edits)).where(*_is_at(place)))
        packed = _pack(*place, _read_lines(session, *place))
        _put(session, _Ready(place, edits.scalar_one(), packed))


def publish_together(
    database: Database,
    kinds: Iterable[SectionKind],
    finish: Callable[[Session], None],
    beat: Callable[[], None],
) -> None:
    """Bring all that was touched of these kinds to the nodes as one revision.

    `finish` runs within the transaction that does it; `beat` before each section is packed.
    """
    ready: list[_Ready] = []
    for place in unpublished(database, kinds):
        beat()
        try:
            ready += _pack_now(database, place, also_held=True)
        except Conflict as error:
            log.warning("section not published", section=place, detail=error.detail)
    with database.write(POLICY_LOCK) as session:
        finish(session)
        if sum(_put(session, one) for one in ready):
            raise_revision(session)


def publish_abandoned(database: Database, older_s: float = ABANDONED_S) -> int:
    """Publish sections whose edit nobody published; return how many there were."""
    places = unpublished(database, SectionKind, older_s)
    publish(database, places)
    return len(places)


def unpublished(
    database: Database, kinds: Iterable[SectionKind], older_s: float | None = None
) -> list[Place]:
    """Return the sections that were touched and not packed since, those that are held left out."""
    row = PolicySectionRow
    statement = select(col(row.kind), col(row.number)).where(
        col(row.edits) != col(row.packed_edits), col(row.kind).in_([kind.value for kind in kinds])
    )
    with database.read() as session:
        if older_s is not None:
            limit_s = read_clock_s(session) - older_s
            statement = statement.where(col(row.touched_at) <= limit_s)
            held = [kind.value for kind in held_kinds(session)]
            statement = statement.where(col(row.kind).not_in(held))
        found = session.execute(statement.order_by(col(row.kind), col(row.number)))
        return [(SectionKind(kind), number) for kind, number in found]


def held_kinds(session: Session) -> set[SectionKind]:
    """Return the kinds of sections that an import is changing: it publishes them in the end."""
    row = PolicyImportRow
    found = session.execute(select(col(row.sections)).where(col(row.is_committed))).scalars()
    return {SectionKind(kind) for kinds in found for kind in kinds.split(",")}


def read_manifest(session: Session, box: SecretBox) -> Manifest:
    """Return the policy as it is now, all but the bodies of its sections."""
    row = PolicySectionRow
    columns = (col(row.kind), col(row.number), col(row.sha256), col(row.entries))
    statement = select(*columns).where(col(row.entries) > 0).order_by(columns[0], columns[1])
    sections = tuple(
        Section(kind=SectionKind(kind), number=number, sha256=sha256, entries=entries)
        for kind, number, sha256, entries in session.execute(statement)
    )
    return Manifest(
        revision=read_revision(session),
        settings=settings_for_nodes(session, box),
        sections=sections,
    )


def read_body(session: Session, sha256: str) -> bytes:
    """Return a section packed; raises NotFound for one that was replaced meanwhile."""
    statement = select(col(PolicySectionRow.body)).where(col(PolicySectionRow.sha256) == sha256)
    body: bytes | None = session.execute(statement.limit(1)).scalar_one_or_none()
    if body is None:
        raise NotFound("There is no such section any more; fetch the manifest anew.")
    return body


def _publish_one(database: Database, place: Place) -> None:
    for ready in _pack_now(database, place):
        with database.write(POLICY_LOCK) as session:
            if _put(session, ready):
                raise_revision(session)


def _pack_now(database: Database, place: Place, *, also_held: bool = False) -> list[_Ready]:
    """Pack a section from one snapshot; nothing where it is packed already, or held."""
    kind, number = place
    row = PolicySectionRow
    statement = select(col(row.edits), col(row.packed_edits)).where(*_is_at(place))
    with database.read() as session:
        edits, packed_edits = session.execute(statement).one()
        is_held = not also_held and kind in held_kinds(session)
        if packed_edits >= edits or is_held:
            return []
        lines = _read_lines(session, kind, number)
    return [_Ready(place, edits, _pack(kind, number, lines))]


def _put(session: Session, ready: _Ready) -> bool:
    """Put a packed section in place unless a later state is there; True: nodes have to fetch it."""
    row, is_it = PolicySectionRow, _is_at(ready.place)
    statement = select(col(row.packed_edits), col(row.sha256)).where(*is_it)
    packed_edits, sha256 = session.execute(statement).one()
    if packed_edits >= ready.edits:
        return False
    section = ready.packed.section
    is_news = bool(sha256 != section.sha256)
    values: dict[str, Any] = {"packed_edits": ready.edits}
    if is_news:
        values |= {"sha256": section.sha256, "entries": section.entries}
        values["body"] = ready.packed.body
    session.execute(update(row).where(*is_it).values(values))
    return is_news


def _is_at(place: Place) -> tuple[Any, Any]:
    kind, number = place
    return col(PolicySectionRow.kind) == kind.value, col(PolicySectionRow.number) == number


def _pack(kind: SectionKind, number: int, lines: Sequence[str]) -> PackedSection:
    try:
        return pack_lines(kind, number, lines)
    except ValueError as error:
        raise Conflict(f"Section {number} of {kind} cannot be packed: {error}.") from error


def _read_lines(session: Session, kind: SectionKind, number: int) -> list[str]:
    """Return a section's lines in order; what has expired by the database's clock is left out."""
    if kind is SectionKind.LIST:
        return _list_lines(session, number)
    if kind is SectionKind.THREATS:
        rules = session.execute(select(ThreatSettingRow).order_by(col(ThreatSettingRow.rule)))
        return [line_of(ThreatSetting(**row.model_dump())) for row in rules.scalars()]
    source = BY_SECTION[kind]
    columns = source.columns
    statement = select(*(columns[name] for name in source.model.model_fields))
    rows = session.execute(_of_section(statement, columns, number)).mappings()
    return [line_of(source.model.model_validate(dict(row))) for row in rows]


def _list_lines(session: Session, number: int) -> list[str]:
    """Return the lines of list entries, written here: by the model it takes four times as long.

    They are what `line_of` writes: no field that has its default, in the model's order.
    """
    columns = BY_SECTION[SectionKind.LIST].columns
    fields = (columns.id, columns.listing, columns.value, columns.reason, columns.expires_at)
    is_valid = or_(columns.expires_at.is_(None), columns.expires_at > read_clock_s(session))
    statement = _of_section(select(*fields).where(is_valid), columns, number)
    return [
        f'{{"id":{entry_id}'
        + (f',"listing":{_quoted(listing)}' if listing != Listing.BLOCK.value else "")
        + f',"value":{_quoted(value)}'
        + (f',"reason":{_quoted(reason)}' if reason else "")
        + (f',"expires_at":{expires_at!r}' if expires_at is not None else "")
        + "}"
        for entry_id, listing, value, reason, expires_at in session.execute(statement)
    ]


def _of_section(statement: Select[Any], columns: Any, number: int) -> Select[Any]:
    first = number * ENTRIES_A_SECTION
    is_inside = (columns.id >= first, columns.id < first + ENTRIES_A_SECTION)
    return statement.where(*is_inside).order_by(columns.id)
