"""How soon one control plane answers agents that report every two seconds, over real HTTPS.

The load comes from a process of its own on the same machine: what it uses is missing to the server.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from dataclasses import asdict
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from controlplane.gui.assets.build import build
from controlplane.store.cluster_tables import NodeRow
from controlplane.store.engine import Database
from controlplane.store.leases import ensure_lease
from controlplane.store.ownership_tables import AgentRow
from controlplane.tls import ca_pem
from tests.bench.agents_load import Load, Result
from tests.bench.figures import show, spread_ms
from tests.fakes.control_plane_process import ControlPlaneProcess
from tests.fakes.enrolled_agent import HOST_KEY, SSH_KEY, EnrolledAgent

pytestmark = [pytest.mark.bench, pytest.mark.timeout(300)]

EVERY_S = 2.0
LENGTH_S = 60.0
SETTLE_S = 20.0


def enrol(database: Database, agents: int) -> dict[str, str]:
    """Add nodes of one cluster with their agents; return their private keys."""
    keys = {}
    with database.write() as session:
        for number in range(agents):
            name, address = f"node-{number}", f"10.9.{number // 250}.{number % 250 + 1}"
            agent = EnrolledAgent(None, name)  # type: ignore[arg-type]  # it sends nothing itself
            keys[name] = agent.key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            ).decode()
            wanted = {"interface": "eth0", "vrrp_priority": 100, "cluster_mode": "slave"}
            session.add(NodeRow(name=name, address=address, ssh_user="root", ssh_port=22, **wanted))
            session.add(
                AgentRow(
                    name=name,
                    public_key_pem=agent.public_key_pem(),
                    ssh_public_key=SSH_KEY,
                    ssh_host_keys=[HOST_KEY],
                    enrolled_at=time.time(),
                )
            )
            ensure_lease(session, name)
    return keys


def cpu_s(process: ControlPlaneProcess) -> float:
    """Return the CPU time that the control plane has used."""
    assert process.server is not None
    stat = Path(f"/proc/{process.server.pid}/stat").read_text()
    user, system = stat.rpartition(")")[2].split()[11:13]
    return (int(user) + int(system)) / os.sysconf("SC_CLK_TCK")


@pytest.mark.parametrize("agents", [2, 30, 200, 1000])
def test_agents_are_answered(tmp_path: Path, agents: int) -> None:
    """All of one cluster, on SQLite; some are taken and none is refused."""
    build()
    process = ControlPlaneProcess(tmp_path / "state")
    process.start()
    process.get("/healthz")
    database = Database(process.environment["RELAY_DATABASE_URL"])
    keys = enrol(database, agents)
    database.close()
    load = Load(process.port, ca_pem(process.state_dir), keys, EVERY_S, LENGTH_S, SETTLE_S)
    before_s = cpu_s(process)
    done = subprocess.run(
        [sys.executable, "-m", "tests.bench.agents_load"],
        input=json.dumps(asdict(load)),
        capture_output=True,
        text=True,
        check=True,
    )
    cores = (cpu_s(process) - before_s) / (LENGTH_S + SETTLE_S)
    process.kill()
    result = Result(**json.loads(done.stdout))
    due = round(agents * LENGTH_S / EVERY_S)
    show(
        f"{agents} agents, a report every {EVERY_S:.0f} s, {os.cpu_count()} cores shared",
        f"{spread_ms(result.took_ms) if result.took_ms else 'no time'};"
        f" {len(result.took_ms)} of {due} taken, {result.refused} refused,"
        f" {result.missed} not sent in time, {result.failed} failed; server {cores:.2f} cores",
    )
    assert result.took_ms, "nothing was taken"
    assert result.refused == 0
