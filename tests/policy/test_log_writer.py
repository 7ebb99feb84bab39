"""The policy log on the node's disk: nothing lost, nothing twice, and never in the way."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from nodeagent.errors import BrokenState
from nodeagent.policy import log_writer
from nodeagent.policy.log_wire import LogEntry, LogKind
from nodeagent.policy.log_writer import LogSpool, LogWriter, open_spool
from nodeagent.policy.model import Stage, Verdict

MIB = 1024 * 1024
SILENT = (Verdict.QUARANTINE, Verdict.DISCARD)
"""Nobody hears of such a mail but by the log."""


def line(at: float, verdict: Verdict = Verdict.ACCEPT) -> LogEntry:
    """Give the line of a message."""
    return LogEntry(at=at, kind=LogKind.MESSAGE, verdict=verdict, size_bytes=0)


def session(at: float) -> LogEntry:
    """Give the line of a session without a mail."""
    return LogEntry(at=at, kind=LogKind.CONNECTION, stage=Stage.CONNECT)


def refusal(at: float, verdict: Verdict = Verdict.REJECT) -> LogEntry:
    """Give the line of what was decided before there was a message."""
    return LogEntry(at=at, kind=LogKind.MESSAGE, stage=Stage.RCPT, verdict=verdict)


def kept(spool: LogSpool) -> list[float]:
    """Give the times of all lines on the disk."""
    batch = spool.read()
    return [] if batch is None else [one.entry.at for one in batch.entries]


def entries(spool: LogSpool) -> list[LogEntry]:
    """Give all lines on the disk, taking them off."""
    found: list[LogEntry] = []
    while (batch := spool.read()) is not None:
        found += [one.entry for one in batch.entries]
        spool.acknowledge(batch.entries[-1].number)
    return found


@pytest.fixture
def spool(tmp_path: Path) -> LogSpool:
    """Give an empty spool."""
    return LogSpool(tmp_path / "log.db", MIB)


def test_lines_are_written_in_their_order(spool: LogSpool) -> None:
    """By the flush, not by who notes them."""
    writer = LogWriter(spool)
    writer.note(line(1))
    writer.note(line(2))
    assert kept(spool) == []
    writer.flush()
    assert kept(spool) == [1, 2]


def test_a_line_that_must_be_there_takes_those_before_it_along(spool: LogSpool) -> None:
    """It is on the disk when `write` returns."""
    writer = LogWriter(spool)
    writer.note(line(1))
    writer.write(line(2))
    assert kept(spool) == [1, 2]
    writer.flush()
    assert kept(spool) == [1, 2]


def test_what_waits_is_written_at_the_end(spool: LogSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Stopping loses nothing."""
    monkeypatch.setattr(log_writer, "RETRY_S", 60.0)  # it waits so long for the thread
    writer = LogWriter(spool)
    writer.start()
    writer.note(line(1))
    writer.stop()
    assert kept(spool) == [1]


