"""The uploaded certificate: checked before it is stored, shown without its key."""

from __future__ import annotations

from datetime import timedelta

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from fastapi.testclient import TestClient
from sqlalchemy import text

from controlplane.store.columns import utc_now
from controlplane.store.engine import Database

URL = "/api/v1/tls/certificate"


def _pair(name: str = "relay.example.com", days: int = 30) -> dict[str, str]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = utc_now() - timedelta(days=60)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(utc_now() + timedelta(days=days))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return {
        "cert_pem": certificate.public_bytes(serialization.Encoding.PEM).decode(),
        "key_pem": private.decode(),
    }


def test_a_good_pair_is_stored_and_described(client: TestClient) -> None:
    """The answer and a later look say whose it is and until when."""
    answer = client.put(URL, json=_pair())
    assert answer.status_code == 200, answer.text
    assert answer.json()["names"] == ["relay.example.com"]
    assert client.get(URL).json() == answer.json()


def test_the_key_shows_nowhere(client: TestClient, sqlite_database: Database) -> None:
    """Not in an answer, not in the audit log, not in the database."""
    body = _pair()
    client.put(URL, json=body)
    line = body["key_pem"].splitlines()[1]
    answers = client.get(URL).text + client.get("/api/v1/audit").text
    with sqlite_database.read() as session:
        stored = str(session.execute(text("SELECT * FROM certificate")).all())
    assert line not in answers + stored
    assert "PRIVATE" not in answers + stored


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"cert_pem": "nonsense"}, "cert_pem", "not valid PEM"),
        ({"key_pem": "nonsense"}, "key_pem", "not valid PEM"),
        ({"key_pem": _pair()["key_pem"]}, "key_pem", "does not belong"),
        (_pair(days=-1), "cert_pem", "expired on"),
    ],
)
def test_a_bad_pair_is_refused(
    client: TestClient, change: dict[str, str], field: str, words: str
) -> None:
    """The sentence stands at the half that is at fault, and the old pair stays."""
    before = client.put(URL, json=_pair()).json()
    answer = client.put(URL, json={**_pair(), **change})
    assert answer.status_code == 422
    assert words in answer.json()["fields"][field]
    assert client.get(URL).json() == before


def test_going_back_to_the_self_signed_certificate(client: TestClient) -> None:
    """After the removal there is none to look at, and none to remove."""
    client.put(URL, json=_pair())
    assert client.delete(URL).status_code == 204
    assert client.get(URL).status_code == 404
    assert client.delete(URL).status_code == 404


def test_the_pair_reaches_postfix(pair: TestClient) -> None:
    """With a certificate the preview has the file for it, content hidden."""
    pair.put(URL, json=_pair())
    files = pair.get("/api/v1/config/preview").json()["nodes"][0]["files"]
    chain = next(file for file in files if file["path"].endswith("tls.pem"))
    assert (chain["is_secret"], chain["content"], chain["mode"]) == (True, None, "0600")
