"""Block- and allowlist over REST: one by one, many at once, as files; audited, and published."""

from __future__ import annotations

import csv
import io
import json

import pytest
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from controlplane.store.audit import AuditFilter, list_entries
from controlplane.store.engine import Database
from controlplane.store.policy_import_steps import begin
from controlplane.store.policy_kinds import ALLOWLIST
from controlplane.store.policy_publication import read_body, read_manifest
from nodeagent.policy.document import ListEntry, Section, SectionKind
from nodeagent.policy.engine.sections import read_section

BLOCK = "/api/v1/mail-security/blocklist"
ALLOW = "/api/v1/mail-security/allowlist"


def published(client: TestClient, database: Database) -> list[ListEntry]:
    """Return what the nodes would fetch."""
    box = client.app.state.secret_box  # type: ignore[attr-defined]
    with database.read() as session:
        sections = read_manifest(session, box).sections
        found = []
        for section in sections:
            if section.kind is SectionKind.LIST:
                found += read_section(section, read_body(session, section.sha256))
    assert all(isinstance(section, Section) for section in sections)
    return found


def by_value(item: dict[str, object]) -> str:
    """Return what an import puts entries in order by."""
    return str(item["value"])


def audit_rows(database: Database, prefix: str) -> list[tuple[str, str]]:
    """Return actions and targets, the oldest first."""
    with database.read() as session:
        rows = list_entries(session, AuditFilter(action=f"{prefix}*"))
    return [(row.action, row.target) for row in reversed(rows)]


def add(client: TestClient, value: str, **others: object) -> dict[str, object]:
    """Put one entry on the blocklist."""
    answer = client.post(BLOCK, json={"value": value, **others})
    assert answer.status_code == 201, answer.text
    return dict(answer.json())


def test_an_entry_is_kept_in_one_form_and_reaches_the_nodes(
    client: TestClient, sqlite_database: Database
) -> None:
    """Capitals and needless host parts do not make another entry of it."""
    made = add(client, "Spammer@EXAMPLE.com", reason="asked for")
    assert (made["id"], made["value"], made["origin"]) == (1, "spammer@example.com", "admin")
    again = client.post(BLOCK, json={"value": "spammer@example.COM"})
    assert again.status_code == 409
    assert again.json()["detail"] == (
        'The entry of the blocklist "spammer@example.com" is there already, as number 1.'
    )
    assert published(client, sqlite_database) == [
        ListEntry(id=1, value="spammer@example.com", reason="asked for")
    ]


def test_putting_the_same_value_changes_it_and_keeps_its_id(
    client: TestClient, sqlite_database: Database
) -> None:
    """What a script may repeat; only what differs is audited and told to the nodes."""
    first = client.put(BLOCK, json={"value": "192.0.2.0/24"})
    assert first.status_code == 201
    second = client.put(BLOCK, json={"value": "192.0.2.0/24", "reason": "open relays"})
    assert (second.status_code, second.json()["id"]) == (200, first.json()["id"])
    before = published(client, sqlite_database)
    client.put(BLOCK, json={"value": "192.0.2.0/24", "reason": "open relays"})
    assert published(client, sqlite_database) == before
    assert audit_rows(sqlite_database, "blocklist.") == [
        ("blocklist.create", "192.0.2.0/24"),
        ("blocklist.update", "192.0.2.0/24"),
    ]


def test_both_lists_may_have_the_same_value(client: TestClient, sqlite_database: Database) -> None:
    """The engine says that the allowlist wins; each list is looked at by itself."""
    add(client, "example.com")
    assert client.post(ALLOW, json={"value": "example.com"}).status_code == 201
    assert [one.listing for one in published(client, sqlite_database)] == ["block", "allow"]
    assert client.get(BLOCK).json()["total"] == 1
    number = client.get(ALLOW).json()["items"][0]["id"]
    assert client.get(f"{BLOCK}/{number}").status_code == 404
    assert client.delete(f"{BLOCK}/{number}").status_code == 404


@pytest.mark.parametrize(
    ("value", "sentence"),
    [
        ("", "The value is empty"),
        ("no dot", "contains a space"),
        ("localhost", "has no dot"),
        ("192.0.2.1/24", "has host bits set"),
        ("a@[x]", "in brackets that is no IP address"),
    ],
)
def test_a_value_that_cannot_match_is_refused(
    client: TestClient, sqlite_database: Database, value: str, sentence: str
) -> None:
    """One sentence beside the field; nothing is stored, nothing published."""
    answer = client.post(BLOCK, json={"value": value})
    assert answer.status_code == 422
    assert sentence in answer.json()["fields"]["value"]
    assert client.get(BLOCK).json()["total"] == 0
    assert published(client, sqlite_database) == []


