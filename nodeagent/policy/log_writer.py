"""Writes the policy log to this node's disk: in the background, or before an answer is given.

Lines are gathered and written together by one thread, so that a decision waits for no disk; what
must be on the disk first (a message that is discarded) is written with the lines before it by the
one who asks. A disk that takes nothing makes lines wait in memory, up to a limit, and says so.
"""

from __future__ import annotations

import threading
from collections import deque
from pathlib import Path
from typing import Final

import structlog

from nodeagent.adapters.spool import Spool
from nodeagent.errors import AgentError, BrokenState
from nodeagent.policy.log_wire import LogBatch, LogEntry

log = structlog.get_logger()

LOG_FILE: Final = "log/log.db"  # in a directory that is the hook's own
WRITE_EVERY_S: Final = 0.2
RETRY_S: Final = 2.0
MOST_WAITING: Final = 20_000
AT_ONCE: Final = 1_000


class LogSpool(Spool[LogEntry]):
    """The policy log that waits for the control plane.

    Lines without a message go first, for any stranger causes them by the thousand. Those of mail
    that was held or discarded go last: no other record says where it is.
    """

    model = LogEntry
    batch = LogBatch
    worth = """CASE WHEN json_extract(data, '$.size_bytes') IS NULL THEN 0
        WHEN json_extract(data, '$.verdict') IN ('quarantine', 'discard') THEN 2 ELSE 1 END"""


def open_spool(path: Path, limit_bytes: int) -> LogSpool:
    """Open the spool; one that could not be read was put aside, and a gap says so."""
    try:
        return LogSpool(path, limit_bytes)
    except BrokenState as error:
        if path.exists():
            raise
        spool = LogSpool(path, limit_bytes)
        spool.keep([spool.gap(str(error), 0)], {})
        return spool


class LogWriter:
    """Takes lines from any thread; `start` it once, `stop` writes what is left."""

    def __init__(self, spool: LogSpool) -> None:
        self._spool = spool
        self._waiting: deque[LogEntry] = deque()
        self._dropped = 0
        self._writing = threading.Lock()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="policy-log", daemon=True)
        self._complaint = ""

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def stop(self) -> None:
        """Write what waits and end."""
        self._stopping.set()
        if self._thread.is_alive():
            self._thread.join(RETRY_S)

    def note(self, entry: LogEntry) -> None:
        """Take a line that is written soon; where too many wait, it is counted instead.

        Half of the room is for lines of messages alone, as on the disk.
        """
        room = MOST_WAITING // 2 if entry.size_bytes is None else MOST_WAITING
        if len(self._waiting) >= room:
            self._dropped += 1
            return
        self._waiting.append(entry)

    def write(self, entry: LogEntry) -> None:
        """Write a line, and those before it; it is on the disk now.

        Raises `BrokenState`; then it never will be, for what it says was not done.
        """
        with self._writing:
            self._write(self._taken(MOST_WAITING), entry)

    def _taken(self, limit: int) -> list[LogEntry]:
        found: list[LogEntry] = []
        while self._waiting and len(found) < limit:
            found.append(self._waiting.popleft())
        return found

    def _write(self, entries: list[LogEntry], *others: LogEntry) -> None:
        """Write all; where that fails the entries wait again, the others do not."""
        dropped, self._dropped = self._dropped, 0
        if dropped:
            others = (*others, self._spool.gap("The disk took no lines for too long.", dropped))
        try:
            self._spool.keep([*entries, *others], {})
        except AgentError:
            self._dropped += dropped
            self._waiting.extendleft(reversed(entries))
            raise
        self._complaint = ""

    def _run(self) -> None:
        while not self._stopping.wait(WRITE_EVERY_S):
            self.flush()
        self.flush()

    def flush(self) -> None:
        """Write what waits now; what cannot be written is kept and tried again."""
        while self._waiting or self._dropped:
            try:
                with self._writing:
                    self._write(self._taken(AT_ONCE))
            except AgentError as error:
                if str(error) != self._complaint:
                    self._complaint = str(error)
                    log.warning("policy log", reason=self._complaint)
                self._stopping.wait(RETRY_S)
                return
