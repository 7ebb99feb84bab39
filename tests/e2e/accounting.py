"""Sends a known load through the VIP and accounts for every message of it afterwards.

    with Load(lab, rate=100) as load:
        lab.kill(lab.active())
        load.go_on_for(10)
    report = account(lab, load)
    report.assert_nothing_lost()
    report.assert_doubled_at_most(0)

Every message has one recipient and a header X-Relay-Test-Id of 24 hexadecimal digits. It is

* acknowledged: the relay said 250 after the final dot;
* refused: the connection or a command was answered with no, by TCP or by SMTP;
* broken: the session ended in the middle; such a message may be queued or not;
* delivered: it stands in the sink's journal, as often as it was delivered;
* queued: a complete file of it lies in a queue directory of a node, live or pending (no mirror).
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import secrets
import threading
import time
from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Final, Self

from lab.kernel import enter_network
from lab.layout import HOSTS, NODES, VIP
from tests.e2e.driver import Disturbed, Lab

JOURNAL: Final = HOSTS["sink"].logs / "sink.jsonl"
QUEUES: Final = ("incoming", "active", "deferred", "hold")
_ID_BYTES: Final = 12
_ID: Final = re.compile(rb"X-Relay-Test-Id: ([0-9a-f]{24})")
_HEAD_BYTES: Final = 16384
_COMPLETE: Final = 0o100


@dataclass
class Attempt:
    """One message and what became of the attempt to hand it over."""

    id: str
    began_s: float
    ended_s: float = 0.0
    outcome: str = "open"
    reply: str = ""


@dataclass(frozen=True)
class Shape:
    """What the messages of a load look like, and how they are sent."""

    sender: str = "load@allowed-domain.tld"
    recipient: str = "box@example.com"
    size_bytes: int = 2000
    address: str = VIP
    timeout_s: float = 20.0
    per_session: int = 1


class Load:
    """Sends `rate` messages a second from the client host until left; bounded in both ways."""

    def __init__(
        self,
        lab: Lab,
        *,
        rate: float = 50.0,
        count: int | None = None,
        concurrency: int = 50,
        shape: Shape | None = None,
    ) -> None:
        self.lab = lab
        self.attempts: list[Attempt] = []
        self.shape = shape or Shape()
        self.skipped = 0
        self._rate = rate
        self._count = count
        self._concurrency = concurrency
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._work, name="load", daemon=True)
        self._failure: BaseException | None = None
        self._finished_s = 0.0

    def __enter__(self) -> Self:
        """Begin to send."""
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Stop to send and wait for what is under way."""
        self._stopping.set()
        self._thread.join(self.shape.timeout_s + 10)
        assert not self._thread.is_alive(), "the load does not end"
        if self._failure is not None:
            raise self._failure

    def go_on_for(self, seconds: float) -> None:
        """Keep sending for so long."""
        assert self._thread.is_alive(), f"the load has ended: {self._failure}"
        time.sleep(seconds)

    def wait_for_count(self, timeout_s: float = 300.0) -> None:
        """Wait until all messages of a counted load were tried."""
        self._thread.join(timeout_s)
        assert not self._thread.is_alive(), f"only {len(self.attempts)} were tried in {timeout_s} s"

    def ids(self, outcome: str) -> list[str]:
        """Give the ids of all messages with this outcome, in the order of their start."""
        return [attempt.id for attempt in self.attempts if attempt.outcome == outcome]

    @property
    def acknowledged(self) -> dict[str, float]:
        """Give {id: monotonic time of the 250} of what the relay took."""
        taken = [attempt for attempt in self.attempts if attempt.outcome == "acknowledged"]
        return {attempt.id: attempt.ended_s for attempt in taken}

    @property
    def longest_stall_s(self) -> float:
        """Give the longest time without a 250 between the first attempt and the last answer."""
        if not self.attempts:
            return 0.0
        times = sorted([self.attempts[0].began_s, *self.acknowledged.values(), self._finished_s])
        return max(after - before for before, after in pairwise(times))

    def _work(self) -> None:
        try:
            enter_network(HOSTS["client"].netns)
            asyncio.run(self._send_all())
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            self._failure = error
        finally:
            self._finished_s = max((attempt.ended_s for attempt in self.attempts), default=0.0)

    async def _send_all(self) -> None:
        began, sent = time.monotonic(), 0
        running: set[asyncio.Task[None]] = set()
        while not self._stopping.is_set() and (self._count is None or sent < self._count):
            due = began + sent / self._rate if self._rate else 0.0
            delay = due - time.monotonic()
            if delay > 0:
                await asyncio.sleep(min(delay, 0.05))
                continue
            if len(running) >= self._concurrency:
                if self._count is None:
                    self.skipped += 1
                    sent += 1
                await asyncio.sleep(0.002)
                continue
            batch = self.shape.per_session
            if self._count is not None:
                batch = min(batch, self._count - sent)
            sent += batch
            task = asyncio.create_task(self._session(batch))
            running.add(task)
            task.add_done_callback(running.discard)
        if running:
            await asyncio.wait(running)

    async def _session(self, messages: int) -> None:
        attempt = self._begin()
        try:
            async with asyncio.timeout(self.shape.timeout_s):
                reader, writer = await asyncio.open_connection(self.shape.address, 25)
            try:
                await self._greet(reader, writer)
                for number in range(messages):
                    attempt = self._begin() if number else attempt
                    async with asyncio.timeout(self.shape.timeout_s):
                        await self._send(attempt, reader, writer)
                writer.write(b"QUIT\r\n")
            finally:
                writer.close()
        except ConnectionRefusedError as error:
            self._end(attempt, "refused", str(error))
        except _Refused as error:
            self._end(attempt, "refused", str(error))
        except (OSError, EOFError, TimeoutError) as error:
            self._end(attempt, "broken", f"{type(error).__name__} {error}")

    def _begin(self) -> Attempt:
        attempt = Attempt(secrets.token_hex(_ID_BYTES), time.monotonic())
        self.attempts.append(attempt)
        return attempt

    def _end(self, attempt: Attempt, outcome: str, reply: str) -> None:
        attempt.ended_s = time.monotonic()
        attempt.outcome, attempt.reply = outcome, reply

    async def _greet(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(self.shape.timeout_s):
            await _expect(reader, "220")
            await _command(reader, writer, "EHLO client", "250")

    async def _send(
        self, attempt: Attempt, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        await _command(reader, writer, f"MAIL FROM:<{self.shape.sender}>", "250")
        await _command(reader, writer, f"RCPT TO:<{self.shape.recipient}>", "250")
        await _command(reader, writer, "DATA", "354")
        writer.write(self._message(attempt.id))
        reply = await _expect(reader, "250")
        self._end(attempt, "acknowledged", reply)

    def _message(self, identity: str) -> bytes:
        head = (
            f"From: <{self.shape.sender}>\r\nTo: <{self.shape.recipient}>\r\n"
            f"Subject: load\r\nX-Relay-Test-Id: {identity}\r\n"
            f"Message-ID: <{identity}@client>\r\n\r\n"
        ).encode()
        line = b"x" * 70 + b"\r\n"
        lines = max(0, self.shape.size_bytes - len(head)) // len(line)
        return head + line * lines + b".\r\n"


class _Refused(Exception):
    """The relay said no."""


async def _expect(reader: asyncio.StreamReader, code: str) -> str:
    while True:
        line = (await reader.readuntil(b"\n")).decode("ascii", "replace").strip()
        if line[3:4] != "-":
            break
    if not line.startswith(code):
        raise _Refused(line)
    return line


async def _command(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, text: str, code: str
) -> str:
    writer.write(text.encode() + b"\r\n")
    return await _expect(reader, code)


def deliveries() -> Counter[str]:
    """Count how often each id stands in the sink's journal."""
    if not JOURNAL.exists():
        return Counter()
    lines = JOURNAL.read_text(encoding="utf-8").splitlines()
    return Counter(json.loads(line)["id"] for line in lines)


def queued_ids(node: str, *, is_pending: bool = False) -> Counter[str]:
    """Count the complete messages of a load in a node's live queue, or in what it set aside."""
    spool = HOSTS[node].spool
    roots = sorted(spool.glob("relay/pending/*")) if is_pending else [spool / "postfix"]
    found: Counter[str] = Counter()
    for root in roots:
        for queue in QUEUES:
            found.update(_ids_below(root / queue))
    return found


def ids_below(directory: Path) -> Counter[str]:
    """Count the messages of a load below any directory, a mirror or a quarantine for instance."""
    return Counter(_ids_below(directory))


def _ids_below(directory: Path) -> list[str]:
    """Walk it: rglob ends with an error when a directory is taken away beneath it."""
    found = []
    paths = (Path(root, name) for root, _, names in os.walk(directory) for name in names)
    for path in paths:
        try:
            if not path.is_file() or not path.stat().st_mode & _COMPLETE:
                continue
            with path.open("rb") as file:
                match = _ID.search(file.read(_HEAD_BYTES))
        except FileNotFoundError:
            continue
        if match:
            found.append(match[1].decode())
    return found


@dataclass(frozen=True)
class Report:
    """What became of every message of a load."""

    acknowledged: frozenset[str]
    delivered: Counter[str]
    live: dict[str, Counter[str]]
    pending: dict[str, Counter[str]]
    refused: tuple[Attempt, ...]
    broken: tuple[Attempt, ...]
    longest_stall_s: float
    times: dict[str, float] = field(repr=False)

    @property
    def queued(self) -> set[str]:
        """Everything that lies in a queue, live or pending, of a node that is on or off."""
        return {id_ for found in (*self.live.values(), *self.pending.values()) for id_ in found}

    @property
    def lost(self) -> list[str]:
        """Acknowledged, yet neither delivered nor queued; in the order of their 250."""
        missing = self.acknowledged - set(self.delivered) - self.queued
        return sorted(missing, key=self.times.__getitem__)

    @property
    def doubled(self) -> list[str]:
        """Delivered more than once, with every delivery after the first counted."""
        return [id_ for id_, times in self.delivered.items() for _ in range(times - 1)]

    @property
    def about_to_double(self) -> list[str]:
        """Free to be delivered again: delivered and in a live queue, or in two live queues."""
        live: Counter[str] = sum(self.live.values(), Counter())
        return sorted(id_ for id_, times in live.items() if times + self.delivered[id_] > 1)

    def assert_nothing_lost(self) -> None:
        """Fail with the list of lost messages."""
        assert not self.lost, f"{len(self.lost)} of {len(self.acknowledged)} lost: {self.lost[:10]}"

    def assert_doubled_at_most(self, number: int) -> None:
        """Fail with the list of doubled messages when there are more."""
        doubled = self.doubled + self.about_to_double
        assert len(doubled) <= number, f"{len(doubled)} doubled, not {number}: {doubled[:10]}"

    def assert_all_delivered(self) -> None:
        """Fail when anything acknowledged was not delivered yet."""
        self.assert_nothing_lost()
        waiting = self.acknowledged - set(self.delivered)
        assert not waiting, f"{len(waiting)} still queued: {sorted(waiting)[:10]}"

    def assert_no_session_suffered(self) -> None:
        """Fail with what clients were told when any was refused or cut off."""
        if told := Counter(attempt.reply for attempt in (*self.refused, *self.broken)):
            raise Disturbed(f"sessions refused or broken: {told.most_common(5)}")

    def assert_only_open_sessions_were_cut(self) -> None:
        """Fail when any was refused, or when no one moment explains all that were cut off.

        TCP does not move with an address: what is open when the VIP changes hosts is reset.
        """
        if told := Counter(attempt.reply for attempt in self.refused):
            raise Disturbed(f"sessions refused: {told.most_common(5)}")
        last_begin = max((attempt.began_s for attempt in self.broken), default=0.0)
        if any(attempt.ended_s < last_begin for attempt in self.broken):
            raise Disturbed(f"cut at more than one moment: {self.broken}")

    def __str__(self) -> str:
        """Sum it up in one line."""
        return (
            f"{len(self.acknowledged)} acknowledged = {len(self.delivered)} delivered"
            f" + {len(self.queued - set(self.delivered))} queued, {len(self.lost)} lost,"
            f" {len(self.doubled)} doubled, {len(self.refused)} refused,"
            f" {len(self.broken)} broken, longest stall {self.longest_stall_s:.2f} s"
        )


def account(lab: Lab, load: Load, *, settle_s: float = 120.0, settle: bool = True) -> Report:
    """Wait until everything acknowledged is delivered, at most `settle_s`, then count.

    With `settle=False` it counts at once: what is under way then may show as delivered and queued.
    """
    acknowledged = set(load.acknowledged)
    deadline = time.monotonic() + (settle_s if settle else 0.0)
    while (began := time.monotonic()) < deadline:
        if acknowledged <= set(deliveries()) and not _has_live_mail(lab):
            break
        time.sleep(max(0.2, time.monotonic() - began))  # a look at a long queue must not slow it
    live = {node: queued_ids(node) for node in NODES if lab.is_on(node)}
    off = {node: queued_ids(node) for node in NODES if node not in live}
    pending = {node: queued_ids(node, is_pending=True) for node in NODES}
    for node, found in off.items():
        pending[node] += found
    ours = {attempt.id for attempt in load.attempts}
    return Report(
        acknowledged=frozenset(acknowledged),
        delivered=_only(deliveries(), ours),
        live={node: _only(found, ours) for node, found in live.items()},
        pending={node: _only(found, ours) for node, found in pending.items()},
        refused=tuple(attempt for attempt in load.attempts if attempt.outcome == "refused"),
        broken=tuple(attempt for attempt in load.attempts if attempt.outcome == "broken"),
        longest_stall_s=load.longest_stall_s,
        times=load.acknowledged,
    )


def _has_live_mail(lab: Lab) -> bool:
    """Tell whether a node that could still deliver has mail to deliver."""
    return any(queued_ids(node) for node in NODES if lab.is_running(node))


def _only(found: Counter[str], ours: set[str]) -> Counter[str]:
    return Counter({id_: times for id_, times in found.items() if id_ in ours})
