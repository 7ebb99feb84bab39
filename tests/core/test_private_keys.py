"""What is taken as a node's private key, and the one sentence for everything else."""

from __future__ import annotations

import subprocess
from functools import cache
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed25519, rsa, x25519
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_ssh_private_key,
)
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.names import BadValue
from controlplane.core.private_keys import (
    MOST_CHARACTERS,
    BadPassphrase,
    read_private_key,
)
from tests.fakes.private_keys import ED25519, body_of, make_key

GOOD = [
    ED25519,
    ("-t", "ecdsa", "-b", "256"),
    ("-t", "ecdsa", "-b", "384"),
    ("-t", "ecdsa", "-b", "521"),
    ("-t", "rsa", "-b", "3072"),
    ("-t", "rsa", "-b", "3072", "-m", "PEM"),
    ("-t", "ecdsa", "-b", "256", "-m", "PKCS8"),
]


@cache
def made(*options: str, passphrase: str = "") -> tuple[str, str]:
    """Return one key of each kind; they take time to make."""
    return make_key(*options, passphrase=passphrase)


@pytest.mark.parametrize("options", GOOD, ids=" ".join)
@pytest.mark.parametrize("passphrase", ["", "open, sésame"])
def test_each_kind_comes_out_as_openssh_reads_it(
    options: tuple[str, ...], passphrase: str, tmp_path: Path
) -> None:
    """Without passphrase and comment; ssh-keygen(1) makes the same public half of it."""
    text, public = made(*options, passphrase=passphrase)
    pair = read_private_key(f"\r\n  {text}\n\n", passphrase)
    assert pair.public == " ".join(public.split()[:2])
    file = tmp_path / "key"
    file.touch(mode=0o600)
    file.write_text(pair.private)
    done = subprocess.run(
        ["ssh-keygen", "-y", "-P", "", "-f", str(file)], check=True, capture_output=True, text=True
    )
    assert done.stdout.split()[:2] == public.split()[:2]
    assert "jane" not in done.stdout


def test_a_pair_does_not_show_its_private_half() -> None:
    """What is logged by mistake is no secret."""
    pair = read_private_key(made(*ED25519)[0])
    assert "PRIVATE" not in repr(pair)
    assert not any(line in repr(pair) for line in body_of(pair.private))


def test_two_keys_in_one_file_are_one() -> None:
    """What stands behind the first key reaches no node."""
    first, second = made(*ED25519), make_key(*ED25519)
    pair = read_private_key(f"{first[0]}\n{second[0]}\nProxyCommand sh")
    assert pair.public == " ".join(first[1].split()[:2])
    assert "ProxyCommand" not in pair.private


def pem(key: object, form: PrivateFormat = PrivateFormat.PKCS8) -> str:
    """Return a key of cryptography's as PEM."""
    return key.private_bytes(Encoding.PEM, form, NoEncryption()).decode()  # type: ignore[attr-defined]


REFUSED = {
    "nothing": ("  \n", "Paste a private key"),
    "garbage": ("hello", "no private key in OpenSSH or PEM form"),
    "a certificate": ("-----BEGIN CERTIFICATE-----\n", "no private key in OpenSSH or PEM form"),
    "too long": ("-----BEGIN PRIVATE KEY-----" + "A" * MOST_CHARACTERS, "over 20000 characters"),
    "a public line": ("ssh-ed25519 AAAA jane", "public key; the private one"),
    "a public PEM": ("-----BEGIN PUBLIC KEY-----\n", "public key; the private one"),
    "PuTTY": ("PuTTY-User-Key-File-3: ssh-ed25519", "export it there as an OpenSSH key"),
    "empty armour": (
        "-----BEGIN OPENSSH PRIVATE KEY-----\n-----END OPENSSH PRIVATE KEY-----",
        "damaged",
    ),
    "other armour": ("-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----", "damaged"),
    "a NUL": ("-----BEGIN PRIVATE KEY-----\n\x00\n-----END PRIVATE KEY-----", "damaged"),
}


@pytest.mark.parametrize("text", REFUSED.values(), ids=list(REFUSED))
def test_what_is_no_private_key_is_one_sentence(text: tuple[str, str]) -> None:
    """It says what it is, where that can be seen."""
    with pytest.raises(BadValue, match=text[1]) as refused:
        read_private_key(text[0])
    assert str(refused.value).count(".") == 1


def test_weak_and_foreign_kinds_are_refused() -> None:
    """RSA below 3072 bits, DSA, curves that OpenSSH does not know, keys that sign nothing."""
    with pytest.raises(BadValue, match="2048 bits; 3072 are the least"):
        read_private_key(pem(rsa.generate_private_key(65537, 2048)))
    for key in (
        dsa.generate_private_key(1024),
        ec.generate_private_key(ec.SECP256K1()),
        x25519.X25519PrivateKey.generate(),
    ):
        with pytest.raises(BadValue, match="neither Ed25519 nor RSA"):
            read_private_key(pem(key))


def test_each_trouble_with_a_passphrase_has_its_sentence() -> None:
    """Missing, wrong, and given for a key that has none; for OpenSSH's form and for PEM."""
    sealed = BestAvailableEncryption(b"right")
    key = ed25519.Ed25519PrivateKey.generate()
    for text in (
        made(*ED25519, passphrase="right")[0],
        key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, sealed).decode(),
    ):
        with pytest.raises(BadPassphrase, match="has a passphrase; give it"):
            read_private_key(text)
        for wrong in ("wrong", "x" * 1024, "\x00"):
            with pytest.raises(BadPassphrase, match="does not open"):
                read_private_key(text, wrong)
        assert read_private_key(text, "right").public
    with pytest.raises(BadPassphrase, match="has no passphrase"):
        read_private_key(pem(key), "right")


@given(st.integers(0, 400), st.binary(min_size=1, max_size=4))
def test_a_damaged_key_is_refused_or_still_whole(at: int, dirt: bytes) -> None:
    """No damage of a byte or four leads to anything but a sentence."""
    text, _ = made(*ED25519)
    at %= len(text)
    spoilt = text[:at] + dirt.decode("latin-1") + text[at + len(dirt) :]
    try:
        pair = read_private_key(spoilt)
    except BadValue:
        return
    assert load_ssh_private_key(pair.private.encode(), None)
