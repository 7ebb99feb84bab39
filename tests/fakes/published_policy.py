"""What the nodes would fetch of the mail policy, read back from the control plane."""

from __future__ import annotations

from fastapi.testclient import TestClient

from controlplane.store.engine import Database
from controlplane.store.policy_publication import read_body, read_manifest
from nodeagent.policy.document import SectionKind
from nodeagent.policy.engine.sections import Entry, read_section


def published(client: TestClient, database: Database, kind: SectionKind) -> list[Entry]:
    """Return the entries of one kind, as they are published."""
    box = client.app.state.secret_box  # type: ignore[attr-defined]
    found: list[Entry] = []
    with database.read() as session:
        for section in read_manifest(session, box).sections:
            if section.kind is kind:
                found += read_section(section, read_body(session, section.sha256))
    return found
