"""The lease guard: owns the deadline of a node's old mail, the fence, the thaw and the take-back.

A process and unit of its own, so that none of this depends on the agent. It answers one JSON object
a line on a UNIX socket that only root can reach; the agent brings it proofs (`core.guard_state`).
Single-threaded: whatever it does, it does under one lock by construction.

* Start: thaw; unless an unexpired proof of this boot is on file, set the queue aside. Then make
  what keepalived expects to find in /run.
* Deadline passed: stop the queue manager, let running deliveries end for the drain limit, kill what
  is left, set the queue aside. New mail flows meanwhile and afterwards.
* `freeze` holds for one connection only: its end, or `FREEZE_LIMIT_S`, thaws (P3). No thaw undoes
  a fence.
"""

from __future__ import annotations

import json
import os
import selectors
import signal
import socket
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import structlog

from nodeagent.adapters import queue_dirs
from nodeagent.adapters.clock import boot_time_s
from nodeagent.adapters.event_spool import EventSpool
from nodeagent.adapters.fault_point import fault_point
from nodeagent.adapters.freezers import LAST_RESORT, Freezer, find_freezer
from nodeagent.adapters.guard_file import GuardFile
from nodeagent.adapters.keepalived import Keepalived
from nodeagent.adapters.postfix import Postfix
from nodeagent.adapters.precedence import take_precedence
from nodeagent.adapters.queue_dirs import QueueDirs
from nodeagent.core.guard_state import GuardState, ProofKind, ProofOffer, after_aside, judge_proof
from nodeagent.core.log_format import configure_log
from nodeagent.errors import AgentError, Refused, ToolFailed
from nodeagent.settings import AgentSettings

log = structlog.get_logger()

FREEZE_LIMIT_S: Final = 0.5
POLL_S: Final = 0.02
LINE_LIMIT: Final = 64 * 1024 * 1024


@dataclass
class Freeze:
    """A freeze that one connection asked for."""

    owner: socket.socket
    began_s: float
    is_valid: bool = True


