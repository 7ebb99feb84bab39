"""The manifest as nodes fetch it, made once a revision: with 100,000 domains it has two megabytes.

All nodes ask within the same second after an edit; one of them waits for it, the others for that.
"""

from __future__ import annotations

import threading

from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.policy_publication import read_manifest
from controlplane.store.policy_revision import read_revision


class ManifestCache:
    """Keeps the newest manifest as JSON; for any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._last: tuple[int, bytes] | None = None

    def read(self, database: Database, box: SecretBox) -> bytes:
        """Return the manifest in force as JSON; whatever is in it raises the revision."""
        with self._lock, database.read() as session:
            revision = read_revision(session)
            if self._last is None or self._last[0] != revision:
                manifest = read_manifest(session, box)
                self._last = (manifest.revision, manifest.model_dump_json().encode())
            return self._last[1]
