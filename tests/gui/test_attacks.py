"""Attacks on the pages as a whole: each test fails without the defence that it names.

Cross-site forms, planted sessions, foreign redirects after a login and single fields that strangers
write have their tests beside what they belong to (`test_shell`, `test_queue_page`, `test_trace`,
`test_events_and_audit`, `tests/api`). Here a crawler walks every page that a user can reach.
"""

from __future__ import annotations

import html
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest
from fastapi import FastAPI
from fastapi.routing import APIRoute
from fastapi.testclient import TestClient
from sqlmodel import Session, select

from controlplane.api.body_limit import KIB, MIB
from controlplane.api.permissions import permission_of
from controlplane.core.permissions import NEEDS, Permission, Scope, UserRole, refusal
from controlplane.gui import protection
from controlplane.gui.routers import PAGE_ROUTERS
from controlplane.store.audit import Actor
from controlplane.store.cluster_tables import CertificateRow
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import TRACE_LOCK, Database
from controlplane.store.ownership_tables import GivenKeyRow
from controlplane.store.reports import add_event
from controlplane.store.trace_intake import take_batch
from controlplane.store.user_sessions import LoginRules, issue_session
from controlplane.store.user_tables import (
    ApiTokenRow,
    RecoveryCodeRow,
    SecondFactorRow,
    UserRow,
    UserSessionRow,
)
from nodeagent.core.contract import NodeReport, Role
from nodeagent.core.queue_contract import QueuedMessage, QueueName
from tests.api.conftest import CHEAP, PASSWORD
from tests.fakes.cluster_agents import enrol_agents
from tests.fakes.people import (
    add_user,
    audited,
    bearer,
    give_second_factor,
    make_token,
    open_session,
)
from tests.fakes.postfix_queue import queue_id
from tests.fakes.private_keys import body_of, make_key
from tests.fakes.queue_node import QueueNode
from tests.fakes.reports import store_report
from tests.fakes.traces import accepted, batch, entry
from tests.gui.conftest import OWN_PAGE, post, token_of

SCRIPT: Final = "<script>alert(1)</script>"
HOSTILE: Final = f"{SCRIPT}\"onload='x'"
AWAKE: Final = re.compile(r"<script>alert|[^;]\"onload=|<img src=x")
ROUTE_PASSWORD: Final = "correct-horse-battery-9"
MOST_PAGES: Final = 400
CHANGES: Final = [
    (method, route)
    for router in PAGE_ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute)
    for method in sorted(route.methods - {"GET", "HEAD"})
]
PAGES: Final = [
    route
    for router in PAGE_ROUTERS
    for route in router.routes
    if isinstance(route, APIRoute) and "GET" in route.methods
]
VALUES: Final = {
    "name": "node-a",
    "number": "1",
    "version": "1",
    "queue_id": queue_id(1),
    "id": "0123456789abcdef",
    "action": "disable",
}
OF_EVERYBODY: Final = {Permission.NONE, Permission.PASSWORD, Permission.OWN}


def url_of(route: APIRoute) -> str:
    """Return an address of a route whose keys could be true."""
    path = route.path.replace("/mail/{name}", "/mail/routes").replace(
        "/users/{name}", "/users/admin"
    )
    return re.sub(r"\{(\w+)[^}]*\}", lambda found: VALUES.get(found[1], "x"), path)


def links_of(page: str) -> Iterator[str]:
    """Yield the addresses of ours that a page leads to."""
    for found in re.findall(r'(?:href|hx-get)="(/[^"]*)"', page):
        path = html.unescape(found)
        if not path.startswith("/static/"):
            yield path


def crawl(browser: TestClient) -> dict[str, str]:
    """Return everything that links lead to from the first page on, exports too, by address."""
    found: dict[str, str] = {}
    seen, waiting = {"/"}, ["/", "/about", "/users", "/audit"]
    while waiting and len(found) < MOST_PAGES:
        path = waiting.pop(0)
        answer = browser.get(path)
        assert answer.status_code < 500, path
        found[path] = answer.text
        if not answer.headers.get("content-type", "").startswith("text/html"):
            continue
        for link in links_of(answer.text):
            key = re.sub(r"(?<==)[^&]*", "", link)  # one list with each set of filters
            if key not in seen:
                seen.add(key)
                waiting.append(link)
    return found


