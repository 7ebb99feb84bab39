"""Checks a certificate and its key, and writes both in one canonical form for Postfix.

What an administrator pasted never reaches a file: it is parsed and serialised again, so that
nothing but PEM blocks can be in it (postconf(5), smtpd_tls_chain_files: key first, then the leaf,
then its issuers).
"""

from __future__ import annotations

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
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


def chain_text(chain: list[x509.Certificate], key: PrivateKeyTypes) -> str:
    """Return the key, the leaf and its issuers as PEM blocks, in that order."""
    blocks = [key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())]
    blocks += [certificate.public_bytes(Encoding.PEM) for certificate in chain]
    return b"".join(blocks).decode()


def chain_file(tls: TlsSpec) -> str:
    """Return the content of smtpd_tls_chain_files; raises BadValue for a broken pair."""
    return chain_text(parse_chain(tls.cert_pem), parse_key(tls.key_pem.get_secret_value()))
