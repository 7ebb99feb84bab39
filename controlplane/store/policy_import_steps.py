"""Carries out what an import has decided: kept first, then done part by part, published once.

Theory of operation. What an import will put and remove is decided before anything is changed, and
kept in parts (`begin`, `keep`) that nobody looks at. One short transaction then commits to it,
with the audit row; before it the import leaves nothing behind, after it somebody carries it out to
its end: who began it, or after a crash the job (`resume`). Each part is a transaction so short
that heartbeats fit between them, and can be done twice. Meanwhile no section of these lists is
published (`policy_publication.held_kinds`); all of them are, as one revision, in the end. An edit
in between is taken, and reaches the nodes with the import.
"""

from __future__ import annotations

import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Final, TypeVar

import structlog
from pydantic_core import from_json, to_json
from sqlalchemy import delete, insert, select, update
from sqlmodel import Session, col

from controlplane.errors import Conflict, ControlPlaneError, Unavailable
from controlplane.store.audit import Actor
from controlplane.store.clock import read_clock_s
from controlplane.store.engine import POLICY_LOCK, Database
from controlplane.store.policy_items import Changes, audit_bulk, put_many, remove_rows, with_owners
from controlplane.store.policy_kinds import BY_NAME, Kind
from controlplane.store.policy_publication import publish, publish_together, unpublished
from controlplane.store.policy_settings import check_new_entries
from controlplane.store.policy_tables import PolicyImportPartRow, PolicyImportRow

log = structlog.get_logger(__name__)

PART: Final = 1000
"""Entries a transaction: some tens of milliseconds."""
BEAT_S: Final = 3.0
LOST_S: Final = 30.0
"""An import that was not heard of for so long has nobody any more."""
TRIES: Final = 20
RETRY_S: Final = 0.5
QUICKLY: Final = 1  # zlib's level
_Done = TypeVar("_Done")


class ImportSteps:
    """One import that was begun."""

    def __init__(self, database: Database, number: int, kind: Kind) -> None:
        self._database = database
        self._number = number
        self._kind = kind
        self._puts: list[Mapping[str, Any]] = []
        self._removals: list[int] = []
        self._kept = 0
        self._beat_at_s = time.monotonic()

    def keep(self, *, put: Sequence[Mapping[str, Any]] = (), remove: Sequence[int] = ()) -> None:
        """Keep entries that will be added or changed, and ids of those that will go."""
        self._puts += put
        self._removals += remove
        while len(self._puts) + len(self._removals) >= PART:
            self._keep_part()
        self._beat()

    def commit(self, actor: Actor, done: Changes) -> None:
        """Make it sure that this will be done; raises Conflict when it was given up."""
        while self._puts or self._removals:
            self._keep_part()

        def write(session: Session) -> None:
            if not _touch(session, self._number, is_committed=True):
                raise Conflict("The import stood still too long; nothing was changed, try again.")
            check_new_entries(session, self._kind.section, done.added)
            audit_bulk(session, actor, self._kind, "import", done)

        patiently(partial(self._write, write, is_urgent=True))

    def give_up(self) -> None:
        """Leave nothing behind; what cannot be deleted now the job deletes."""
        try:
            self._write(partial(_forget, number=self._number, is_committed=False))
        except ControlPlaneError as error:
            log.warning("import not cleaned up", number=self._number, detail=error.detail)

    def carry_out(self) -> None:
        """Do all that was kept, and publish it; another one may do the same at the same time."""
        while patiently(partial(self._write, self._do_next)):
            pass
        sections = self._kind.sections
        forget = partial(_forget, number=self._number, is_committed=True)
        patiently(partial(publish_together, self._database, sections, forget, self._beat))
        publish(self._database, unpublished(self._database, sections))

    def _do_next(self, session: Session) -> bool:
        row = PolicyImportPartRow
        mine = col(row.import_id) == self._number
        statement = select(col(row.number), col(row.body)).where(mine).order_by(col(row.number))
        found = session.execute(statement.limit(1)).one_or_none()
        if found is None:
            return False
        part = from_json(zlib.decompress(found[1]))
        origin = select(col(PolicyImportRow.origin)).where(col(PolicyImportRow.id) == self._number)
        puts = with_owners(session, self._kind, part["put"])
        if puts:
            put_many(session, self._kind, puts, session.execute(origin).scalar_one())
        remove_rows(session, self._kind, part["remove"])
        session.execute(delete(row).where(mine, col(row.number) == found[0]))
        _touch(session, self._number)
        return True

    def _keep_part(self) -> None:
        puts, self._puts = self._puts[:PART], self._puts[PART:]
        room = PART - len(puts)
        removals, self._removals = self._removals[:room], self._removals[room:]
        body = zlib.compress(to_json({"put": puts, "remove": removals}), QUICKLY)
        row = {"import_id": self._number, "number": self._kept, "body": body}

        def write(session: Session) -> None:
            session.execute(insert(PolicyImportPartRow).values(row))
            _touch(session, self._number)

        patiently(partial(self._write, write))
        self._kept += 1

    def _beat(self) -> None:
        """Say that somebody is at it."""
        if time.monotonic() - self._beat_at_s > BEAT_S:
            patiently(partial(self._write, partial(_touch, number=self._number)))
            self._beat_at_s = time.monotonic()

    def _write(self, work: Callable[[Session], _Done], *, is_urgent: bool = False) -> _Done:
        with self._database.write(POLICY_LOCK, is_urgent=is_urgent) as session:
            return work(session)


