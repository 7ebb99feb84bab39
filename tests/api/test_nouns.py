"""The lists of the cluster: created, replaced, listed, removed, refused, audited."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from controlplane.store.engine import Database
from tests.api.conftest import NODE_A, NODE_B

API = "/api/v1"
ROUTE = {"next_hop": "smtp.example.net", "port": 587, "username": "me", "password": "s3cret-word"}
VALID = [
    ("nodes/node-a", NODE_A),
    ("vips/198.51.100.100", {"virtual_router_id": 51}),
    ("recipient-domains/example.com", {"next_hop": "mail.example.com"}),
    ("sender-policies/blocked-domain.tld", {"action": "blocked", "reply_text": "Not here"}),
    ("routes/@example.org", ROUTE),
    ("trusted-networks/198.51.100.0/24", {}),
]


def _revision(client: TestClient) -> int:
    return int(client.get(f"{API}/cluster").json()["revision"])


def _last_audit(client: TestClient) -> dict[str, Any]:
    return dict(client.get(f"{API}/audit", params={"limit": 1}).json()[0])


@pytest.mark.parametrize(("path", "body"), VALID)
def test_put_creates_then_replaces(client: TestClient, path: str, body: dict[str, Any]) -> None:
    """The first PUT answers 201, the same again 200, and both are audited with who did it."""
    assert client.put(f"{API}/{path}", json=body).status_code == 201
    created = _last_audit(client)
    assert created["action"].endswith(".create")
    assert (created["actor"], created["before"]) == ("admin", None)
    assert client.put(f"{API}/{path}", json=body).status_code == 200
    updated = _last_audit(client)
    assert updated["action"].endswith(".update")
    assert updated["before"] == updated["after"] == created["after"]


@pytest.mark.parametrize(("path", "body"), VALID)
def test_delete_removes_once(client: TestClient, path: str, body: dict[str, Any]) -> None:
    """The second DELETE finds nothing, and says what there is not."""
    client.put(f"{API}/{path}", json=body)
    assert client.delete(f"{API}/{path}").status_code == 204
    assert _last_audit(client)["after"] is None
    again = client.delete(f"{API}/{path}")
    assert again.status_code == 404
    assert again.json()["detail"].startswith("There is no ")


@pytest.mark.parametrize(("path", "body"), VALID)
def test_what_was_put_is_listed(client: TestClient, path: str, body: dict[str, Any]) -> None:
    """The list holds the item, and a change of it shows."""
    client.put(f"{API}/{path}", json=body)
    noun, _, key = path.partition("/")
    listed = client.get(f"{API}/{noun}").json()
    items = listed["items"] if isinstance(listed, dict) else listed
    assert len(items) == 1
    assert key in str(items[0])


@pytest.mark.parametrize(("path", "body"), VALID)
def test_every_call_needs_a_session(anonymous: TestClient, path: str, body: dict[str, Any]) -> None:
    """Nobody reads or changes anything without logging in."""
    url = f"{API}/{path}"
    assert anonymous.put(url, json=body).status_code == 401
    assert anonymous.delete(url).status_code == 401
    assert anonymous.get(f"{API}/{path.partition('/')[0]}").status_code == 401


@pytest.mark.parametrize(
    ("path", "body", "field", "words"),
    [
        ("nodes/node-c", {**NODE_A, "address": "198.51.100.300"}, "address", "IP address"),
        ("nodes/node-c", {**NODE_A, "address": "0.0.0.0"}, "address", "reached"),
        ("nodes/node-c", {**NODE_A, "address": "198.51.100.11"}, "address", "already used"),
        ("nodes/node-c", {**NODE_B, "address": "198.51.100.13"}, "vrrp_priority", "same vrrp"),
        ("nodes/node-c", {**NODE_B, "vrrp_priority": 255}, "vrrp_priority", "between 1 and 254"),
        ("nodes/node-c", {**NODE_B, "ssh_port": 70000}, "ssh_port", "between 1 and 65535"),
        ("nodes/node-c", {**NODE_B, "interface": "eth0\nfoo"}, "interface", "line breaks"),
        ("nodes/node-c", {**NODE_B, "ssh_user": "ro ot"}, "ssh_user", "user name"),
        ("vips/192.0.2.1", {"virtual_router_id": 52}, "address", "outside the network"),
        ("vips/198.51.100.11", {"virtual_router_id": 52}, "address", "already used"),
        ("vips/198.51.100.101", {"virtual_router_id": 51}, "virtual_router_id", "already used"),
        ("vips/198.51.100.101", {"virtual_router_id": 256}, "virtual_router_id", "1 and 255"),
        ("vips/nonsense", {"virtual_router_id": 52}, "address", "IP address"),
        ("recipient-domains/exam ple.com", {}, "name", "space"),
        ("recipient-domains/example", {}, "name", "no dot"),
        ("recipient-domains/e.com", {"next_hop": "a b"}, "next_hop", "host name"),
        ("recipient-domains/e.com", {"next_hop": "h.tld", "port": 70000}, "port", "65535"),
        ("recipient-domains/e.com", {"next_hop": "h.tld\nx"}, "next_hop", "line breaks"),
        ("sender-policies/a b.tld", {"action": "blocked"}, "domain", "space"),
        (
            "sender-policies/b.tld",
            {"action": "blocked", "reply_text": "no\r\n250 ok"},
            "reply_text",
            "line breaks",
        ),
        ("routes/nobody", {"next_hop": "h.tld"}, "sender", "@"),
        ("routes/@e.com", {"next_hop": "h.tld", "port": 0}, "port", "65535"),
        ("routes/@e.com", {"next_hop": "h.tld", "username": "u"}, "password", "needs a password"),
        (
            "routes/@e.com",
            {"next_hop": "h.tld", "username": "u", "password": "p\nq"},
            "password",
            "line breaks",
        ),
        ("trusted-networks/198.51.100.1/24", {}, "network", "host bits"),
        ("trusted-networks/0.0.0.0/0", {}, "network", "open relay"),
    ],
)
def test_a_bad_value_is_refused_at_its_field(
    pair: TestClient, path: str, body: dict[str, Any], field: str, words: str
) -> None:
    """The answer is 422 with one sentence at the field at fault, and nothing changes."""
    before = _revision(pair)
    answer = pair.put(f"{API}/{path}", json=body)
    assert answer.status_code == 422, answer.text
    assert words in answer.json()["fields"][field]
    assert answer.json()["fields"][field].endswith(".")
    assert _revision(pair) == before


@pytest.mark.parametrize(
    "path",
    ["vips/x%0Ay", "recipient-domains/a%00b.tld", "routes/%1b@e.com", "nodes/Not_A_Name"],
)
def test_a_key_with_control_characters_is_refused(client: TestClient, path: str) -> None:
    """A key that could break a line never reaches the database, for reading or writing."""
    assert client.get(f"{API}/{path}").status_code == 422
    assert client.delete(f"{API}/{path}").status_code == 422


def test_unknown_fields_are_refused(client: TestClient) -> None:
    """A misspelt field is an error, not silence."""
    body = {"virtual_router_id": 51, "virtual_routerid": 52}
    answer = client.put(f"{API}/vips/198.51.100.100", json=body)
    assert answer.status_code == 422
    assert "virtual_routerid" in answer.json()["fields"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("recipient-domains/Example.COM", "recipient-domains/example.com"),
        ("recipient-domains/bücher.example", "recipient-domains/xn--bcher-kva.example"),
        ("sender-policies/B.tld", "sender-policies/b.TLD"),
        ("routes/Me@Example.org", "routes/me@example.org"),
        ("vips/2001:DB8:0::1", "vips/2001:db8::1"),
    ],
)
def test_one_thing_in_two_spellings_is_one_item(
    client: TestClient, first: str, second: str
) -> None:
    """Capitals, Unicode and long forms of addresses make no second entry."""
    bodies = {
        "sender-policies": {"action": "allowed"},
        "routes": {"next_hop": "h.tld"},
        "vips": {"virtual_router_id": 9},
    }
    body = bodies.get(first.partition("/")[0], {})
    assert client.put(f"{API}/{first}", json=body).status_code == 201
    assert client.put(f"{API}/{second}", json=body).status_code == 200
    assert client.get(f"{API}/{first}").status_code == 200


def test_a_second_problem_does_not_hide_behind_an_old_one(
    pair: TestClient, sqlite_database: Database
) -> None:
    """What was wrong before keeps nobody from changing something else."""
    with sqlite_database.write() as session:
        session.execute(text("UPDATE nodes SET ssh_port = 0 WHERE name = 'node-b'"))
    assert pair.put(f"{API}/recipient-domains/e.com", json={}).status_code == 201
    bad = {**NODE_A, "ssh_port": 0}
    assert pair.put(f"{API}/nodes/node-a", json=bad).status_code == 422


def test_moving_a_node_away_from_its_vip_names_the_vip(pair: TestClient) -> None:
    """A change of one noun that breaks another is refused at that other's field."""
    answer = pair.put(f"{API}/nodes/node-a", json={**NODE_A, "address": "192.0.2.11"})
    assert answer.status_code == 422
    assert "outside the network" in answer.json()["fields"]["vips.198.51.100.100.address"]


