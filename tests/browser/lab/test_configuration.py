"""From the first login to a changed, applied and rolled-back configuration, by clicks alone."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import pytest
from playwright.sync_api import Page, expect

from lab.errors import LabError
from lab.layout import HOSTS, NODES
from lab.provision import ControlPlane
from lab.settings import Settings, load
from tests.browser.lab.acts import (
    apply,
    expect_live,
    expect_newest,
    go,
    is_taken,
    newest_version,
    send,
    wait_for_delivery,
)
from tests.browser.lab.conftest import Photograph, Visit
from tests.e2e.driver import Lab

DOMAIN = "tour.example"
ADDRESS = f"somebody@{DOMAIN}"


@pytest.fixture
def first_login(lab: Lab) -> Iterator[Settings]:
    """Put the admin back to the first password; the lab's own holds again afterwards."""
    lab.execute("cp", "relay-controlplane", "reset-admin")
    known = load()
    yield known
    first, plane = Settings().admin_password, ControlPlane()
    with suppress(LabError):  # it has been changed, as it should
        plane.log_in(known.admin_user, first)
        plane.change_password(first, known.admin_password)


def sign_in_for_the_first_time(page: Page, known: Settings) -> None:
    """Log in with the documented password and choose another, which the page insists on."""
    first = Settings().admin_password
    page.get_by_label("User").fill(known.admin_user)
    page.get_by_label("Password", exact=True).fill(first)
    page.get_by_role("button", name="Sign in").click()
    expect(page.get_by_text("opens nothing but this page")).to_be_visible()
    page.goto("/configuration")
    expect(page.get_by_text("opens nothing but this page")).to_be_visible()
    page.get_by_label("Present password").fill(first)
    page.get_by_label("New password").fill(known.admin_password)
    page.get_by_label("The new one again").fill(known.admin_password)
    page.get_by_role("button", name="Set password").click()
    expect(page.get_by_text("The new password holds")).to_be_visible()


def test_from_the_first_login_to_a_working_relay_and_back(
    lab: Lab, first_login: Settings, visit: Visit, photograph: Photograph
) -> None:
    """A stranger's mail for a domain is refused, then relayed, then refused: nothing but clicks."""
    page = visit("/", signed_in=False)
    page.on("dialog", lambda dialog: dialog.accept())
    assert not is_taken(lab, ADDRESS, host="sink")
    sign_in_for_the_first_time(page, first_login)
    go(page, "Mail")
    page.get_by_role("link", name="Recipient domains").click()
    page.get_by_role("link", name="Add a domain").click()
    page.get_by_label("Domain").fill(DOMAIN)
    page.get_by_label("Next hop").fill(HOSTS["sink"].address)
    transport = f"{DOMAIN} relay:[{HOSTS['sink'].address}]:25"
    expect(page.locator("section", has_text="What Postfix gets")).to_contain_text(transport)
    photograph(page, "mail-domain")
    page.get_by_role("button", name="Save").click()
    expect(page.get_by_text("it reaches the nodes with the next apply")).to_be_visible()
    try:
        go(page, "Configuration")
        before = newest_version(page)
        page.get_by_role("link", name="Look at the changes and apply").click()
        expect(page.locator(".diff-add", has_text=transport)).to_have_count(len(NODES))
        photograph(page, "configuration-diff")
        go(page, "Configuration")
        apply(page, "Take mail for the tour")
        applied = newest_version(page)
        for node in NODES:
            expect_live(page, node, applied)
        photograph(page, "configuration")
        send(lab, ADDRESS, host="sink")
        wait_for_delivery(lab, ADDRESS)
        page.get_by_role("link", name=before, exact=True).click()
        page.get_by_label("Reason").fill("Back again")
        page.get_by_role("button", name="Roll back to this version").click()
        expect_newest(page, "Back again")
        for node in NODES:
            expect_live(page, node, newest_version(page))
        assert not is_taken(lab, ADDRESS, host="sink")
    finally:
        lab.api().call("DELETE", f"recipient-domains/{DOMAIN}")


def test_a_config_that_a_node_rejects_is_shown_with_its_reason(
    lab: Lab, visit: Visit, photograph: Photograph
) -> None:
    """The other node runs it, the page says what keepalived said, and the way out is a new one."""
    api = lab.api()
    node = {**api.call("GET", "nodes/node-b")["node"]}
    del node["name"]
    api.call("PUT", "nodes/node-b", {**node, "interface": "eth7"})
    try:
        page = visit("/configuration")
        before = newest_version(page)
        apply(page, "A wrong interface")
        refused = newest_version(page)
        expect_live(page, "node-a", refused)
        row = page.get_by_role("region", name="Nodes").get_by_role("row", name="node-b")
        expect(row).to_contain_text("refused by the node")
        expect(row).to_contain_text("eth7")
        expect(row.get_by_role("cell").nth(1)).to_have_text(before)
        photograph(page, "configuration-refused")
        go(page, "Overview")
        expect(page.locator("[data-rule=config-refused]")).to_contain_text("node-b")
    finally:
        api.call("PUT", "nodes/node-b", node)
        page = visit("/configuration")
        apply(page, "Put right")
        for name in NODES:
            expect_live(page, name, newest_version(page))
