"""Block- and allowlist, bad words and rate limits: one set of pages, each list with its forms."""

from __future__ import annotations

import re

import pytest
from fastapi.testclient import TestClient
from markupsafe import escape

from controlplane.core.permissions import UserRole
from controlplane.store.engine import Database
from tests.gui.conftest import HOSTILE, OWN_PAGE, open_as, post, token_of

API = "/api/v1/mail-security"
GOOD: dict[str, dict[str, str]] = {
    "lists": {"listing": "allow", "value": "*@A.example", "reason": "ticket 4711"}
    | {"expires_at": "2037-01-31 14:30"},
    "words": {"pattern": "miracle cure", "severity": "high", "category": "spam"}
    | {"is_enabled": "on"},
    "rates": {"subject": "login", "window": "hour", "limit": "200", "verdict": "reject"}
    | {"is_enabled": "on"},
}
SHOWN = {"lists": "*@a.example", "words": "miracle cure", "rates": "login"}
CALLS = {"lists": "allowlist", "words": "badwords", "rates": "rates"}


def number_of(client: TestClient, name: str) -> int:
    """Return the id of the one entry."""
    (item,) = client.get(f"{API}/{CALLS[name]}").json()["items"]
    return int(item["id"])


@pytest.mark.parametrize("name", GOOD)
def test_an_entry_is_added_shown_changed_and_removed(watched: TestClient, name: str) -> None:
    """From the empty form to the list and away again."""
    assert "required" in watched.get(f"/policy/{name}/new").text
    added = post(watched, f"/policy/{name}/new", **GOOD[name])
    assert (added.status_code, added.headers["location"]) == (303, f"/policy/{name}")
    page = watched.get(f"/policy/{name}").text
    assert "The entry is saved." in page
    assert f">{SHOWN[name]}</a>" in page
    number = number_of(watched, name)
    item = watched.get(f"/policy/{name}/{number}").text
    text = {"lists": "reason", "words": "pattern", "rates": "limit"}[name]
    assert f'value="{GOOD[name][text]}"' in item
    changed = {**GOOD[name], text: "77"}
    assert post(watched, f"/policy/{name}/{number}", **changed).status_code == 303
    assert number_of(watched, name) == number
    assert "77" in watched.get(f"/policy/{name}/{number}").text
    assert post(watched, f"/policy/{name}/{number}/delete").status_code == 303
    assert watched.get(f"{API}/{CALLS[name]}").json()["total"] == 0
    assert watched.get(f"/policy/{name}/{number}").status_code == 404


def test_an_expiry_is_of_the_viewers_time_zone(watched: TestClient) -> None:
    """Typed without a zone and shown again as it was typed."""
    watched.cookies.set("relay_zone", "Europe/Berlin")
    post(watched, "/policy/lists/new", **GOOD["lists"])
    (item,) = watched.get(f"{API}/allowlist").json()["items"]
    assert item["expires_at"] == "2037-01-31T13:30:00Z"
    page = watched.get(f"/policy/lists/{item['id']}").text
    assert 'value="2037-01-31 14:30:00"' in page
    wrong = post(watched, "/policy/lists/new", **{**GOOD["lists"], "expires_at": "soon"})
    assert wrong.status_code == 422
    assert 'id="f-expires_at-error"' in wrong.text
    assert 'value="soon"' in wrong.text


def test_what_re2_does_not_take_is_said_at_the_field(watched: TestClient) -> None:
    """With what was typed; nothing is stored."""
    typed = {**GOOD["words"], "pattern": "(a", "is_regex": "on"}
    answer = post(watched, "/policy/words/new", **typed)
    assert answer.status_code == 422
    beside = answer.text.partition('id="f-pattern-error">')[2].partition("</p>")[0]
    assert "regular expression" in beside
    assert 'value="(a"' in answer.text
    assert watched.get(f"{API}/badwords").json()["total"] == 0


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("lists", {"value": "not a value"}),
        ("lists", {"listing": "other"}),
        ("rates", {"limit": "0"}),
        ("rates", {"verdict": "discard"}),
        ("rates", {"subject": "nobody"}),
        ("words", {"severity": "fatal"}),
    ],
)
def test_wrong_input_changes_nothing(
    watched: TestClient, name: str, change: dict[str, str]
) -> None:
    """One sentence, and the form as it was typed."""
    answer = post(watched, f"/policy/{name}/new", **{**GOOD[name], **change})
    assert answer.status_code == 422
    assert 'role="alert"' in answer.text or "field-error" in answer.text
    assert watched.get(f"{API}/{CALLS[name]}").json()["total"] == 0


@pytest.mark.parametrize("name", GOOD)
def test_adding_does_not_overwrite(watched: TestClient, name: str) -> None:
    """What is there already is named with its number."""
    post(watched, f"/policy/{name}/new", **GOOD[name])
    answer = post(watched, f"/policy/{name}/new", **GOOD[name])
    assert answer.status_code == 409
    assert f"number {number_of(watched, name)}." in answer.text


def test_both_lists_are_on_one_page_and_filtered(watched: TestClient) -> None:
    """By list, by a part of the value; pages of fifty follow a cursor."""
    many = [{"value": f"h{number:03}.example"} for number in range(60)]
    assert watched.post(f"{API}/blocklist/bulk", json={"items": many}).status_code == 200
    post(watched, "/policy/lists/new", **GOOD["lists"])
    page = watched.get("/policy/lists").text
    assert "50 of 61 rows" in page
    following = re.findall(r'href="(/policy/lists\?before=[^"]+)"', page)
    assert "h000.example" in watched.get(following[0].replace("&amp;", "&")).text
    assert "1 of 1 row" in watched.get("/policy/lists?listing=allow").text
    assert "1 of 1 row" in watched.get("/policy/lists?search=H007").text
    for wrong in ("listing=other", "before=x", "search=%00"):
        assert watched.get(f"/policy/lists?{wrong}").status_code == 422


