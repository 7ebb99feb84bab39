"""How `relayctl` makes sure that it talks to its control plane, before it sends a token.

Three ways: a CA file, a pinned fingerprint of the certificate, or else the system's own CAs. A
pinned certificate becomes the only trust anchor of the connection; its name and chain then do not
matter.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import socket
import ssl
from typing import Final
from urllib.parse import urlsplit

from controlplane.relayctl.errors import Misused, Unreachable
from controlplane.relayctl.profile import Profile

CONNECT_TIMEOUT_S: Final = 10.0
HTTPS_PORT: Final = 443
_PLAIN: Final = re.compile(r"[!-~]+")


def tls_context(profile: Profile) -> ssl.SSLContext:
    """Return the context that accepts this profile's control plane only."""
    if profile.fingerprint is not None:
        return _pinned_context(profile.require_url(), profile.fingerprint)
    if profile.ca is None:
        return ssl.create_default_context()
    try:
        return ssl.create_default_context(cafile=profile.ca)
    except (OSError, ssl.SSLError) as error:
        raise Misused(f"The CA file {profile.ca} cannot be used.") from error


def fetch_certificate(url: str) -> bytes:
    """Return the DER certificate that the server shows, trusting nothing."""
    host, port = split_address(url)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout=CONNECT_TIMEOUT_S) as plain,
            context.wrap_socket(plain, server_hostname=host) as secured,
        ):
            shown = secured.getpeercert(binary_form=True)
    except (OSError, ssl.SSLError) as error:
        raise Unreachable(f"{url} does not answer over TLS: {error}.") from error
    if shown is None:
        raise Unreachable(f"{url} shows no certificate.")
    return shown


def fingerprint_of(certificate: bytes) -> str:
    """Return the SHA-256 of a DER certificate in hex."""
    return hashlib.sha256(certificate).hexdigest()


def normalise_fingerprint(text: str) -> str:
    """Return a fingerprint without colons and capitals; raises Misused."""
    plain = text.replace(":", "").lower()
    if len(plain) != hashlib.sha256().digest_size * 2 or not set(plain) <= set("0123456789abcdef"):
        raise Misused("A fingerprint is the SHA-256 of the certificate: 64 hex digits.")
    return plain


def split_address(url: str) -> tuple[str, int]:
    """Return host and port of an https URL; raises Misused."""
    try:
        parts = urlsplit(url)
        port = parts.port or HTTPS_PORT
    except ValueError as error:
        raise Misused(f"{url} has no usable host or port.") from error
    if parts.scheme != "https" or not parts.hostname or not _PLAIN.fullmatch(url):
        raise Misused("The URL must read https://HOST:8443.")
    return parts.hostname, port


def _pinned_context(url: str, fingerprint: str) -> ssl.SSLContext:
    certificate = fetch_certificate(url)
    if not hmac.compare_digest(fingerprint_of(certificate), normalise_fingerprint(fingerprint)):
        raise Unreachable(
            "The control plane shows another certificate than the pinned one; if it was replaced, "
            "log in again and compare the fingerprint."
        )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.load_verify_locations(cadata=certificate)
    return context
