"""The policy compiled as on a node, to try mails out on it; made anew only when it changed.

What did not change of a policy is reused, as on the nodes, so that a trial after one edit among a
million entries takes as long as that edit's section.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass

from controlplane.errors import Conflict
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.policy_publication import read_body, read_manifest
from nodeagent.policy.document import Manifest
from nodeagent.policy.engine.authentication import AuthenticationResults
from nodeagent.policy.engine.case import Given
from nodeagent.policy.engine.policy import CompiledPolicy, PolicyProblem, compile_policy
from nodeagent.policy.engine.trying import Trial, notes_of, try_mail
from nodeagent.policy.model import Envelope, Session


@dataclass(frozen=True)
class Tried:
    """What would happen at each stage, by which revision, and what that revision leaves out.

    `notes` say what was assumed or left out, and where the doors differ.
    """

    trials: tuple[Trial, ...]
    revision: int
    problems: tuple[str, ...]
    notes: tuple[str, ...]


class PolicyTrial:
    """Keeps the last compiled policy; for any thread, one of them compiles."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[Manifest, CompiledPolicy] | None = None

    def run(
        self,
        database: Database,
        box: SecretBox,
        raw: bytes,
        asked: tuple[Session, Envelope],
        assumed: AuthenticationResults | None = None,
    ) -> Tried:
        """Try a mail; raises Conflict when the policy cannot be compiled.

        No rate is counted, and no DNS is asked: `assumed` is what it would say.
        """
        policy = self._current(database, box)
        given = Given(now_s=time.time(), authentication=assumed)
        trials = try_mail(raw, *asked, policy, given)
        notes = notes_of(asked[0], policy, assumed)
        return Tried(trials, policy.revision, policy.problems, notes)

    def _current(self, database: Database, box: SecretBox) -> CompiledPolicy:
        with self._lock, database.read() as session:
            manifest = read_manifest(session, box)
            if self._last is not None and self._last[0] == manifest:
                return self._last[1]
            previous = self._last[1] if self._last is not None else None
            try:
                compiled = compile_policy(
                    manifest, lambda sha256: read_body(session, sha256), previous
                )
            except PolicyProblem as error:
                raise Conflict(f"The policy cannot be compiled: {error}.") from error
            self._last = (manifest, compiled)
            return compiled
