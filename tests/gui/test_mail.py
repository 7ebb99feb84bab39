"""The mail pages: every form keeps what was typed, shows what Postfix gets, and is for its role."""

from __future__ import annotations

from html import escape
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from controlplane.core.permissions import UserRole
from controlplane.store.cluster import ClusterStore
from controlplane.store.engine import Database
from controlplane.store.nouns import ROUTES
from tests.gui.conftest import HOSTILE, HTMX, OWN_PAGE, open_as, post, token_of

SECRET = "correct-horse-battery"

GOOD: dict[str, dict[str, str]] = {
    "recipient-domains": {"name": "a.tld", "next_hop": "mx.a.tld", "port": "587"}
    | {"tls_mode": "verify"},
    "sender-policies": {"domain": "b.tld", "action": "blocked", "reply_text": "Not here"},
    "routes": {"sender": "@c.tld", "next_hop": "mx.c.tld", "port": "587", "tls_mode": "encrypt"}
    | {"username": "user", "password": SECRET},
    "trusted-networks": {"network": "203.0.113.0/24"},
}
KEYS = {
    "recipient-domains": "name",
    "sender-policies": "domain",
    "routes": "sender",
    "trusted-networks": "network",
}
LINES = {
    "recipient-domains": ["a.tld relay-verify:[mx.a.tld]:587", "a.tld relay"],
    "sender-policies": ["b.tld 550 5.7.1 Not here"],
    "routes": ["@c.tld relay-encrypt-auth:[mx.c.tld]:587", "@c.tld (hidden)"],
    "trusted-networks": ["203.0.113.0/24 trusted"],
}
WRONG: list[tuple[str, dict[str, str], str, str]] = [
    ("recipient-domains", {"name": "two words.tld"}, "name", "contains a space"),
    ("recipient-domains", {"next_hop": "198.51.100.100"}, "next_hop", "belongs to this cluster"),
    ("recipient-domains", {"port": "70000"}, "port", "70000"),
    ("recipient-domains", {"port": "many"}, "port", "integer"),
    ("recipient-domains", {"tls_mode": "always"}, "tls_mode", "none"),
    ("sender-policies", {"domain": "no dot"}, "domain", "contains a space"),
    ("sender-policies", {"reply_text": "Grüße"}, "reply_text", "plain ASCII"),
    ("routes", {"sender": "nobody"}, "sender", "has no @"),
    ("routes", {"next_hop": "two words"}, "next_hop", "is not a host name"),
    ("routes", {"password": ""}, "password", "A username needs a password."),
    ("routes", {"username": "a:b"}, "username", "must not contain"),
    ("trusted-networks", {"network": "0.0.0.0/0"}, "network", "too wide"),
    ("trusted-networks", {"network": "203.0.113.9/24"}, "network", "host bits"),
]


@pytest.mark.parametrize("name", GOOD)
def test_every_list_is_added_to_shown_changed_and_removed(watched: TestClient, name: str) -> None:
    """From the empty form to the list and away again, with a notice that says what is next."""
    key = GOOD[name][KEYS[name]]
    assert watched.get(f"/mail/{name}/new").status_code == 200
    added = post(watched, f"/mail/{name}/new", **GOOD[name])
    assert (added.status_code, added.headers["location"]) == (303, f"/mail/{name}")
    page = watched.get(f"/mail/{name}").text
    assert f"{key} is saved; it reaches the nodes with the next apply." in page
    shown = watched.get(f"/mail/{name}/edit", params={"key": key}).text
    for field, value in GOOD[name].items():
        if field not in {"password", KEYS[name]}:
            assert escape(value) in shown
    removed = post(watched, f"/mail/{name}/delete?key={key.replace('/', '%2F')}")
    assert removed.status_code == 303
    assert f">{key}<" not in watched.get(f"/mail/{name}?x=1").text


