"""Keeps the control plane's list of this node's queue true, and does what operators ask of it.

It is a process of its own beside the agent, with the lowest priority: neither a long list nor a
slow postsuper(1) can delay a heartbeat or lengthen a freeze. It decides nothing about ownership: it
looks at the live queue and acts on the live queue, whichever mail the lease guard leaves there.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
import uuid
from collections.abc import Callable
from typing import Final

import structlog

from nodeagent.adapters.api_client import ControlPlaneClient
from nodeagent.adapters.clock import boot_time_s
from nodeagent.adapters.command_journal import CommandJournal
from nodeagent.adapters.identity import Identity
from nodeagent.adapters.queue_commands import CONTENT_BYTES, QueueCommands
from nodeagent.adapters.queue_scan import QueueScan, read_message
from nodeagent.core.log_format import configure_log
from nodeagent.core.queue_changes import QueueChanges
from nodeagent.core.queue_contract import (
    ERROR_LENGTH,
    CommandResult,
    HeadersResult,
    HeadersWish,
    ItemState,
    QueueAnswer,
    QueueCommand,
    QueueReport,
)
from nodeagent.errors import AgentError, Unreachable
from nodeagent.policy.preview import preview_of
from nodeagent.settings import AgentSettings, load_settings

log = structlog.get_logger()

POLL_S: Final = 2.0
REST_FACTOR: Final = 10  # looking takes at most a tenth of the time
BETWEEN_BATCHES_S: Final = 0.05
REFUSED_REST_S: Final = 30.0
LOWEST_PRIORITY: Final = 19

Send = Callable[[QueueReport], QueueAnswer]


class QueueReporter:
    """One session after the other: looks, sends what changed, and carries out the answers."""

    def __init__(
        self, scan: QueueScan, commands: QueueCommands, journal: CommandJournal, send: Send
    ) -> None:
        self._scan = scan
        self._commands = commands
        self._journal = journal
        self._send = send
        self._changes = QueueChanges()
        self._session = str(uuid.uuid4())
        self._sequence = 0
        self._unanswered: QueueReport | None = None
        self._results: tuple[CommandResult, ...] = ()
        self._headers: tuple[HeadersResult, ...] = ()
        self._looked_at_s = boot_time_s()
        self._look_due_s = 0.0

    def report(self) -> bool:
        """Send one batch and carry out its answer; return whether there is more to send now.

        What failed is asked for again in the next answer, so its result does not hurry.
        Raises `Unreachable` or `Refused`; the same batch is sent again by the next call.
        """
        self._look_if_due()
        if self._unanswered is None:
            self._unanswered = self._next_batch()
        answer = self._send(self._unanswered)
        sent, self._unanswered = self._unanswered, None
        if sent.results:
            self._journal.end()
        self._results, self._headers = (), ()
        if not answer.is_expected:
            self._begin_anew()
        self._carry_out(answer)
        return not answer.is_expected or not self._changes.is_empty() or self._has_news()

    def _has_news(self) -> bool:
        return bool(self._headers) or any(not result.error for result in self._results)

    def _look_if_due(self) -> None:
        began_s = boot_time_s()
        if began_s < self._look_due_s:
            return
        self._changes.note(self._scan.look())
        self._looked_at_s = began_s
        ended_s = boot_time_s()
        self._look_due_s = ended_s + max(POLL_S, REST_FACTOR * (ended_s - began_s))

    def _next_batch(self) -> QueueReport:
        batch = self._changes.take()
        self._sequence += 1
        read = {name: read_message(name, stamp) for name, stamp in batch.changed.items()}
        return QueueReport(
            session=self._session,
            sequence=self._sequence,
            upserts=tuple(message for message in read.values() if message is not None),
            removals=batch.gone,
            is_complete=batch.is_last,
            scan_age_s=max(0.0, boot_time_s() - self._looked_at_s),
            results=self._results,
            headers=self._headers,
        )

    def _begin_anew(self) -> None:
        self._changes.forget()
        self._session = str(uuid.uuid4())
        self._sequence = 0

    def _carry_out(self, answer: QueueAnswer) -> None:
        """Do what was asked; results wait for the next batch."""
        if answer.commands:
            self._results = self._execute(answer.commands)
            for result in self._results:
                done = sum(1 for item in result.items if item.state is ItemState.DONE)
                log.info("queue action", action=result.action, done=done, error=result.error)
            self._look_due_s = 0.0
        self._headers = tuple(self._look_into(wish) for wish in answer.headers)

    def _look_into(self, wish: HeadersWish) -> HeadersResult:
        """Return the headers of one message, and its preview where that is wanted."""
        result = self._commands.headers(wish)
        raw = self._commands.content(wish.id) if wish.has_preview else None
        if raw is None:
            return result
        return result.model_copy(update={"preview": preview_of(raw, CONTENT_BYTES)})

    def _execute(self, commands: tuple[QueueCommand, ...]) -> tuple[CommandResult, ...]:
        """Do nothing that is not in the journal first; where it cannot be, the operator reads why.

        A disk that is full must not keep the list from going out.
        """
        try:
            interrupted = {one.action: self._journal.interrupted(one.action) for one in commands}
            self._journal.begin(commands)
        except (AgentError, OSError) as error:
            why = f"The node cannot note what it does: {error}"[:ERROR_LENGTH]
            return tuple(CommandResult(action=one.action, items=(), error=why) for one in commands)
        return tuple(self._commands.execute(one, interrupted[one.action]) for one in commands)


def serve(
    reporter: QueueReporter, stopping: threading.Event, is_wanted: Callable[[], bool]
) -> None:
    """Report until stopped, or until whoever started this is gone; errors are logged once."""
    complaint = ""
    while is_wanted() and not stopping.is_set():
        rest_s = POLL_S
        try:
            if reporter.report():
                rest_s = BETWEEN_BATCHES_S
            complaint = ""
        except (AgentError, OSError) as error:
            rest_s = POLL_S if isinstance(error, Unreachable) else REFUSED_REST_S
            if str(error) != complaint:
                complaint = str(error)
                log.warning("queue list not sent", reason=complaint)
        stopping.wait(rest_s)


def build_reporter(settings: AgentSettings) -> QueueReporter:
    """Return the reporter of an enrolled host; raises `BrokenState`."""
    identity = Identity(settings.state_directory)
    client = ControlPlaneClient(identity.url(), identity.ca_pem(), identity.token)
    return QueueReporter(
        QueueScan(settings.queue_directory, settings.relay_directory),
        QueueCommands(settings.queue_directory),
        CommandJournal(settings.state_directory / "queue-commands.json"),
        client.report_queue,
    )


def main() -> None:
    """Run beside the agent that started this and named itself; end with it."""
    configure_log()
    os.nice(LOWEST_PRIORITY)
    parent = int(sys.argv[1]) if len(sys.argv) > 1 else os.getppid()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stopping.set())
    signal.signal(signal.SIGINT, lambda _number, _frame: stopping.set())
    try:
        reporter = build_reporter(load_settings())
    except AgentError as error:
        sys.exit(f"relay-agent: {error}")
    serve(reporter, stopping, lambda: os.getppid() == parent)


if __name__ == "__main__":
    main()
