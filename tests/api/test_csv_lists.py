"""CSV through the API: previewed, all or nothing, one sentence a line, never a password."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from pydantic import SecretStr

from controlplane.store.cluster import ClusterStore
from controlplane.store.engine import Database
from controlplane.store.nouns import ROUTES

LISTS = "/api/v1/lists"
SAMPLES = {
    "recipient-domains": (
        "name,next_hop,port,tls_mode\r\na.tld,mx.a.tld,587,verify\r\nb.tld,,25,may\r\n"
    ),
    "sender-policies": 'domain,action,reply_text\r\na.tld,blocked,"Not here, not now"\r\n',
    "routes": "sender,next_hop,port,tls_mode,username\r\n'@a.tld,mx.tld,25,encrypt,\r\n",
    "trusted-networks": "network\r\n198.51.100.0/24\r\n2001:db8::/32\r\n",
}


def _post(client: TestClient, name: str, text: str, tail: str = "", **more: Any) -> Any:
    return client.post(f"{LISTS}/{name}/csv{tail}", json={"csv": text, **more})


@pytest.mark.parametrize("name", SAMPLES)
def test_every_list_goes_in_and_comes_out_the_same(pair: TestClient, name: str) -> None:
    """The export of what was imported is the file that was imported."""
    answer = _post(pair, name, SAMPLES[name])
    assert answer.status_code == 200, answer.text
    exported = pair.get(f"{LISTS}/{name}/csv")
    assert exported.text == SAMPLES[name]
    assert exported.headers["content-type"] == "text/csv; charset=utf-8"
    assert exported.headers["content-disposition"] == f'attachment; filename="{name}.csv"'
    again = _post(pair, name, exported.text, replace=True).json()
    assert (again["added_count"], again["changed_count"], again["removed_count"]) == (0, 0, 0)


def test_a_preview_says_what_changes_and_changes_nothing(pair: TestClient) -> None:
    """Added, changed and removed by name; the list is as it was."""
    _post(pair, "recipient-domains", SAMPLES["recipient-domains"])
    text = "name,port,next_hop\nB.TLD,26,mx.b.tld\nc.tld,,\n"
    shown = _post(pair, "recipient-domains", text, "/preview", replace=True).json()
    assert shown["change"] == {
        "added": ["c.tld"],
        "changed": ["b.tld"],
        "removed": ["a.tld"],
        "added_count": 1,
        "changed_count": 1,
        "removed_count": 1,
        "total": 2,
    }
    assert pair.get(f"{LISTS}/recipient-domains/csv").text == SAMPLES["recipient-domains"]
    kept = _post(pair, "recipient-domains", text, "/preview").json()["change"]
    assert (kept["removed"], kept["total"]) == ([], 3)


def test_one_bad_line_refuses_the_whole_list(pair: TestClient) -> None:
    """Each wrong line has its sentence, of whatever kind; nothing is stored."""
    text = (
        "name,next_hop,port\nok.tld,,\ntwo words.tld,,\nok2.tld,198.51.100.100,\n"
        "OK.tld,,\nok3.tld,mx.tld,many\n"
    )
    answer = _post(pair, "recipient-domains", text)
    assert answer.status_code == 422
    body = answer.json()
    assert body["detail"] == "4 of 5 lines cannot be used; nothing was changed."
    assert body["fields"] == {
        "line 3": '"two words.tld" contains a space; a domain name has none.',
        "line 4": "198.51.100.100 belongs to this cluster; mail would go round in circles.",
        "line 5": "ok.tld is in line 2 already.",
        "line 6": "port has to be a whole number.",
    }
    assert pair.get("/api/v1/recipient-domains").json()["total"] == 0


def test_what_a_kept_entry_is_at_fault_of_blames_no_line(pair: TestClient) -> None:
    """A line is judged for itself, not for what was there before."""
    assert pair.put("/api/v1/recipient-domains/a.tld", json={}).status_code == 201
    assert _post(pair, "recipient-domains", "name\nb.tld\n").status_code == 200


def test_a_list_that_changed_since_the_preview_is_not_imported(pair: TestClient) -> None:
    """What nobody has seen is not done."""
    text = SAMPLES["trusted-networks"]
    revision = _post(pair, "trusted-networks", text, "/preview").json()["revision"]
    pair.put("/api/v1/trusted-networks/203.0.113.0/24")
    refused = _post(pair, "trusted-networks", text, expected_revision=revision)
    assert refused.status_code == 409
    assert "look at the preview again" in refused.json()["detail"]
    assert len(pair.get("/api/v1/trusted-networks").json()) == 1


def test_a_route_keeps_its_password_and_gets_a_new_one(
    pair: TestClient, sqlite_database: Database, app: Any
) -> None:
    """Left out it stays, written it holds; another user name needs another password."""
    pair.put(
        "/api/v1/routes/@a.tld",
        json={"next_hop": "mx.tld", "username": "u", "password": "first-one"},
    )
    store = ClusterStore(sqlite_database, app.state.secret_box)
    exported = pair.get(f"{LISTS}/routes/csv").text
    assert "first-one" not in exported
    assert _post(pair, "routes", exported.replace("mx.tld", "mx2.tld")).status_code == 200
    route = store.item(ROUTES, "@a.tld")
    assert (route.next_hop, route.password) == ("mx2.tld", SecretStr("first-one"))
    with_password = "sender,next_hop,username,password\n@a.tld,mx2.tld,u,second-one\n"
    assert _post(pair, "routes", with_password).json()["changed"] == ["@a.tld"]
    assert store.item(ROUTES, "@a.tld").password == SecretStr("second-one")
    other = _post(pair, "routes", exported.replace(",u\r", ",other\r"))
    assert other.json()["fields"] == {"line 2": "A username needs a password."}


def test_an_import_is_one_audited_change_without_secrets(pair: TestClient) -> None:
    """The log names what was added, and no password."""
    text = "sender,next_hop,username,password\n@a.tld,mx.tld,u,second-one\n@b.tld,mx.tld,,\n"
    assert _post(pair, "routes", text).status_code == 200
    rows = pair.get("/api/v1/audit", params={"action": "route.import"})
    assert len(rows.json()) == 1
    assert rows.json()[0]["after"]["names"]["added"] == ["@a.tld", "@b.tld"]
    assert "second-one" not in rows.text


def test_a_list_above_the_limit_is_refused(pair: TestClient) -> None:
    """256 KiB for the short lists; the domains have the limit of long lists."""
    text = "network\n" + "198.51.100.0/24\n" * 20_000
    assert _post(pair, "trusted-networks", text).status_code == 413
    many = "name\n" + "".join(f"domain-number-{number}.example.com\n" for number in range(10_000))
    assert len(many) > 256 * 1024
    assert _post(pair, "recipient-domains", many).json()["added_count"] == 10_000


def test_there_is_no_other_list(pair: TestClient) -> None:
    """Nodes do not come by CSV."""
    assert pair.get(f"{LISTS}/nodes/csv").status_code == 422
