"""Imports whole files into a list of the mail policy: any length, little memory, short writes.

Theory of operation. Every line is read and checked first, and what can be used goes, sorted, to a
file of its own (`ImportScratch`). It is compared with the list part by part; what is new, differs
or has to go is kept, committed to, carried out and published by `policy_import_steps`: all of it
or nothing. A preview does the same up to the comparison.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, BinaryIO, Final, Protocol

import structlog
from sqlalchemy import select

from controlplane.core.names import BadValue
from controlplane.core.policy_files import Found, Values, csv_drafts, json_drafts
from controlplane.errors import ControlPlaneError, Invalid
from controlplane.store.audit import Actor
from controlplane.store.engine import Database
from controlplane.store.import_scratch import ImportScratch
from controlplane.store.policy_import_steps import PART, begin
from controlplane.store.policy_items import Changes, Row, compare, scope_of
from controlplane.store.policy_kinds import Kind

log = structlog.get_logger(__name__)

PAGE: Final = 5000
MAX_SENTENCES: Final = 20
_KEY: Final = "\n"


class FileKind(StrEnum):
    """What a file is."""

    CSV = "csv"
    JSON = "json"


class Keeps(Protocol):
    """Takes what an import decides."""

    def __call__(
        self, *, put: Sequence[Mapping[str, Any]] = (), remove: Sequence[int] = ()
    ) -> None:
        """Keep entries to put, and ids to remove."""


@dataclass(frozen=True)
class Preview:
    """What an import would do; `problems` are the first sentences, by line or entry."""

    changes: Changes
    invalid: int
    problems: Mapping[str, str]


@dataclass
class _Checked:
    """How many entries a file has, and what is wrong with how many."""

    entries: int = 0
    invalid: int = 0
    problems: dict[str, str] = field(default_factory=dict)


def import_file(
    database: Database,
    kind: Kind,
    file: BinaryIO,
    file_kind: FileKind,
    actor: Actor,
    *,
    replace: bool,
) -> Changes:
    """Put every entry of a file into a list, `replace`: and delete all others.

    Raises Invalid with a sentence a line, and Conflict while another file is imported.
    """
    with ImportScratch() as scratch:
        checked = _check(kind, file, file_kind, scratch)
        if checked.invalid:
            noun = "entry" if checked.invalid == 1 else "entries"
            counted = f"{checked.invalid} of {checked.entries} {noun} cannot be used"
            raise Invalid(f"{counted}; nothing was changed.", checked.problems)
        steps = begin(database, kind, f"import:{actor.name}")
        try:
            done = _decide(database, kind, scratch, steps.keep, replace=replace)
            steps.commit(actor, done)
        finally:
            steps.give_up()  # does nothing once it is committed
    try:
        steps.carry_out()
    except ControlPlaneError as error:
        log.warning("import is finished by the job", list=kind.name, detail=error.detail)
    return done


def preview_file(
    database: Database, kind: Kind, file: BinaryIO, file_kind: FileKind, *, replace: bool
) -> Preview:
    """Say what importing a file would change, and what of it cannot be used; change nothing."""
    with ImportScratch() as scratch:
        checked = _check(kind, file, file_kind, scratch)
        would = _decide(database, kind, scratch, _keep_nothing, replace=replace)
    return Preview(would, checked.invalid, checked.problems)


def export_rows(database: Database, kind: Kind) -> Iterator[list[Row]]:
    """Yield pages of a list, the oldest entry first, each page one snapshot."""
    columns = kind.columns
    last = 0
    while True:
        statement = select(*columns).where(*scope_of(kind), columns.id > last)
        with database.read() as session:
            found = session.execute(statement.order_by(columns.id).limit(PAGE)).mappings()
            rows: list[Row] = [dict(row) for row in found]
        if not rows:
            return
        yield rows
        last = rows[-1]["id"]


def _check(kind: Kind, file: BinaryIO, file_kind: FileKind, scratch: ImportScratch) -> _Checked:
    """Take in what can be used; say what cannot."""
    read = csv_drafts if file_kind is FileKind.CSV else json_drafts
    where = "line" if file_kind is FileKind.CSV else "entry"
    checked = _Checked()

    def usable() -> Iterator[tuple[str, Values]]:
        for place, found in read(kind.draft, file, kind.quick):
            checked.entries += 1
            try:
                values = _values(kind, found)
            except BadValue as bad:
                checked.invalid += 1
                if len(checked.problems) < MAX_SENTENCES:
                    checked.problems[f"{where} {place}"] = str(bad)
            else:
                yield _KEY.join(map(str, kind.key_of(values))), values

    scratch.keep(usable())
    return checked


def _values(kind: Kind, found: Found) -> Values:
    if isinstance(found, BadValue):
        raise found
    values = found if isinstance(found, dict) else kind.to_values(found)
    return {**values, **kind.scope}


def _decide(
    database: Database, kind: Kind, scratch: ImportScratch, keep: Keeps, *, replace: bool
) -> Changes:
    """Find out what is to be done, and have it kept; eight bytes of memory an entry."""
    done = Changes()
    kept: array[int] = array("q")
    for part in scratch.parts(PART):
        with database.read() as session:
            found = compare(session, kind, part)
        keep(put=[*found.added, *(values for _, values in found.changed)])
        kept.extend(found.unchanged)
        kept.extend(number for number, _ in found.changed)
        done.add(found.as_changes(kind))
    if replace:
        for gone in _others(database, kind, array("q", sorted(kept))):
            keep(remove=gone)
            done.removed += len(gone)
    return done


def _keep_nothing(**decided: Any) -> None:
    del decided


def _others(database: Database, kind: Kind, kept: array[int]) -> Iterator[list[int]]:
    """Yield the ids of the list that are not among `kept`, which are sorted."""
    columns = kind.columns
    last = 0
    while True:
        statement = select(columns.id).where(*scope_of(kind), columns.id > last)
        with database.read() as session:
            page = session.execute(statement.order_by(columns.id).limit(PAGE)).scalars().all()
        if not page:
            return
        yield [number for number in page if not _has(kept, number)]
        last = page[-1]


def _has(numbers: array[int], number: int) -> bool:
    place = bisect_left(numbers, number)
    return place < len(numbers) and numbers[place] == number
