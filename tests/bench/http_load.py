"""Loads the HTTP door: the door in a process on one core, a bounded asyncio client on the others.

The client speaks HTTP/1.1 by itself over connections that stay open, one question at a time on
each, as Stalwart does; what it measures is the door and not a client library.
"""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import uvloop

from nodeagent.policy.desk import Desk
from nodeagent.policy.document import Badword, ListEntry, RateRule, RateSubject, RateWindow
from nodeagent.policy.doors.authentication import Authenticator
from nodeagent.policy.doors.http_door import HttpHookDoor
from nodeagent.policy.log_writer import LogWriter, open_spool
from nodeagent.policy.ports import Decides
from tests.fakes.http_hook import TOKEN, settings
from tests.fakes.policy_desk import DeskTwin, KeeperTwin
from tests.fakes.postfix_instance import free_port
from tests.policy.policies import policy_of

MakeDesk = Callable[[int, Path], Decides]
_UP_LIMIT_S = 300.0


@dataclass(frozen=True)
class Measured:
    """What one run showed."""

    per_second: float
    cpu_us: float  # of the door's process, a decision
    latencies_ms: list[float]


class AcceptAll(DeskTwin):
    """Accepts, and remembers nothing: the ceiling of the door itself."""

    def _decided(self, *_asked: object) -> None:  # type: ignore[override]
        raise AssertionError

    def decide_now(self, *_asked: object) -> object:  # type: ignore[override]
        """Accept."""
        return self.decision


def accept_all(port: int, _directory: Path) -> Decides:
    """Return a desk for a door at this port."""
    return AcceptAll(settings(port))  # type: ignore[return-value]


def engine(port: int, directory: Path) -> Decides:
    """Return the real desk and log: 10,000 bad words, 60,000 networks, two rates."""
    words = [Badword(id=number, pattern=f"badword{number:05}x") for number in range(1, 10_001)]
    listed = [
        ListEntry(
            id=number, value=f"100.{64 + number // 4096}.{number // 16 % 256}.{number % 16 * 16}/28"
        )
        for number in range(1, 60_001)
    ]
    rates = [
        RateRule(id=number, subject=subject, window=RateWindow.HOUR, limit=2**30)
        for number, subject in enumerate((RateSubject.CLIENT, RateSubject.SENDER), 1)
    ]
    policy = policy_of(*words, *listed, *rates)
    assert not policy.problems
    writer = LogWriter(open_spool(directory / "log.db", 1 << 30))
    writer.start()
    desk = Desk(writer, Authenticator())
    desk.use(
        replace(policy, settings=policy.settings.model_copy(update={"http": settings(port).http}))
    )
    return desk


def _serve(make_desk: MakeDesk, port: int, core: int, directory: Path) -> None:
    os.sched_setaffinity(0, {core})

    async def serve() -> None:
        desk = make_desk(port, directory)
        door = HttpHookDoor(desk, KeeperTwin())
        await door.apply(desk.settings)
        assert door.problem is None, door.problem
        await asyncio.Event().wait()

    uvloop.run(serve())


@dataclass(frozen=True)
class Served:
    """A door in a process of its own."""

    port: int
    pid: int

    def cpu_s(self) -> float:
        """Return the CPU time that it took so far (proc(5)): other processes do not count."""
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def served(make_desk: MakeDesk, directory: Path) -> Iterator[Served]:
    """Give a door, on the machine's last core."""
    port, core = free_port(), max(os.sched_getaffinity(0))
    process = multiprocessing.get_context("spawn").Process(
        target=_serve, args=(make_desk, port, core, directory), daemon=True
    )
    process.start()
    until_s = time.monotonic() + _UP_LIMIT_S
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=5).close()
            break
        except OSError:
            assert time.monotonic() < until_s
            assert process.is_alive()
            time.sleep(0.05)
    try:
        assert process.pid is not None
        yield Served(port, process.pid)
    finally:
        process.terminate()
        process.join()


def _raw(body: bytes) -> bytes:
    head = (
        "POST /mta-hook HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
        f"Authorization: Bearer {TOKEN}\r\nContent-Length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


async def _ask(port: int, questions: list[bytes], share: range, found: list[float]) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for number in share:
        asked_s = time.perf_counter()
        writer.write(questions[number % len(questions)])
        head = await reader.readuntil(b"\r\n\r\n")
        length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
        body = await reader.readexactly(length)
        found.append((time.perf_counter() - asked_s) * 1000)
        assert head.startswith(b"HTTP/1.1 200 "), head
        assert b'"action":' in body
    writer.close()


def load(door: Served, bodies: list[bytes], *, count: int, connections: int) -> Measured:
    """Ask `count` questions over so many connections, and measure each."""
    questions = [_raw(body) for body in bodies]
    found: list[float] = []

    async def run() -> float:
        began_s = time.perf_counter()
        shares = [range(start, count, connections) for start in range(connections)]
        await asyncio.gather(*(_ask(door.port, questions, share, found) for share in shares))
        return time.perf_counter() - began_s

    cpu_s = door.cpu_s()
    took_s = uvloop.run(run())
    return Measured(len(found) / took_s, (door.cpu_s() - cpu_s) * 1e6 / len(found), found)