def test_chosen_entries_are_deleted_together(watched: TestClient) -> None:
    """Of both lists; who is gone already is passed over, and nothing chosen is said."""
    for listing in ("block", "allow"):
        post(watched, "/policy/lists/new", **{**GOOD["lists"], "listing": listing})
    page = watched.get("/policy/lists").text
    chosen = re.findall(r'name="chosen" value="(\d+)"', page)
    assert len(chosen) == 2
    data = {"csrf_token": token_of(watched), "chosen": [*chosen, "999999"]}
    answer = watched.post(
        "/policy/lists/delete", data=data, headers=OWN_PAGE, follow_redirects=False
    )
    assert answer.status_code == 303
    assert "Entries removed: 2." in watched.get("/policy/lists").text
    assert post(watched, "/policy/lists/delete").status_code == 422
    assert post(watched, "/policy/lists/delete", chosen="x").status_code == 422


@pytest.mark.parametrize(
    ("file_format", "text", "bad"),
    [
        ("csv", "pattern,severity\ncasino,low\n", "pattern,severity\nlotto,low\nx,fatal\n"),
        ("json", '[{"pattern": "casino"}]', '[{"pattern": "lotto"}, {"pattern": ""}]'),
    ],
)
def test_a_file_is_imported_and_exported(
    watched: TestClient, file_format: str, text: str, bad: str
) -> None:
    """All of it or nothing; `replace` removes what it does not name."""
    post(watched, "/policy/words/new", **GOOD["words"])
    fields = {"format": file_format, "text": text, "replace": "on"}
    assert post(watched, "/policy/words/import", **fields).status_code == 303
    page = watched.get("/policy/words").text
    assert "Imported: 1 added, 0 changed, 1 removed." in page
    for url in re.findall(r'href="(/api/v1/[^"]+/export[^"]+)"', page):
        assert "casino" in watched.get(url).text
    wrong = {**fields, "text": bad, "replace": ""}
    refused = post(watched, "/policy/words/import", **wrong)
    assert refused.status_code == 422
    assert watched.get(f"{API}/badwords").json()["total"] == 1


def test_exports_of_every_list_are_there(watched: TestClient) -> None:
    """Both lists have two each."""
    for name, number in (("lists", 4), ("words", 2), ("rates", 2)):
        page = watched.get(f"/policy/{name}").text
        urls = re.findall(r'href="(/api/v1/[^"]+/export[^"]+)"', page)
        assert len(urls) == number
        assert {watched.get(url).status_code for url in urls} == {200}


@pytest.mark.parametrize(
    ("name", "field"), [(name, field) for name, fields in GOOD.items() for field in fields]
)
def test_what_is_typed_stays_text(watched: TestClient, name: str, field: str) -> None:
    """No field brings a script into a page, neither refused nor stored."""
    answer = post(watched, f"/policy/{name}/new", **{**GOOD[name], field: HOSTILE})
    assert "<script>alert" not in answer.text
    for path in (
        f"/policy/{name}",
        f"/policy/{name}?search={HOSTILE}",
        f"/policy/{name}?{HOSTILE}",
    ):
        assert "<script>alert" not in watched.get(path).text
    if field in {"reason", "pattern"}:
        assert str(escape(HOSTILE)) in watched.get(f"/policy/{name}").text
        number = number_of(watched, name)
        assert "<script>alert" not in watched.get(f"/policy/{name}/{number}").text


@pytest.mark.parametrize("name", GOOD)
def test_read_only_sees_no_button_and_is_refused(
    watched: TestClient, sqlite_database: Database, name: str
) -> None:
    """The pages show what is there; a form that is sent all the same changes nothing."""
    post(watched, f"/policy/{name}/new", **GOOD[name])
    number = number_of(watched, name)
    reader = open_as(watched, sqlite_database, UserRole.READ_ONLY)
    for path in (f"/policy/{name}", f"/policy/{name}/{number}"):
        main = reader.get(path).text.partition("<main")[2]
        assert 'method="post"' not in main
        assert "/new" not in main
        assert "/import" not in main
    for path in ("new", "import"):
        assert reader.get(f"/policy/{name}/{path}").status_code == 403
    imports = ("import", "import/preview", "import/file", "import/file/preview")
    for path in ("new", *imports, "delete", str(number), f"{number}/delete"):
        assert post(reader, f"/policy/{name}/{path}", **GOOD[name]).status_code == 403
    assert SHOWN[name] in reader.get(f"/policy/{name}").text


@pytest.mark.parametrize(
    "tail", ["new", "import", "import/file", "import/file/preview", "delete", "1", "1/delete"]
)
def test_a_form_without_its_token_changes_nothing(watched: TestClient, tail: str) -> None:
    """Neither without a token nor from another site."""
    path = f"/policy/words/{tail}"
    assert watched.post(path, data=GOOD["words"], headers=OWN_PAGE).status_code == 403
    data = {**GOOD["words"], "csrf_token": token_of(watched)}
    assert (
        watched.post(path, data=data, headers={"Sec-Fetch-Site": "cross-site"}).status_code == 403
    )
