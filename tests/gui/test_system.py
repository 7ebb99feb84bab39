"""System health and about: what is known is shown, what is not says unknown."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from controlplane import __version__
from controlplane.api.system import CertificateDays, HostView
from controlplane.errors import Unavailable
from controlplane.gui.shipped import browser_packages, python_packages
from controlplane.gui.system import certificate_tone, clock_tone, disk_tone
from controlplane.job_log import BROKE_OFF, JobLog
from controlplane.settings import Settings
from controlplane.store.cluster_tables import CLUSTER_ID, CertificateRow
from controlplane.store.engine import Database
from controlplane.store.schema import newest_migration
from controlplane.tls import ServerTls
from nodeagent.core.contract import NodeReport, Role
from tests.fakes.reports import store_report

SYSTEM = "/api/v1/system"


@pytest.fixture
def job_log(app: FastAPI) -> Iterator[JobLog]:
    """Give the application a log of jobs of this test's own."""
    before, app.state.job_log = app.state.job_log, JobLog()
    yield app.state.job_log
    app.state.job_log = before


def report(database: Database, node: str, **values: Any) -> None:
    """Store a node's report."""
    with database.write() as session:
        store_report(session, node, NodeReport(role=Role.STANDBY, **values))


def test_the_database_says_what_it_is(pair: TestClient) -> None:
    """Kind, version, size, schema, how fast it answers."""
    found = pair.get(SYSTEM).json()["database"]
    assert (found["kind"], found["migration"]) == ("SQLite", newest_migration())
    assert found["newest_migration"] == newest_migration()
    assert found["size_bytes"] > 4096
    assert found["version"].startswith("3.")
    assert found["latency_ms"] >= 0
    assert abs(found["clock_offset_s"]) < 60


def test_a_node_that_has_said_nothing_is_unknown(pair: TestClient) -> None:
    """In the API null, on the page a word; nothing is made up."""
    node = pair.get(SYSTEM).json()["nodes"][0]
    assert node.pop("node") == "node-a"
    assert set(node.values()) == {None}
    pair.cookies.set("relay_session", pair.headers["Authorization"].removeprefix("Bearer "))
    row = pair.get("/system").text.partition("node-a</th>")[2].partition("</tr>")[0]
    assert "never" in row
    assert row.count("unknown</span>") == 4


def test_versions_clocks_and_disks_of_the_nodes(
    watched: TestClient, sqlite_database: Database
) -> None:
    """Against the control plane's version and the database's clock."""
    now = datetime.now(UTC)
    report(
        sqlite_database,
        "node-a",
        agent_version=__version__,
        clock=now + timedelta(seconds=90),
        disk_space_bytes=(5_000_000_000, 100_000_000_000),
        disk_inodes=(4_000, 100_000),
    )
    report(sqlite_database, "node-b", agent_version="0.0.9", clock=now)
    a, b = watched.get(SYSTEM).json()["nodes"]
    assert (a["is_our_version"], b["is_our_version"]) == (True, False)
    assert 60 < a["clock_offset_s"] < 91
    assert -60 < b["clock_offset_s"] < 1
    assert (a["disk_free_bytes"], b["disk_free_bytes"]) == (5_000_000_000, None)
    assert (a["disk_free_inodes"], a["disk_inodes"]) == (4_000, 100_000)
    assert (b["disk_free_inodes"], b["disk_inodes"]) == (None, None)
    page = watched.get("/system").text
    assert "not ours" in page.partition("node-b</th>")[2]
    assert "5 GB of 100 GB free" in page
    assert "4,000 of 100,000 free" in page
    found = {one["rule"] for one in watched.get("/api/v1/attention").json()}
    assert {"clock-off", "disk-nearly-full"} <= found
    metrics = watched.get("/metrics").text
    assert 'relay_node_queue_filesystem_files_free{node="node-a"} 4000.0' in metrics
    assert 'relay_node_queue_filesystem_files_free{node="node-b"}' not in metrics


def test_jobs_show_their_last_run_and_the_next(watched: TestClient, job_log: JobLog) -> None:
    """What went well, what failed and why, and what has not run yet."""
    assert "This process runs no jobs." in watched.get("/system").text
    next_at = datetime(2030, 1, 2, 3, 4, 5, tzinfo=UTC)
    job_log.follow(lambda: {"prune": next_at, "renew": None})
    with job_log.noting("sample"):
        pass
    with pytest.raises(Unavailable), job_log.noting("prune"):
        raise Unavailable
    with pytest.raises(ZeroDivisionError), job_log.noting("broken"):
        _ = 1 / 0
    jobs = {one["name"]: one for one in watched.get(SYSTEM).json()["jobs"]}
    assert list(jobs) == ["broken", "prune", "renew", "sample"]
    assert (jobs["sample"]["last_error"], jobs["sample"]["last_took_s"] >= 0) == (None, True)
    assert jobs["prune"]["last_error"] == Unavailable().detail
    assert jobs["prune"]["next_at"] == "2030-01-02T03:04:05Z"
    assert jobs["broken"]["last_error"] == BROKE_OFF
    assert (jobs["renew"]["last_began_at"], jobs["renew"]["next_at"]) == (None, None)
    view = watched.get(SYSTEM).json()
    assert (view["host"], view["process_id"]) == (platform.node(), os.getpid())
    page = watched.get("/system").text
    whose = f"Jobs of process {os.getpid()} on {platform.node()}"
    for words in (whose, "went well", "failed", "not yet", "2 Jan 2030, 03:04:05"):
        assert words in page