@pytest.mark.parametrize("name", ["recipient-domains", "sender-policies", "routes"])
def test_an_item_is_changed_in_place(watched: TestClient, name: str) -> None:
    """The key stays, the rest is what was typed."""
    key = GOOD[name][KEYS[name]]
    post(watched, f"/mail/{name}/new", **GOOD[name])
    rest = {field: value for field, value in GOOD[name].items() if field != KEYS[name]}
    text = "reply_text" if name == "sender-policies" else "next_hop"
    changed = post(watched, f"/mail/{name}/edit?key={key}", **{**rest, text: "other.tld"})
    assert changed.status_code == 303
    assert "other.tld" in watched.get(f"/mail/{name}").text


@pytest.mark.parametrize(("name", "change", "field", "words"), WRONG)
def test_wrong_input_keeps_what_was_typed(
    watched: TestClient, name: str, change: dict[str, str], field: str, words: str
) -> None:
    """The sentence stands beside its field; nothing is stored, nothing typed is lost."""
    typed = {**GOOD[name], **change}
    answer = post(watched, f"/mail/{name}/new", **typed)
    assert answer.status_code == 422
    beside = answer.text.partition(f'id="f-{field}-error">')[2].partition("</p>")[0]
    assert words in beside
    for one, value in typed.items():
        if one == "password":
            assert not value or value not in answer.text
        elif one not in {"tls_mode", "action"}:
            assert escape(value) in answer.text
    assert f">{typed[KEYS[name]]}<" not in watched.get(f"/mail/{name}").text


def test_adding_does_not_overwrite(watched: TestClient) -> None:
    """What is there already is opened, not replaced by accident; its spelling does not matter."""
    post(watched, "/mail/recipient-domains/new", **GOOD["recipient-domains"])
    again = {**GOOD["recipient-domains"], "name": "A.TLD", "next_hop": ""}
    answer = post(watched, "/mail/recipient-domains/new", **again)
    assert answer.status_code == 422
    assert "There is one of this name already" in answer.text
    assert "mx.a.tld" in watched.get("/mail/recipient-domains").text


@pytest.mark.parametrize("name", GOOD)
def test_a_form_shows_what_postfix_gets(watched: TestClient, name: str) -> None:
    """The rendering's own lines, credentials hidden; nothing for a form that cannot be used."""
    path = f"/mail/{name}/lines"
    data = {"csrf_token": token_of(watched), **GOOD[name]}
    shown = watched.post(path, data=data, headers=HTMX).text
    for line in LINES[name]:
        assert escape(line) in shown
    assert SECRET not in shown
    data[KEYS[name]] = ""
    assert "Nothing yet" in watched.post(path, data=data, headers=HTMX).text


def test_a_password_stays_when_it_is_left_empty_and_never_comes_back(
    watched: TestClient, sqlite_database: Database, app: FastAPI
) -> None:
    """An empty field keeps it, an empty user name removes it."""
    post(watched, "/mail/routes/new", **GOOD["routes"])
    page = watched.get("/mail/routes/edit?key=@c.tld").text
    assert SECRET not in page + watched.get("/mail/routes").text
    store = ClusterStore(sqlite_database, app.state.secret_box)
    rest = {name: value for name, value in GOOD["routes"].items() if name != "sender"}
    post(watched, "/mail/routes/edit?key=@c.tld", **{**rest, "password": "", "port": "25"})
    kept = store.item(ROUTES, "@c.tld")
    assert kept.port == 25
    assert kept.password is not None
    assert kept.password.get_secret_value() == SECRET
    post(watched, "/mail/routes/edit?key=@c.tld", **{**rest, "password": "", "username": ""})
    assert store.item(ROUTES, "@c.tld").password is None


@pytest.mark.parametrize(
    ("name", "field"),
    [(name, field) for name, fields in GOOD.items() for field in fields],
)
def test_what_is_typed_stays_text(watched: TestClient, name: str, field: str) -> None:
    """No field of no form brings a script into a page, neither refused nor stored."""
    answer = post(watched, f"/mail/{name}/new", **{**GOOD[name], field: HOSTILE})
    assert "<script>alert" not in answer.text
    for path in (f"/mail/{name}", "/mail", f"/mail/{name}?search={HOSTILE}"):
        assert "<script>alert" not in watched.get(path).text
    key = HOSTILE if field == KEYS[name] else GOOD[name][KEYS[name]]
    assert "<script>alert" not in watched.get(f"/mail/{name}/edit", params={"key": key}).text


