"""Does with messages of the live queue what an operator asked for, by Postfix's own programs.

postsuper(1) says on standard error what it did with each message: that, and no guess from before or
after, is what is counted as done. It works on the live queue alone; pending mail, mirrors and
retired mail lie elsewhere and are not found.
"""

from __future__ import annotations

import re
import subprocess
import threading
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Final

import structlog

from nodeagent.adapters.queue_scan import LIVE, read_deferrals
from nodeagent.core.names import is_queue_id
from nodeagent.core.queue_contract import (
    ERROR_LENGTH,
    HEADERS_LENGTH,
    MOST_RECIPIENTS,
    REASON_LENGTH,
    CommandResult,
    HeadersResult,
    HeadersWish,
    ItemResult,
    ItemState,
    QueueCommand,
    QueueVerb,
)
from nodeagent.core.queue_files import Kind, candidate_paths
from nodeagent.errors import ToolFailed

log = structlog.get_logger()

LIMIT_S: Final = 60
KICKS: Final = 3
CONTENT_BYTES: Final = 4 * 1024 * 1024
"""More of a message is not read for a preview."""
BETWEEN_KICKS_S: Final = 0.2
POSTSUPER: Final = {
    QueueVerb.HOLD: "-h",
    QueueVerb.RELEASE: "-H",
    QueueVerb.REQUEUE: "-r",
    QueueVerb.DELETE: "-d",
}
VANISHING: Final = frozenset({QueueVerb.REQUEUE, QueueVerb.DELETE})
"""After these a message is not in the queue any more under its id."""
WOKEN: Final = {QueueVerb.REQUEUE: ("pickup", "W"), QueueVerb.RELEASE: ("qmgr", "D")}
"""Who has to look after it, now.

Nobody copies maildrop, and pickup(8) comes once a minute. What postsuper(1) releases is deferred
mail that is due: qmgr(8) scans for such mail now, and leaves alone what is to wait longer.
"""
_DONE = re.compile(
    r"^postsuper: (\w+): (?:removed|placed on hold|released from hold|requeued)$", re.MULTILINE
)


