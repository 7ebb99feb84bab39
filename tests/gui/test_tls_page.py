"""The certificate's page: what it says, and a form that takes only what clients would accept."""

from __future__ import annotations

from html import escape, unescape
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from controlplane.core.permissions import UserRole
from controlplane.store.engine import Database
from controlplane.tls import ca_fingerprint
from tests.fakes.certificates import make_chain, make_pair
from tests.gui.conftest import open_as, post

API = "/api/v1/tls/certificate"
HOSTILE = "<script>alert(1)</script>"


def _fields(pair: tuple[str, str] | None = None, **changes: str) -> dict[str, str]:
    certificate, key = pair or make_pair()
    return {"cert_pem": certificate, "key_pem": key, "names": "", **changes}


def test_without_an_upload_the_page_says_whose_it_is(watched: TestClient, app: FastAPI) -> None:
    """Names, issuer, days left, fingerprint; and what agents trust besides."""
    page = watched.get("/tls").text
    for words in (
        "Nobody has uploaded a certificate",
        "relay.internal, *.relay.internal",
        "days left",
        "signed by itself",
        watched.get(API).json()["sha256"],
        ca_fingerprint(app.state.settings.state_dir),
    ):
        assert words in page
    assert "Go back to our own" not in page


def test_a_chain_is_uploaded_shown_and_taken_away_again(watched: TestClient) -> None:
    """Each link is shown; the names that are there are asked for at the next replacement."""
    chain, key = make_chain(links=2)
    done = post(watched, "/tls", **_fields(("".join(chain), key), names="relay.example.com"))
    assert (done.status_code, done.headers["location"]) == (303, "/tls")
    page = watched.get("/tls").text
    for words in (
        "The certificate is replaced",
        "complete",
        "CN=Intermediate 0",
        "CN=Intermediate 1",
    ):
        assert words in page
    assert "29 days left" in page
    assert 'value="relay.example.com"' in page
    assert key.splitlines()[1] not in page
    other = post(
        watched, "/tls", **_fields(make_pair("other.example.com"), names="relay.example.com")
    )
    assert other.status_code == 422
    assert post(watched, "/tls/own").status_code == 303
    assert "Nobody has uploaded a certificate" in watched.get("/tls").text
    missing = post(watched, "/tls/own")
    assert missing.status_code == 404
    assert "No certificate was uploaded." in missing.text


WRONG: list[tuple[dict[str, str], str, str]] = [
    ({"cert_pem": ""}, "cert_pem", "Fill in this field."),
    ({"key_pem": ""}, "key_pem", "Fill in this field."),
    ({"cert_pem": HOSTILE}, "cert_pem", "not valid PEM"),
    ({"key_pem": HOSTILE}, "key_pem", "not valid PEM"),
    ({"key_pem": make_pair()[1]}, "key_pem", "does not belong"),
    (_fields(make_pair(days=-1)), "cert_pem", "expired on"),
    (_fields(make_pair(begins_in_days=3)), "cert_pem", "not valid before"),
    (_fields(make_pair(has_alternatives=False)), "cert_pem", "names no host"),
    (_fields((make_chain()[0][0], "")), "key_pem", "Fill in this field."),
    ({"names": "relay.example.com, mx.example.org"}, "names", "not valid for mx.example.org."),
    ({"names": "two,words here"}, "names", "not valid for two, words, here."),
    ({"names": HOSTILE}, "names", "is not a valid host name"),
]


@pytest.mark.parametrize(("change", "field", "words"), WRONG)
def test_a_wrong_one_changes_nothing_and_loses_nothing(
    watched: TestClient, change: dict[str, str], field: str, words: str
) -> None:
    """One sentence beside the field; the certificate stays typed, the key never comes back."""
    before = watched.get(API).json()
    typed = {**_fields(), **change}
    answer = post(watched, "/tls", **typed)
    assert answer.status_code == 422
    beside = answer.text.partition(f'id="f-{field}-error">')[2].partition("</p>")[0]
    assert words in unescape(beside)
    assert escape(typed["cert_pem"].strip()) in answer.text
    if typed["key_pem"]:
        assert escape(typed["key_pem"].splitlines()[-1]) not in answer.text.replace(
            escape(typed["cert_pem"]), ""
        )
    assert "<script>alert" not in answer.text
    assert watched.get(API).json() == before


def test_a_chain_with_a_gap_is_refused_in_the_viewers_language(watched: TestClient) -> None:
    """With the name of what is missing."""
    chain, key = make_chain()
    watched.cookies.set("relay_language", "de")
    answer = post(watched, "/tls", **_fields((chain[0], key)))
    assert answer.status_code == 422
    assert "fügen Sie das Zertifikat von CN=Intermediate 0 hinzu" in answer.text


def test_a_long_chain_fits_and_more_does_not(watched: TestClient) -> None:
    """The page takes what the API takes, although a form makes it longer."""
    certificate, key = make_pair()
    comment = "x" * 150_000 + "\n"
    assert post(watched, "/tls", **_fields((comment + certificate, key))).status_code == 303
    assert post(watched, "/tls", **_fields(("x" * 600_000, key))).status_code == 413


@pytest.mark.parametrize(
    ("days", "words"), [(3, "tone-bad"), (20, "tone-warn"), (200, "tone-good")]
)
def test_an_end_that_is_near_stands_out(watched: TestClient, days: int, words: str) -> None:
    """By word and by colour, as the overview says it."""
    post(watched, "/tls", **_fields(make_pair(days=days)))
    page = watched.get("/tls").text
    badge = page.partition("days left")[0].rpartition("<span")[2]
    assert words in badge


@pytest.mark.parametrize("role", [UserRole.OPERATOR, UserRole.READ_ONLY])
def test_only_administrators_replace_it(
    watched: TestClient, sqlite_database: Database, role: UserRole
) -> None:
    """The others see what it says."""
    viewer = open_as(watched, sqlite_database, role)
    page: Any = viewer.get("/tls")
    assert "SHA-256" in page.text
    assert "<textarea" not in page.text
    for path in ("/tls", "/tls/own"):
        assert post(viewer, path, **_fields()).status_code == 403
