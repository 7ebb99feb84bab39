"""The certificate of SMTP on both databases: always one, sealed, made once, kept when uploaded."""

from __future__ import annotations

import ssl
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from alembic import command
from cryptography import x509
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import text

from controlplane.core.certificate import chain_file
from controlplane.core.spec import TlsSpec
from controlplane.store import schema
from controlplane.store.audit import SYSTEM, AuditFilter, list_entries
from controlplane.store.certificates import make_own, read_certificate
from controlplane.store.cluster import ClusterStore, read_revision
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.schema import migrate
from tests.fakes.certificates import make_pair


@pytest.fixture
def store(database: Database) -> ClusterStore:
    """Give the store of an empty cluster."""
    return ClusterStore(database, SecretBox(Fernet.generate_key()))


def test_instances_that_start_together_make_one(store: ClusterStore) -> None:
    """One certificate, one audit row, one revision; the others find it there."""
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: store.ensure_certificate(), range(4)))
    assert made.count(True) == 1
    with store.database.read() as session:
        stored = read_certificate(session, store.box)
        assert [row.action for row in list_entries(session, AuditFilter())] == [
            "certificate.create"
        ]
        assert read_revision(session) == 1
        assert store.read_spec(session).tls == (stored.tls if stored is not None else None)
    assert stored is not None
    assert stored.is_own


def test_its_key_is_sealed(store: ClusterStore) -> None:
    """A stolen database holds no key that could be used."""
    store.ensure_certificate()
    with store.database.read() as session:
        row = str(session.execute(text("SELECT * FROM certificate")).all())
        stored = read_certificate(session, store.box)
    assert stored is not None
    assert "PRIVATE" not in row
    assert stored.tls.key_pem.get_secret_value().splitlines()[1] not in row


def test_an_uploaded_one_is_left_alone_by_the_next_start(store: ClusterStore) -> None:
    """Replaced for good, whatever the domain becomes."""
    store.ensure_certificate()
    certificate, key = make_pair()
    uploaded = TlsSpec(cert_pem=certificate, key_pem=SecretStr(key))
    store.put_certificate(uploaded, SYSTEM, {})
    assert store.ensure_certificate() is False
    with store.database.read() as session:
        assert store.read_tls(session) == uploaded


def test_an_upgraded_database_keeps_its_upload_and_gets_one_otherwise(database_url: str) -> None:
    """A certificate of a database from before counts as uploaded; without one, one is made."""
    database = Database(database_url)
    configuration = schema._configuration()
    with database.engine.connect() as connection:
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "0002")
        connection.commit()
    store = ClusterStore(database, SecretBox(Fernet.generate_key()))
    certificate, key = make_pair()
    insert = "INSERT INTO certificate VALUES (1, :certificate, :key, '2026-01-01 00:00:00+00:00')"
    values = {"certificate": certificate, "key": store.box.seal(key)}
    with database.write() as session:
        session.execute(text(insert), values)
    migrate(database)
    assert store.ensure_certificate() is False
    with database.write() as session:
        stored = read_certificate(session, store.box)
        session.execute(text("DELETE FROM certificate"))
    assert stored is not None
    assert (stored.tls.cert_pem, stored.is_own) == (certificate, False)
    assert store.ensure_certificate() is True
    database.close()


def test_a_tls_library_takes_it(tmp_path: Path) -> None:
    """Key and leaf in one file, as Postfix reads it; valid for ten years, no CA."""
    own = make_own("Example.COM")
    file = tmp_path / "tls.pem"
    file.write_text(chain_file(own.tls))
    ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(file)
    leaf = x509.load_pem_x509_certificate(own.tls.cert_pem.encode())
    names = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == ["example.com", "*.example.com"]
    assert (leaf.not_valid_after_utc - leaf.not_valid_before_utc).days > 3640
    assert not leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca


def test_no_two_are_alike() -> None:
    """Each installation has a key of its own."""
    assert make_own("example.com").tls.key_pem != make_own("example.com").tls.key_pem
