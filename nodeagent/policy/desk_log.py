"""What the desk writes down: one line an answer, as the privacy of the policy in force allows.

Before the first policy nothing is decided, so nothing is noted either.
"""

from __future__ import annotations

import time

from nodeagent.policy.document import PolicySettings
from nodeagent.policy.engine.log_lines import (
    Asked,
    Circumstances,
    connection_line,
    decision_line,
)
from nodeagent.policy.engine.policy import CompiledPolicy
from nodeagent.policy.engine.privacy import Redactor
from nodeagent.policy.log_wire import Door, LogEntry, LogKind
from nodeagent.policy.log_writer import LogWriter
from nodeagent.policy.model import Decision, Session
from nodeagent.policy.rare_lines import RareLines


class DeskLog:
    """Makes lines and hands them to the writer; for any thread."""

    def __init__(self, writer: LogWriter) -> None:
        self._writer = writer
        self._policy: CompiledPolicy | None = None
        self._redactor = Redactor(PolicySettings())
        self._rare = RareLines()

    def use(self, policy: CompiledPolicy) -> None:
        """Write lines as this policy wants them from now on."""
        self._policy = policy
        self._redactor = Redactor(policy.settings)

    def note(
        self,
        asked: Asked,
        decision: Decision,
        by: CompiledPolicy | None = None,
        took_ms: float = 0.0,
    ) -> None:
        """Have what was decided `by` a policy (None: the one in force) written down soon."""
        if self._policy is not None:
            self._writer.note(self._line(asked, decision, by, took_ms))

    def note_rare(self, asked: Asked, decision: Decision) -> None:
        """Note a decision whose line a stranger can cause without a message: not so many of it."""
        if self._rare.takes(decision.fired[0].rule, time.monotonic()):
            self.note(asked, decision)

    def write(
        self,
        asked: Asked,
        decision: Decision,
        by: CompiledPolicy | None = None,
        took_ms: float = 0.0,
    ) -> None:
        """Write down what was decided; it is on the disk now. Raises `BrokenState`."""
        self._writer.write(self._line(asked, decision, by, took_ms))

    def _line(
        self, asked: Asked, decision: Decision, by: CompiledPolicy | None, took_ms: float
    ) -> LogEntry:
        policy = by or self._policy
        revision = policy.revision if policy is not None else None
        about = Circumstances(time.time(), took_ms, revision)
        return decision_line(asked, decision, about, self._redactor)

    def note_left_out(self, *, is_end: bool = False) -> None:
        """Note what was only counted, in windows that are over by now; at the end in all."""
        for rule, count in self._rare.left_out(None if is_end else time.monotonic()):
            text = f"{count} more answers of the rule {rule} are not in the log one by one."
            self._writer.note(LogEntry(at=time.time(), kind=LogKind.GAP, text=text, lost=count))

    def end_connection(self, door: Door, session: Session, messages: int) -> None:
        """Note that a session ended."""
        line = connection_line(door, session, messages, time.time(), self._redactor)
        self._writer.note(line)
