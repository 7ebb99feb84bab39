"""The TLS certificate of the GUI and of SMTP: upload, look at, go back to one of our own."""

from __future__ import annotations

from datetime import datetime

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from fastapi import APIRouter, status
from pydantic import BaseModel, Field, SecretStr

from controlplane.api.cluster_access import NOT_FOUND, Body, StoreDep
from controlplane.api.permissions import READ, AdminCaller
from controlplane.core.certificate import parse_chain
from controlplane.core.spec import TlsSpec
from controlplane.errors import NotFound
from controlplane.store import certificates
from controlplane.tls import checked_pair

router = APIRouter(prefix="/api/v1/tls", tags=["tls"])


class CertificateBody(Body):
    """A certificate with its private key, both as PEM."""

    cert_pem: str = Field(
        max_length=200_000,
        description="The leaf first, then its chain.",
        examples=["-----BEGIN CERTIFICATE-----\n...\n-----END CERTIFICATE-----\n"],
    )
    key_pem: SecretStr = Field(
        max_length=50_000, description="Not encrypted. Write-only: no call returns it."
    )


class CertificateView(BaseModel):
    """What a certificate says; its key is never shown."""

    subject: str
    issuer: str
    names: list[str] = Field(description="Host names and addresses that it is valid for.")
    not_before: datetime
    not_after: datetime
    sha256: str = Field(description="Fingerprint of the leaf.")
    chain_len: int
    is_own: bool = Field(
        description="Made by the control plane for SMTP, because none was uploaded; the GUI then "
        "shows one of each instance's own."
    )


@router.get("/certificate", responses=NOT_FOUND, dependencies=[READ])
def read_certificate(store: StoreDep) -> CertificateView:
    """Show the certificate that Postfix shows after the next apply."""
    with store.database.read() as session:
        stored = certificates.read_certificate(session, store.box)
    if stored is None:
        raise NotFound("There is no certificate yet.")
    return certificate_view(parse_chain(stored.tls.cert_pem), is_own=stored.is_own)


@router.put("/certificate")
def put_certificate(body: CertificateBody, caller: AdminCaller, store: StoreDep) -> CertificateView:
    """Replace the certificate.

    The GUI shows it from the next connection on, on every instance within seconds; Postfix after
    the next apply.
    """
    tls = TlsSpec(cert_pem=body.cert_pem, key_pem=body.key_pem)
    checked_pair(body.cert_pem, body.key_pem.get_secret_value())
    view = certificate_view(parse_chain(body.cert_pem), is_own=False)
    store.put_certificate(tls, caller.actor, view.model_dump(mode="json"))
    return view


@router.delete("/certificate", status_code=status.HTTP_204_NO_CONTENT, responses=NOT_FOUND)
def delete_certificate(caller: AdminCaller, store: StoreDep) -> None:
    """Go back to certificates that the control plane makes itself; 404 when none was uploaded."""
    store.delete_certificate(caller.actor)


def certificate_view(chain: list[x509.Certificate], *, is_own: bool) -> CertificateView:
    """Return what the first certificate of a chain says."""
    leaf = chain[0]
    return CertificateView(
        subject=leaf.subject.rfc4514_string(),
        issuer=leaf.issuer.rfc4514_string(),
        names=_names(leaf),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        sha256=leaf.fingerprint(hashes.SHA256()).hex(),
        chain_len=len(chain),
        is_own=is_own,
    )


def _names(leaf: x509.Certificate) -> list[str]:
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    hosts = extension.value.get_values_for_type(x509.DNSName)
    addresses = extension.value.get_values_for_type(x509.IPAddress)
    return [*hosts, *(str(address) for address in addresses)]