def begin(database: Database, kind: Kind, origin: str) -> ImportSteps:
    """Begin an import; raises Conflict while another one changes the same sections."""
    with database.write(POLICY_LOCK) as session:
        for sections in session.execute(select(col(PolicyImportRow.sections))).scalars():
            if set(sections.split(",")) & {one.value for one in kind.sections}:
                raise Conflict(
                    "Another file is being imported into this list; try again in a minute."
                )
        row = PolicyImportRow(
            list=kind.name,
            sections=",".join(one.value for one in kind.sections),
            origin=origin[:64],
            touched_at=read_clock_s(session),
        )
        session.add(row)
        session.flush()
        number = row.id
    assert number is not None  # noqa: S101 - the database gave one
    return ImportSteps(database, number, kind)


def resume(database: Database, older_s: float = LOST_S) -> int:
    """Carry out or clean up imports whose process is gone; return how many there were."""
    row = PolicyImportRow
    with database.read() as session:
        limit_s = read_clock_s(session) - older_s
        statement = select(col(row.id), col(row.list), col(row.is_committed))
        lost = session.execute(statement.where(col(row.touched_at) <= limit_s)).all()
    for number, name, is_committed in lost:
        log.warning("import of a lost process", list=name, number=number, committed=is_committed)
        steps = ImportSteps(database, number, BY_NAME[name])
        if is_committed:
            steps.carry_out()
        else:
            steps.give_up()
    return len(lost)


def patiently(work: Callable[[], _Done]) -> _Done:
    """Do one step again while others keep the database busy; raises Unavailable in the end."""
    for _ in range(TRIES - 1):
        try:
            return work()
        except Unavailable:
            time.sleep(RETRY_S)
    return work()


def _touch(session: Session, number: int, **values: Any) -> bool:
    """Note that somebody is at an import; False: it is not there any more."""
    statement = update(PolicyImportRow).where(col(PolicyImportRow.id) == number)
    done: Any = session.execute(statement.values(touched_at=read_clock_s(session), **values))
    return bool(done.rowcount)


def _forget(session: Session, number: int, *, is_committed: bool) -> None:
    """Delete an import in this state, with what was kept of it."""
    row, part = PolicyImportRow, PolicyImportPartRow
    is_it = (col(row.id) == number, col(row.is_committed) == is_committed)
    done: Any = session.execute(delete(row).where(*is_it))
    if done.rowcount:
        session.execute(delete(part).where(col(part.import_id) == number))
