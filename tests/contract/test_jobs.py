"""The periodic jobs: old events go, a changed certificate is shown, a failure is tried again."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509
from pydantic import SecretStr
from sqlalchemy import select, update
from sqlmodel import col

from controlplane.core.spec import TlsSpec
from controlplane.errors import Conflict, NotFound, Unavailable
from controlplane.jobs.scheduler import CertificateWatch, Tools, guarded, prune
from controlplane.settings import Settings
from controlplane.store import switchovers
from controlplane.store.audit import SYSTEM
from controlplane.store.cluster import ClusterStore
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.ownership_tables import EventRow
from controlplane.store.reports import add_event
from controlplane.tls import UPLOADED_FILE, ServerTls
from nodeagent.core.contract import SwitchoverResult
from tests.fakes.certificates import make_pair

DAY_S = 86400.0


def tools_of(database: Database, state_dir: Path) -> Tools:
    """Return what the jobs work on."""
    settings = Settings(state_dir=state_dir, event_keep_days=30)
    return Tools(settings, database, SecretBox.load(state_dir), ServerTls(state_dir))


def test_old_events_are_pruned(database: Database, tmp_path: Path) -> None:
    """Events older than `event_keep_days` go, newer ones stay."""
    with database.write() as session:
        for kind in ("old", "new"):
            add_event(session, kind, "Something happened.")
        age = update(EventRow).where(col(EventRow.kind) == "old")
        session.execute(age.values(received_at=col(EventRow.received_at) - 31 * DAY_S))
    prune(tools_of(database, tmp_path))
    with database.read() as session:
        assert session.execute(select(col(EventRow.kind))).scalars().all() == ["new"]


def test_a_changed_certificate_is_put_in_place_once(
    sqlite_database: Database, tmp_path: Path
) -> None:
    """A new one is written, an unchanged one is left alone."""
    tools = tools_of(sqlite_database, tmp_path)
    watch = CertificateWatch(tools)
    store = ClusterStore(sqlite_database, tools.box)
    store.ensure_certificate()
    watch.check()
    assert not (tmp_path / UPLOADED_FILE).exists()
    certificate, key = make_pair()
    store.put_certificate(TlsSpec(cert_pem=certificate, key_pem=SecretStr(key)), SYSTEM, {})
    watch.check()
    first = (tmp_path / UPLOADED_FILE).stat()
    shown = x509.load_pem_x509_certificate((tmp_path / UPLOADED_FILE).read_bytes())
    assert shown == x509.load_pem_x509_certificate(certificate.encode())
    watch.check()
    assert (tmp_path / UPLOADED_FILE).stat().st_ino == first.st_ino


def test_a_failing_job_does_not_end_the_others() -> None:
    """Our own errors are logged; anything else is a defect and is not hidden."""

    def fail() -> None:
        raise Unavailable

    def break_down() -> None:
        raise ZeroDivisionError

    guarded("fails", fail)()
    with pytest.raises(ZeroDivisionError):
        guarded("breaks", break_down)()


def test_one_switchover_at_a_time(database: Database) -> None:
    """A second wish is refused until the first has ended."""
    with database.write() as session:
        first = switchovers.request_switchover(session, "node-a", "node-b", "admin")
        with pytest.raises(Conflict, match="under way"):
            switchovers.request_switchover(session, "node-b", "node-a", "admin")
        assert first.id is not None
        result = SwitchoverResult(id=first.id, ok=False, text="The peer did not answer.")
        switchovers.finish_switchover(session, "node-a", result)
        switchovers.request_switchover(session, "node-b", "node-a", "admin")
        assert len(switchovers.list_switchovers(session)) == 2
        texts = session.execute(select(col(EventRow.text))).scalars().all()
    assert texts == ["The switchover from node-a to node-b was not done: The peer did not answer."]


def test_a_wish_can_be_withdrawn(database: Database) -> None:
    """A dead source reports nothing, so an operator ends the wish."""
    with database.write() as session:
        wish = switchovers.request_switchover(session, "node-a", "node-b", "admin")
        assert wish.id is not None
        switchovers.cancel_switchover(session, wish.id, "node-a is dead")
        assert switchovers.current_switchover(session) is None
        with pytest.raises(NotFound):
            switchovers.cancel_switchover(session, wish.id + 1, "no such wish")


def test_a_node_cannot_hand_over_to_itself(database: Database) -> None:
    """Source and destination differ."""
    with pytest.raises(Conflict, match="itself"), database.write() as session:
        switchovers.request_switchover(session, "node-a", "node-a", "admin")
