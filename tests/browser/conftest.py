"""Fixtures of the browser tests: a control plane as a process, and real Chromium to look at it.

`open_page(...)` gives a page, signed in, in a language, a theme and a size. When the test ends,
every error that any of its pages wrote to the console fails it; what the browser notes of an answer
like 401 or of a server that is away is none.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Browser, Page, Request, expect, sync_playwright

from controlplane.core.spec import ClusterMode, NodeSpec, VipSpec
from controlplane.gui.assets.build import build
from controlplane.store.audit import Actor
from controlplane.store.cluster import ClusterStore
from controlplane.store.cluster_settings import merge_settings
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.nouns import NODES, VIPS
from controlplane.store.passwords import PasswordCost
from controlplane.store.reports import add_event
from controlplane.store.user_accounts import set_preferences
from controlplane.store.user_sessions import LoginRules
from controlplane.store.users import FIRST_PASSWORD, change_password
from nodeagent.core.contract import NodeReport, PushReport, QueueCounts, Role, VrrpState
from tests.browser.opening import Opener
from tests.fakes.control_plane_process import ControlPlaneProcess
from tests.fakes.reports import store_report

OpenPage = Callable[..., Page]

ADMIN = Actor("admin", "127.0.0.1")
PASSWORD = "seven-Relays-42"
CHEAP = LoginRules(cost=PasswordCost(rounds=1, memory_kib=8, parallelism=1))
VIP = "198.51.100.100"
LASTING = {"timings": {"lease_duration_s": 600.0, "promise_s": 600.0}}
"""No agent renews its lease or reports again, however long a test clicks."""
CHROMIUM_OPTIONS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-quic",
    "--disable-sync",
    "--no-first-run",
]

expect.set_options(timeout=60_000)


@pytest.fixture(scope="session", autouse=True)
def _assets() -> None:
    """Build what pages load, when it is not there yet."""
    build()


@pytest.fixture(scope="session")
def chromium() -> Iterator[Browser]:
    """Give Debian's Chromium, without a window."""
    path = shutil.which("chromium")
    assert path is not None, "Debian's package chromium is missing; lab/install.sh installs it."
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path, args=CHROMIUM_OPTIONS)
        yield browser
        browser.close()


class Cluster:
    """A control plane as a process with its database at hand, and a pair of nodes that report."""

    def __init__(self, state_dir: Path) -> None:
        self.process = ControlPlaneProcess(state_dir)
        self.process.start()
        self.process.get("/healthz")
        self.database = Database(self.process.environment["RELAY_DATABASE_URL"])
        self.store = ClusterStore(self.database, SecretBox.load(state_dir))

    def close(self) -> None:
        """End the process."""
        self.process.kill()
        self.database.close()

    def change_first_password(self) -> str:
        """Give the admin a password of its own; return the token of a session."""
        return change_password(
            self.database, ADMIN, current=FIRST_PASSWORD, new=PASSWORD, rules=CHEAP
        ).token

    def add_pair(self) -> None:
        """Add two nodes and a VIP; node-a is active."""
        for name, last, priority, mode in (
            ("node-a", 11, 150, ClusterMode.MASTER),
            ("node-b", 12, 100, ClusterMode.SLAVE),
        ):
            address = f"198.51.100.{last}"
            node = NodeSpec(name=name, address=address, vrrp_priority=priority, cluster_mode=mode)
            self.store.put_item(NODES, node, ADMIN)
        self.store.put_item(VIPS, VipSpec(address=VIP, virtual_router_id=51), ADMIN)
        push = PushReport(
            peer="node-b", generation=1, sequence=4, age_s=3.0, messages=12, sent=1, freeze_ms=3.0
        )
        counts = QueueCounts(incoming=0, active=1, deferred=1721, hold=0)
        active = {"pushes": (push,), "queue": counts, "holds_vips": (VIP,), "is_proven": True}
        self.report("node-a", role=Role.ACTIVE, vrrp=VrrpState.MASTER, **active)
        self.report("node-b", vrrp=VrrpState.BACKUP, holds_vips=(), is_proven=True)

    def report(self, node: str, **values: Any) -> None:
        """Store a report, as a node's heartbeat does."""
        with self.database.write() as session:
            store_report(session, node, NodeReport(**{"role": Role.STANDBY, **values}))

    def event(self, kind: str, text: str, node: str = "node-a") -> None:
        """Store an event."""
        with self.database.write() as session:
            add_event(session, kind, text, node=node)


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    """Give a control plane with a pair of nodes; tests share it and undo what they change."""
    made = Cluster(tmp_path_factory.mktemp("browser") / "state")
    made.store.change_settings(lambda settings: merge_settings(settings, LASTING), ADMIN)
    made.add_pair()
    yield made
    made.close()


@pytest.fixture(scope="session")
def session_token(cluster: Cluster) -> str:
    """Give the token of the admin's session."""
    return cluster.change_first_password()


@pytest.fixture
def open_page(chromium: Browser, cluster: Cluster, session_token: str) -> Iterator[OpenPage]:
    """Give a function that opens a page of the GUI; what its console says fails the test."""
    opener = Opener(chromium, cluster.process.origin)
    with cluster.database.write() as session:
        set_preferences(session, ADMIN, "auto", "auto")

    def opened(path: str = "/", *, signed_in: bool = True, **look: Any) -> Page:
        return opener.open(path, token=session_token if signed_in else "", **look)

    yield opened
    opener.close()
    assert opener.errors == []


@pytest.fixture
def weigh() -> Callable[[Page, str], int]:
    """Give a function that loads a path anew and returns all the bytes that came, as sent."""

    def weighed(page: Page, path: str) -> int:
        finished: list[Request] = []

        def note(request: Request) -> None:
            finished.append(request)

        page.on("requestfinished", note)
        page.goto(path, wait_until="load")
        page.remove_listener("requestfinished", note)
        return sum(request.sizes()["responseBodySize"] for request in finished)

    return weighed
