"""Imports into the mail policy's lists by page: what is typed, a chosen file, what would change."""

from __future__ import annotations

import re

import pytest
from fastapi.testclient import TestClient
from httpx2 import Response

from controlplane.store.policy_import_steps import begin
from controlplane.store.policy_kinds import BADWORDS
from tests.gui.conftest import OWN_PAGE, post, token_of

API = "/api/v1/mail-security"
PARTIAL = {**OWN_PAGE, "HX-Request": "true", "HX-Request-Type": "partial"}
WORDS = "pattern,severity\ncasino,low\nlotto,high\n"
COUNTS = ("Added", "Changed", "Unchanged", "Removed", "Cannot be used")


def send(client: TestClient, path: str, content: bytes, **query: str) -> Response:
    """Send a chosen file as the page's script does."""
    headers = {**PARTIAL, "X-CSRF-Token": token_of(client), "Content-Type": "text/csv"}
    return client.post(path, params=query, content=content, headers=headers)


def counts(page: str) -> list[int]:
    """Return the numbers of a preview."""
    return [int(re.findall(rf"<li>{name}: (\d+)</li>", page)[0]) for name in COUNTS]


def total(client: TestClient, name: str = "badwords") -> int:
    """Return how many entries a list has."""
    return int(client.get(f"{API}/{name}").json()["total"])


def test_what_changes_is_shown_first(watched: TestClient) -> None:
    """Numbers, and a button; to HTMX this part alone, to others the page. Nothing is changed."""
    assert post(watched, "/policy/words/import", format="csv", text=WORDS).status_code == 303
    typed = {"format": "csv", "replace": "on", "text": "pattern,severity\nlotto,low\npoker,low\n"}
    page = post(watched, "/policy/words/import/preview", **typed)
    assert (page.status_code, counts(page.text)) == (200, [1, 1, 0, 1, 0])
    assert "poker,low" in page.text, "what was typed is still there"
    data = {**typed, "csrf_token": token_of(watched)}
    part = watched.post("/policy/words/import/preview", data=data, headers=PARTIAL).text
    assert part.strip().startswith('<section id="change"')
    assert '<button class="btn btn-primary" form="import">' in part
    assert total(watched) == 2
    assert post(watched, "/policy/words/import", **typed).status_code == 303
    assert "Imported: 1 added, 1 changed, 1 removed." in watched.get("/policy/words").text


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("pattern,severity\ncasino,low\nx,fatal\n", [1, 0, 0, 0, 1]),
        ("pattern\n", [0, 0, 0, 0, 0]),
        ("word\ncasino\n", [0, 0, 0, 0, 1]),
    ],
)
def test_without_anything_to_do_there_is_no_button(
    watched: TestClient, text: str, shown: list[int]
) -> None:
    """Neither for a file with a bad line, which is named, nor for one that changes nothing."""
    page = post(watched, "/policy/words/import/preview", format="csv", text=text).text
    assert counts(page) == shown
    assert 'form="import"' not in page
    assert ("What is wrong" in page) is bool(shown[-1])


def test_a_chosen_file_is_looked_at_and_imported_as_it_is(watched: TestClient) -> None:
    """More than a text field takes; the form's fields are its query."""
    lines = "".join(f"host{number}.example.com,asked for\n" for number in range(12_000))
    content = f"value,reason\n{lines}".encode()
    assert len(content) > 256 * 1024
    query = {"listing": "allow", "format": "csv"}
    shown = send(watched, "/policy/lists/import/file/preview", content, **query)
    assert (shown.status_code, total(watched, "allowlist")) == (200, 0)
    assert "12,000" in shown.text
    done = send(watched, "/policy/lists/import/file", content, **query)
    assert done.headers["hx-redirect"] == "/policy/lists"
    assert (total(watched, "allowlist"), total(watched, "blocklist")) == (12_000, 0)
    json = b'[{"value": "host7.example.com", "reason": "asked for"}]'
    query = {"listing": "allow", "format": "json", "replace": "on"}
    assert send(watched, "/policy/lists/import/file", json, **query).status_code == 200
    assert total(watched, "allowlist") == 1


@pytest.mark.parametrize(
    ("query", "content", "status"),
    [
        ({"listing": "block"}, b"value\nno value\n", 422),
        ({"listing": "block"}, b"\xff\xfe\x00", 422),
        ({"listing": "block", "format": "json"}, b"{", 422),
        ({"listing": "other"}, b"value\na.test\n", 422),
        ({}, b"value\na.test\n", 422),
        ({"listing": "block", "format": "xml"}, b"value\na.test\n", 422),
    ],
)
def test_a_file_that_cannot_be_used_changes_nothing(
    watched: TestClient, query: dict[str, str], content: bytes, status: int
) -> None:
    """One sentence, and those of its lines."""
    answer = send(watched, "/policy/lists/import/file", content, **query)
    assert answer.status_code == status
    assert total(watched, "blocklist") == 0


def test_what_a_file_says_stays_text(watched: TestClient) -> None:
    """Also in the sentences about it."""
    hostile = b"value\n<script>alert(1)</script>\n"
    for tail in ("", "/preview"):
        answer = send(watched, f"/policy/lists/import/file{tail}", hostile, listing="block")
        assert "<script>" not in answer.text
        assert "&lt;script&gt;" in answer.text


def test_a_strangers_file_is_not_read(watched: TestClient) -> None:
    """Nobody is signed in: the way to the sign-in, and no megabyte in memory."""
    watched.cookies.clear()
    answer = watched.post("/policy/lists/import/file", content=b"x" * 1_000_000, headers=OWN_PAGE)
    assert answer.status_code in {401, 403}


def test_who_has_two_files_hears_of_the_first(watched: TestClient) -> None:
    """The page of who comes second says it, and the file can be sent again."""
    database = watched.app.state.database  # type: ignore[attr-defined]
    steps = begin(database, BADWORDS, "import:paul")
    refused = post(watched, "/policy/words/import", format="csv", text=WORDS)
    assert refused.status_code == 409
    assert "Another file is being imported into this list" in refused.text
    assert "casino,low" in refused.text
    steps.give_up()
    assert post(watched, "/policy/words/import", format="csv", text=WORDS).status_code == 303
