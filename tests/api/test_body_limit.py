"""Bodies that are too large: refused with one sentence, declared or chunked, before they are read.

The calls that carry lists take what a large installation needs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from itertools import product
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from sqlalchemy import text

from controlplane.api.body_limit import (
    KIB,
    LIST_CALLS,
    MIB,
    POLICY_PAGE_FILES,
    USUAL_BYTES,
    larger_limits,
)
from controlplane.api.permissions import permission_of
from controlplane.api.routers import ROUTERS
from controlplane.core.permissions import Permission
from controlplane.store.engine import Database
from nodeagent.core import contract as wire
from nodeagent.core.agent_api import AGENT_API
from tests.api.conftest import CHEAP
from tests.fakes.people import audited, open_session

VIP = "/api/v1/vips/198.51.100.100"
JSON = {"Content-Type": "application/json"}
USUAL = "The request's body is larger than 256 KiB, the most that this call takes."


def padded(size_bytes: int) -> bytes:
    """Return a valid VIP of exactly that many bytes."""
    return b'{"virtual_router_id": 51}'.ljust(size_bytes)


def in_chunks(content: bytes, chunk_bytes: int = 64 * KIB) -> Iterator[bytes]:
    """Give a body without saying how long it is."""
    for start in range(0, len(content), chunk_bytes):
        yield content[start : start + chunk_bytes]


@pytest.mark.parametrize("is_chunked", [False, True])
def test_a_body_may_fill_the_limit_and_not_a_byte_more(
    client: TestClient, *, is_chunked: bool
) -> None:
    """The sentence is the API's, whether the length was declared or not; nothing changes."""
    large = padded(USUAL_BYTES + 1)
    refused = client.put(VIP, content=in_chunks(large) if is_chunked else large, headers=JSON)
    assert (refused.status_code, refused.json()) == (413, {"detail": USUAL, "fields": {}})
    assert client.get("/api/v1/vips").json() == []
    exact = padded(USUAL_BYTES)
    taken = client.put(VIP, content=in_chunks(exact) if is_chunked else exact, headers=JSON)
    assert taken.status_code == 201, taken.text


def test_the_length_is_judged_before_the_endpoint_is_entered(pair: TestClient) -> None:
    """A call that reads no body does not run either: the refusal says what happened."""
    refused = pair.request("DELETE", VIP, content=padded(USUAL_BYTES + 1))
    assert refused.status_code == 413
    assert pair.get(VIP).status_code == 200


def test_a_stranger_is_refused_before_the_login(anonymous: TestClient) -> None:
    """Whoever sends too much need not be known for the refusal."""
    assert anonymous.put(VIP, content=padded(USUAL_BYTES + 1)).status_code == 413


@pytest.mark.parametrize("is_chunked", [False, True])
@pytest.mark.parametrize("path", LIST_CALLS)
def test_a_stranger_fills_no_memory_with_a_list(
    anonymous: TestClient, path: str, *, is_chunked: bool
) -> None:
    """The larger limit is for those who proved who they are, and is judged before reading."""
    large = b"x" * (USUAL_BYTES + 1)
    own_page = {"Sec-Fetch-Site": "same-origin"}
    content = in_chunks(large) if is_chunked else large
    answer = anonymous.post(path, content=content, headers=own_page, follow_redirects=False)
    if path.startswith("/api/"):
        assert answer.status_code == 401
        assert answer.json()["detail"]
    else:
        assert (answer.status_code, answer.headers["location"]) == (303, "/login")


@pytest.mark.parametrize("header", ["Bearer nonsense", "Basic eDp5", "Bearer "])
def test_a_made_up_token_does_not_help(anonymous: TestClient, header: str) -> None:
    """Neither a user's call nor an agent's reads more for it."""
    for path in ("/api/v1/recipient-domains", AGENT_API["receipt"]):
        large = b"x" * (USUAL_BYTES + 1)
        answer = anonymous.post(path, content=large, headers={"Authorization": header})
        assert answer.status_code == 401, path


