"""TLS of the control plane: an own CA for agents, any certificate for browsers, one port.

Theory of operation. Agents always connect with the SNI name `relay-control-plane` and trust only
our own CA, whose fingerprint is part of each enrolment token; so whatever an administrator does to
the browsers' certificate, no agent is cut off. Everybody else is shown the uploaded certificate, or
a self-signed one until there is one. Both are chosen in the SNI callback of a single `SSLContext`,
so a new certificate is in use from the next connection on, without a restart.

A certificate and its key live in one file, so that they can only be replaced together.
"""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import ssl
import threading
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from controlplane.core.certificate import (
    chain_gap,
    chain_text,
    host_names,
    is_pair,
    is_valid_for,
    parse_chain,
    parse_key,
)
from controlplane.core.names import BadValue
from controlplane.errors import Invalid, SetupFailed
from controlplane.issuing import Pair, make_ca, make_leaf
from controlplane.store.crypto import create_private, replace_private
from nodeagent.core.agent_api import TLS_SERVER_NAME

LEAF_DAYS: Final = 825
RENEW_DAYS: Final = 60
CA_FILE: Final = "tls/ca.pem"
AGENT_FILE: Final = "tls/agents.pem"
SELF_SIGNED_FILE: Final = "tls/self-signed.pem"
UPLOADED_FILE: Final = "tls/uploaded.pem"


def ensure_ca(state_dir: Path) -> Pair:
    """Return our CA; the first start makes it."""
    path = state_dir / CA_FILE
    if not path.exists():
        create_private(path, make_ca().pem())
    return _read_pair(path)


def ca_pem(state_dir: Path) -> str:
    """Return the CA's certificate without its key."""
    return ensure_ca(state_dir).certificate_pem().decode()


def ca_fingerprint(state_dir: Path) -> str:
    """Return the SHA-256 of the CA's certificate (DER) as hex: the second part of each token."""
    return hashlib.sha256(ensure_ca(state_dir).certificate.public_bytes(Encoding.DER)).hexdigest()


class ServerTls:
    """The server's context; what changes here is shown from the next handshake on."""

    def __init__(self, state_dir: Path) -> None:
        self._state_dir = state_dir
        self._lock = threading.Lock()
        self._agents = self._agent_context()
        self._browsers = _context(self._self_signed_file())
        self.context = _context(state_dir / AGENT_FILE)
        self.context.sni_callback = self._choose

    def replace_certificate(self, cert_pem: str, key_pem: str) -> None:
        """Show browsers another certificate; `Invalid`, and nothing changed, if it is broken."""
        content = checked_pair(cert_pem, key_pem)
        with self._lock:
            path = self._state_dir / UPLOADED_FILE
            replace_private(path, content)
            self._browsers = _context(path)

    def use_self_signed(self) -> None:
        """Show browsers the self-signed certificate again."""
        with self._lock:
            self._browsers = _context(self._self_signed_file())

    def renew_own(self) -> None:
        """Make new own certificates when the old ones are about to end; the CA stays."""
        with self._lock:
            self._agents = self._agent_context()

    def _choose(
        self, connection: ssl.SSLObject | ssl.SSLSocket, name: str | None, context: ssl.SSLContext
    ) -> None:
        del context
        connection.context = self._agents if name == TLS_SERVER_NAME else self._browsers

    def _agent_context(self) -> ssl.SSLContext:
        path = self._state_dir / AGENT_FILE
        if not _is_usable(path):
            authority = ensure_ca(self._state_dir)
            replace_private(
                path, make_leaf([x509.DNSName(TLS_SERVER_NAME)], authority, LEAF_DAYS).pem()
            )
        return _context(path)

    def _self_signed_file(self) -> Path:
        path = self._state_dir / SELF_SIGNED_FILE
        if not _is_usable(path):
            replace_private(path, make_leaf(_own_names(), None, LEAF_DAYS).pem())
        return path