def _hostile_nodes(watched: TestClient, database: Database) -> None:
    """Let a node report what strangers said to it, and what a taken-over node might."""
    node = QueueNode(enrol_agents(watched, database, "node-a")["node-a"])
    message = QueuedMessage(
        id=queue_id(1),
        queue=QueueName.DEFERRED,
        arrived_at=1.0,
        size_bytes=1,
        sender=f"1{HOSTILE}",
        recipients=(f"2{HOSTILE}",),
        recipient_count=1,
        next_hop=f"3{HOSTILE}",
        reason=f"4{HOSTILE}",
    )
    node.report(upserts=(message,))
    said = SCRIPT
    lines = [
        *accepted(queue_id(2), sender=f'"{said}"@x.test'),
        entry(2, f"smtpd[1]: {queue_id(3)}: client={said}[192.0.2.7], sasl_username={said}"),
        entry(2, f"cleanup[1]: {queue_id(3)}: message-id=<{said}@x.test>"),
        entry(
            3,
            f"smtp[1]: {queue_id(3)}: to=<{said}@y.test>, relay={said}[192.0.2.9]:25, delay=1, "
            f"delays=0/0/0/1, dsn=5.1.1, status=bounced (host said: {HOSTILE})",
        ),
        entry(
            4, f"smtpd[1]: NOQUEUE: reject: RCPT from {said}[192.0.2.66]: 554 {said}; helo=<{said}>"
        ),
    ]
    with database.write(TRACE_LOCK) as session:
        take_batch(session, "node-a", batch(lines))
    with database.write() as session:
        report = NodeReport(
            role=Role.STANDBY,
            rule=HOSTILE,
            agent_version=HOSTILE,
            freezer=HOSTILE,
            config_failed_version=1,
            config_error=HOSTILE,
        )
        store_report(session, "node-a", report)
        add_event(session, "fenced", HOSTILE, node="node-a", data={HOSTILE: HOSTILE})


@pytest.fixture
def attacked(watched: TestClient, sqlite_database: Database) -> TestClient:
    """Give an Admin's browser after everybody who can write something has written markup."""
    _hostile_nodes(watched, sqlite_database)
    reply = {"action": "blocked", "reply_text": HOSTILE}
    assert watched.put("/api/v1/sender-policies/x.test", json=reply).status_code == 201
    watched.post("/api/v1/config/apply", json={"reason": HOSTILE})
    add_user(sqlite_database, "olga", UserRole.OPERATOR, PASSWORD, CHEAP)
    for name in ("olga", "admin"):
        with sqlite_database.write() as session:
            user = session.get_one(UserRow, name)
            issue_session(session, user, Actor(name, "192.0.2.1", HOSTILE), CHEAP)
    body = {"current_password": PASSWORD, "name": HOSTILE, "scope": "read"}
    assert watched.post("/api/v1/profile/tokens", json=body).status_code == 201
    watched.post("/api/v1/session", json={"user": HOSTILE[:60], "password": "x"})
    del watched.headers["Authorization"]
    return watched


def test_nothing_that_anybody_wrote_becomes_markup(attacked: TestClient) -> None:
    """On any page; without escaping in templates each of these places would run it."""
    pages = {path: text for path, text in crawl(attacked).items() if "<html" in text}
    shown = {
        path.partition("?")[0]
        for path, text in pages.items()
        if html.escape("<script>alert") in text
    }
    expected = {"/", "/queue", "/trace", "/events", "/audit", "/system", "/configuration"}
    expected |= {"/users/olga", "/profile", "/profile/tokens", "/mail/sender-policies"}
    assert expected <= shown, "the crawler must reach what was written"
    assert {path for path, text in pages.items() if AWAKE.search(text)} == set()