def test_a_reply_text_and_a_user_name_of_a_stranger_stay_text(watched: TestClient) -> None:
    """Both may hold what a page could run; they are stored and shown as they are."""
    post(watched, "/mail/sender-policies/new", **{**GOOD["sender-policies"], "reply_text": HOSTILE})
    post(watched, "/mail/routes/new", **{**GOOD["routes"], "username": "<script>alert(1)"})
    for path in ("/mail/sender-policies", "/mail/sender-policies/edit?key=b.tld", "/mail/routes"):
        page = watched.get(path).text
        assert "<script>alert" not in page
        assert "&lt;script&gt;alert" in page


@pytest.mark.parametrize("name", GOOD)
def test_read_only_sees_no_button_and_is_refused(
    watched: TestClient, sqlite_database: Database, name: str
) -> None:
    """The page shows what is set; a form that is sent all the same changes nothing."""
    key = GOOD[name][KEYS[name]]
    post(watched, f"/mail/{name}/new", **GOOD[name])
    reader = open_as(watched, sqlite_database, UserRole.READ_ONLY)
    for path in (f"/mail/{name}", f"/mail/{name}/edit?key={key}", "/mail", "/mail/settings"):
        page = reader.get(path)
        assert page.status_code == 200
        main = page.text.partition("<main")[2]
        assert 'method="post"' not in main
        assert "/new" not in main
        assert "/import" not in main
    for path in ("new", "import"):
        assert reader.get(f"/mail/{name}/{path}").status_code == 403
    for path, fields in (
        ("new", GOOD[name]),
        (f"edit?key={key}", GOOD[name]),
        (f"delete?key={key}", {}),
        ("import", {"csv": "x"}),
        ("import/preview", {"csv": "x"}),
        ("lines", GOOD[name]),
    ):
        assert post(reader, f"/mail/{name}/{path}", **fields).status_code == 403
    assert key in reader.get(f"/mail/{name}").text


@pytest.mark.parametrize(
    "path",
    [f"/mail/{name}/{tail}" for name in GOOD for tail in ("new", "edit?key=x", "delete?key=x")]
    + ["/mail/routes/import", "/mail/routes/try?key=x", "/mail/settings"]
    + ["/configuration/apply", "/configuration/import", "/configuration/versions/1/rollback"],
)
def test_a_form_without_its_token_changes_nothing(watched: TestClient, path: str) -> None:
    """Neither without a token, nor with one from another page's site."""
    fields = {**GOOD["trusted-networks"], "csv": "network\n"}
    assert watched.post(path, data=fields, headers=OWN_PAGE).status_code == 403
    foreign = {"Sec-Fetch-Site": "cross-site"}
    data = {**fields, "csrf_token": token_of(watched)}
    assert watched.post(path, data=data, headers=foreign).status_code == 403


def test_a_long_list_is_paged_and_searched(watched: TestClient) -> None:
    """Fifty a page, by name; the search is in the links of the pages."""
    many = "name\n" + "".join(f"d{number:03}.tld\n" for number in range(120))
    watched.post("/api/v1/lists/recipient-domains/csv", json={"csv": many})
    first = watched.get("/mail/recipient-domains?search=tld").text
    assert "50 of 120 rows" in first
    assert "d049.tld" in first
    assert "d050.tld" not in first
    second = watched.get("/mail/recipient-domains?search=tld&before=d049.tld").text
    assert "d050.tld" in second
    assert "d049.tld</a>" not in second
    assert "1 of 1 row" in watched.get("/mail/recipient-domains?search=d111").text


