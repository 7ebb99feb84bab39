"""Sentences that are told seldom: each refusal is the right one, and nothing changes."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from sqlalchemy import delete, text
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session

from controlplane.api.agent_auth import AUDIT_EVERY_S, REMEMBERED, RefusalLog
from controlplane.api.error_handlers import install_error_handlers
from controlplane.api.tls import certificate_view
from controlplane.core.certificate import parse_chain
from controlplane.store import agents
from controlplane.store.cluster_tables import CertificateRow, ConfigFilesRow
from controlplane.store.engine import Database
from controlplane.store.instance import mark_restored
from controlplane.store.leases import ensure_lease
from controlplane.store.ownership_tables import AgentRow
from nodeagent.core.contract import NodeReport, Role
from tests.fakes.certificates import make_pair
from tests.fakes.enrolled_agent import EnrolledAgent
from tests.fakes.reports import store_report

API = "/api/v1"


def enrol(session: Session, *nodes: str) -> None:
    """Make nodes known as enrolled."""
    for node in nodes:
        session.add(AgentRow(name=node, public_key_pem="k", ssh_host_keys=[], enrolled_at=1.0))
        ensure_lease(session, node)


def report(session: Session, node: str, **values: Any) -> None:
    """Store a node's report."""
    store_report(session, node, NodeReport(**{"role": Role.STANDBY, "holds_vips": (), **values}))


def switch(client: TestClient) -> tuple[int, str]:
    """Ask for a switchover to node-b; return what is said."""
    answer = client.post(f"{API}/switchover", json={"destination": "node-b"})
    return answer.status_code, answer.json()["detail"]


def test_a_switchover_needs_two_nodes_that_report(
    pair: TestClient, sqlite_database: Database
) -> None:
    """Not enrolled, then enrolled but silent: each has a sentence of its own."""
    with sqlite_database.write() as session:
        enrol(session, "node-a")
        report(session, "node-a", role=Role.ACTIVE, holds_vips=("198.51.100.100",))
    assert switch(pair) == (409, "node-b is not enrolled.")
    with sqlite_database.write() as session:
        enrol(session, "node-b")
    assert switch(pair) == (409, "node-b has never reported.")


def test_with_two_active_nodes_the_source_is_named(
    pair: TestClient, sqlite_database: Database
) -> None:
    """Each may hold a VIP of its own."""
    body = {"address": "198.51.100.13", "cluster_mode": "slave", "vrrp_priority": 50}
    pair.put(f"{API}/nodes/node-c", json=body)
    with sqlite_database.write() as session:
        enrol(session, "node-a", "node-b", "node-c")
        report(session, "node-b")
        for node, vip in (("node-a", "198.51.100.100"), ("node-c", "198.51.100.101")):
            report(session, node, role=Role.ACTIVE, holds_vips=(vip,))
    assert switch(pair) == (409, "Name the source: node-a, node-c hold VIPs.")


def test_nobody_is_confirmed_dead_while_recovering(
    pair: TestClient, sqlite_database: Database
) -> None:
    """Who holds which lease is not known yet."""
    with sqlite_database.write() as session:
        enrol(session, "node-a")
        mark_restored(session)
    refused = pair.post(f"{API}/nodes/node-a/confirm-dead")
    assert refused.status_code == 409
    assert "the control plane is recovering" in refused.json()["detail"]


@pytest.mark.parametrize("issuer", [None, "Node A", "node-a\n"])
def test_a_token_that_names_no_node_is_refused(anonymous: TestClient, issuer: str | None) -> None:
    """However well it is signed."""
    agent = EnrolledAgent(anonymous, "node-a")
    refused = agent.post("heartbeat", {}, token=agent.token(iss=issuer))
    assert refused.status_code == 401
    assert refused.json()["detail"] == "The token names no node."


def test_a_node_that_was_struck_off_is_told_so(pair: TestClient, sqlite_database: Database) -> None:
    """Its key is good, and opens nothing any more."""
    agent = EnrolledAgent(pair, "node-a")
    with sqlite_database.write() as session:
        token = agents.issue_token(session, "node-a", "fingerprint").text
    assert agent.enrol(token).status_code == 200
    assert pair.post(f"{API}/nodes/node-a/strike").status_code == 204
    refused = agent.get("config")
    assert refused.status_code == 403
    assert refused.json()["detail"] == "node-a was struck off; it must be enrolled anew."


