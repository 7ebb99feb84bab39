"""The overview follows the cluster in a real browser, through restarts and to its session's end."""

from __future__ import annotations

import time

from playwright.sync_api import expect
from sqlalchemy import delete
from sqlmodel import col

from controlplane.store.user_sessions import token_hash
from controlplane.store.user_tables import UserSessionRow
from controlplane.store.users import log_in
from nodeagent.core.contract import Role, VrrpState
from tests.browser.conftest import ADMIN, CHEAP, PASSWORD, VIP, Cluster, OpenPage

HOSTILE = "<img src=x onerror=\"document.title='taken'\"><script>document.title='taken'</script>"


def test_a_failover_is_seen_without_reloading(open_page: OpenPage, cluster: Cluster) -> None:
    """And quickly; how quickly is printed."""
    page = open_page("/")
    page.evaluate("window.isTheSame = true")
    expect(page.locator("[data-live-state=connected]")).to_be_visible()
    standby = page.locator("#node-node-b")
    expect(standby).to_contain_text("STANDBY")
    started_s = time.monotonic()
    active = {"vrrp": VrrpState.MASTER, "holds_vips": (VIP,), "is_proven": True}
    cluster.report("node-b", role=Role.ACTIVE, **active)
    cluster.report("node-a", role=Role.FENCED, holds_vips=())
    expect(standby).to_contain_text("ACTIVE")
    print(f"\na failover was seen after {time.monotonic() - started_s:.2f} s")
    expect(page.locator("#node-node-a")).to_contain_text("FENCED")
    assert page.evaluate("window.isTheSame") is True


def test_ages_count_on_by_themselves(open_page: OpenPage, cluster: Cluster) -> None:
    """An age that stands still would be a lie."""
    cluster.add_pair()
    page = open_page("/")
    age = page.locator("#node-node-a time[data-age]").last
    first = age.inner_text()
    expect(age).not_to_have_text(first)


def test_what_strangers_write_stays_text(open_page: OpenPage, cluster: Cluster) -> None:
    """On the page as it comes, and in what is swapped in live."""
    page = open_page("/")
    expect(page.locator("[data-live-state=connected]")).to_be_visible()
    cluster.event("role", HOSTILE)
    expect(page.get_by_text(HOSTILE).first).to_be_visible()
    assert page.title() != "taken"
    page.goto("/events")
    expect(page.get_by_text(HOSTILE).first).to_be_visible()
    assert page.title() != "taken"


def test_a_control_plane_that_is_away_is_said_and_comes_back(
    open_page: OpenPage, cluster: Cluster
) -> None:
    """What is shown is called old meanwhile, and follows again without a reload."""
    page = open_page("/")
    page.evaluate("window.isTheSame = true")
    region = page.locator("[data-live-state]")
    expect(region).to_have_attribute("data-live-state", "connected")
    assert cluster.process.stop() == 0
    expect(page.get_by_text("What you see may be old")).to_be_visible()
    cluster.process.start()
    cluster.process.get("/healthz")
    cluster.report("node-a", role=Role.STANDBY, holds_vips=(), is_proven=True)
    expect(region).to_have_attribute("data-live-state", "connected", timeout=60_000)
    expect(page.locator("#node-node-a")).to_contain_text("STANDBY")
    expect(page.get_by_text("What you see may be old")).to_be_hidden()
    assert page.evaluate("window.isTheSame") is True


def test_the_end_of_a_session_ends_what_it_follows(open_page: OpenPage, cluster: Cluster) -> None:
    """Whoever was thrown out sees the login, and nothing more of the cluster."""
    token = log_in(cluster.database, ADMIN, PASSWORD, CHEAP).token
    page = open_page("/login", signed_in=False)
    cookie = {"name": "relay_session", "value": token, "url": cluster.process.origin}
    page.context.add_cookies([cookie])
    page.goto("/")
    expect(page.locator("[data-live-state=connected]")).to_be_visible()
    with cluster.database.write() as session:
        ended = delete(UserSessionRow).where(col(UserSessionRow.token_sha256) == token_hash(token))
        session.execute(ended)
    expect(page.get_by_role("heading", name="Sign in")).to_be_visible()
