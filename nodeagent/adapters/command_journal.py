"""What the node was doing with its queue when it was last interrupted.

A message that is deleted or requeued is gone afterwards. The journal says which ones were being
worked on, so that after a kill they are reported as unknown, not as never found.
"""

from __future__ import annotations

import json
from pathlib import Path

from nodeagent.adapters.durable import read_json, remove_durably, write_durably
from nodeagent.core.queue_contract import QueueCommand


class CommandJournal:
    """One file: the messages of each action that are being worked on, until they are reported."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def interrupted(self, action: int) -> frozenset[str]:
        """Return the messages of an action that were begun and not reported."""
        begun = read_json(self._path) or {}
        ids = begun.get(str(action), ())
        return frozenset(one for one in ids if isinstance(one, str))

    def begin(self, commands: tuple[QueueCommand, ...]) -> None:
        """Note what is about to be done."""
        listed = {
            str(one.action): sorted({*one.ids, *self.interrupted(one.action)}) for one in commands
        }
        write_durably(self._path, _dump(listed))

    def end(self) -> None:
        """Forget it: the control plane has the results."""
        if self._path.exists():
            remove_durably(self._path)


def _dump(listed: dict[str, list[str]]) -> bytes:
    return json.dumps(listed).encode()