def test_certificates_and_their_days(
    watched: TestClient, settings: Settings, sqlite_database: Database
) -> None:
    """Those that this process has files of, and the one of SMTP; the uploaded one is the GUI's."""
    (smtp,) = watched.get(SYSTEM).json()["certificates"]
    assert (smtp["name"], 3600 < smtp["days_left"] < 3651) == ("smtp", True)
    ServerTls(settings.state_dir)
    listed = {one["name"]: one for one in watched.get(SYSTEM).json()["certificates"]}
    assert list(listed) == ["smtp", "gui", "agents", "ca"]
    assert listed["gui"]["ends_at"] != smtp["ends_at"]
    with sqlite_database.write() as session:
        row = session.get_one(CertificateRow, CLUSTER_ID)
        row.is_own = False
        session.add(row)
    listed = {one["name"]: one for one in watched.get(SYSTEM).json()["certificates"]}
    assert listed["gui"]["ends_at"] == smtp["ends_at"]
    page = watched.get("/system").text
    assert "The CA that agents trust" in page
    assert "days left" in page


def test_the_disk_of_the_state(watched: TestClient, settings: Settings) -> None:
    """As the filesystem says; unknown once it is gone."""
    view = watched.get(SYSTEM).json()
    assert view["disk_size_bytes"] == shutil.disk_usage(settings.state_dir).total
    settings.state_dir.rmdir()
    assert watched.get(SYSTEM).json()["disk_free_bytes"] is None
    assert watched.get("/system").status_code == 200


@pytest.mark.parametrize(
    ("tone", "found"),
    [
        (
            "bad",
            certificate_tone(CertificateDays(name="ca", ends_at=datetime.now(UTC), days_left=6)),
        ),
        (
            "warn",
            certificate_tone(CertificateDays(name="ca", ends_at=datetime.now(UTC), days_left=29)),
        ),
        (
            "good",
            certificate_tone(CertificateDays(name="ca", ends_at=datetime.now(UTC), days_left=31)),
        ),
        ("unknown", disk_tone(None, 10)),
        ("unknown", disk_tone(5, None)),
        ("bad", disk_tone(4, 100)),
        ("warn", disk_tone(5, 100)),
        ("warn", disk_tone(9, 100)),
        ("good", disk_tone(10, 100)),
    ],
)
def test_tones_follow_limits(tone: str, found: str) -> None:
    """The rules of attention and the page call the same certificate bad."""
    assert found == tone


@pytest.mark.parametrize(
    ("offset_s", "tone"),
    [
        (None, "unknown"),
        (0.4, "good"),
        (-4.9, "good"),
        (5.0, "warn"),
        (-149, "warn"),
        (150, "bad"),
        (-3600, "bad"),
    ],
)
def test_a_clock_that_is_off_is_marked(offset_s: float | None, tone: str) -> None:
    """In either direction."""
    nothing = dict.fromkeys(HostView.model_fields, None)
    assert clock_tone(HostView(**{**nothing, "node": "a", "clock_offset_s": offset_s})) == tone


def test_about_names_what_is_shipped(watched: TestClient) -> None:
    """With version and licence, and where the manuals are."""
    page = watched.get("/about").text
    assert f"Mail-Relay HA {__version__}" in page
    assert [one.name for one in browser_packages()] == [
        "@tabler/core",
        "@tabler/icons",
        "htmx.org",
        "uplot",
    ]
    for one in (*browser_packages(), *python_packages()):
        assert f'<th scope="row">{one.name}</th>' in page
    for words in ("MIT", 'href="/manuals/tutorial.md"', 'href="/openapi.json"'):
        assert words in page


def test_the_packages_of_an_installation_have_a_licence() -> None:
    """Each as its own metadata says; none of the tests' packages is among them."""
    packages = {one.name: one for one in python_packages()}
    assert {"fastapi", "sqlmodel", "cryptography"} <= set(packages)
    assert not {"pytest", "ruff"} & set(packages)
    assert packages["fastapi"].licence == "MIT"
    assert all(one.licence and one.version for one in packages.values())


def test_system_is_for_who_is_signed_in(anonymous: TestClient) -> None:
    """Versions help an attacker."""
    assert anonymous.get(SYSTEM).status_code == 401
    for path in ("/system", "/about"):
        answer = anonymous.get(path, follow_redirects=False)
        assert answer.headers["location"].startswith("/login")