def checked_pair(cert_pem: str, key_pem: str) -> bytes:
    """Return key and chain as one PEM text; raises `Invalid` with a sentence for the field."""
    try:
        chain = parse_chain(cert_pem)
    except BadValue as error:
        raise Invalid(str(error), {"cert_pem": str(error)}) from error
    try:
        key = parse_key(key_pem)
    except BadValue as error:
        raise Invalid(str(error), {"key_pem": str(error)}) from error
    if not is_pair(chain, key):
        sentence = "The private key does not belong to the certificate."
        belongs = [place for place, _ in enumerate(chain, 1) if is_pair(chain[place - 1 :], key)]
        if belongs:
            sentence = f"The private key belongs to certificate {belongs[0]}; put that one first."
        raise Invalid(sentence, {"key_pem": sentence})
    if chain[0].not_valid_after_utc <= datetime.now(UTC):
        sentence = f"The certificate expired on {chain[0].not_valid_after_utc.date()}."
        raise Invalid(sentence, {"cert_pem": sentence})
    return chain_text(chain, key).encode()


def check_upload(cert_pem: str, key_pem: str, names: Sequence[str] = ()) -> None:
    """Refuse what clients would refuse, besides what could not be served; raises `Invalid`.

    `names`, in lower case, must all be names of the certificate. What is stored already is served
    as long as it can be: these checks are for what comes in.
    """
    checked_pair(cert_pem, key_pem)
    chain = parse_chain(cert_pem)
    leaf = chain[0]
    fields: dict[str, str] = {}
    gap = chain_gap(chain, trusted_roots(chain[-1].issuer))
    missing = [name for name in names if not is_valid_for(leaf, name)]
    if leaf.not_valid_before_utc > datetime.now(UTC):
        begins = leaf.not_valid_before_utc.date()
        fields["cert_pem"] = f"The certificate is not valid before {begins}."
    elif not host_names(leaf):
        fields["cert_pem"] = "The certificate names no host (subjectAltName); clients refuse it."
    elif gap is not None:
        fields["cert_pem"] = gap
    elif missing:
        fields["names"] = f"The certificate is not valid for {', '.join(missing)}."
    if fields:
        raise Invalid(" ".join(fields.values()), fields)


def trusted_roots(name: x509.Name) -> Iterator[x509.Certificate]:
    """Yield the roots of this name that this host trusts; none where it has no list of them.

    Reading the host's list takes tens of milliseconds: nothing is read before the first is asked
    for, and a chain that ends in a root of its own never asks.
    """
    encoded = name.public_bytes()
    for der in ssl.create_default_context().get_ca_certs(binary_form=True):
        if encoded in der:
            yield x509.load_der_x509_certificate(der)


def _context(path: Path) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    try:
        context.load_cert_chain(path)
    except (OSError, ssl.SSLError) as error:
        raise SetupFailed(f"{path} cannot be used: {error}.") from error
    return context


def _read_pair(path: Path) -> Pair:
    try:
        content = path.read_bytes()
        key = serialization.load_pem_private_key(content, password=None)
        certificate = x509.load_pem_x509_certificate(content)
    except (OSError, ValueError) as error:
        raise SetupFailed(f"{path} cannot be read: {error}.") from error
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise SetupFailed(f"{path} holds a key of another kind than this program makes.")
    return Pair(key, certificate)


def _is_usable(path: Path) -> bool:
    if not path.exists():
        return False
    ends = _read_pair(path).certificate.not_valid_after_utc
    return ends > datetime.now(UTC) + timedelta(days=RENEW_DAYS)


def _own_names() -> list[x509.GeneralName]:
    names: list[x509.GeneralName] = [x509.DNSName("localhost")]
    host = socket.gethostname()
    if host and host != "localhost":
        names.append(x509.DNSName(host))
    names.append(x509.IPAddress(ipaddress.ip_address("127.0.0.1")))
    return names
