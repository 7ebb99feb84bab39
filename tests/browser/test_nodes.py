"""Nodes, switchover, cluster and certificate in a real browser, by clicks, each watched live."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from playwright.sync_api import Page, expect
from sqlalchemy import delete
from sqlmodel import col

from controlplane.store.facts import StoredFacts
from controlplane.store.leases import ensure_lease
from controlplane.store.nouns import VIPS
from controlplane.store.ownership import Ownership
from controlplane.store.ownership_tables import AgentRow, LeaseRow, NodeReportRow
from nodeagent.core import contract as wire
from nodeagent.core.contract import NodeReport, Role
from tests.browser.checks import violations
from tests.browser.conftest import VIP, Cluster, OpenPage
from tests.fakes.certificates import make_chain, make_pair

AGENT = [sys.executable, "-c", "from nodeagent.cli import main; main()"]
ID = "4bXXXX1234zXX1"


@pytest.fixture
def calls(cluster: Cluster) -> Iterator[Ownership]:
    """Give the agents' side of a pair that is enrolled; afterwards it is not."""
    cluster.add_pair()
    calls = Ownership(cluster.database, StoredFacts(cluster.store.box))
    with cluster.database.write() as session:
        for name in ("node-a", "node-b"):
            session.add(AgentRow(name=name, public_key_pem="k", ssh_host_keys=[], enrolled_at=1.0))
            ensure_lease(session, name)
    for name in ("node-a", "node-b"):
        calls.reconcile(name, wire.ReconcileRequest())
    yield calls
    with cluster.database.write() as session:
        for table in (AgentRow, LeaseRow):
            session.execute(delete(table))
    cluster.add_pair()


def _connected(page: Page) -> None:
    expect(page.locator("[data-live-state=connected]")).to_be_visible()
    page.evaluate("window.isTheSame = true")


