"""A switchover that is asked for and watched in the browser, and a certificate that is refused."""

from __future__ import annotations

from typing import Final

from playwright.sync_api import expect

from tests.browser.lab.acts import send, wait_for_delivery
from tests.browser.lab.conftest import Photograph, Visit
from tests.e2e.driver import Lab, until
from tests.e2e.scenes import mirrored
from tests.fakes.certificates import make_pair

ADDRESS: Final = "handed-over@example.com"
STEPS: Final = ("asked", "pushed", "granted", "adopted", "moved")


def test_a_switchover_is_asked_for_and_watched(
    lab: Lab, visit: Visit, photograph: Photograph
) -> None:
    """Every step is done without a reload; the mail that waited is delivered by the other node."""
    source, destination = lab.active(), lab.standby()
    with lab.sink_set("defer"):
        send(lab, ADDRESS)
        until(lambda: mirrored(lab, destination, source) == 1, "the standby has a copy", 60)
        page = visit("/nodes")
        page.on("dialog", lambda dialog: dialog.accept())
        page.get_by_role("link", name="Switch over").click()
        page.get_by_label("Destination").select_option(destination)
        page.get_by_role("button", name="Switch over").click()
        expect(page.locator("[data-live-state=connected]")).to_be_visible()
        page.evaluate("window.isTheSame = true")
        for step in STEPS:
            expect(page.locator(f"#step-{step}")).to_have_attribute("data-state", "done")
        expect(page.locator(f"#node-{destination}")).to_contain_text("ACTIVE")
        expect(page.locator(f"#node-{source}")).to_contain_text("STANDBY")
        assert page.evaluate("window.isTheSame") is True
        photograph(page, "switchover")
        until(lambda: lab.queue_sizes() == {source: 0, destination: 1}, "the mail has moved")
    wait_for_delivery(lab, ADDRESS)


def test_a_certificate_with_another_key_is_refused_beside_the_field(visit: Visit) -> None:
    """What was typed stays, the key alone does not come back, and nothing is replaced."""
    certificate, _key = make_pair("relay.example")
    _certificate, other_key = make_pair("relay.example")
    page = visit("/tls")
    page.get_by_label("Certificate with its chain").fill(certificate)
    page.get_by_label("Private key").fill(other_key)
    page.get_by_label("Names that it has to hold").fill("relay.example")
    page.get_by_role("button", name="Replace the certificate").click()
    expect(page.locator("#f-key_pem-error")).to_be_visible()
    expect(page.get_by_label("Certificate with its chain")).to_have_value(certificate)
    expect(page.get_by_label("Private key")).to_have_value("")
    expect(page.get_by_text("Nobody has uploaded a certificate")).to_be_visible()
