"""Mail and configuration in a real browser: lines while typing, a CSV, a diff applied by clicks."""

from __future__ import annotations

from playwright.sync_api import expect

from controlplane.store.nouns import DOMAINS
from tests.browser.checks import violations
from tests.browser.conftest import ADMIN, Cluster, OpenPage


def test_a_form_shows_what_postfix_gets_while_one_types(open_page: OpenPage) -> None:
    """The lines follow the fields; a value that cannot be used takes them away again."""
    page = open_page("/mail/recipient-domains/new")
    lines = page.locator("section", has_text="What Postfix gets")
    expect(lines).to_contain_text("Nothing yet")
    page.get_by_label("Domain").fill("typed.example")
    page.get_by_label("Next hop").fill("mx.typed.example")
    expect(lines).to_contain_text("typed.example relay:[mx.typed.example]:25")
    page.get_by_label("TLS").select_option("verify")
    expect(lines).to_contain_text("typed.example relay-verify:[mx.typed.example]:25")
    page.get_by_label("Next hop").fill("two words")
    expect(lines).to_contain_text("Nothing yet")


def test_a_list_is_looked_at_imported_and_applied_by_clicks(
    open_page: OpenPage, cluster: Cluster
) -> None:
    """From a CSV to a version: the preview, the import, the diff, the reason, the progress."""
    page = open_page("/mail/recipient-domains")
    page.get_by_role("link", name="Import CSV").click()
    page.locator("#f-csv").fill("name,next_hop\nclicked.example,mx.clicked.example\n")
    page.get_by_role("button", name="Show what changes").click()
    expect(page.locator("#change")).to_contain_text("clicked.example")
    assert violations(page) == []
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_role("link", name="clicked.example")).to_be_visible()
    page.get_by_role("link", name="Configuration").click()
    page.get_by_role("link", name="Look at the changes and apply").click()
    expect(page.locator(".diff-add").first).to_be_visible()
    assert violations(page) == []
    page.get_by_label("Reason").fill("by clicks")
    page.get_by_role("button", name="Apply to all nodes").click()
    expect(page.get_by_role("cell", name="by clicks")).to_be_visible()
    number = page.get_by_role("row", name="by clicks").get_by_role("link").first.inner_text()
    cluster.report("node-a", config_version=int(number))
    expect(page.get_by_role("row", name="node-a")).to_contain_text("live")
    assert violations(page) == []
    cluster.store.delete_item(DOMAINS, "clicked.example", ADMIN)
