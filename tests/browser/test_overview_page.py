"""The overview in a real browser: picture, attention, tiles and charts, for everybody."""

from __future__ import annotations

import pytest
from playwright.sync_api import expect

from controlplane.store.samples import take_samples
from nodeagent.core.contract import MirrorReport, Role, VrrpState
from tests.browser.checks import sideways_px, violations
from tests.browser.conftest import VIP, Cluster, OpenPage
from tests.browser.opening import PHONE, WIDE


def test_a_failover_moves_the_vip_in_the_picture(open_page: OpenPage, cluster: Cluster) -> None:
    """Without reloading; the picture's words are text that can be found."""
    cluster.add_pair()
    page = open_page("/")
    page.evaluate("window.isTheSame = true")
    expect(page.locator("[data-live-state=connected]")).to_be_visible()
    vip = page.locator("#pic-vip-1")
    expect(vip).to_contain_text("node-a")
    active = {"vrrp": VrrpState.MASTER, "holds_vips": (VIP,), "is_proven": True}
    mirror = MirrorReport(queue="node-a", generation=1, sequence=4, messages=12)
    cluster.report("node-b", role=Role.ACTIVE, mirrors=(mirror,), **active)
    cluster.report("node-a", role=Role.FENCED, holds_vips=())
    expect(vip).to_contain_text("node-b")
    expect(page.locator("#tile-active")).to_have_text("node-b")
    expect(page.locator("#pic-node-node-a")).to_contain_text("FENCED")
    expect(page.locator("[data-rule=fenced]")).to_contain_text("node-a")
    assert page.evaluate("window.isTheSame") is True
    cluster.add_pair()


def test_charts_are_drawn_and_follow(open_page: OpenPage, cluster: Cluster) -> None:
    """Without reloading; a span is a link."""
    cluster.add_pair()
    with cluster.database.write() as session:
        take_samples(session)
    page = open_page("/?hours=24")
    expect(page.locator("figure.chart canvas")).to_have_count(1)
    expect(page.locator("#charts [aria-current=true]")).to_have_text("1 day")
    page.get_by_role("link", name="7 days").click()
    expect(page.locator("#charts [aria-current=true]")).to_have_text("7 days")


@pytest.mark.parametrize("size", [WIDE, PHONE], ids=["wide", "phone"])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_everybody_can_read_it(
    open_page: OpenPage, cluster: Cluster, theme: str, size: tuple[int, int]
) -> None:
    """WCAG 2.1 AA in both themes, in German, and nothing of the page runs out sideways."""
    cluster.add_pair()
    with cluster.database.write() as session:
        take_samples(session)
    page = open_page("/?hours=24", theme=theme, size=size, language="de")
    expect(page.locator("figure.chart canvas")).to_have_count(1)
    expect(page.get_by_role("heading", name="Was Aufmerksamkeit braucht")).to_be_visible()
    assert violations(page) == []
    assert sideways_px(page) == 0