def test_an_entry_is_changed_and_deleted_by_its_id(
    client: TestClient, sqlite_database: Database
) -> None:
    """An id is never given again, also when its entry was the last one."""
    number = add(client, "example.com")["id"]
    add(client, "example.org")
    taken = client.put(f"{BLOCK}/{number}", json={"value": "example.org"})
    assert taken.status_code == 409
    changed = client.put(f"{BLOCK}/{number}", json={"value": "example.net", "reason": "moved"})
    assert changed.json()["value"] == "example.net"
    assert client.delete(f"{BLOCK}/{number}").status_code == 204
    assert client.get(f"{BLOCK}/{number}").status_code == 404
    client.delete(f"{BLOCK}/2")
    assert add(client, "example.com")["id"] == 3
    assert [one.value for one in published(client, sqlite_database)] == ["example.com"]
    actions = [action for action, _ in audit_rows(sqlite_database, "blocklist.")]
    assert actions == [
        f"blocklist.{one}" for one in ("create", "create", "update", "delete", "delete", "create")
    ]


def test_pages_follow_each_other_from_the_newest(client: TestClient) -> None:
    """A search is in any case and anywhere in the value."""
    client.post(f"{BLOCK}/bulk", json={"items": [{"value": f"d{n}.test"} for n in range(25)]})
    page = client.get(BLOCK, params={"limit": 10}).json()
    seen = [one["value"] for one in page["items"]]
    while page["next_before"] is not None:
        wanted = {"limit": 10, "before": page["next_before"]}
        page = client.get(BLOCK, params=wanted).json()
        seen += [one["value"] for one in page["items"]]
    assert seen == [f"d{n}.test" for n in reversed(range(25))]
    found = client.get(BLOCK, params={"search": "D1", "limit": 3}).json()
    assert (found["total"], len(found["items"])) == (11, 3)
    assert client.get(BLOCK, params={"search": "%"}).json()["total"] == 0


def test_many_at_once_are_one_audited_change(client: TestClient, sqlite_database: Database) -> None:
    """Counts and the first names, not a row each; one bad entry refuses all."""
    values = [{"value": f"d{n}.test"} for n in range(30)]
    done = client.post(f"{BLOCK}/bulk", json={"items": [*values, values[0]]})
    assert done.json() == {"added": 30, "changed": 0, "unchanged": 0, "removed": 0}
    refused = client.post(f"{BLOCK}/bulk", json={"items": [{"value": "x.test"}, {"value": "@"}]})
    assert list(refused.json()["fields"]) == ["items.1.value"]
    gone = client.post(f"{BLOCK}/bulk-delete", json={"ids": [1, 99], "values": ["d1.test", "?"]})
    assert gone.json()["removed"] == 2
    assert len(published(client, sqlite_database)) == 28
    with sqlite_database.read() as session:
        rows = list_entries(session, AuditFilter(action="blocklist.*"))
    assert [row.action for row in rows] == ["blocklist.bulk-delete", "blocklist.bulk"]
    assert rows[1].after is not None
    assert rows[1].after["counts"]["added"] == 30
    assert len(rows[1].after["names"]) == 20


def test_a_csv_file_goes_in_and_comes_out_again(
    client: TestClient, sqlite_database: Database
) -> None:
    """Semicolons and a byte order mark as spreadsheets write them; times stay what they were."""
    text = (
        "\ufeffvalue;reason;expires_at\r\nA.test;=1+1;2031-05-01T12:00:00+02:00\r\n*@b.test;;\r\n"
    )
    headers = {"Content-Type": "text/csv"}
    done = client.post(f"{BLOCK}/import", content=text.encode(), headers=headers)
    assert done.json() == {"added": 2, "changed": 0, "unchanged": 0, "removed": 0}
    exported = client.get(f"{BLOCK}/export")
    assert exported.headers["content-disposition"] == 'attachment; filename="blocklist.csv"'
    rows = list(csv.DictReader(io.StringIO(exported.text)))
    assert rows == [
        {"value": "*@b.test", "reason": "", "expires_at": ""},
        {"value": "a.test", "reason": "'=1+1", "expires_at": "2031-05-01T10:00:00Z"},
    ]
    again = client.post(f"{BLOCK}/import", content=exported.content, headers=headers)
    assert again.json()["unchanged"] == 2
    assert {one["origin"] for one in client.get(BLOCK).json()["items"]} == {"import:admin"}
    assert [one.value for one in published(client, sqlite_database)] == ["*@b.test", "a.test"]


def test_a_json_file_goes_in_and_comes_out_again(client: TestClient) -> None:
    """What it does not name goes when the file replaces the list, and only then."""
    items = [{"value": f"d{n}.test", "reason": "é" * (n % 9)} for n in range(1200)]
    done = client.post(f"{BLOCK}/import", json=items)
    assert done.json()["added"] == 1200
    exported = client.get(f"{BLOCK}/export", params={"format": "json"}).json()
    assert exported == [{**one, "expires_at": None} for one in sorted(items, key=by_value)]
    some = client.post(f"{BLOCK}/import", json=exported[:10])
    assert some.json() == {"added": 0, "changed": 0, "unchanged": 10, "removed": 0}
    alone = client.post(f"{BLOCK}/import", params={"replace": True}, json=exported[:10])
    assert alone.json() == {"added": 0, "changed": 0, "unchanged": 10, "removed": 1190}
    assert client.get(BLOCK).json()["total"] == 10
    empty = client.get(f"{ALLOW}/export", params={"format": "json"})
    assert empty.json() == []


