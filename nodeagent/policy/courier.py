"""Brings policy and counts from the control plane to the hook, and its log back.

Theory of operation. The hook reads what strangers wrote, so it has neither the node's key nor
root's rights; the courier has both and reads nothing of any mail. It is a process of its own beside
the agent. About once a second it asks the hook what it counted and which policy it has, tells the
control plane, and hands the answer back. While the control plane is away the hook goes on with
what it has, counts for itself, and its log waits on the disk.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, Protocol

import structlog
from pydantic import ValidationError

from nodeagent.adapters.api_client import ControlPlaneClient
from nodeagent.adapters.identity import Identity
from nodeagent.adapters.json_connection import JsonConnection
from nodeagent.core.log_format import configure_log
from nodeagent.core.stream_wire import StreamAnswer
from nodeagent.errors import AgentError, BrokenState, Refused, Unreachable
from nodeagent.policy.control_plane import PolicyControlPlane
from nodeagent.policy.document import Manifest
from nodeagent.policy.log_wire import LogBatch
from nodeagent.policy.log_writer import LOG_FILE, LogSpool, open_spool
from nodeagent.policy.places import COURIER_SOCKET
from nodeagent.policy.stored_policy import StoredPolicy
from nodeagent.policy.sync_wire import PolicyAnswer, PolicySync
from nodeagent.settings import AgentSettings, load_settings

log = structlog.get_logger()

EVERY_S: Final = 1.0
RETRY_S: Final = 3.0
HOOK_TIMEOUT_S: Final = 60.0
"""A large policy takes some seconds to compile."""
BATCHES_A_TURN: Final = 20
MOST_TURNS: Final = 64
MIB: Final = 1024 * 1024


class TalksPolicy(Protocol):
    """The control plane, as far as the courier needs it; raises `Unreachable` and `Refused`."""

    def sync(self, sync: PolicySync) -> PolicyAnswer:
        """Tell what the node has and counted."""

    def manifest(self) -> Manifest:
        """Fetch the policy in force."""

    def section(self, sha256: str) -> bytes:
        """Fetch one section's body."""

    def log(self, batch: LogBatch) -> StreamAnswer:
        """Bring lines of the policy log."""


class AsksHook(Protocol):
    """The hook, as the courier reaches it."""

    def call(self, operation: str, **fields: Any) -> dict[str, Any]:
        """Return the answer; raises `Unreachable` and `Refused`."""

    def close(self) -> None:
        """End the connection."""


class HookConnection(JsonConnection):
    """A connection to the hook's own socket."""

    server = "policy hook"


class RefusedPolicy:
    """A policy that the hook did not load: it is tried again after 1, 2, 4, ... turns.

    Another revision, or a hook that was started anew, is tried at once.
    """

    def __init__(self) -> None:
        self._which: tuple[int, str] | None = None
        self._pause = 0
        self._left = 0

    def note(self, revision: int, source: str) -> None:
        """Remember that this hook refused this revision."""
        is_again = self._which == (revision, source)
        self._which = (revision, source)
        self._pause = min(2 * self._pause, MOST_TURNS) if is_again else 1
        self._left = self._pause

    def is_due(self, revision: int, source: str) -> bool:
        """Tell, once a turn, whether to try."""
        if self._which != (revision, source) or self._left == 0:
            return True
        self._left -= 1
        return False