class Guard:
    """State and operations; `serve` is the loop around them."""

    def __init__(self, settings: AgentSettings, report: Callable[[str, str], None]) -> None:
        self._dirs = QueueDirs(settings.queue_directory, settings.relay_directory)
        self._mirrors = settings.relay_directory / "mirror"
        self._postfix = Postfix(settings.queue_directory)
        self._file = GuardFile(settings.run_directory / "guard.json")
        self._report = report
        self._freezer: Freezer | None = None
        self._freeze: Freeze | None = None
        self._drainer: socket.socket | None = None
        self._state = self._file.load()
        self._has_pending = False

    def _save(self, state: GuardState) -> None:
        self._state = state
        self._file.save(state)

    def start(self) -> None:
        """Thaw whatever a killed guard left frozen, then fence unless this boot's proof holds."""
        self._find_freezer()
        self._thaw()
        self._postfix.signal_deliverers(signal.SIGCONT)
        if not self._state.is_proven(boot_time_s()):
            self._set_aside("start without a proof of the lease")
        self._has_pending = queue_dirs.has_files(self._dirs.pending)

    def _find_freezer(self) -> None:
        master = self._postfix.master_pid()
        self._freezer = find_freezer(master, os.getpid()) if master is not None else None

    def _stand_still(self) -> None:
        """Freeze Postfix for a fence; where its freezer fails, stop it: a fence must succeed."""
        self._find_freezer()
        if self._freezer is None:
            return
        try:
            self._freezer.freeze()
        except ToolFailed as error:
            self._report("freezer-failed", f"{error} Postfix is stopped and started instead.")
            self._freezer.thaw()
            self._freezer = LAST_RESORT
            self._freezer.freeze()

    def _thaw(self) -> None:
        if self._freezer is not None:
            self._freezer.thaw()

    def tick(self) -> None:
        """Fence at the deadline, thaw an overlong freeze; called at least every `POLL_S`."""
        now_s = boot_time_s()
        if self._state.is_fence_due(now_s):
            if self._freeze is not None:
                self._end_freeze("the lease ran out")
            if now_s < self._state.drain_until_s:
                self._postfix.signal_deliverers(signal.SIGSTOP, only="qmgr")
                self._wait_for_deliveries(self._state.drain_until_s)
            self._set_aside("the lease was not renewed in time")
        if self._freeze is not None and now_s - self._freeze.began_s > FREEZE_LIMIT_S:
            self._end_freeze("the agent held a freeze for too long")

    def _wait_for_deliveries(self, until_s: float) -> None:
        while self._postfix.busy_deliverers() and boot_time_s() < until_s:
            time.sleep(POLL_S)

    def _end_freeze(self, reason: str) -> None:
        self._thaw()
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
        try:
            self._stand_still()
            self._save(after_aside(self._state, boot_time_s()))
            if self._freeze is not None and not is_frozen:
                self._freeze.is_valid = False
            count = self._kill_and_rename()
            if self._freezer is None and self._postfix.master_pid() is not None:
                self._stand_still()  # Postfix was started in the middle of it
                count += self._kill_and_rename()
        finally:
            self._thaw()
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
            "freezer": self._freezer.name if self._freezer is not None else "",
            "retired": sorted(queue_dirs.retired_ages_s(self._dirs).items()),
        }

    def _op_proof(self, _connection: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        fields = {key: value for key, value in request.items() if key not in {"op", "kind"}}
        offer = ProofOffer(kind=ProofKind(request["kind"]), **fields)
        self.tick()
        state, refusal = judge_proof(self._state, offer, boot_time_s())
        if refusal:
            raise Refused(refusal)
        self._save(state)
        return {}

    def _op_aside(self, _connection: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        self._set_aside(str(request.get("reason", "asked to")))
        return {}

    def _op_pending(self, _connection: socket.socket, _request: dict[str, Any]) -> dict[str, Any]:
        return {"ids": queue_dirs.pending_ids(self._dirs)}

    def _op_take_back(self, _connection: socket.socket, _request: dict[str, Any]) -> dict[str, Any]:
        if not self._state.may_take_back(boot_time_s()):
            raise Refused("Nothing is taken back without a fresh proof of the lease.")
        is_done = queue_dirs.take_back(self._dirs, self._state.retired or {})
        self._has_pending = not is_done
        return {"done": is_done}

    def _op_remove_retired(self, _: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        receipts, older_than_s = request["receipts"], float(request["older_than_s"])
        return {"done": queue_dirs.remove_retired(self._dirs, receipts, older_than_s)}

    def _op_place(self, _connection: socket.socket, request: dict[str, Any]) -> dict[str, Any]:
        mirror = self._mirrors / Path(str(request["queue"])).name
        receipt = json.loads((mirror / "receipt.json").read_text())
        if receipt["generation"] != request["generation"]:
            raise Refused("The receipt on disk is of another generation.")
        if not self._state.is_proven(boot_time_s()) or self._has_pending:
            raise Refused("Adopted mail is placed only while the own lease is proved.")
        is_done = queue_dirs.place_adopted(
            self._dirs, mirror, frozenset(receipt["ids"]), self._report_double
        )
        return {"done": is_done}

    def _report_double(self, queue_id: str) -> None:
        self._report("quarantined", f"{queue_id} is in the live queue already; the copy is kept.")

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
        self._find_freezer()
        self._freeze = Freeze(connection, boot_time_s())
        try:
            if self._freezer is not None:
                self._freezer.freeze()
        except ToolFailed:
            self._freeze = None
            self._thaw()
            raise
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
        self._thaw()
        if not is_valid:
            raise Refused("The freeze ended before the snapshot was complete.")
        return {"freeze_ms": (boot_time_s() - freeze.began_s) * 1000}

    def disconnected(self, connection: socket.socket) -> None:
        """Thaw what this connection froze and let the queue manager it stopped go on."""
        if self._freeze is not None and self._freeze.owner is connection:
            self._end_freeze("its connection ended")
            self._freeze = None
        if self._drainer is connection:
            self._drainer = None
            self._postfix.signal_deliverers(signal.SIGCONT, only="qmgr")


class GuardServer:
    """The socket and the loop."""

    def __init__(self, guard: Guard, path: Path) -> None:
        self._guard = guard
        path.unlink(missing_ok=True)
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        path.chmod(0o600)
        self._listener.listen(16)
        self._selector = selectors.DefaultSelector()
        self._selector.register(self._listener, selectors.EVENT_READ, None)
        self.is_stopping = False

    def serve(self) -> None:
        """Answer until told to stop; look at the deadline between any two requests."""
        while not self.is_stopping:
            for key, _events in self._selector.select(POLL_S):
                if key.data is None:
                    connection, _address = self._listener.accept()
                    self._selector.register(connection, selectors.EVENT_READ, bytearray())
                else:
                    self._read(key)
                self._guard.tick()
            self._guard.tick()

    def _read(self, key: selectors.SelectorKey) -> None:
        connection, buffer = key.fileobj, key.data
        assert isinstance(connection, socket.socket)  # noqa: S101 - we registered nothing else
        try:
            data = connection.recv(1 << 20)
            buffer += data
            while b"\n" in buffer:
                line, _, rest = bytes(buffer).partition(b"\n")
                buffer[:] = rest
                answer = self._guard.handle(connection, json.loads(line))
                connection.sendall(json.dumps(answer).encode() + b"\n")
        except (OSError, ValueError) as error:
            log.warning("request failed", error=str(error))
            data = b""
        if not data or len(buffer) > LINE_LIMIT:
            self._selector.unregister(connection)
            self._guard.disconnected(connection)
            connection.close()


def main() -> None:
    """Run the guard until SIGTERM; a stop leaves the queue as it is, the next start fences."""
    configure_log()
    take_precedence()
    settings = AgentSettings()
    settings.run_directory.mkdir(mode=0o755, parents=True, exist_ok=True)
    spool = EventSpool(settings.state_directory / "events")
    guard = Guard(settings, spool.append)
    guard.start()
    Keepalived(settings.run_directory).prepare()
    server = GuardServer(guard, settings.run_directory / "guard.sock")

    def stop(_number: int, _frame: object) -> None:
        server.is_stopping = True

    signal.signal(signal.SIGTERM, stop)
    fault_point("guard-started")
    server.serve()
