"""The uploaded certificate: checked before it is stored, shown without its key."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from controlplane.store.engine import Database
from tests.fakes.certificates import make_pair

URL = "/api/v1/tls/certificate"


def _pair(days: int = 30) -> dict[str, str]:
    certificate, key = make_pair(days=days)
    return {"cert_pem": certificate, "key_pem": key}


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


def test_going_back_to_a_certificate_of_our_own(client: TestClient) -> None:
    """It is a fresh one for the cluster's domain; without an upload there is nothing to remove."""
    first = client.get(URL).json()
    assert (first["is_own"], first["names"]) == (True, ["relay.internal", "*.relay.internal"])
    assert client.put(URL, json=_pair()).json()["is_own"] is False
    assert client.delete(URL).status_code == 204
    second = client.get(URL).json()
    assert (second["is_own"], second["sha256"] != first["sha256"]) == (True, True)
    refused = client.delete(URL)
    assert (refused.status_code, refused.json()["detail"]) == (404, "No certificate was uploaded.")
    assert client.get(URL).json() == second


def test_a_certificate_of_our_own_follows_the_domain(client: TestClient) -> None:
    """Another domain, another certificate; an uploaded one stays as it is."""
    before = client.get(URL).json()
    client.patch("/api/v1/cluster", json={"name": "other"})
    assert client.get(URL).json() == before
    client.patch("/api/v1/cluster", json={"domain": "bücher.example"})
    shown = client.get(URL).json()
    assert shown["names"] == ["xn--bcher-kva.example", "*.xn--bcher-kva.example"]
    uploaded = client.put(URL, json=_pair()).json()
    client.patch("/api/v1/cluster", json={"domain": "example.net"})
    assert client.get(URL).json() == uploaded


def test_starttls_is_offered_without_an_upload(pair: TestClient) -> None:
    """A certificate of our own reaches Postfix as an uploaded one does, its content hidden."""
    files = {
        file["path"]: file
        for file in pair.get("/api/v1/config/preview").json()["nodes"][0]["files"]
    }
    chain = files["/etc/postfix/relay/tls.pem"]
    assert (chain["is_secret"], chain["content"], chain["mode"]) == (True, None, "0600")
    assert "smtpd_tls_security_level = may\n" in files["/etc/postfix/main.cf"]["content"]


def test_the_pair_reaches_postfix(pair: TestClient) -> None:
    """With a certificate the preview has the file for it, content hidden."""
    pair.put(URL, json=_pair())
    files = pair.get("/api/v1/config/preview").json()["nodes"][0]["files"]
    chain = next(file for file in files if file["path"].endswith("tls.pem"))
    assert (chain["is_secret"], chain["content"], chain["mode"]) == (True, None, "0600")