FORM = "application/x-www-form-urlencoded"
LARGE_CALLS = [path for path in larger_limits(MIB) if path not in AGENT_API.values()]
LENGTHS = ({"transfer-encoding": "chunked"}, {"content-length": str(MIB // 3)})


def send_endless(app: FastAPI, path: str, token: str, more: dict[str, str]) -> tuple[int, int]:
    """Send chunks, by cookie from an own page, up to 8 MiB; return status and bytes read."""
    method = "PUT" if path == "/api/v1/tls/certificate" else "POST"
    query = b"listing=block" if path.startswith("/policy/lists") else b""
    headers = {"cookie": f"relay_session={token}", "sec-fetch-site": "same-origin", **more}
    read_bytes, statuses = 0, []

    async def receive() -> dict[str, Any]:
        nonlocal read_bytes
        read_bytes += 64 * KIB
        has_more = read_bytes < 8 * MIB
        return {"type": "http.request", "body": b"x" * 64 * KIB, "more_body": has_more}

    async def send(message: Any) -> None:
        if message["type"] == "http.response.start":
            statuses.append(message["status"])

    scope = {
        "type": "http",
        "method": method,
        "scheme": "https",
        "http_version": "1.1",
        "path": path,
        "raw_path": path.encode(),
        "root_path": "",
        "query_string": query,
        "client": ("198.51.100.40", 1),
        "server": ("relay.test", 443),
        "headers": [(name.lower().encode(), text.encode()) for name, text in headers.items()],
    }
    asyncio.run(app(scope, receive, send))
    return statuses[0], read_bytes


@pytest.mark.parametrize("path", LARGE_CALLS)
def test_who_may_not_make_a_call_fills_no_memory_either(
    app: FastAPI, team: TestClient, sqlite_database: Database, path: str
) -> None:
    """A ReadOnly user, whatever the body claims to be: refused and audited, and no byte is read."""
    del team
    token = open_session(sqlite_database, "rita", CHEAP)
    for kind, length in product((FORM, "application/json", "text/csv"), LENGTHS):
        headers = {"content-type": kind, **length}
        assert send_endless(app, path, token, headers) == (403, 0), headers
    assert ("rita", "access.refused", "rita") in audited(sqlite_database)


@pytest.mark.parametrize("path", POLICY_PAGE_FILES)
def test_where_a_page_sends_a_file_no_form_is_read(
    app: FastAPI, team: TestClient, sqlite_database: Database, path: str
) -> None:
    """Of nobody: the form's token stands in a header there."""
    del team
    token = open_session(sqlite_database, "olga", CHEAP)
    assert send_endless(app, path, token, {"content-type": FORM, **LENGTHS[0]}) == (403, 0)


def test_who_may_make_a_call_is_read(
    app: FastAPI, team: TestClient, sqlite_database: Database
) -> None:
    """Up to the call's limit, however the body comes."""
    del team
    token = open_session(sqlite_database, "olga", CHEAP)
    path = "/api/v1/mail-security/blocklist/import"
    assert send_endless(app, path, token, {"content-type": "text/csv", **LENGTHS[0]}) == (
        422,
        8 * MIB,
    )


def test_a_larger_limit_is_for_nobody_unknown() -> None:
    """Each call that has one needs a permission that somebody has to show."""
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    for path in larger_limits(MIB):
        needs = {permission_of(one) for one in routes if one.path_regex.match(path)}
        assert Permission.NONE not in needs, path


def test_while_the_database_does_not_answer_nobody_is_a_stranger(
    client: TestClient, sqlite_database: Database
) -> None:
    """A node that is refused gives up; one that hears 503 comes again."""
    with sqlite_database.write() as session:
        session.execute(text("ALTER TABLE users RENAME TO elsewhere"))
    large = b"x" * (USUAL_BYTES + 1)
    assert client.post("/api/v1/recipient-domains", content=large).status_code == 503


def test_a_form_is_limited_too(anonymous: TestClient) -> None:
    """The pages read their forms themselves, below the same limit."""
    form = "user=admin&password=" + "x" * USUAL_BYTES
    own_page = {"Sec-Fetch-Site": "same-origin"}
    headers = {"Content-Type": "application/x-www-form-urlencoded", **own_page}
    assert anonymous.post("/login", content=form, headers=headers).status_code == 413
    chunked = in_chunks(form.encode())
    assert anonymous.post("/login", content=chunked, headers=headers).status_code == 413


def test_lists_have_room(client: TestClient) -> None:
    """100,000 domains go in one call; a single VIP of that size does not."""
    names = [f"domain-{number}.example.com" for number in range(100_000)]
    answer = client.put("/api/v1/recipient-domains", json={"domains": names})
    assert (answer.status_code, answer.json()["added"]) == (200, 100_000)


def test_a_receipt_of_a_million_messages_fits() -> None:
    """No adoption may fail because its list is long: the longest ids, a million of them."""
    one = "B" * 16 + "z" + "B" * 16
    request = wire.ReceiptRequest(queue="node-a", generation=1, ids=(one,) * 1000)
    assert len(request.model_dump_json()) * 1000 < larger_limits(64 * MIB)[AGENT_API["receipt"]]


def test_a_full_heartbeat_fits() -> None:
    """200 events of the longest text that there is, four bytes a character."""
    event = wire.EventReport(
        id="x" * 36,
        at="2026-01-01T00:00:00Z",  # type: ignore[arg-type]
        kind="k" * 64,
        text="\U0001f4e8" * 2000,
    )
    report = wire.NodeReport(role=wire.Role.ACTIVE)
    request = wire.HeartbeatRequest(report=report, events=(event,) * 200)
    assert len(request.model_dump_json().encode()) < larger_limits(MIB)[AGENT_API["heartbeat"]]


def test_every_larger_limit_belongs_to_a_call() -> None:
    """A renamed path would fall back to the usual limit without a word."""
    routes = [route for router in ROUTERS for route in router.routes if isinstance(route, APIRoute)]
    nowhere = {
        path
        for path in larger_limits(MIB)
        if not any(route.path_regex.match(path) for route in routes)
    }
    assert nowhere == set()


def test_the_document_names_the_refusal(app: FastAPI) -> None:
    """Every operation says 413, and the introduction says how much is too much."""
    document = app.openapi()
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            assert "413" in operation["responses"], f"{method} {path}"
    assert "RELAY_MAX_LIST_MIB" in document["info"]["description"]
