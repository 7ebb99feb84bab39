"""The lab's network: cuts, healing, and that it leads nowhere else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from lab import network
from lab.command import run as run_program
from lab.layout import HOSTS, MACHINE_LINK, VIP
from tests.lab.conftest import relay_lab
from tests.lab.probe import can_reach, until

Run = Callable[..., str]
SINK = "198.51.100.20"
NODE_A = "198.51.100.11"


def wait_to_reach(source: str, address: str, port: int) -> None:
    """Wait until a connection comes about: the first packets may get lost, a daemon may start."""
    until(lambda: can_reach(source, address, port), f"{source} reaches {address}:{port}", 30)


def test_hosts_know_each_other_by_name(run: Run) -> None:
    """Every host finds every other by its name, and nothing else by any."""
    assert run("exec", "client", "--", "getent", "hosts", "node-b").split()[0] == "198.51.100.12"
    assert relay_lab("exec", "client", "--", "getent", "hosts", "example.com").returncode == 2


def test_a_cut_host_is_reached_by_nobody(run: Run) -> None:
    """All packets of a cut host are dropped, in both directions, until heal."""
    run("cut", "sink")
    assert not can_reach("client", SINK, 25)
    assert not can_reach("sink", NODE_A, 22)
    wait_to_reach("client", NODE_A, 22)
    run("heal")
    wait_to_reach("client", SINK, 25)
    wait_to_reach("sink", NODE_A, 22)


def test_a_cut_between_two_leaves_the_others_alone(run: Run) -> None:
    """Only the two named hosts do not reach each other."""
    run("cut", "node-a", "client")
    assert not can_reach("client", NODE_A, 22)
    wait_to_reach("client", SINK, 25)
    wait_to_reach("sink", NODE_A, 22)
    run("heal")
    wait_to_reach("client", NODE_A, 22)


def test_a_cut_takes_no_link_down(run: Run) -> None:
    """The cut host still sees its carrier: it cannot know."""
    run("cut", "client")
    assert "LOWER_UP" in run("exec", "client", "--", "ip", "link", "show", "eth0")


def test_a_cut_outlives_a_boot_of_the_host(run: Run) -> None:
    """A host that is killed and booted behind a cut is still cut off."""
    run("cut", "client", "sink")
    run("kill", "client")
    run("boot", "client")
    assert not can_reach("client", SINK, 25)
    run("heal")
    wait_to_reach("client", SINK, 25)


def test_cuts_add_up_and_heal_undoes_all(run: Run) -> None:
    """Two cuts hold at once, one heal ends both; healing the whole does no harm."""
    run("cut", "client", "sink")
    run("cut", "client", "node-a")
    assert not can_reach("client", SINK, 25)
    assert not can_reach("client", NODE_A, 22)
    run("heal")
    run("heal")
    wait_to_reach("client", SINK, 25)
    wait_to_reach("client", NODE_A, 22)


def test_the_same_cut_twice_is_one_cut(run: Run) -> None:
    """One heal ends it."""
    run("cut", "sink")
    run("cut", "sink")
    run("heal")
    wait_to_reach("client", SINK, 25)


def test_a_host_has_no_way_out(run: Run) -> None:
    """There is no default route, and this machine forwards nothing from the bridge."""
    assert run("exec", "client", "--", "ip", "route", "show", "default") == ""
    forwarding = Path(f"/proc/sys/net/ipv4/conf/{MACHINE_LINK}/forwarding")
    assert forwarding.read_text().strip() == "0"


def test_this_machine_is_a_host_on_the_bridge(run: Run) -> None:
    """A browser of this machine reaches the hosts directly."""
    del run
    link = run_program(["ip", "-4", "addr", "show", MACHINE_LINK])
    assert "198.51.100.1/24" in link


def test_the_vip_is_seen_where_it_is_configured(run: Run) -> None:
    """The holder of the VIP is read from the host's own interfaces."""
    assert network.vip_holders() == ()
    run("exec", "node-a", "--", "ip", "addr", "add", f"{VIP}/24", "dev", "eth0")
    assert network.vip_holders() == ("node-a",)
    run("kill", "node-a")
    assert network.vip_holders() == ()


def test_a_host_keeps_its_hardware_address_over_a_boot(run: Run) -> None:
    """Peers need not learn a new one after a boot."""
    read = ("exec", "client", "--", "cat", "/sys/class/net/eth0/address")
    assert run(*read).strip() == HOSTS["client"].mac
    run("kill", "client")
    run("boot", "client")
    assert run(*read).strip() == HOSTS["client"].mac
    wait_to_reach("client", SINK, 25)
