"""Setting a host up by the pages: the key first, then the login, then steps; and for whom."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote

import pytest
from fastapi.testclient import TestClient

from controlplane.core.permissions import UserRole
from controlplane.node_setup.recipe import SetupStep
from controlplane.store.audit import Actor
from controlplane.store.engine import Database
from controlplane.store.node_setups import StoredProgress, begin
from controlplane.store.ownership_tables import NodeSetupRow
from nodeagent.core.ssh_wire import fingerprint
from tests.api.test_node_setups import host
from tests.fakes.relay_host import RelayHost
from tests.gui.conftest import HOSTILE, HTMX, open_as, post

__all__ = ["host"]

SETUP = "/ssh/node-a/setup"
SECRET = "correct-horse-battery"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="sshd lets root in only as root")


def setup_row(database: Database) -> tuple[int, StoredProgress]:
    """Note a setup that nobody carries out; return its number and its progress."""
    row = NodeSetupRow(
        node="node-a",
        address="198.51.100.11",
        port=22,
        ssh_user="root",
        host_key=f"SHA256:{'A' * 43}",
        requested_by="",
        requested_at=0.0,
        alive_at=0.0,
    )
    with database.write() as session:
        number = begin(session, row, Actor("admin", "here")).id
    assert number is not None
    return number, StoredProgress(database, number)


@as_root
def test_the_key_is_compared_before_anything_is_typed(watched: TestClient, host: RelayHost) -> None:
    """The page shows what the host shows, and the form goes on with exactly that."""
    begin_page = watched.get(SETUP).text
    assert 'type="password"' not in begin_page
    assert SETUP in watched.get("/ssh").text
    shown = str(fingerprint((host.root / "host_key.pub").read_text()))
    page = post(watched, f"{SETUP}/host-key").text
    assert shown in page
    assert 'type="password"' in page
    where = f"{SETUP}?host_key={quote(shown)}"
    for fields, words in (
        ({"password": SECRET}, "Compare the fingerprint first."),
        ({"is_compared": "on"}, "Give a password or a private key."),
        ({"is_compared": "on", "private_key": HOSTILE}, "not a private key that can be used"),
    ):
        refused = post(watched, where, user="root", url="https://192.0.2.1:8443", **fields)
        assert refused.status_code == 422
        assert words in refused.text
        assert shown in refused.text
        assert 'value="https://192.0.2.1:8443"' in refused.text
        assert SECRET not in refused.text
        assert "<script>alert" not in refused.text
    assert host.asked() == []


@as_root
def test_a_setup_is_started_and_its_failure_shown(watched: TestClient, host: RelayHost) -> None:
    """Another key than the one that was compared ends it before anything is sent."""
    wrong = f"{SETUP}?host_key=SHA256:{'A' * 43}"
    key = host.private_key()
    values = {"user": "root", "url": "https://192.0.2.1:8443", "private_key": key}
    asked = post(watched, wrong, is_compared="on", **values)
    assert asked.status_code == 303, asked.text
    path = asked.headers["location"]
    page = watched.get(path).text
    while f'hx-get="{path}"' in page:
        page = watched.get(path).text
    assert "nothing was sent to it." in page
    assert page.count("not done") == len(SetupStep) - 1
    assert f'href="{SETUP}"' in page
    assert "PRIVATE KEY" not in page


def test_a_host_that_does_not_answer_is_said(watched: TestClient) -> None:
    """And the page stays; a node that is not there has none."""
    refused = post(watched, "/ssh/node-z/setup/host-key")
    assert refused.status_code == 404
    assert watched.get("/ssh/node-z/setup").status_code == 404


def test_steps_and_output_are_shown_while_it_runs(
    watched: TestClient, sqlite_database: Database
) -> None:
    """What a host writes stays text; cancelled, the page says so until it ends."""
    number, progress = setup_row(sqlite_database)
    path = f"/ssh/setups/{number}"
    progress.begin(SetupStep.CONNECT)
    progress.done("It shows the key.")
    progress.begin(SetupStep.PACKAGES)
    progress.show([HOSTILE])
    page = watched.get(path).text
    assert f'hx-get="{path}"' in page
    part = watched.get(path, headers=HTMX)
    assert (part.status_code, part.text.lstrip().startswith("<section")) == (200, True)
    assert "&lt;script&gt;alert" in page
    assert "<script>alert" not in page
    assert page.count("not done") == len(SetupStep) - 2
    cancelled = post(watched, f"{path}/cancel")
    assert (cancelled.status_code, cancelled.headers["location"]) == (303, path)
    assert "It ends as soon as it looks." in watched.get(path).text
    progress.finish(is_ok=False, text=HOSTILE)
    ended = watched.get(path).text
    assert f'hx-get="{path}"' not in ended
    assert "<script>alert" not in ended
    assert post(watched, f"{path}/cancel").status_code == 409


@pytest.mark.parametrize("role", [UserRole.READ_ONLY, UserRole.OPERATOR])
def test_only_an_admin_sets_hosts_up(
    watched: TestClient, sqlite_database: Database, role: UserRole
) -> None:
    """Others may look at a setup and cannot begin or cancel one."""
    number, _progress = setup_row(sqlite_database)
    visitor = open_as(watched, sqlite_database, role)
    page = visitor.get(f"/ssh/setups/{number}").text
    assert "198.51.100.11" in page
    assert "/cancel" not in page
    assert visitor.get(SETUP).status_code == 403
    values: dict[str, Any] = {"user": "root", "url": "https://192.0.2.1", "password": SECRET}
    for path in (f"{SETUP}/host-key", f"{SETUP}?host_key=x", f"/ssh/setups/{number}/cancel"):
        assert post(visitor, path, is_compared="on", **values).status_code == 403
