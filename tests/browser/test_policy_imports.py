"""Imports of a chosen file in a browser: longer than a form takes, looked at, then done."""

from __future__ import annotations

from playwright.sync_api import expect

from tests.browser.checks import violations
from tests.browser.conftest import OpenPage

COUNT = 20_000


def test_a_chosen_file_goes_as_it_is(open_page: OpenPage) -> None:
    """A bad line is named and nothing done; the next preview takes its place, then the import."""
    page = open_page("/policy/lists/import")
    lines = "".join(f"host{number}.example.com,asked for\n" for number in range(COUNT))
    file = page.locator("input[type=file]")
    content = f"value,reason\nno value,\n{lines}"
    file.set_input_files({"name": "a.csv", "mimeType": "text/csv", "buffer": content.encode()})
    expect(page.locator("#f-text")).to_have_value("")
    page.get_by_label("List", exact=True).select_option("allow")
    page.get_by_role("button", name="Show what changes").click()
    expect(page.get_by_text("Cannot be used: 1")).to_be_visible(timeout=60_000)
    expect(page.get_by_text("contains a space; a domain name has none.")).to_be_visible()
    expect(page.get_by_role("button", name="Import", exact=True)).to_have_count(0)
    assert violations(page) == []
    good = f"value,reason\n{lines}".encode()
    file.set_input_files({"name": "b.csv", "mimeType": "text/csv", "buffer": good})
    page.get_by_role("button", name="Show what changes").click()
    expect(page.get_by_text("Added: 20,000")).to_be_visible(timeout=60_000)
    page.get_by_role("button", name="Import", exact=True).click()
    expect(page.get_by_text("Imported: 20,000 added, 0 changed, 0 removed.")).to_be_visible(
        timeout=120_000
    )
    assert page.url.endswith("/policy/lists")
    page.goto(f"{page.url}?listing=allow")
    expect(page.get_by_text("50 of 20,000 rows")).to_be_visible()