def test_a_version_without_files_for_a_node_is_not_served_empty(
    pair: TestClient, sqlite_database: Database
) -> None:
    """The node keeps what it has."""
    agent = EnrolledAgent(pair, "node-a")
    with sqlite_database.write() as session:
        token = agents.issue_token(session, "node-a", "fingerprint").text
    agent.enrol(token)
    pair.post(f"{API}/config/apply", json={})
    with sqlite_database.write() as session:
        session.execute(delete(ConfigFilesRow))
    refused = agent.get("config")
    assert refused.status_code == 404
    assert refused.json()["detail"] == "Config version 1 has no files for node-a."


def test_refusals_that_differ_are_all_recorded() -> None:
    """The memory that keeps repeats out of the audit log stays small."""
    log = RefusalLog()
    assert log.is_due(("node-a", "x", "why"), 0.0)
    assert not log.is_due(("node-a", "x", "why"), AUDIT_EVERY_S - 1)
    assert log.is_due(("node-a", "x", "why"), AUDIT_EVERY_S)
    assert all(log.is_due(("node-a", str(number), "why"), 100.0) for number in range(REMEMBERED))
    assert len(log._recorded) <= REMEMBERED


def test_before_the_first_start_there_is_no_certificate(
    client: TestClient, sqlite_database: Database
) -> None:
    """A database that was made by the command line alone."""
    with sqlite_database.write() as session:
        session.execute(delete(CertificateRow))
    refused = client.get(f"{API}/tls/certificate")
    assert (refused.status_code, refused.json()["detail"]) == (404, "There is no certificate yet.")


def test_a_certificate_without_alternative_names_has_none_to_show(client: TestClient) -> None:
    """Old ones have a common name only: one that is stored is shown, a new one is refused."""
    certificate, key = make_pair(has_alternatives=False)
    refused = client.put(f"{API}/tls/certificate", json={"cert_pem": certificate, "key_pem": key})
    assert refused.status_code == 422
    assert "names no host" in refused.json()["fields"]["cert_pem"]
    assert certificate_view(parse_chain(certificate), is_own=False).names == []


def test_a_form_that_is_no_text_is_refused(anonymous: TestClient) -> None:
    """Bytes that are no UTF-8, and more fields than any form of ours has."""
    own_page = {"Sec-Fetch-Site": "same-origin"}
    headers = {"Content-Type": "application/x-www-form-urlencoded", **own_page}
    for content in (b"user=\xff\xfe", b"&".join(b"f%d=1" % number for number in range(3000))):
        refused = anonymous.post("/login", content=content, headers=headers)
        assert refused.status_code == 422
        assert "This form cannot be read." in refused.text


def test_the_password_page_needs_a_session(anonymous: TestClient) -> None:
    """Without one it leads to the login, and from there back."""
    answer = anonymous.get("/password", follow_redirects=False)
    assert (answer.status_code, answer.headers["location"]) == (
        303,
        "/login?next=%2Fpassword",
    )


def broken_app() -> TestClient:
    """Give an application whose calls fail in ways that none of ours should."""
    app = FastAPI()
    install_error_handlers(app)

    @app.get("/twice")
    def twice() -> None:
        raise IntegrityError("INSERT", {}, ValueError("secret-value"))

    @app.get("/crash")
    def crash() -> None:
        raise ZeroDivisionError("secret-value")

    return TestClient(app, raise_server_exceptions=False)


def test_two_who_write_the_same_are_told_to_look_again() -> None:
    """A constraint of the database is a conflict, not a crash; the statement is not shown."""
    refused = broken_app().get("/twice")
    assert refused.status_code == 409
    assert refused.json()["detail"].startswith("Somebody changed the same thing")
    assert "secret-value" not in refused.text


def test_a_crash_shows_no_traceback() -> None:
    """One sentence that says where to look."""
    refused = broken_app().get("/crash")
    assert refused.status_code == 500
    assert refused.json()["detail"] == "An internal error; the control plane's log says more."
    assert "secret-value" not in refused.text


def test_the_log_of_changes_cannot_be_changed(app: FastAPI, client: TestClient) -> None:
    """No call writes to it but by doing something else."""
    assert set(app.openapi()["paths"][f"{API}/audit"]) == {"get"}
    for method in ("PUT", "POST", "PATCH", "DELETE"):
        assert client.request(method, f"{API}/audit").status_code == 405


def test_a_database_that_refuses_is_503(client: TestClient, sqlite_database: Database) -> None:
    """Its own words in one line, and the advice to try again."""
    with sqlite_database.write() as session:
        session.execute(text("ALTER TABLE vips RENAME TO elsewhere"))
    refused = client.get(f"{API}/vips")
    assert refused.status_code == 503
    assert refused.json()["detail"].startswith("The database refused: no such table")
