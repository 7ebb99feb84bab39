"""Checks a certificate and its key, and writes both in one canonical form for Postfix.

What an administrator pasted never reaches a file: it is parsed and serialised again, so that
nothing but PEM blocks can be in it (postconf(5), smtpd_tls_chain_files: key first, then the leaf,
then its issuers).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import ip_address
from itertools import pairwise

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.types import PrivateKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from controlplane.core.names import BadValue
from controlplane.core.spec import TlsSpec


def parse_chain(cert_pem: str) -> list[x509.Certificate]:
    """Return the certificates of a PEM text, leaf first; raises BadValue."""
    try:
        return x509.load_pem_x509_certificates(cert_pem.encode())
    except ValueError:
        raise BadValue("The certificate is not valid PEM.") from None


def parse_key(key_pem: str) -> PrivateKeyTypes:
    """Return the private key of a PEM text; raises BadValue, also for an encrypted one."""
    try:
        return serialization.load_pem_private_key(key_pem.encode(), password=None)
    except TypeError:
        raise BadValue("The private key is encrypted; supply it without a passphrase.") from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadValue("The private key is not valid PEM.") from None


def is_pair(chain: list[x509.Certificate], key: PrivateKeyTypes) -> bool:
    """Tell whether the key belongs to the first certificate."""
    form = (Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    return chain[0].public_key().public_bytes(*form) == key.public_key().public_bytes(*form)


def chain_gap(chain: Sequence[x509.Certificate], trusted: Iterable[x509.Certificate]) -> str | None:
    """Return why no client could get from the leaf to a root, None when the chain is complete.

    It is complete when each certificate was issued by the next one, and the last one is a root
    itself or was issued by one of `trusted`: roots need not be sent (RFC 8446, 4.4.2).
    """
    for number, (issued, issuer) in enumerate(pairwise(chain), 2):
        if not _is_issuer(issuer, issued):
            return (
                f"Certificate {number} of the file has not issued the one before it; put the leaf "
                "first, then each issuer in turn."
            )
    last = chain[-1]
    if _is_issuer(last, last) or any(_is_issuer(root, last) for root in trusted):
        return None
    return (
        f"The chain is not complete: add the certificate of {last.issuer.rfc4514_string()}, which "
        "issued the last one."
    )


def _is_issuer(issuer: x509.Certificate, issued: x509.Certificate) -> bool:
    try:
        issued.verify_directly_issued_by(issuer)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return True


def host_names(leaf: x509.Certificate) -> list[str]:
    """Return the host names and addresses that a certificate is valid for (RFC 9525)."""
    try:
        extension = leaf.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    hosts = extension.value.get_values_for_type(x509.DNSName)
    addresses = extension.value.get_values_for_type(x509.IPAddress)
    return [*hosts, *(str(address) for address in addresses)]


def is_valid_for(leaf: x509.Certificate, name: str) -> bool:
    """Tell whether a client that asked for `name`, lower case, accepts the certificate.

    A wildcard stands for one label (RFC 9525, 6.3); a name that is one itself must be there as it
    is written, an address as an address.
    """
    names = {one.lower() for one in host_names(leaf)}
    if name in names:
        return True
    _label, dot, parent = name.partition(".")
    return bool(dot) and not _is_address(name) and f"*.{parent}" in names


def _is_address(text: str) -> bool:
    try:
        ip_address(text)
    except ValueError:
        return False
    return True


def chain_text(chain: list[x509.Certificate], key: PrivateKeyTypes) -> str:
    """Return the key, the leaf and its issuers as PEM blocks, in that order."""
    blocks = [key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())]
    blocks += [certificate.public_bytes(Encoding.PEM) for certificate in chain]
    return b"".join(blocks).decode()


def chain_file(tls: TlsSpec) -> str:
    """Return the content of smtpd_tls_chain_files; raises BadValue for a broken pair."""
    return chain_text(parse_chain(tls.cert_pem), parse_key(tls.key_pem.get_secret_value()))
