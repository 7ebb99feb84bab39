"""The lease guard: owns the deadline of a node's old mail, the fence, the thaw and the take-back.

A process and unit of its own, so that none of this depends on the agent. It answers one JSON object
a line on a UNIX socket that only root can reach; the agent brings it proofs (`core.guard_state`).
Single-threaded: whatever it does, it does under one lock by construction.

* Start: unless an unexpired proof of this boot is on file, set the queue aside; thaw. Then make
  what keepalived expects to find in /run.
* Deadline passed: stop the queue manager, let running deliveries end for the drain limit, kill what
  is left, set the queue aside. New mail flows meanwhile and afterwards. A queue that cannot be set
  aside (a full disk) keeps Postfix still, and every tick tries again.
* `freeze` holds for one connection only: its end, or `FREEZE_LIMIT_S`, thaws (P3). No thaw undoes
  a fence.
"""

from __future__ import annotations

import math
import signal
import socket
import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import structlog

from nodeagent.adapters import queue_dirs
from nodeagent.adapters.clock import boot_time_s
from nodeagent.adapters.event_spool import EventSpool
from nodeagent.adapters.fault_point import fault_point
from nodeagent.adapters.guard_file import GuardFile, ReceiptFiles
from nodeagent.adapters.keepalived import Keepalived
from nodeagent.adapters.postfix import Postfix
from nodeagent.adapters.precedence import take_precedence
from nodeagent.adapters.queue_dirs import QueueDirs
from nodeagent.adapters.standstill import Standstill
from nodeagent.core.guard_state import GuardState, ProofKind, ProofOffer, after_aside, judge_proof
from nodeagent.core.log_format import configure_log
from nodeagent.errors import AgentError, Refused, ToolFailed
from nodeagent.guard_server import GuardServer
from nodeagent.settings import AgentSettings, check_filesystem, load_settings

log = structlog.get_logger()

FREEZE_LIMIT_S: Final = 0.5
NOT_ASIDE: Final = "The queue could not be set aside, so Postfix stands still."


@dataclass
class Freeze:
    """A freeze that one connection asked for."""

    owner: socket.socket
    began_s: float
    still_s: float = math.inf  # the moment from which on its length is limited
    is_valid: bool = True