def test_a_node_is_added_enrolled_and_removed_by_clicks(
    open_page: OpenPage, cluster: Cluster, tmp_path: Path
) -> None:
    """The command of the page is run as it was copied; the page shows that it has worked."""
    page = open_page("/nodes")
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("link", name="Add a node").click()
    page.get_by_label("Name", exact=True).fill("node-c")
    page.get_by_label("Address").fill("198.51.100.13")
    page.get_by_role("button", name="Add the node").click()
    page.get_by_role("button", name="Make an enrolment token").click()
    expect(page.locator("#enrol-command")).to_be_visible()
    _connected(page)
    assert violations(page) == []
    enrolment = page.locator("#enrolment")
    expect(enrolment).to_contain_text("waits for its token to be used")
    page.get_by_role("button", name="Copy").click()
    expect(page.get_by_text("Copied.")).to_be_visible()
    copied = page.evaluate("navigator.clipboard.readText()")
    assert copied == page.locator("#enrol-command").inner_text()
    enrol = shlex.split(copied.partition(" && ")[0])[1:]
    environment = os.environ | {"RELAY_AGENT_STATE_DIRECTORY": str(tmp_path)}
    done = subprocess.run(
        [*AGENT, *enrol], env=environment, capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    expect(enrolment).not_to_contain_text("waits for its token")
    expect(enrolment).to_contain_text("No report yet")
    cluster.report("node-c", agent_version="0.1.0")
    expect(page.locator("#role")).to_contain_text("STANDBY")
    assert page.evaluate("window.isTheSame") is True
    page.goto("/nodes")
    expect(page.locator("#node-node-c")).to_contain_text("0.1.0")
    page.get_by_role("link", name="node-c").click()
    page.get_by_role("link", name="Remove", exact=True).click()
    expect(page.get_by_text("Postfix and keepalived on the host keep")).to_be_visible()
    assert violations(page) == []
    page.get_by_label("Leave its queue behind").check()
    page.get_by_role("button", name="Remove node-c").click()
    expect(page.get_by_text("node-c is removed and its key is revoked.")).to_be_visible()
    expect(page.locator("#node-node-c")).to_have_count(0)
    with cluster.database.write() as session:
        for table, key in ((AgentRow, AgentRow.name), (LeaseRow, LeaseRow.queue)):
            session.execute(delete(table).where(col(key) == "node-c"))
        session.execute(delete(NodeReportRow).where(col(NodeReportRow.node) == "node-c"))


def test_a_switchover_is_watched_step_by_step(
    open_page: OpenPage, cluster: Cluster, calls: Ownership
) -> None:
    """Asked for by a click; every step appears while it happens, without reloading."""
    page = open_page("/")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("link", name="Switch over").click()
    page.get_by_label("Destination").select_option("node-b")
    page.get_by_role("button", name="Switch over").click()
    expect(page.locator("#step-asked")).to_be_visible()
    _connected(page)

    def expect_steps(states: str) -> None:
        for name, state in zip(
            ("asked", "pushed", "granted", "adopted", "moved"), states.split(), strict=True
        ):
            expect(page.locator(f"#step-{name}")).to_have_attribute("data-state", state)

    expect_steps("done running waiting waiting waiting")
    assert violations(page) == []
    report = NodeReport(role=Role.STANDBY, holds_vips=())
    beat = wire.HeartbeatRequest(report=report)
    lease = next(
        one for one in calls.heartbeat("node-a", beat).view.leases if one.queue == "node-a"
    )
    grant = wire.LeaseRequest(queue="node-a", generation=lease.generation, to="node-b")
    assert calls.grant("node-a", grant).lease is not None
    expect_steps("done done done running running")
    cluster.report("node-b", role=Role.ACTIVE, holds_vips=(VIP,))
    expect_steps("done done done running done")
    taken = calls.acquire("node-b", wire.LeaseRequest(queue="node-a")).lease
    assert taken is not None
    receipt = wire.ReceiptRequest(queue="node-a", generation=taken.generation, ids=(ID,))
    calls.commit_receipt("node-b", receipt)
    expect(page.locator("#step-adopted")).to_contain_text("1 message")
    question = wire.ReceiptQuestion(queue="node-a", generation=taken.generation)
    calls.finish_receipt("node-b", question)
    expect_steps("done done done done done")
    view = calls.heartbeat("node-a", beat).view
    assert view.switchover is not None
    result = wire.SwitchoverResult(id=view.switchover.id, ok=True, text="The VIP has moved.")
    calls.finish_switchover("node-a", result)
    expect(page.get_by_text("It was done.")).to_be_visible()
    expect(page.get_by_role("button", name="Withdraw")).to_have_count(0)
    assert page.evaluate("window.isTheSame") is True
    assert violations(page) == []


def test_a_switchover_is_withdrawn_and_one_that_cannot_be_is_explained(
    open_page: OpenPage, calls: Ownership
) -> None:
    """The button is in the part that follows the state; it asks first."""
    del calls
    page = open_page("/nodes/node-b", language="de")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_role("link", name="Übergeben").click()
    expect(page.get_by_label("Ziel")).to_have_value("node-b")
    page.get_by_role("button", name="Übergeben").click()
    expect(page.get_by_role("button", name="Zurückziehen")).to_be_visible()
    _connected(page)
    page.get_by_role("button", name="Zurückziehen").click()
    expect(page.get_by_text("Die Übergabe ist zurückgezogen.")).to_be_visible()
    expect(page.get_by_text("Von admin zurückgezogen.").first).to_be_visible()
    expect(page.locator("#step-pushed")).to_have_attribute("data-state", "failed")
    page.get_by_label("Ziel").select_option("node-a")
    page.get_by_role("button", name="Übergeben").click()
    expect(page.get_by_text("node-a ist schon aktiv.")).to_be_visible()
    assert violations(page) == []


def test_a_certificate_is_replaced_and_served_without_a_restart(
    open_page: OpenPage, cluster: Cluster
) -> None:
    """A file fills the field; a chain with a gap stays typed; the next TLS connection has it."""
    chain, key = make_chain("relay.example.net")
    page = open_page("/tls")
    page.on("dialog", lambda dialog: dialog.accept())
    before = cluster.process.shown_certificate()
    certificate = page.get_by_label("Certificate with its chain")
    certificate.fill(chain[0])
    page.locator("input[data-fills-field=f-key_pem]").set_input_files(
        {"name": "relay.key", "mimeType": "text/plain", "buffer": key.encode()}
    )
    expect(page.get_by_label("Private key")).to_have_value(key)
    page.get_by_role("button", name="Replace the certificate").click()
    expect(page.get_by_text("add the certificate of CN=Intermediate 0").first).to_be_visible()
    expect(certificate).to_have_value(chain[0])
    expect(page.get_by_label("Private key")).to_have_value("")
    assert violations(page) == []
    assert cluster.process.shown_certificate() == before
    certificate.fill("".join(chain))
    page.get_by_label("Private key").fill(key)
    page.get_by_label("Names that it has to hold").fill("relay.example.net")
    page.get_by_role("button", name="Replace the certificate").click()
    expect(page.get_by_text("The certificate is replaced")).to_be_visible()
    wanted = x509.load_pem_x509_certificate(chain[0].encode())
    _wait_for_certificate(cluster, wanted)
    assert violations(page) == []
    other, other_key = make_pair("relay.example.net")
    page.goto("/tls")
    certificate.fill(other)
    page.get_by_label("Private key").fill(other_key)
    page.get_by_role("button", name="Replace the certificate").click()
    expect(page.get_by_text("signed by itself")).to_be_visible()
    _wait_for_certificate(cluster, x509.load_pem_x509_certificate(other.encode()))
    page.get_by_role("button", name="Go back to our own").click()
    expect(page.get_by_text("Nobody has uploaded a certificate")).to_be_visible()
    _wait_for_certificate(cluster, x509.load_pem_x509_certificate(before))


def _wait_for_certificate(cluster: Cluster, wanted: x509.Certificate) -> None:
    """Connect until browsers are shown it; every instance looks for a new one by itself."""
    ends_s = time.monotonic() + 60
    while True:
        shown = x509.load_pem_x509_certificate(cluster.process.shown_certificate())
        if shown == wanted:
            return
        assert time.monotonic() < ends_s, shown.subject
        time.sleep(0.2)


def test_a_vip_and_a_timing_are_changed_by_clicks(open_page: OpenPage, cluster: Cluster) -> None:
    """A timing that does not fit is explained beside its field; what was typed stays."""
    page = open_page("/cluster")
    page.on("dialog", lambda dialog: dialog.accept())
    page.get_by_label("Seconds between renewals").fill("9")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("must be smaller than lease_renew_deadline_s")).to_be_visible()
    expect(page.get_by_label("Seconds between renewals")).to_have_value("9")
    assert violations(page) == []
    page.get_by_role("link", name="Add a VIP").click()
    page.get_by_label("Address").fill("198.51.100.101")
    page.get_by_label("Virtual router id").fill("52")
    page.get_by_role("button", name="Save").click()
    page.get_by_role("link", name="198.51.100.101").click()
    expect(page.get_by_label("Virtual router id")).to_have_value("52")
    assert violations(page) == []
    page.get_by_role("button", name="Remove").click()
    expect(page.get_by_role("link", name="198.51.100.101")).to_have_count(0)
    assert [vip.address for vip in cluster.store.items(VIPS)] == [VIP]
