"""The certificate that Postfix shows: the uploaded one, or one of our own until there is one.

An own certificate is signed by itself and lasts ten years: mail servers that encrypt on opportunity
do not look at who signed it (RFC 7435). It is sealed and rendered like an uploaded one.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from cryptography import x509
from pydantic import SecretStr
from sqlmodel import Session

from controlplane.core.names import parse_domain
from controlplane.core.spec import TlsSpec
from controlplane.issuing import make_leaf
from controlplane.store.cluster_tables import CLUSTER_ID, CertificateRow
from controlplane.store.columns import utc_now
from controlplane.store.crypto import SecretBox

OWN_DAYS: Final = 3650


@dataclass(frozen=True)
class StoredCertificate:
    """A certificate with its key, opened."""

    tls: TlsSpec
    is_own: bool


def read_certificate(session: Session, box: SecretBox) -> StoredCertificate | None:
    """Return the certificate; None in a database that no control plane has served yet."""
    row = session.get(CertificateRow, CLUSTER_ID)
    if row is None:
        return None
    key_pem = SecretStr(box.open(row.key_sealed))
    return StoredCertificate(TlsSpec(cert_pem=row.certificate_pem, key_pem=key_pem), row.is_own)


def store_certificate(session: Session, box: SecretBox, stored: StoredCertificate) -> None:
    """Put a certificate in place of the present one."""
    row = session.get(CertificateRow, CLUSTER_ID)
    row = row or CertificateRow(certificate_pem="", key_sealed="")
    row.certificate_pem = stored.tls.cert_pem
    row.key_sealed = box.seal(stored.tls.key_pem.get_secret_value())
    row.is_own = stored.is_own
    row.uploaded_at = utc_now()
    session.add(row)
    session.flush()


def make_own(domain: str) -> StoredCertificate:
    """Make a certificate for the cluster's domain and for every host in it."""
    name = parse_domain(domain)
    made = make_leaf([x509.DNSName(name), x509.DNSName(f"*.{name}")], None, OWN_DAYS)
    key_pem = SecretStr(made.key_pem().decode())
    tls = TlsSpec(cert_pem=made.certificate_pem().decode(), key_pem=key_pem)
    return StoredCertificate(tls, is_own=True)