def test_no_secret_comes_back(
    attacked: TestClient, sqlite_database: Database, app: FastAPI, rules: LoginRules
) -> None:
    """By no page, no export and no call that reads: passwords, keys, hashes, codes, tokens."""
    route = {"next_hop": "mx.test", "username": "relay-user", "password": ROUTE_PASSWORD}
    admin = bearer(attacked.cookies["relay_session"])
    assert attacked.put("/api/v1/routes/@x.test", json=route, headers=admin).status_code == 201
    given = attacked.put(
        "/api/v1/ssh/node-a/key", json={"private_key": make_key()[0]}, headers=admin
    )
    assert given.status_code == 200, given.text
    factor, codes = give_second_factor(sqlite_database, "olga", rules)
    token = make_token(sqlite_database, "olga", Scope.READ)
    enrolment = attacked.post("/api/v1/nodes/node-b/enrolment-token", headers=admin).json()["token"]
    secrets = {ROUTE_PASSWORD, factor, *codes, token, enrolment, attacked.cookies["relay_session"]}
    secrets |= _stored_secrets(sqlite_database, app.state.secret_box)
    answers = crawl(attacked)
    for path, methods in app.openapi()["paths"].items():
        if "get" in methods and not path.startswith("/api/v1/agent"):
            filled = re.sub(r"\{(\w+)\}", lambda found: VALUES.get(found[1], "x"), path)
            answers[filled] = attacked.get(filled).text
    assert "relay-user" in "".join(answers.values()), "the route itself must be shown"
    leaks = {(path, one[:12]) for path, text in answers.items() for one in secrets if one in text}
    assert leaks == set()


def _stored_secrets(database: Database, box: SecretBox) -> set[str]:
    """Return every hash and sealed value, and the private keys of Postfix and of a node."""
    with database.read() as session:
        found = {row.password_hash for row in _all(session, UserRow)}
        found |= {row.token_sha256 for row in _all(session, UserSessionRow)}
        found |= {row.token_sha256 for row in _all(session, ApiTokenRow)}
        found |= {row.code_sha256 for row in _all(session, RecoveryCodeRow)}
        found |= {row.secret_sealed for row in _all(session, SecondFactorRow)}
        for certificate in _all(session, CertificateRow):
            found |= {certificate.key_sealed, box.open(certificate.key_sealed).splitlines()[1]}
        for given in _all(session, GivenKeyRow):
            found |= {given.private_sealed, *body_of(box.open(given.private_sealed))}
    assert len(found) > 15
    return found


def _all(session: Session, table: Any) -> Any:
    return session.exec(select(table)).all()


def _as(watched: TestClient, database: Database, role: UserRole) -> TestClient:
    """Give the browser of a user with this role."""
    add_user(database, "mallory", role, PASSWORD, CHEAP)
    watched.headers.pop("Authorization", None)
    _take_cookie(watched, open_session(database, "mallory", CHEAP))
    return watched


def _take_cookie(browser: TestClient, token: str) -> None:
    browser.cookies.clear()
    browser.cookies.set("relay_session", token)


@pytest.mark.parametrize("role", [UserRole.READ_ONLY, UserRole.OPERATOR])
def test_no_page_gives_a_role_more_than_it_has(
    watched: TestClient, sqlite_database: Database, role: UserRole
) -> None:
    """Every page and every form of every page, with a true form token, beyond the role: 403."""
    theirs = _as(watched, sqlite_database, role)
    data = {"csrf_token": token_of(theirs), "role": "Admin", "name": "mallory"}
    before = [row for row in audited(sqlite_database) if row[1] != "access.refused"]
    forbidden = 0
    for method, route in [("GET", route) for route in PAGES] + CHANGES:
        permission = permission_of(route)
        if permission is Permission.NONE or refusal(permission, role, None) is None:
            continue
        sent = {} if method == "GET" else {"data": data, "headers": OWN_PAGE}
        answer = theirs.request(method, url_of(route), follow_redirects=False, **sent)
        assert answer.status_code == 403, (method, route.path)
        forbidden += 1
    assert forbidden > 8
    assert [row for row in audited(sqlite_database) if row[1] != "access.refused"] == before


def test_what_changes_something_needs_more_than_looking() -> None:
    """Who may only look may change nothing but what is their own."""
    open_to_all = {
        (method, route.path)
        for method, route in CHANGES
        if NEEDS.get(permission_of(route), NEEDS[Permission.READ]).role is UserRole.READ_ONLY
    }
    own = {path for _method, path in open_to_all if path.startswith("/profile")}
    assert open_to_all - {("POST", path) for path in own} == {
        ("POST", "/login"),
        ("POST", "/logout"),
        ("POST", "/password"),
        ("POST", "/preferences"),
    }
    kinds = {permission_of(route) for _, route in CHANGES if (_, route.path) in open_to_all}
    assert kinds <= OF_EVERYBODY