def test_settings_are_changed_together_or_not_at_all(watched: TestClient) -> None:
    """A wrong one keeps all that was typed; right ones hold and show their lines."""
    page = watched.get("/mail/settings")
    assert 'value="52428800"' in page.text
    typed = {
        "message_size_limit_bytes": "1000000",
        "queue.maximal_queue_lifetime_s": "86400",
        "queue.bounce_queue_lifetime_s": "99999",
        "queue.minimal_backoff_s": "300",
        "queue.maximal_backoff_s": "4000",
        "queue.queue_run_delay_s": "300",
        "sender_default": "blocked",
        "sender_default_reply_text": HOSTILE,
        "postmaster": "",
    }
    refused = post(watched, "/mail/settings", **typed)
    assert refused.status_code == 422
    assert "f-queue.bounce_queue_lifetime_s-error" in refused.text
    assert 'value="1000000"' in refused.text
    assert "<script>alert" not in refused.text
    typed["queue.bounce_queue_lifetime_s"] = "3600"
    data = {"csrf_token": token_of(watched), **typed}
    lines = watched.post("/mail/settings/lines", data=data, headers=HTMX).text
    assert "message_size_limit = 1000000" in lines
    assert "bounce_queue_lifetime = 3600s" in lines
    assert "/^/ 550 5.7.1" in lines
    assert post(watched, "/mail/settings", **typed).status_code == 303
    settings = watched.get("/api/v1/cluster").json()["settings"]
    assert settings["message_size_limit_bytes"] == 1_000_000
    assert settings["queue"]["bounce_queue_lifetime_s"] == 3600
    assert settings["vrrp"]["advert_int_s"] == 1.0


def test_csv_is_looked_at_and_imported(watched: TestClient) -> None:
    """The preview names what changes; the import is refused once that is no longer true."""
    text = "name,next_hop\na.tld,\nb.tld,mx.b.tld\n"
    path = "/mail/recipient-domains/import"
    assert "Replace the whole list" in watched.get(path).text
    data = {"csrf_token": token_of(watched), "csv": text}
    shown = watched.post(f"{path}/preview", data=data, headers=HTMX).text
    assert "a.tld, b.tld" in shown
    revision = shown.partition('name="revision" value="')[2].partition('"')[0]
    watched.put("/api/v1/trusted-networks/203.0.113.0/24")
    late = post(watched, path, csv=text, revision=revision)
    assert late.status_code == 409
    assert "look at the preview again" in late.text
    assert "b.tld,mx.b.tld" in late.text
    assert post(watched, path, csv=text).status_code == 303
    listed = watched.get("/mail/recipient-domains").text
    assert "Imported: 2 added, 0 changed, 0 removed." in listed
    exported = watched.get("/mail/recipient-domains/csv")
    assert exported.text.splitlines()[1] == "a.tld,,25,may"


def test_a_wrong_line_is_shown_and_the_text_is_kept(watched: TestClient) -> None:
    """One sentence a line, as text."""
    text = f'name\nok.tld\n"{HOSTILE.replace(chr(34), chr(34) * 2)}"\n'
    refused = post(watched, "/mail/recipient-domains/import", csv=text)
    assert refused.status_code == 422
    assert "line 3" in refused.text
    assert "<script>alert" not in refused.text
    assert "ok.tld" in refused.text
    assert watched.get("/api/v1/recipient-domains").json()["total"] == 0


def test_an_import_that_is_too_large_is_refused(watched: TestClient) -> None:
    """The short lists take what a form takes, the domains as much as a list call."""
    text = "name\n" + "".join(f"domain-number-{number}.example.com\n" for number in range(10_000))
    assert post(watched, "/mail/trusted-networks/import", csv=text).status_code == 413
    assert post(watched, "/mail/recipient-domains/import", csv=text).status_code == 303


def test_there_is_no_other_list(watched: TestClient) -> None:
    """An unknown list and an unknown item are pages that say so."""
    assert watched.get("/mail/nodes").status_code == 422
    missing: Any = watched.get("/mail/routes/edit?key=@none.tld")
    assert missing.status_code == 404
    assert "There is no route @none.tld." in missing.text
