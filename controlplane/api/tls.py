"""The TLS certificate of the GUI and of SMTP: upload, look at, go back to one of our own."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from fastapi import APIRouter, status
from pydantic import AfterValidator, BaseModel, Field, SecretStr

from controlplane.api.cluster_access import NOT_FOUND, Body, StoreDep
from controlplane.api.permissions import READ, AdminCaller
from controlplane.core.certificate import chain_gap, host_names, parse_chain
from controlplane.core.findings import quoted
from controlplane.core.names import BadValue, parse_domain, parse_next_hop
from controlplane.core.spec import TlsSpec
from controlplane.errors import NotFound
from controlplane.store import certificates
from controlplane.tls import check_upload, trusted_roots

router = APIRouter(prefix="/api/v1/tls", tags=["tls"])

WILDCARD = "*."


def _host_name(text: str) -> str:
    """Return a name or an address as certificates write it; raises ValueError."""
    try:
        if text.startswith(WILDCARD):
            return WILDCARD + parse_domain(text.removeprefix(WILDCARD))
        return parse_next_hop(text).host
    except BadValue as error:
        raise ValueError(f"{quoted(text)} {error}") from error


HostName = Annotated[str, AfterValidator(_host_name)]


class CertificateBody(Body):
    """A certificate with its private key, both as PEM."""

    cert_pem: str = Field(
        max_length=200_000,
        description="The leaf first, then its chain; a root that everybody trusts may be left out.",
        examples=["-----BEGIN CERTIFICATE-----\n...\n-----END CERTIFICATE-----\n"],
    )
    key_pem: SecretStr = Field(
        max_length=50_000, description="Not encrypted. Write-only: no call returns it."
    )
    names: list[HostName] = Field(
        default_factory=list,
        max_length=100,
        description="Host names and addresses that it must be valid for; it is refused otherwise.",
        examples=[["relay.example.com"]],
    )


class ChainLink(BaseModel):
    """One certificate of the chain."""

    subject: str
    issuer: str
    not_after: datetime


class CertificateView(BaseModel):
    """What a certificate says; its key is never shown."""

    subject: str
    issuer: str
    names: list[str] = Field(description="Host names and addresses that it is valid for.")
    not_before: datetime
    not_after: datetime
    sha256: str = Field(description="Fingerprint of the leaf.")
    chain_len: int
    chain: list[ChainLink] = Field(description="As clients are sent it, the leaf first.")
    chain_gap: str | None = Field(
        description="Why clients cannot get from the leaf to a root; null: the chain is complete."
    )
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
    """Replace the certificate, if clients would accept it.

    The key must belong to it, it must be valid now and name a host, and the chain must lead to a
    root: one of the file, or one that the control plane's host trusts. The GUI shows it from the
    next connection on, on every instance within seconds; Postfix after the next apply.
    """
    check_upload(body.cert_pem, body.key_pem.get_secret_value(), body.names)
    tls = TlsSpec(cert_pem=body.cert_pem, key_pem=body.key_pem)
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
        names=host_names(leaf),
        not_before=leaf.not_valid_before_utc,
        not_after=leaf.not_valid_after_utc,
        sha256=leaf.fingerprint(hashes.SHA256()).hex(),
        chain_len=len(chain),
        chain=[
            ChainLink(
                subject=one.subject.rfc4514_string(),
                issuer=one.issuer.rfc4514_string(),
                not_after=one.not_valid_after_utc,
            )
            for one in chain
        ],
        chain_gap=chain_gap(chain, trusted_roots(chain[-1].issuer)),
        is_own=is_own,
    )