@pytest.mark.parametrize(
    "target",
    ["https://evil.test/", "//evil.test", "/\\evil.test", "/%0d%0aX: y\r\nSet-Cookie: a=b"],
)
@pytest.mark.parametrize("headers", [{}, {"HX-Request": "true"}])
def test_no_form_leads_elsewhere(browser: TestClient, target: str, headers: dict[str, str]) -> None:
    """Neither a browser nor HTMX follows a `next` of somebody else's; nor does the login page."""
    data = {"csrf_token": token_of(browser), "theme": "dark", "next": target}
    sent = {**OWN_PAGE, **headers}
    answer = browser.post("/preferences", data=data, headers=sent, follow_redirects=False)
    where = answer.headers.get("location") or answer.headers["hx-redirect"]
    assert where.startswith("/")
    assert "evil" not in where
    assert "set-cookie: a=b" not in str(answer.headers).lower()
    signed_in = browser.get("/login", params={"next": target}, follow_redirects=False)
    assert "evil" not in signed_in.headers["location"]


def test_a_session_that_an_admin_ended_is_worth_nothing(
    browser: TestClient, sqlite_database: Database
) -> None:
    """A leaked cookie opens no page, sends no form and follows nothing from then on."""
    add_user(sqlite_database, "olga", UserRole.ADMIN, PASSWORD, CHEAP)
    leaked = open_session(sqlite_database, "olga", CHEAP)
    own = browser.cookies["relay_session"]
    _take_cookie(browser, leaked)
    stolen = token_of(browser)
    assert browser.get("/users").status_code == 200
    _take_cookie(browser, own)
    assert post(browser, "/users/olga/end-sessions").status_code == 303
    _take_cookie(browser, leaked)
    for path in ("/", "/users", "/overview/live"):
        answer = browser.get(path, headers={"HX-Request": "true"}, follow_redirects=False)
        assert answer.status_code == 401, path
    data = {"csrf_token": stolen, "name": "eve", "role": "Admin"}
    answer = browser.post("/users", data=data, headers=OWN_PAGE, follow_redirects=False)
    assert (answer.status_code, answer.headers["location"][:6]) == (303, "/login")
    with sqlite_database.read() as session:
        assert session.get(UserRow, "eve") is None


IMPORT = "/mail/recipient-domains/import"


@pytest.mark.parametrize("name", ["../../etc/cron.d/x", "..\\..\\x", "/etc/passwd", "x\x00.csv"])
def test_an_uploaded_file_has_no_name_here(browser: TestClient, name: str) -> None:
    """Files come as the text of a field: one that is uploaded is not read, whatever its name."""
    headers = {**OWN_PAGE, protection.TOKEN_HEADER: token_of(browser)}
    for path in (IMPORT, f"{IMPORT}/preview", "/configuration/import"):
        files = {"csv": (name, b"name\nexample.com\n", "text/csv")}
        answer = browser.post(path, files=files, headers=headers, follow_redirects=False)
        assert answer.status_code < 500, path
        assert "example.com" not in answer.text
    domains = browser.get("/api/v1/recipient-domains").json()
    assert domains["total"] == 0


@pytest.mark.parametrize("name", ["../node-a", "node-a/../../etc", "..", "node%2fa", "node\n-a"])
def test_no_name_of_an_import_becomes_a_path(pair: TestClient, name: str) -> None:
    """Names of nodes become names of files and hosts: what is none is refused, all of it."""
    exported = pair.get("/api/v1/state").json()
    assert pair.post("/api/v1/state", json={"state": exported}).status_code == 200
    exported["lists"]["nodes"][1]["name"] = name
    assert pair.post("/api/v1/state", json={"state": exported}).status_code == 422
    assert [one["node"]["name"] for one in pair.get("/api/v1/nodes").json()] == ["node-a", "node-b"]


@pytest.mark.parametrize(
    ("path", "length"),
    [(IMPORT, 65 * MIB), ("/configuration/import", 65 * MIB), ("/users", 257 * KIB)],
)
def test_an_upload_that_is_too_large_is_not_read(
    browser: TestClient, path: str, length: int
) -> None:
    """Also of somebody who is signed in: refused by its declared length, as a page."""
    headers = {
        **OWN_PAGE,
        protection.TOKEN_HEADER: token_of(browser),
        "Content-Length": str(length),
        "Content-Type": protection.FORM_TYPE,
    }
    answer = browser.post(path, content=b"csv=x", headers=headers, follow_redirects=False)
    assert answer.status_code == 413
    assert "the most that this call takes" in answer.text