class Courier:
    """One hook and one control plane."""

    def __init__(
        self,
        control_plane: TalksPolicy,
        connect: Callable[[], AsksHook],
        stored: StoredPolicy,
        open_log: Callable[[], LogSpool | None],
    ) -> None:
        self._control_plane = control_plane
        self._connect = connect
        self._stored = stored
        self._open_log = open_log
        self._hook: AsksHook | None = None
        self._spool: LogSpool | None = None
        self._manifest: Manifest | None = None  # the last one, until it is in force
        self._refused = RefusedPolicy()

    def turn(self) -> bool:
        """Carry everything once; tell whether there is more right now.

        Raises AgentError and OSError; whatever was not carried is carried by a later turn.
        """
        try:
            has_more = self._exchange()
        finally:
            has_more_lines = self._ship_log()  # of a hook that is gone it may say why
        return has_more or has_more_lines

    def _ask(self, operation: str, **fields: Any) -> dict[str, Any]:
        """Ask the hook, over a new connection when the last one broke."""
        if self._hook is None:
            self._hook = self._connect()
        try:
            return self._hook.call(operation, **fields)
        except Unreachable:
            self._hook.close()
            self._hook = None
            raise

    def _exchange(self) -> bool:
        try:
            sync = PolicySync.model_validate(self._ask("report")["sync"])
        except (ValidationError, KeyError) as error:
            raise Unreachable("The policy hook's report cannot be read.") from error
        answer = self._control_plane.sync(sync)
        self._ask("told", answer=answer.model_dump(mode="json"))
        if answer.revision != sync.revision and self._refused.is_due(answer.revision, sync.source):
            self._fetch(answer.revision, sync.source)
        return answer.has_more

    def _fetch(self, revision: int, source: str) -> None:
        """Offer the newest policy to the hook; once it is loaded it is the one on the disk."""
        manifest = self._manifest
        if manifest is None or manifest.revision != revision:
            manifest = self._manifest = self._control_plane.manifest()
        lacking = self._stored.lacking(manifest)
        try:
            for name in lacking:
                self._stored.keep_section(name, self._control_plane.section(name))
        except Refused:
            self._manifest = None  # a section was replaced: so was the manifest
            raise
        if lacking or manifest != self._known_manifest():
            self._stored.offer(manifest)
        try:
            self._ask("load")
        except Refused:
            if not self._stored.drop_torn(manifest):  # what was dropped the next turn fetches
                self._refused.note(revision, source)
            raise
        self._stored.take_offer()
        self._manifest = None

    def _known_manifest(self) -> Manifest | None:
        try:
            return self._stored.newest()
        except BrokenState:
            return None

    def _ship_log(self) -> bool:
        """Bring the oldest lines; tell whether there may be more."""
        if self._spool is None:
            self._spool = self._open_log()
        if self._spool is None:
            return False
        for _ in range(BATCHES_A_TURN):
            batch = self._spool.read()
            if batch is None:
                return False
            answer = self._control_plane.log(batch)
            if answer.acknowledged > batch.entries[-1].number:
                raise Unreachable("The control plane acknowledged what it was not sent.")
            self._spool.acknowledge(answer.acknowledged)
        return True


def serve(courier: Courier, stopping: threading.Event, is_wanted: Callable[[], bool]) -> None:
    """Carry until stopped, or until whoever started this is gone; errors are logged once."""
    complaint = ""
    while is_wanted() and not stopping.is_set():
        rest_s = EVERY_S
        try:
            if courier.turn():
                rest_s = 0.0
            complaint = ""
        except (AgentError, OSError) as error:
            rest_s = RETRY_S
            if str(error) != complaint:
                complaint = str(error)
                log.warning("policy not exchanged", reason=complaint)
        stopping.wait(rest_s)


def build_courier(settings: AgentSettings) -> Courier:
    """Return the courier of an enrolled host; raises `BrokenState`."""
    identity = Identity(settings.state_directory)
    client = ControlPlaneClient(identity.url(), identity.ca_pem(), identity.token)
    directory = settings.policy_directory
    return Courier(
        PolicyControlPlane(client),
        lambda: HookConnection(COURIER_SOCKET, HOOK_TIMEOUT_S),
        StoredPolicy(directory / "policy"),
        lambda: _hooks_spool(directory / LOG_FILE, settings.policy_log_mib * MIB),
    )


def _hooks_spool(path: Path, limit_bytes: int) -> LogSpool | None:
    """Open the hook's spool, None until the hook has made it: a file of root's is of no use."""
    return open_spool(path, limit_bytes) if path.exists() else None


def main() -> None:
    """Run beside the agent that started this and named itself; end with it."""
    configure_log()
    parent = int(sys.argv[1]) if len(sys.argv) > 1 else os.getppid()
    stopping = threading.Event()
    signal.signal(signal.SIGTERM, lambda _number, _frame: stopping.set())
    signal.signal(signal.SIGINT, lambda _number, _frame: stopping.set())
    try:
        courier = build_courier(load_settings())
    except AgentError as error:
        sys.exit(f"relay-agent: {error}")
    serve(courier, stopping, lambda: os.getppid() == parent)


if __name__ == "__main__":
    main()