class QueueCommands:
    """Runs commands on one Postfix instance, as root."""

    def __init__(self, queue_directory: Path, config_directory: Path | None = None) -> None:
        self._queue = queue_directory
        self._config = ("-c", str(config_directory)) if config_directory is not None else ()

    def execute(self, command: QueueCommand, interrupted: frozenset[str]) -> CommandResult:
        """Do it and say what became of each message; a failure leaves the rest to be done.

        `interrupted` are messages that this very command was working on when the node was
        interrupted: of those that are gone nobody can say why.
        """
        error = ""
        done: set[str]
        try:
            if command.verb is QueueVerb.FLUSH:
                done = self._flush(command.ids)
            else:
                done, error = self._postsuper(command.verb, command.ids)
        except ToolFailed as failure:
            done, error = set(), str(failure)
        items = []
        for one in command.ids:
            if one in done:
                items.append(ItemResult(id=one, state=ItemState.DONE))
            elif not error:
                items.append(ItemResult(id=one, state=self._untouched(command, one, interrupted)))
        return CommandResult(action=command.action, items=tuple(items), error=error[:ERROR_LENGTH])

    def _untouched(
        self, command: QueueCommand, queue_id: str, interrupted: frozenset[str]
    ) -> ItemState:
        if self.find(queue_id) is not None:
            return ItemState.UNCHANGED
        if queue_id in interrupted and command.verb in VANISHING:
            return ItemState.UNKNOWN
        return ItemState.NOT_FOUND

    def find(self, queue_id: str) -> str | None:
        """Return the path of a message in the live queue, None when it is not there."""
        for candidate in _candidates(queue_id):
            path = self._queue / candidate
            if path.is_file():
                return str(path)
        return None

    def headers(self, wish: HeadersWish) -> HeadersResult:
        """Return the headers of a message of the live queue, postcat(1) `-h`, and its deferrals."""
        path = self.find(wish.id)
        deferrals = read_deferrals(path).values() if path is not None else ()
        try:
            # The options of postcat(1): headers only, by queue id.
            shown: str | None = self._run("postcat", "-h", "-q", wish.id, limit=HEADERS_LENGTH)
        except ToolFailed:
            shown = None
        return HeadersResult(
            request=wish.request,
            headers=shown,
            deferrals=tuple(f"{one.recipient}: {one.reason}"[:REASON_LENGTH] for one in deferrals)[
                :MOST_RECIPIENTS
            ],
        )

    def content(self, queue_id: str) -> bytes | None:
        """Return headers and body, postcat(1) `-bh`; at most one byte above `CONTENT_BYTES`.

        None: not in the live queue any more.
        """
        command = ("postcat", *self._config, "-bh", "-q", queue_id)
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        ) as process:
            limit = threading.Timer(LIMIT_S, process.kill)
            limit.start()
            try:
                assert process.stdout is not None  # noqa: S101 - asked for above
                return process.stdout.read(CONTENT_BYTES + 1) or None
            finally:
                limit.cancel()
                process.kill()

    def _postsuper(self, verb: QueueVerb, ids: Iterable[str]) -> tuple[set[str], str]:
        """Return what was done, and why not more was."""
        listed = "".join(f"{one}\n" for one in ids)
        command = ("postsuper", *self._config, POSTSUPER[verb], "-")
        error = ""
        try:
            done = subprocess.run(
                command,
                input=listed.encode(),
                capture_output=True,
                timeout=LIMIT_S,
                check=False,
            )
            said = done.stderr.decode(errors="replace")
            if done.returncode != 0:
                error = f"postsuper failed: {said.strip()[-300:] or 'the mail log says why.'}"
        except subprocess.TimeoutExpired as timeout:
            said = (timeout.stderr or b"").decode(errors="replace")
            error = f"postsuper did not end within {LIMIT_S} s."
        acted_on = set(_DONE.findall(said))
        if acted_on and verb in WOKEN:
            self._wake(*WOKEN[verb])
        return acted_on, error

    def _wake(self, service: str, request: str) -> None:
        """Have a daemon look now; one that is busy refuses the kick at times (postkick(1))."""
        for _ in range(KICKS):
            try:
                self._run("postkick", "public", service, request)
            except ToolFailed as error:
                log.warning("daemon not woken", service=service, reason=str(error))
                time.sleep(BETWEEN_KICKS_S)
            else:
                return

    def _flush(self, ids: Iterable[str]) -> set[str]:
        """Have deferred messages tried now; what is held or under way stays as it is."""
        deferred = [one for one in ids if "/deferred/" in (self.find(one) or "")]
        for one in deferred:
            self._run("postqueue", "-i", one)
        return set(deferred)

    def _run(self, program: str, *arguments: str, limit: int = 300) -> str:
        """Return the first `limit` characters of what a program printed."""
        command = (program, *self._config, *arguments)
        try:
            done = subprocess.run(command, capture_output=True, timeout=LIMIT_S, check=False)
        except subprocess.TimeoutExpired as error:
            raise ToolFailed(f"{program} did not end within {LIMIT_S} s.") from error
        if done.returncode != 0:
            said = done.stderr.decode(errors="replace").strip()[-300:]
            raise ToolFailed(f"{program} failed: {said or 'the mail log says why.'}")
        return done.stdout.decode(errors="replace")[:limit]


def _candidates(queue_id: str) -> Iterable[str]:
    if is_queue_id(queue_id):
        yield from candidate_paths(Kind.MAIL, queue_id)
        yield from candidate_paths(Kind.HOLD, queue_id)
        return
    for queue in LIVE:
        yield from (f"{queue.value}/{queue_id}", f"{queue.value}/{queue_id[0]}/{queue_id}")
