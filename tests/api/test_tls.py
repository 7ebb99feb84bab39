"""The uploaded certificate: checked before it is stored, shown without its key."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from controlplane.store.engine import Database
from tests.fakes.certificates import make_chain, make_pair

URL = "/api/v1/tls/certificate"
CHAIN = make_chain(links=2)


def _pair(days: int = 30, **options: Any) -> dict[str, Any]:
    certificate, key = make_pair(days=days, **options)
    return {"cert_pem": certificate, "key_pem": key}


def _chain(*places: int) -> dict[str, str]:
    """Give these certificates of a chain of leaf, two intermediates and root, in this order."""
    chain, key = CHAIN
    return {"cert_pem": "".join(chain[place] for place in places), "key_pem": key}


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
        (_pair(days=30, begins_in_days=2), "cert_pem", "not valid before"),
        (_pair(has_alternatives=False), "cert_pem", "names no host"),
        ({"names": ["relay.example.com", "other.example.com"]}, "names", "other.example.com"),
        ({"names": ["two words"]}, "names.0", "is not a host name"),
    ],
)
def test_a_bad_pair_is_refused(
    client: TestClient, change: dict[str, Any], field: str, words: str
) -> None:
    """The sentence stands at the half that is at fault, and the old pair stays."""
    before = client.put(URL, json=_pair()).json()
    answer = client.put(URL, json={**_pair(), **change})
    assert answer.status_code == 422
    assert words in answer.json()["fields"][field]
    assert client.get(URL).json() == before


@pytest.mark.parametrize(
    ("places", "field", "words"),
    [
        ((0,), "cert_pem", "add the certificate of CN=Intermediate 1"),
        ((0, 1), "cert_pem", "add the certificate of CN=Intermediate 0"),
        ((0, 1, 2), "cert_pem", "add the certificate of CN=Mail-Relay HA control plane CA"),
        ((0, 2, 1, 3), "cert_pem", "Certificate 2 of the file has not issued the one before it"),
        ((0, 1, 3), "cert_pem", "Certificate 3 of the file has not issued the one before it"),
        ((1, 0, 2, 3), "key_pem", "belongs to certificate 2; put that one first"),
    ],
)
def test_a_chain_with_a_gap_is_refused(
    client: TestClient, places: tuple[int, ...], field: str, words: str
) -> None:
    """It says which certificate is missing, or which one stands in the wrong place."""
    answer = client.put(URL, json=_chain(*places))
    assert answer.status_code == 422
    assert words in answer.json()["fields"][field]
    assert client.get(URL).json()["is_own"] is True


def test_a_whole_chain_is_stored_and_shown(client: TestClient) -> None:
    """A private CA's root comes with it; each link says whose it is and until when."""
    answer = client.put(URL, json=_chain(0, 1, 2, 3))
    assert answer.status_code == 200, answer.text
    view = answer.json()
    assert (view["chain_len"], view["chain_gap"]) == (4, None)
    issuers = [link["issuer"] for link in view["chain"]]
    assert issuers[:3] == [link["subject"] for link in view["chain"][1:]]


def test_a_root_that_this_host_trusts_may_be_left_out(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As servers do; what a host trusts is OpenSSL's business (SSL_CERT_FILE)."""
    trusted = tmp_path / "trusted.pem"
    trusted.write_text(make_pair()[0] + CHAIN[0][3])
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    assert client.put(URL, json=_chain(0, 1, 2)).json()["chain_gap"] is None
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "none.pem"))
    assert "add the certificate" in client.get(URL).json()["chain_gap"]


def test_a_root_of_the_same_name_is_not_enough(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is the signature that counts."""
    trusted = tmp_path / "trusted.pem"
    trusted.write_text(make_chain()[0][-1])
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    assert client.put(URL, json=_chain(0, 1, 2)).status_code == 422


@pytest.mark.parametrize(
    ("certified", "wanted", "is_valid"),
    [
        ("relay.example.com", "RELAY.example.com", True),
        ("*.example.com", "relay.example.com", True),
        ("*.example.com", "*.example.com", True),
        ("*.example.com", "example.com", False),
        ("*.example.com", "a.relay.example.com", False),
        ("relay.example.com", "*.example.com", False),
        ("xn--bcher-kva.example", "bücher.example", True),
        ("*.0.2.1", "192.0.2.1", False),
    ],
)
def test_names_are_matched_as_clients_do(
    client: TestClient, certified: str, wanted: str, *, is_valid: bool
) -> None:
    """A wildcard is one label; case and spelling do not matter."""
    answer = client.put(URL, json={**_pair(name=certified), "names": [wanted]})
    assert answer.status_code == (200 if is_valid else 422), answer.text


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
