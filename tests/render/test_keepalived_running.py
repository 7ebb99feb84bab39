"""Real keepalived processes with the rendered files: who takes the VIP, and who must not."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from controlplane.core.render import render
from controlplane.core.spec import ClusterSpec, VrrpSpec
from tests.render.keepalived_world import Host, namespaces, stop_all, wait_until
from tests.render.specs import NODE_A, NODE_B, NODE_C, SECOND_VIP, VIP, by_path, pair

pytestmark = pytest.mark.skipif(
    os.geteuid() != 0 or shutil.which("keepalived") is None,
    reason="needs root, network namespaces and keepalived",
)

NODES = (NODE_A, NODE_B)
ADVERT_INT_S = 0.5


def fast(**changes: object) -> ClusterSpec:
    """Give the pair with short adverts."""
    return pair(**{"vrrp": VrrpSpec(advert_int_s=ADVERT_INT_S), **changes})


@pytest.fixture
def hosts(tmp_path: Path) -> Iterator[list[Host]]:
    """Give the pair on one wire, nothing started."""
    with namespaces(2) as names:
        made = [
            Host(name, fast(), node.name, tmp_path / node.name)
            for name, node in zip(names, NODES, strict=True)
        ]
        yield made
        stop_all(made)


def is_master(host: Host) -> bool:
    """Tell whether a host told MASTER last and holds the VIP."""
    return host.states()[-1:] == ["MASTER"] and VIP.address in host.addresses()


def start_first(hosts: list[Host]) -> None:
    """Start node-a alone, wait for its VIP, then start node-b."""
    hosts[0].start()
    wait_until(lambda: is_master(hosts[0]), hosts[0].log)
    hosts[1].start()
    wait_until(lambda: bool(hosts[1].states()), hosts[1].log)


def test_second_node_stays_backup_while_the_first_adverts(hosts: list[Host]) -> None:
    """Unicast adverts with TTL 255 are understood: there is one VIP and one master."""
    start_first(hosts)
    time.sleep(6 * ADVERT_INT_S)
    assert hosts[1].states() == ["BACKUP"]
    assert VIP.address not in hosts[1].addresses()
    assert hosts[0].states() == ["BACKUP", "MASTER"]


def test_fault_file_moves_the_vip_and_nobody_preempts(hosts: list[Host]) -> None:
    """A non-zero track file gives the VIP up at once; a zero lets the node back, as BACKUP."""
    start_first(hosts)
    hosts[0].set_fault(1)
    wait_until(lambda: is_master(hosts[1]), hosts[1].log)
    wait_until(lambda: hosts[0].states()[-1] == "FAULT", hosts[0].log)
    assert VIP.address not in hosts[0].addresses()
    hosts[0].set_fault(0)
    wait_until(lambda: hosts[0].states()[-1] == "BACKUP", hosts[0].log)
    time.sleep(6 * ADVERT_INT_S)
    assert is_master(hosts[1])
    assert hosts[0].states() == ["BACKUP", "MASTER", "FAULT", "BACKUP"]


def test_reload_keeps_the_vip_and_the_process(hosts: list[Host]) -> None:
    """Applying a config version costs no failover, however often."""
    start_first(hosts)
    for _ in range(5):
        hosts[0].keepalived.send_signal(signal.SIGHUP)
        time.sleep(0.5)
    wait_until(lambda: hosts[0].log().count("Reload complete") >= 3, hosts[0].log)
    assert hosts[0].states() == ["BACKUP", "MASTER"]
    assert hosts[1].states() == ["BACKUP"]
    assert "died" not in hosts[0].log()


def test_dead_mail_server_is_a_fault(hosts: list[Host]) -> None:
    """A node that does not answer SMTP gives the VIP to the one that does."""
    start_first(hosts)
    hosts[0].mail_server.kill()
    wait_until(lambda: is_master(hosts[1]), hosts[1].log)
    wait_until(lambda: hosts[0].states()[-1] == "FAULT", hosts[0].log)
    hosts[0].start_mail_server()
    wait_until(lambda: hosts[0].states()[-1] == "BACKUP", hosts[0].log)


def test_short_freeze_of_the_mail_server_is_no_fault(hosts: list[Host]) -> None:
    """A server that stands still for most of a second and goes on keeps the VIP."""
    start_first(hosts)
    for _ in range(3):
        hosts[0].mail_server.send_signal(signal.SIGSTOP)
        time.sleep(0.9)
        hosts[0].mail_server.send_signal(signal.SIGCONT)
        time.sleep(0.9)
    assert hosts[0].states() == ["BACKUP", "MASTER"]


def test_two_vips_go_to_two_nodes(tmp_path: Path) -> None:
    """At a common start each node takes the VIP that prefers it, so both are active."""
    nodes = tuple(
        node.model_copy(update={"vrrp_priority": priority})
        for node, priority in zip(NODES, (250, 10), strict=True)
    )
    spec = fast(nodes=nodes, vips=(VIP, SECOND_VIP), vrrp=VrrpSpec(advert_int_s=1))
    with namespaces(2) as names:
        hosts = [
            Host(name, spec, node.name, tmp_path / node.name)
            for name, node in zip(names, NODES, strict=True)
        ]
        try:
            for host in hosts:
                host.prepare()
            for host in hosts:
                host.start_keepalived()
            wait_until(lambda: VIP.address in hosts[0].addresses(), hosts[0].log)
            wait_until(lambda: SECOND_VIP.address in hosts[1].addresses(), hosts[1].log)
            assert VIP.address not in hosts[1].addresses()
        finally:
            stop_all(hosts)


def test_adverts_of_a_stranger_are_not_heard(tmp_path: Path) -> None:
    """A host that is no peer takes no VIP away, though it knows the router id and outbids all."""
    loud = NODE_C.model_copy(update={"vrrp_priority": 254})
    with namespaces(2) as names:
        pair_host = Host(names[0], fast(), "node-a", tmp_path / "node-a")
        stranger = Host(names[1], fast(nodes=(NODE_A, loud)), "node-c", tmp_path / "node-c")
        try:
            pair_host.start()
            wait_until(lambda: is_master(pair_host), pair_host.log)
            stranger.start()
            wait_until(lambda: "not a unicast peer" in pair_host.log(), pair_host.log)
            time.sleep(6 * ADVERT_INT_S)
            assert pair_host.states() == ["BACKUP", "MASTER"]
        finally:
            stop_all([pair_host, stranger])


@pytest.mark.parametrize(
    ("mode", "is_well"),
    [("", True), ("long", True), ("busy", False), ("ehlo", False), ("silent", False)],
)
def test_check_script_knows_a_server_that_works(mode: str, is_well: bool, tmp_path: Path) -> None:
    """Greeting, EHLO and QUIT have to be answered, in one line or more."""
    files = by_path(render(fast(), "node-a"))
    script = tmp_path / "check_smtp"
    script.write_text(files["/etc/keepalived/check_smtp"].content)
    server_program = Path(__file__).parent / "tiny_smtp.py"
    with namespaces(1) as (name,):
        inside = ["ip", "netns", "exec", name]
        server = subprocess.Popen(
            [*inside, sys.executable, str(server_program)], env={**os.environ, "MODE": mode}
        )
        try:
            wait_until(lambda: b":25" in listening(inside), lambda: "it does not listen")
            begun_s = time.monotonic()
            code = subprocess.run([*inside, "bash", str(script)], check=False).returncode
            assert (code == 0) is is_well
            assert time.monotonic() - begun_s < 20
        finally:
            server.terminate()
            server.wait(10)


def test_check_script_fails_at_once_without_a_server(tmp_path: Path) -> None:
    """A refused connection needs no timeout."""
    files = by_path(render(fast(), "node-a"))
    script = tmp_path / "check_smtp"
    script.write_text(files["/etc/keepalived/check_smtp"].content)
    with namespaces(1) as (name,):
        command = ["ip", "netns", "exec", name, "bash", str(script)]
        done = subprocess.run(command, capture_output=True, check=False, timeout=60)
        assert done.returncode == 1


def listening(inside: list[str]) -> bytes:
    """Return the listening sockets of a namespace."""
    return subprocess.run([*inside, "ss", "-ltn"], capture_output=True, check=True).stdout
