"""The spool of the trace on a bad disk, and where another version of the agent wrote it."""

from __future__ import annotations

import resource
import sqlite3
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeagent.adapters.mail_log import Position
from nodeagent.adapters.spool import ROW_BYTES
from nodeagent.adapters.trace_spool import TraceSpool
from nodeagent.core.stream_wire import MOST_ENTRIES
from nodeagent.core.trace_wire import NumberedEntry, TraceEntry, TraceKind
from nodeagent.errors import BrokenState
from tests.contract.test_agent_files import in_processes
from tests.contract.test_trace_spool import MIB, Taker, run, tracer, write

PLACE = Position(10, "0" * 64, 10, 1.0)


def entry(number: int, text: str = "line") -> TraceEntry:
    """Return an entry that can be told apart."""
    return TraceEntry(at=float(number), kind=TraceKind.NOTE, text=f"{text} {number}")


def numbers(spool: TraceSpool) -> list[int]:
    """Return the numbers of the next batch."""
    batch = spool.read()
    return [] if batch is None else [one.number for one in batch.entries]


def alter(path: Path, statement: str, *values: object) -> None:
    """Change the file behind the agent's back."""
    with sqlite3.connect(path) as database:
        database.execute(statement, values)
    database.close()


@pytest.mark.parametrize(
    "data",
    [
        '{"at": 1, "kind": "invented-later"}',
        '{"at": "never", "kind": "note"}',
        '{"at": 1',
        "",
        "[]",
    ],
)
def test_an_entry_of_another_version_keeps_no_other_back(tmp_path: Path, data: str) -> None:
    """After a downgrade: one gap of one line in its place, and the trace goes on."""
    path = tmp_path / "trace.db"
    spool = TraceSpool(path, MIB)
    spool.append([entry(1), entry(2), entry(3)], PLACE)
    spool.close()
    alter(path, "UPDATE entries SET data = ? WHERE number = 2", data)
    batch = TraceSpool(path, MIB).read()
    assert batch is not None
    first, second, third = (one.entry for one in batch.entries)
    assert (first, third) == (entry(1), entry(3))
    assert (second.kind, second.lost) == (TraceKind.GAP, 1)


def test_dropping_the_oldest_counts_those_of_another_version(tmp_path: Path) -> None:
    """They are lines that nobody will see, as the others."""
    path = tmp_path / "trace.db"
    spool = TraceSpool(path, MIB)
    spool.append([entry(number, "x" * 500) for number in range(40)], PLACE)
    spool.close()
    alter(path, "UPDATE entries SET data = '{}' WHERE number % 2")
    small = TraceSpool(path, 10_000)
    small.append([], PLACE)
    batch = small.read()
    assert batch is not None
    gaps = [one.entry.lost or 0 for one in batch.entries if one.entry.kind is TraceKind.GAP]
    kept = [one for one in batch.entries if one.entry.kind is TraceKind.NOTE]
    assert sum(gaps) + len(kept) == 40


@pytest.mark.parametrize("text", ["{}", "[]", "torn", '{"offset": 1, "inode": 5}', "null"])
def test_a_place_that_cannot_be_read_is_told(tmp_path: Path, text: str) -> None:
    """It is not taken for the start of the log, which would bring everything twice."""
    path = tmp_path / "trace.db"
    TraceSpool(path, MIB).append([], PLACE)
    alter(path, "UPDATE state SET value = ? WHERE name = 'position'", text)
    with pytest.raises(BrokenState, match="no place in the log"):
        TraceSpool(path, MIB).position()


def test_a_spool_whose_table_is_gone_does_not_end_the_trace(tmp_path: Path) -> None:
    """The thread says so and tries again; once the spool is whole again it reads on."""
    write(tmp_path / "mail.log", 0, 2)
    taker = Taker()
    one = tracer(tmp_path, taker)
    one.turn()
    alter(tmp_path / "state/trace.db", "ALTER TABLE state RENAME TO lost")
    write(tmp_path / "mail.log", 2, 2)
    assert one.turn() is False
    alter(tmp_path / "state/trace.db", "ALTER TABLE lost RENAME TO state")
    one.turn()
    run(tracer(tmp_path, taker))
    assert taker.texts == [f"line {number}" for number in range(4)]


