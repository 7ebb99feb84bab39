"""Reads SSH private keys that users bring along, and writes them in one canonical form.

What was pasted never reaches a node: it is parsed and serialised again as ssh(1) reads it, without
a passphrase and without whatever else stood in the text.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from cryptography.exceptions import InvalidTag, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
    load_ssh_private_key,
)

from controlplane.core.names import BadValue

MOST_CHARACTERS: Final = 20_000
RSA_BITS: Final = 3072
CURVES: Final = (ec.SECP256R1, ec.SECP384R1, ec.SECP521R1)
"""Those that OpenSSH knows (RFC 5656)."""

SshPrivateKey = ed25519.Ed25519PrivateKey | ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey

_OPENSSH: Final = "-----BEGIN OPENSSH PRIVATE KEY-----"
_PEM_END: Final = "PRIVATE KEY-----"
_PUBLIC_KEYS: Final = ("ssh-", "ecdsa-sha2-", "sk-", "---- BEGIN SSH2 PUBLIC KEY", "-----BEGIN PUB")
_PUTTY: Final = "PuTTY-User-Key-File"


class BadPassphrase(BadValue):
    """The key is one, but the passphrase that came with it does not open it."""


@dataclass(frozen=True)
class KeyPair:
    """A private key as OpenSSH writes it, not encrypted, and its public half as "type base64"."""

    private: str = field(repr=False)
    public: str


def read_private_key(text: str, passphrase: str | None = None) -> KeyPair:
    """Return a key that nodes can log in with; raises BadValue and BadPassphrase."""
    text = text.strip()
    _check_kind(text)
    key = _strong(_load(text, passphrase or None))
    private = key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption())
    public = key.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
    return KeyPair(private.decode(), public.decode())


def _check_kind(text: str) -> None:
    if not text:
        raise BadValue("Paste a private key, or choose its file.")
    if len(text) > MOST_CHARACTERS:
        raise BadValue(f"This is too long for a private key: over {MOST_CHARACTERS} characters.")
    if text.startswith(_PUBLIC_KEYS):
        raise BadValue("This is a public key; the private one is needed.")
    if text.startswith(_PUTTY):
        raise BadValue("This is a key of PuTTY; export it there as an OpenSSH key.")
    if _PEM_END not in text:
        raise BadValue("This is no private key in OpenSSH or PEM form.")


def _load(text: str, passphrase: str | None) -> object:
    load = load_ssh_private_key if _OPENSSH in text else load_pem_private_key
    data = text.encode() + b"\n"
    try:
        key: object = load(data, password=None)
    except TypeError:
        if passphrase is None:
            raise BadPassphrase("This private key has a passphrase; give it, too.") from None
    except (ValueError, UnsupportedAlgorithm):
        raise BadValue("This private key is damaged, or of a kind that is not known.") from None
    else:
        if passphrase is not None:
            raise BadPassphrase("This private key has no passphrase; leave that field empty.")
        return key
    try:
        return load(data, password=passphrase.encode())
    except (ValueError, TypeError, InvalidTag, UnsupportedAlgorithm):
        raise BadPassphrase("The passphrase does not open this private key.") from None


def _strong(key: object) -> SshPrivateKey:
    if isinstance(key, rsa.RSAPrivateKey) and key.key_size < RSA_BITS:
        raise BadValue(f"This RSA key has {key.key_size} bits; {RSA_BITS} are the least.")
    if isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, CURVES):
        return key
    if isinstance(key, ed25519.Ed25519PrivateKey | rsa.RSAPrivateKey):
        return key
    raise BadValue("This key is neither Ed25519 nor RSA, nor ECDSA with P-256, P-384 or P-521.")