class Guard:
    """State and operations; `serve` is the loop around them."""

    def __init__(self, settings: AgentSettings, report: Callable[[str, str], None]) -> None:
        self._dirs = QueueDirs(settings.queue_directory, settings.relay_directory)
        self._mirrors = settings.relay_directory / "mirror"
        self._postfix = Postfix(settings.queue_directory)
        self._receipts = ReceiptFiles()
        self._file = GuardFile(settings.run_directory / "guard.json")
        self._report = report
        self._report_quarantined = partial(report, "quarantined")
        stopped = settings.run_directory / "postfix-stopped"
        self._standstill = Standstill(self._postfix, stopped, report)
        self._freeze: Freeze | None = None
        self._drainer: socket.socket | None = None
        self._state = self._file.load()
        self._has_pending = False
        self._owed_fence = ""

    def _save(self, state: GuardState) -> None:
        self._state = state
        self._file.save(state)

    def start(self) -> None:
        """Fence unless this boot's proof holds; thaw whatever a killed guard left frozen."""
        if not self._state.is_proven(boot_time_s()):
            self._set_aside("start without a proof of the lease")
        else:
            self._standstill.find()
            self._standstill.end()
            self._postfix.signal_deliverers(signal.SIGCONT)
        self._has_pending = queue_dirs.has_files(self._dirs.pending)

    def _thaw(self) -> None:
        """Let Postfix go on, but never with a queue that should have been set aside."""
        if not self._owed_fence:
            self._standstill.end()

    def _check_aside(self) -> None:
        if self._owed_fence:
            raise ToolFailed(NOT_ASIDE)

    def tick(self) -> None:
        """Fence at the deadline, thaw an overlong freeze; called at least every `POLL_S`."""
        now_s = boot_time_s()
        if self._state.is_fence_due(now_s):
            if self._freeze is not None:
                self._end_freeze("the lease ran out")
            if now_s < self._state.drain_until_s:
                self._postfix.signal_deliverers(signal.SIGSTOP, only="qmgr")
                self._postfix.wait_for_deliveries(self._state.drain_until_s)
            self._set_aside("the lease was not renewed in time")
        elif self._owed_fence:
            self._set_aside(self._owed_fence)
        freeze = self._freeze
        if freeze is not None and freeze.is_valid and now_s - freeze.still_s > FREEZE_LIMIT_S:
            self._end_freeze("the agent held a freeze for too long")

    def _end_freeze(self, reason: str) -> None:
        self._standstill.end()
        if self._freeze is not None:
            self._freeze.is_valid = False
            log.warning("freeze ended", reason=reason)

    def _kill_and_rename(self) -> int:
        self._postfix.signal_deliverers(signal.SIGKILL)
        return queue_dirs.set_aside(self._dirs)

    def _set_aside(self, reason: str, *, is_frozen: bool = False) -> None:
        """Drop the proof, kill every delivery, rename the queue aside; the order is the safety.

        The freeze comes first: on a host that stood still every delivery goes on when we do.
        """
        self._owed_fence, owed = reason, self._owed_fence
        try:
            self._standstill.begin_surely()
            self._save(after_aside(self._state, boot_time_s()))
            if self._freeze is not None and not is_frozen:
                self._freeze.is_valid = False
            count = self._kill_and_rename()
            if not self._standstill.name and self._postfix.master_pid() is not None:
                self._standstill.begin_surely()  # Postfix was started in the middle of it
                count += self._kill_and_rename()
        except OSError as error:
            if not owed:
                self._report("fence-failed", f"{NOT_ASIDE} {error}.")
            return
        self._owed_fence = ""
        self._standstill.end()
        self._has_pending = queue_dirs.has_files(self._dirs.pending)
        if count:
            self._report("fenced", f"{count} queue files were set aside: {reason}.")
        log.warning("queue set aside", reason=reason, files=count)

    def handle(self, connection: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        """Carry out one request; `AgentError` becomes a refusal of one sentence."""
        operations: dict[str, Callable[[socket.socket, dict[str, Any]], dict[str, Any]]] = {
            "status": self._op_status,
            "proof": self._op_proof,
            "aside": self._op_aside,
            "pending": self._op_pending,
            "take_back": self._op_take_back,
            "place": self._op_place,
            "remove_retired": self._op_remove_retired,
            "drain": self._op_drain,
            "freeze": self._op_freeze,
            "thaw": self._op_thaw,
        }
        try:
            name = request.get("op")
            if name not in operations:
                raise Refused(f"The guard does not know the operation {name!r}.")
            return {"ok": True, **operations[name](connection, request)}
        except AgentError as error:
            return {"ok": False, "reason": str(error)}
        except (KeyError, TypeError, ValueError) as error:
            return {"ok": False, "reason": f"The request is malformed ({error!r})."}

    def _op_status(self, _connection: socket.socket, _request: dict[str, Any]) -> dict[str, Any]:
        now_s = boot_time_s()
        return {
            "is_proven": self._state.is_proven(now_s),
            "remaining_s": max(0.0, self._state.deadline_s - now_s),
            "generation": self._state.generation,
            "has_pending": self._has_pending,
            "freezer": self._standstill.name,
            "retired": sorted(queue_dirs.retired_ages_s(self._dirs).items()),
        }

    def _op_proof(self, _connection: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        fields = {key: value for key, value in request.items() if key not in {"op", "kind"}}
        offer = ProofOffer(kind=ProofKind(request["kind"]), **fields)
        self.tick()
        self._check_aside()
        state, refusal = judge_proof(self._state, offer, boot_time_s())
        if refusal:
            raise Refused(refusal)
        self._save(state)
        return {}

    def _op_aside(self, _connection: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        self._set_aside(str(request.get("reason", "asked to")))
        self._check_aside()
        return {}

    def _op_pending(self, _connection: socket.socket, _request: dict[str, Any]) -> dict[str, Any]:
        return {"ids": queue_dirs.pending_ids(self._dirs)}

    def _op_take_back(self, _connection: socket.socket, _request: dict[str, Any]) -> dict[str, Any]:
        if not self._state.may_take_back(boot_time_s()):
            raise Refused("Nothing is taken back without a fresh proof of the lease.")
        retired = self._state.retired or {}
        is_done = queue_dirs.take_back(self._dirs, retired, self._report_quarantined)
        self._has_pending = not is_done
        return {"done": is_done}

    def _op_remove_retired(self, _: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        receipts, older_than_s = request["receipts"], float(request["older_than_s"])
        return {"done": queue_dirs.remove_retired(self._dirs, receipts, older_than_s)}

    def _op_place(self, _connection: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        mirror = self._mirrors / Path(str(request["queue"])).name
        generation, ids = self._receipts.read(mirror / "receipt.json")
        if generation != request["generation"]:
            raise Refused("The receipt on disk is of another generation.")
        if not self._state.is_proven(boot_time_s()) or self._has_pending:
            raise Refused("Adopted mail is placed only while the own lease is proved.")
        report = self._report_quarantined
        return {"done": queue_dirs.place_adopted(self._dirs, mirror, ids, report)}

    def _op_drain(self, connection: socket.socket, _request: dict[str, Any]) -> dict[str, Any]:
        """Stop handing out mail; the answer says how many deliveries are still under way."""
        self._drainer = connection
        self._postfix.signal_deliverers(signal.SIGSTOP, only="qmgr")
        return {"busy": self._postfix.busy_deliverers()}

    def _op_freeze(self, connection: socket.socket, _request: dict[str, Any]) -> dict[str, Any]:
        if self._freeze is not None:
            raise Refused("Postfix is frozen already.")
        if not self._state.is_proven(boot_time_s()) or self._has_pending:
            raise Refused("Nothing is pushed while the lease is not proved or mail is pending.")
        self._freeze = Freeze(connection, boot_time_s())
        try:
            self._freeze.began_s = self._standstill.begin()
        except ToolFailed:
            self._freeze = None
            self._standstill.end()
            raise
        self._freeze.still_s = boot_time_s()
        return {}

    def _op_thaw(self, connection: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        """End the freeze; with `aside` the queue is set aside before anything of it runs again."""
        freeze = self._freeze
        if freeze is None or freeze.owner is not connection:
            raise Refused("Postfix was not frozen by this connection.")
        is_valid = freeze.is_valid and self._state.is_proven(boot_time_s())
        if is_valid and request.get("aside"):
            self._set_aside(str(request["aside"]), is_frozen=True)
        self._freeze = None
        self._standstill.end()
        self._check_aside()
        if not is_valid:
            raise Refused("The freeze ended before the snapshot was complete.")
        return {"freeze_ms": (boot_time_s() - freeze.began_s) * 1000}

    def stop(self) -> None:
        """Let Postfix go on before the guard ends; a fence that is owed stays owed."""
        if self._freeze is not None:
            self._end_freeze("the guard was told to stop")
        self._postfix.signal_deliverers(signal.SIGCONT, only="qmgr")

    def disconnected(self, connection: socket.socket) -> None:
        """Thaw what this connection froze and let the queue manager it stopped go on."""
        if self._freeze is not None and self._freeze.owner is connection:
            self._end_freeze("its connection ended")
            self._freeze = None
        if self._drainer is connection:
            self._drainer = None
            self._postfix.signal_deliverers(signal.SIGCONT, only="qmgr")


def report_to(spool: EventSpool) -> Callable[[str, str], None]:
    """Return what notes an event; one that cannot be written is logged and costs nothing else."""

    def report(kind: str, text: str) -> None:
        try:
            spool.append(kind, text)
        except (OSError, AgentError) as error:
            log.warning("event lost", kind=kind, text=text, error=str(error))

    return report


def run() -> None:
    """Run the guard until SIGTERM; raises `BadSettings` where no fence could succeed."""
    settings = load_settings()
    check_filesystem(settings)
    settings.run_directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    guard = Guard(settings, report_to(EventSpool(settings.state_directory / "events")))
    guard.start()
    Keepalived(settings.run_directory).prepare()
    server = GuardServer(guard, settings.run_directory / "guard.sock")

    def stop(_number: int, _frame: object) -> None:
        server.is_stopping = True

    signal.signal(signal.SIGTERM, stop)
    fault_point("guard-started")
    server.serve()
    guard.stop()


def main() -> None:
    """Run the guard; a stop leaves the queue as it is, the next start fences."""
    configure_log()
    take_precedence()
    try:
        run()
    except AgentError as error:
        sys.stderr.write(f"relay-guard: {error}\n")
        sys.exit(1)
