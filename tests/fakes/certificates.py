"""Certificates for tests: signed by themselves or by a chain, for any name and any time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from controlplane.issuing import Pair, make_ca, make_leaf


def make_pair(
    name: str = "relay.example.com",
    days: int = 30,
    *,
    has_alternatives: bool = True,
    begins_in_days: int = -60,
) -> tuple[str, str]:
    """Return a certificate and its key as PEM; with negative `days` it has ended."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + timedelta(days=begins_in_days))
        .not_valid_after(now + timedelta(days=days))
    )
    if has_alternatives:
        alternatives = x509.SubjectAlternativeName([x509.DNSName(name)])
        builder = builder.add_extension(alternatives, critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return certificate.public_bytes(serialization.Encoding.PEM).decode(), private.decode()


def make_chain(name: str = "relay.example.com", links: int = 1) -> tuple[list[str], str]:
    """Return a leaf, its `links` intermediates and their root as PEM, and the leaf's key.

    The root is nobody's: no host trusts it.
    """
    issuer = make_ca()
    root = issuer.certificate_pem().decode()
    middle: list[str] = []
    for number in range(links):
        issuer = _issue_ca(f"Intermediate {number}", issuer)
        middle.insert(0, issuer.certificate_pem().decode())
    leaf = make_leaf([x509.DNSName(name)], issuer, 30)
    return [leaf.certificate_pem().decode(), *middle, root], leaf.key_pem().decode()


def _issue_ca(name: str, issuer: Pair) -> Pair:
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(issuer.certificate.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=60))
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(issuer.key, hashes.SHA256())
    )
    return Pair(key, certificate)