def test_a_file_with_one_bad_line_changes_nothing(
    client: TestClient, sqlite_database: Database
) -> None:
    """Each bad line is named, the first twenty of them."""
    lines = ["value"] + [f"d{n}.test" for n in range(1500)] + ["bad value"] * 25
    headers = {"Content-Type": "text/csv; charset=utf-8"}
    answer = client.post(f"{BLOCK}/import", content="\n".join(lines), headers=headers)
    assert answer.status_code == 422
    assert answer.json()["detail"] == "25 of 1525 entries cannot be used; nothing was changed."
    assert len(answer.json()["fields"]) == 20
    assert (
        answer.json()["fields"]["line 1502"]
        == '"bad value" contains a space; a domain name has none.'
    )
    assert published(client, sqlite_database) == []
    assert audit_rows(sqlite_database, "blocklist.") == []


@pytest.mark.parametrize(
    ("media", "body"),
    [
        ("text/plain", b"value\na.test\n"),
        ("text/csv", b""),
        ("text/csv", b"name\na.test\n"),
        ("text/csv", b"value\n\xff\xfe\n"),
        ("text/csv", b'value\n"a.test'),
        ("application/json", b"[{]"),
        ("application/json", b"[1, 2]"),
        ("application/json", b'[{"value": "a.test"}'),
        ("application/json", b"\xff[]"),
        ("application/json", b"[" * 200_000),
    ],
)
def test_a_broken_file_is_refused_with_a_sentence(
    client: TestClient, media: str, body: bytes
) -> None:
    """Torn, of another kind, or nonsense: never a crash, never half of it."""
    answer = client.post(f"{BLOCK}/import", content=body, headers={"Content-Type": media})
    assert answer.status_code == 422, answer.text
    assert client.get(BLOCK).json()["total"] == 0


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.sampled_from(["text/csv", "application/json"]), st.binary(max_size=300))
def test_no_file_makes_it_crash(client: TestClient, media: str, body: bytes) -> None:
    """Whatever the bytes are."""
    answer = client.post(f"{ALLOW}/import", content=body, headers={"Content-Type": media})
    assert answer.status_code in {200, 422}


def test_an_import_of_objects_one_after_the_other_is_read_as_well(client: TestClient) -> None:
    """JSON lines, as scripts write them."""
    lines = "\n".join(json.dumps({"value": f"d{n}.test"}) for n in range(3))
    headers = {"Content-Type": "application/json"}
    assert client.post(f"{BLOCK}/import", content=lines, headers=headers).json()["added"] == 3


@pytest.mark.parametrize("replace", [False, True])
def test_a_preview_counts_and_changes_nothing(
    client: TestClient, sqlite_database: Database, *, replace: bool
) -> None:
    """New, changed, unchanged, gone, and what cannot be used with its sentences."""
    for value in ("same.test", "differs.test", "gone.test"):
        add(client, value)
    before = published(client, sqlite_database)
    items: list[object] = [{"value": "same.test"}, {"value": "differs.test", "reason": "why"}]
    items += [{"value": "new.test"}, {"value": "NEW.test"}, {"value": "no value"}, 7]
    query = {"replace": replace}
    answer = client.post(f"{BLOCK}/import/preview", json=items, params=query)
    assert answer.status_code == 200, answer.text
    found = answer.json()
    assert list(found.pop("problems")) == ["entry 5", "entry 6"]
    counted = {"added": 1, "changed": 1, "unchanged": 1, "removed": int(replace), "invalid": 2}
    assert found == counted
    assert published(client, sqlite_database) == before
    assert audit_rows(sqlite_database, "blocklist.import") == []
    done = client.post(f"{BLOCK}/import", json=items[:4], params=query)
    assert done.json() == {name: counted[name] for name in done.json()}


def test_a_preview_names_the_first_problems_only(client: TestClient) -> None:
    """Twenty sentences help, a million do not."""
    headers = {"Content-Type": "text/csv"}
    lines = "\n".join(["value", *["bad value"] * 30, "a.test"])
    found = client.post(f"{BLOCK}/import/preview", content=lines, headers=headers).json()
    assert (found["invalid"], found["added"], len(found["problems"])) == (30, 1, 20)
    wrong = client.post(f"{BLOCK}/import/preview", content="x", headers={"Content-Type": "a/b"})
    assert wrong.status_code == 422


def test_a_second_import_is_told_to_wait(client: TestClient, sqlite_database: Database) -> None:
    """409, and nothing of it is done; single entries are taken meanwhile."""
    steps = begin(sqlite_database, ALLOWLIST, "import:paul")
    refused = client.post(f"{BLOCK}/import", json=[{"value": "a.test"}])
    assert refused.status_code == 409
    assert refused.json()["detail"].startswith("Another file is being imported")
    add(client, "b.test")
    steps.give_up()
    assert client.post(f"{BLOCK}/import", json=[{"value": "a.test"}]).json()["added"] == 1
    assert [one.value for one in published(client, sqlite_database)] == ["b.test", "a.test"]
