"""`relayctl ssh setup` over HTTPS: a real host, a real sshd, and the real `relay-agent enrol`."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from fastapi import FastAPI

from controlplane.store.cluster_tables import NodeRow
from controlplane.store.engine import Database
from controlplane.store.ownership_tables import AgentRow
from nodeagent.core.contract import NodeReport, Role
from nodeagent.core.ssh_wire import fingerprint
from tests.cli.conftest import Operator, Served
from tests.fakes.relay_host import RelayHost
from tests.fakes.reports import store_report

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="sshd lets root in only as root")
LIMIT_S = 180.0


@pytest.fixture
def host(
    tmp_path: Path,
    paired: Operator,
    served: Served,
    app: FastAPI,
    sqlite_database: Database,
) -> Iterator[RelayHost]:
    """Run node-a's host on the loopback, where the API would put no node."""
    del paired
    made = RelayHost(tmp_path / "h")
    made.start()
    with sqlite_database.write() as session:
        row = session.get_one(NodeRow, "node-a")
        row.address, row.ssh_port = "127.0.0.1", made.port
        session.add(row)
    app.state.recipe = made.recipe
    app.state.settings = app.state.settings.model_copy(update={"state_dir": served.state_dir})
    yield made
    made.stop()


def report_once_asked(host: RelayHost, database: Database) -> None:
    """Send a heartbeat's report when systemctl was asked to start the agent."""
    until_s = time.monotonic() + LIMIT_S
    while "systemctl enable --now relay-policy relay-agent" not in host.asked():
        if time.monotonic() > until_s:
            return
        time.sleep(0.05)
    with database.write() as session:
        store_report(session, "node-a", NodeReport(role=Role.STANDBY))


def test_a_host_is_set_up_and_enrolled(
    host: RelayHost, paired: Operator, sqlite_database: Database
) -> None:
    """The agent's keys are made there and known here; each step is a line."""
    agent = threading.Thread(target=report_once_asked, args=(host, sqlite_database))
    agent.start()
    own = str(fingerprint((host.root / "host_key.pub").read_text()))
    done = paired("ssh", "setup", "node-a", "--key", str(host.root / "id"), "--host-key", own)
    agent.join()
    assert done.code == 0, (done.out, done.err)
    assert done.out.count("ok    ") == 10
    assert "node-a is set up" in done.out
    with sqlite_database.read() as session:
        row = session.get_one(AgentRow, "node-a")
    listed = paired.json("ssh", "list")[0]["client_key"]["fingerprint"]
    assert listed == fingerprint(str(row.ssh_public_key))
    assert (host.root / "state/node").read_text() == "node-a"


def test_what_ends_it_is_said(host: RelayHost, paired: Operator) -> None:
    """Another host key, no key at all, nobody who could be asked."""
    key = ("--key", str(host.root / "id"))
    wrong = paired("ssh", "setup", "node-a", *key, "--host-key", f"SHA256:{'A' * 43}")
    assert wrong.code == 5
    assert "failed  connect: The host shows the key" in wrong.out
    asked = paired("ssh", "setup", "node-a", *key)
    assert (asked.code, "compare it and give --host-key" in asked.err) == (2, True)
    assert str(fingerprint((host.root / "host_key.pub").read_text())) in asked.err
    assert paired("ssh", "setup", "node-a", "--key", str(host.root / "none")).code == 2
    assert paired("ssh", "setup-cancel", "1").code == 1