def test_a_spool_in_a_directory_that_cannot_be_is_told(tmp_path: Path) -> None:
    """A file stands where the state directory should: the trace waits, the agent lives."""
    write(tmp_path / "mail.log", 0, 1)
    (tmp_path / "state").write_text("")
    taker = Taker()
    one = tracer(tmp_path, taker)
    assert one.turn() is False
    (tmp_path / "state").unlink()
    run(one)
    run(tracer(tmp_path, taker))
    assert taker.texts == ["line 0"]


def test_a_full_disk_keeps_neither_lines_nor_their_place(tmp_path: Path) -> None:
    """Both or none: with room again the same lines are read, and each comes once."""
    path = tmp_path / "trace.db"
    later = Position(20, "1" * 64, 20, 2.0)
    TraceSpool(path, MIB).append([entry(1)], PLACE)

    def fill(_number: int) -> None:
        spool = TraceSpool(path, MIB)
        _soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (64 * 1024, hard))
        with pytest.raises(BrokenState):
            spool.append([entry(number, "y" * 900) for number in range(2, 200)], later)
        assert spool.position() == PLACE
        assert numbers(spool) == [1]
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
        spool.append([entry(number) for number in range(2, 5)], later)

    in_processes(1, fill)
    spool = TraceSpool(path, MIB)
    assert (spool.position(), numbers(spool)) == (later, [1, 2, 3, 4])


def test_numbers_are_never_given_twice(tmp_path: Path) -> None:
    """After everything was acknowledged and after a restart: the far end drops what it knows."""
    path = tmp_path / "trace.db"
    spool = TraceSpool(path, MIB)
    spool.append([entry(1), entry(2)], PLACE)
    spool.acknowledge(2)
    spool.close()
    again = TraceSpool(path, MIB)
    assert again.stream == spool.stream
    again.append([entry(3)], PLACE)
    assert numbers(again) == [3]


def test_an_old_acknowledgement_drops_nothing_new(tmp_path: Path) -> None:
    """The control plane repeats what it has; zero says that it has nothing."""
    spool = TraceSpool(tmp_path / "trace.db", MIB)
    spool.append([entry(number) for number in range(1, 6)], PLACE)
    spool.acknowledge(3)
    spool.acknowledge(2)
    spool.acknowledge(0)
    assert numbers(spool) == [4, 5]


def test_a_spool_is_for_root_alone(tmp_path: Path) -> None:
    """It holds addresses."""
    path = tmp_path / "state/trace.db"
    TraceSpool(path, MIB)
    assert path.stat().st_mode & 0o077 == 0
    assert path.parent.stat().st_mode & 0o077 == 0


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    st.lists(
        st.tuples(st.sampled_from(["append", "read", "restart"]), st.integers(0, 60)), max_size=12
    )
)
def test_kept_and_counted_lines_are_all_lines(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    """Whatever is appended, dropped, sent and reopened: each line comes once or is counted."""
    path = tmp_path_factory.mktemp("spool") / "trace.db"
    limit_bytes = 40 * (ROW_BYTES + 60)
    spool, written, came = TraceSpool(path, limit_bytes), 0, list[NumberedEntry]()
    for step, count in [*steps, ("read", MOST_ENTRIES)]:
        if step == "append":
            spool.append([entry(written + n) for n in range(count)], PLACE)
            written += count
        elif step == "restart":
            spool.close()
            spool = TraceSpool(path, limit_bytes)
        else:
            batch = spool.read()
            taken = () if batch is None else batch.entries[:count]
            came += taken
            spool.acknowledge(taken[-1].number if taken else 0)
    spool.close()
    lost = sum(one.entry.lost or 0 for one in came if one.entry.kind is TraceKind.GAP)
    texts = [one.entry.text for one in came if one.entry.kind is TraceKind.NOTE]
    assert len(texts) + lost == written
    assert texts == sorted(texts, key=lambda text: int(text.rpartition(" ")[2]))
    assert [one.number for one in came] == sorted({one.number for one in came})