def test_a_route_never_shows_its_password(client: TestClient, sqlite_database: Database) -> None:
    """It is in no answer, not in the audit log, and not readable in the database."""
    client.put(f"{API}/routes/@example.org", json=ROUTE)
    shown = client.get(f"{API}/routes/@example.org").json()
    assert shown["has_password"] is True
    assert "password" not in shown
    texts = [client.get(f"{API}/{path}").text for path in ("routes", "audit")]
    with sqlite_database.read() as session:
        texts.append(str(session.execute(text("SELECT * FROM routes")).all()))
        texts.append(str(session.execute(text("SELECT * FROM audit")).all()))
    assert not [one for one in texts if "s3cret-word" in one]
    assert "(secret)" in texts[1]


def test_a_password_left_out_stays_and_null_removes_it(client: TestClient) -> None:
    """An edit of the port does not lose the credentials."""
    url = f"{API}/routes/@example.org"
    client.put(url, json=ROUTE)
    kept = {name: value for name, value in ROUTE.items() if name != "password"}
    assert client.put(url, json={**kept, "port": 465}).json()["has_password"] is True
    gone = {"next_hop": "h.tld", "password": None}
    assert client.put(url, json=gone).json()["has_password"] is False


def test_nodes_show_what_is_known_of_them(pair: TestClient) -> None:
    """A node that never enrolled has no report, no key and no version."""
    views = pair.get(f"{API}/nodes").json()
    assert [view["node"]["name"] for view in views] == ["node-a", "node-b"]
    status = views[0]["status"]
    assert (status["is_enrolled"], status["report"], status["last_seen_s"]) == (False, None, None)
    assert pair.get(f"{API}/nodes/node-b").json()["node"]["vrrp_priority"] == 100
    assert pair.get(f"{API}/nodes/node-z").status_code == 404
