"""The spool of the trace: killed at any step it loses nothing and doubles nothing."""

from __future__ import annotations

import os
import signal
import sqlite3
from pathlib import Path

import pytest

from nodeagent.adapters import spool as spool_module
from nodeagent.adapters.mail_log import MailLog
from nodeagent.adapters.trace_spool import TraceSpool
from nodeagent.core.stream_wire import MOST_ENTRIES, StreamAnswer, pack
from nodeagent.core.trace_wire import TraceBatch, TraceKind, unpack
from nodeagent.errors import Unreachable
from nodeagent.trace import Tracer
from tests.fakes.postfix_queue import queue_id

MIB = 1024 * 1024
MOST_DEATHS = 200


class Taker:
    """A control plane's memory of one node: it takes each number once."""

    def __init__(self) -> None:
        self.texts: list[str] = []
        self.lost = 0
        self.highest = 0
        self.is_away = False
        self.forgets_to_answer = False

    def trace(self, batch: TraceBatch) -> StreamAnswer:
        """Take what is new, as the real one does."""
        if self.is_away:
            raise Unreachable
        for one in unpack(pack(batch)).entries:
            if one.number > self.highest:
                self.highest = one.number
                if one.entry.kind is TraceKind.GAP:
                    self.lost += one.entry.lost or 0
                else:
                    self.texts.append(one.entry.text)
        if self.forgets_to_answer:
            raise Unreachable
        return StreamAnswer(acknowledged=self.highest)


def write(path: Path, first: int, count: int) -> None:
    """Append lines that can be told apart."""
    with path.open("a") as file:
        for number in range(first, first + count):
            file.write(f"Nov 21 08:50:08 h postfix/smtp[1]: {queue_id(1)}: line {number}\n")


def tracer(home: Path, taker: Taker, limit_bytes: int = MIB) -> Tracer:
    """Return a tracer as a fresh process has it."""
    return Tracer(MailLog(home / "mail.log"), home / "state/trace.db", limit_bytes, taker)


def run(one: Tracer) -> None:
    """Work until there is nothing more to do."""
    for _turn in range(1000):
        if not one.turn():
            return
    raise AssertionError("it does not end")


def test_lines_wait_for_a_control_plane_that_is_away(tmp_path: Path) -> None:
    """They are read all the same, survive a restart, and come in order, each once."""
    taker = Taker()
    taker.is_away = True
    write(tmp_path / "mail.log", 0, MOST_ENTRIES + 10)
    first = tracer(tmp_path, taker)
    first.turn()
    (tmp_path / "mail.log").unlink()
    taker.is_away = False
    run(tracer(tmp_path, taker))
    assert taker.texts == [f"line {number}" for number in range(MOST_ENTRIES + 10)]


def test_an_answer_that_is_lost_doubles_nothing(tmp_path: Path) -> None:
    """The batch comes again with the same numbers."""
    taker = Taker()
    taker.forgets_to_answer = True
    write(tmp_path / "mail.log", 0, 5)
    tracer(tmp_path, taker).turn()
    taker.forgets_to_answer = False
    write(tmp_path / "mail.log", 5, 5)
    run(tracer(tmp_path, taker))
    assert taker.texts == [f"line {number}" for number in range(10)]


def test_connections_without_a_message_are_not_kept(tmp_path: Path) -> None:
    """Probes and monitors fill neither the spool nor the database."""
    (tmp_path / "mail.log").write_text(
        "Nov 21 08:50:08 h postfix/smtpd[1]: connect from x[192.0.2.1]\n"
        "Nov 21 08:50:08 h postfix/smtpd[1]: disconnect from x[192.0.2.1] commands=0/0\n"
    )
    taker = Taker()
    run(tracer(tmp_path, taker))
    assert taker.highest == 0


def test_the_spool_keeps_its_limit_and_says_what_went(tmp_path: Path) -> None:
    """Lines kept and lines counted as lost make all that were written."""
    taker = Taker()
    taker.is_away = True
    one = tracer(tmp_path, taker, limit_bytes=20_000)
    for round_ in range(10):
        write(tmp_path / "mail.log", round_ * 100, 100)
        one.follow()
    taker.is_away = False
    run(one)
    assert 0 < taker.lost < 1000
    assert len(taker.texts) + taker.lost == 1000
    assert taker.texts[-1] == "line 999"


def test_a_spool_that_cannot_be_read_is_put_aside(tmp_path: Path) -> None:
    """The place in the log is lost with it: reading begins at the end, and a gap says so."""
    write(tmp_path / "mail.log", 0, 3)
    (tmp_path / "state").mkdir()
    (tmp_path / "state/trace.db").write_bytes(b"no database" * 1000)
    taker = Taker()
    one = tracer(tmp_path, taker)
    one.follow()
    write(tmp_path / "mail.log", 3, 1)
    run(one)
    assert taker.texts == ["line 3"]
    assert (tmp_path / "state/trace.db.broken").exists()


def _die_at(step: int, home: Path) -> bool:
    """Follow in a child that is killed before its `step`-th statement; False: it came through."""
    child = os.fork()
    if child == 0:
        left = step
        connect = sqlite3.connect

        def count(_statement: str) -> None:
            nonlocal left
            left -= 1
            if left <= 0:
                os.kill(os.getpid(), signal.SIGKILL)

        def connect_dying(*arguments: object, **options: object) -> sqlite3.Connection:
            connection = connect(*arguments, **options)  # type: ignore[call-overload]
            connection.set_trace_callback(count)
            return connection  # type: ignore[no-any-return]

        spool_module.sqlite3.connect = connect_dying  # type: ignore[assignment]
        one = tracer(home, Taker(), limit_bytes=2000)
        one.follow()
        spool = TraceSpool(home / "state/trace.db", 2000)
        found = spool.read()
        spool.acknowledge(found.entries[0].number if found is not None else 0)
        os._exit(0)
    _pid, ended = os.waitpid(child, 0)
    return os.WIFSIGNALED(ended)


@pytest.mark.parametrize("limit_bytes", [2000, MIB])
def test_killed_before_any_statement_nothing_is_lost_or_doubled(
    tmp_path: Path, limit_bytes: int
) -> None:
    """Whatever the death left, the next process brings the rest: kept, acknowledged, or a gap."""
    for step in range(1, MOST_DEATHS):
        home = tmp_path / str(step)
        home.mkdir()
        write(home / "mail.log", 0, 20)
        has_died = _die_at(step, home)
        taker = Taker()
        run(tracer(home, taker, limit_bytes))
        assert taker.texts == sorted(set(taker.texts), key=taker.texts.index)
        known = len(taker.texts) + taker.lost
        assert known == 20 or (not has_died and known < 20), (step, known)
        if not has_died:
            assert step > 10
            return
    raise AssertionError("it does not end")