def test_a_disk_that_takes_nothing_keeps_the_lines_waiting(
    spool: LogSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They come when it takes them again, once and in their order.

    What had to be on the disk first does not: nobody acted on it, so it would not be true.
    """
    monkeypatch.setattr(log_writer, "AT_ONCE", 2)
    writer = LogWriter(spool)
    for at in (1, 2, 3):
        writer.note(line(at))
    writer._stopping.set()  # it does not wait between tries
    with monkeypatch.context() as patched:
        patched.setattr(spool, "keep", _full)
        writer.flush()
        with pytest.raises(BrokenState):
            writer.write(line(9))
        writer.note(line(4))
        writer.flush()
    writer.flush()
    assert kept(spool) == [1, 2, 3, 4]


def _full(*_arguments: object) -> None:
    raise BrokenState("log.db cannot be used: disk is full.")


def test_lines_beyond_the_limit_are_counted(
    spool: LogSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory has an end; the gap says how many were lost."""
    monkeypatch.setattr(log_writer, "MOST_WAITING", 3)
    writer = LogWriter(spool)
    for at in range(5):
        writer.note(line(at))
    writer.flush()
    batch = spool.read()
    assert batch is not None
    assert [one.entry.kind for one in batch.entries][:3] == [LogKind.MESSAGE] * 3
    assert (batch.entries[3].entry.kind, batch.entries[3].entry.lost) == (LogKind.GAP, 2)


def test_lines_beyond_the_limit_are_counted_until_the_disk_takes_the_count(
    spool: LogSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gap that could not be written is written later, with what was lost since, and once."""
    monkeypatch.setattr(log_writer, "MOST_WAITING", 2)
    writer = LogWriter(spool)
    writer._stopping.set()  # it does not wait between tries
    with monkeypatch.context() as patched:
        patched.setattr(spool, "keep", _full)
        for at in range(5):
            writer.note(line(at))
            writer.flush()
        with pytest.raises(BrokenState):
            writer.write(line(9))
    writer.flush()
    writer.flush()
    assert kept(spool)[:2] == [0, 1]
    assert [one.lost for one in entries(spool) if one.kind is LogKind.GAP] == [3]


def test_a_crowd_leaves_room_for_the_lines_of_mails(
    spool: LogSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While the disk takes nothing: half of what may wait is for them."""
    monkeypatch.setattr(log_writer, "MOST_WAITING", 6)
    writer = LogWriter(spool)
    for at in range(10):
        writer.note(session(at))
        writer.note(refusal(at))
    for at in (20, 21, 22, 23):
        writer.note(line(at))
    writer.flush()
    assert kept(spool)[:-1] == [0, 0, 1, 20, 21, 22]
    assert entries(spool)[-1].lost == 18


def test_a_spool_that_cannot_be_read_is_put_aside_and_told(tmp_path: Path) -> None:
    """The lines before are lost for the control plane, so it is told."""
    path = tmp_path / "log.db"
    path.write_bytes(b"no database at all, but long enough to be looked at" * 100)
    batch = open_spool(path, MIB).read()
    assert batch is not None
    assert batch.entries[0].entry.kind is LogKind.GAP
    assert (tmp_path / "log.db.broken").exists()


def test_the_oldest_go_when_there_are_too_many(tmp_path: Path) -> None:
    """One gap stands for all that went, however often that happened."""
    spool = LogSpool(tmp_path / "log.db", 20_000)
    for at in range(1000):
        spool.keep([line(at)], {})
    batch = spool.read()
    assert batch is not None
    first = batch.entries[0]
    assert first.entry.kind is LogKind.GAP
    assert (first.entry.lost or 0) + len(batch.entries) - 1 == 1000
    assert batch.entries[-1].entry.at == 999


LIMIT = 100_000


@pytest.mark.parametrize("crowd", [session, refusal])
def test_a_crowd_pushes_no_line_of_a_mail_out(
    tmp_path: Path, crowd: Callable[[float], LogEntry]
) -> None:
    """Whoever only connects, or is refused before there is a message, pushes out his like."""
    spool = LogSpool(tmp_path / "log.db", LIMIT)
    mails = [line(1), line(2, Verdict.QUARANTINE), line(3, Verdict.REJECT)]
    spool.keep(mails, {})
    for begin in range(10, 5010, 100):
        spool.keep([crowd(at) for at in range(begin, begin + 100)], {})
    spool.keep([line(9999)], {})
    found = entries(spool)
    assert [one for one in found if one.size_bytes is not None] == [*mails, line(9999)]
    (gap,) = [one for one in found if one.kind is LogKind.GAP]
    assert len(found) - 1 + (gap.lost or 0) == 5004
    others = [one.at for one in found if one.size_bytes is None and one is not gap]
    assert others == list(range(5010 - len(others), 5010)), "the oldest of them went"
    assert gap.at == others[0] - 1


def test_what_was_held_or_discarded_is_pushed_out_last(tmp_path: Path) -> None:
    """Nothing else says where such a mail is; a decision without a message is none of them."""
    spool = LogSpool(tmp_path / "log.db", LIMIT)
    spool.keep([refusal(1, Verdict.QUARANTINE), refusal(2, Verdict.DISCARD), line(3)], {})
    held = [line(at, verdict) for at in range(4, 8) for verdict in SILENT]
    spool.keep(held, {})
    for begin in range(10, 3010, 100):
        spool.keep([line(at, Verdict.REJECT) for at in range(begin, begin + 100)], {})
    found = entries(spool)
    assert [one for one in found if one.verdict in SILENT] == held
    assert line(3) not in found


def test_even_what_was_held_makes_room_at_the_end(tmp_path: Path) -> None:
    """The disk is bounded, whatever a stranger sends: the newest stay, and a gap says how many."""
    spool = LogSpool(tmp_path / "log.db", 20_000)
    for at in range(1000):
        spool.keep([line(at, Verdict.QUARANTINE)], {})
    assert spool._size_bytes <= 20_000
    gap, *rest = entries(spool)
    assert [one.at for one in rest] == list(range(gap.lost or 0, 1000))


def test_numbers_go_on_rising_over_gaps(tmp_path: Path) -> None:
    """What the control plane took once it never takes again, and nothing behind it is missed."""
    spool = LogSpool(tmp_path / "log.db", 20_000)
    numbers: list[int] = []
    for begin in range(0, 1000, 50):
        spool.keep([session(at) for at in range(begin, begin + 40)], {})
        spool.keep([line(begin + 45)], {})
        if begin % 250 == 200:
            batch = spool.read()
            assert batch is not None
            numbers += [one.number for one in batch.entries]
            spool.acknowledge(batch.entries[-1].number)
    assert numbers == sorted(set(numbers))


def test_a_reader_of_its_own_takes_lines_away(tmp_path: Path) -> None:
    """The courier is another process: what it forgot makes room for what the hook writes."""
    path = tmp_path / "log.db"
    hook = LogSpool(path, 20_000)
    hook.keep([line(at) for at in range(150)], {})
    courier = LogSpool(path, 20_000)
    batch = courier.read()
    assert batch is not None
    courier.acknowledge(batch.entries[-1].number)
    hook.keep([line(at) for at in range(150, 300)], {})
    left = hook.read()
    assert left is not None
    assert [one.entry.at for one in left.entries] == list(range(150, 300))


def test_a_gap_outlives_what_was_under_way_when_it_came(tmp_path: Path) -> None:
    """The courier had read the mails' lines, and acknowledges them: the sessions' are untold."""
    hook = LogSpool(tmp_path / "log.db", 20_000)
    hook.keep([line(at) for at in range(100)], {})
    courier = LogSpool(tmp_path / "log.db", 20_000)
    batch = courier.read()
    assert batch is not None
    hook.keep([session(at) for at in range(100, 105)], {})
    hook.keep([line(at) for at in range(105, 300)], {})
    courier.acknowledge(batch.entries[-1].number)
    gap, *rest = entries(courier)
    assert (gap.kind, gap.at) == (LogKind.GAP, 104)
    assert [one.at for one in rest] == list(range(105, 300))


def test_a_line_of_another_version_is_a_gap(tmp_path: Path) -> None:
    """It can neither be sent nor read, and it is not passed over in silence."""
    path = tmp_path / "log.db"
    spool = LogSpool(path, MIB)
    spool.keep([line(1)], {})
    spool._database.execute('UPDATE entries SET data = \'{"kind": "new"}\'')
    batch = spool.read()
    assert batch is not None
    assert batch.entries[0].entry.kind is LogKind.GAP


def test_two_spools_never_share_a_stream(tmp_path: Path) -> None:
    """A disk that was replaced begins anew; a file that was copied does not."""
    first = LogSpool(tmp_path / "log.db", MIB)
    second = LogSpool(tmp_path / "other.db", MIB)
    first.close()
    shutil.copy(tmp_path / "log.db", tmp_path / "copied.db")
    assert first.stream != second.stream
    assert LogSpool(tmp_path / "copied.db", MIB).stream == first.stream
