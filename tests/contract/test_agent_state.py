"""The agent's own files: ledger, identity, SSH files, status file, notify fifo and track file."""

from __future__ import annotations

import json
import os
import subprocess
import time

import jwt
import pytest

from nodeagent.adapters.identity import Identity, ssh_host_keys
from nodeagent.adapters.keepalived import Keepalived
from nodeagent.adapters.ledger import Ledger
from nodeagent.adapters.ssh_files import SshFiles, sshd_snippet
from nodeagent.adapters.status_file import read_status, write_status
from nodeagent.core.agent_api import TOKEN_AUDIENCE
from nodeagent.core.contract import ReceiptKey, RememberedReceipt, VrrpState
from nodeagent.core.decision import decide
from nodeagent.core.observation import Adoption, AdoptionStep, SwitchoverStep
from nodeagent.errors import BrokenState, Unreachable
from tests.core.worlds import observation, peer, view

ID = "4jWfS362sJzJ9Fq"
OTHER = "4jWfS362WlzJ9FV"


@pytest.fixture
def ledger(tmp_path):
    """Return an empty ledger."""
    return Ledger(tmp_path)


def test_an_adoption_survives_its_process(ledger, tmp_path):
    """Another instance reads what the first one wrote."""
    adoption = Adoption("node-b", AdoptionStep.LISTED, 5)
    ledger.note_adoption(adoption)
    assert Ledger(tmp_path).adoption() == adoption
    ledger.note_adoption(None)
    assert Ledger(tmp_path).adoption() is None


def test_a_switchovers_id_is_remembered_after_its_end(ledger):
    """So that a wish seen twice is carried out once."""
    assert ledger.last_switchover_id() == 0
    ledger.note_switchover(3, "node-b", SwitchoverStep.HANDED)
    assert ledger.switchover().destination == "node-b"
    ledger.note_switchover(3, "node-b", None)
    assert ledger.switchover() is None
    assert ledger.last_switchover_id() == 3


def test_generations_only_rise(ledger):
    """A generation below one seen is refused later on the strength of this."""
    ledger.note_generation("node-a", 5)
    ledger.note_generation("node-a", 4)
    ledger.note_generation("node-b", 2)
    assert ledger.generations() == {"node-a": 5, "node-b": 2}


def test_ids_of_one_receipt_add_up(ledger):
    """Honoured in two parts it is still one receipt."""
    receipt = RememberedReceipt(number=9, queue="node-a", generation=2, holder="node-b", ids=(ID,))
    ledger.note_receipt(receipt)
    ledger.note_receipt(receipt.model_copy(update={"ids": (OTHER,)}))
    (known,) = ledger.receipts()
    assert set(known.ids) == {ID, OTHER}


def test_a_receipt_is_asked_about_by_all_that_is_known_of_it(ledger, tmp_path):
    """A number that this node remembers nothing of is not asked about."""
    fields = {"number": 9, "queue": "node-a", "generation": 2, "holder": "node-b"}
    ledger.note_receipt(RememberedReceipt(**fields, ids=(ID,)))
    assert Ledger(tmp_path).receipt_keys((8, 9)) == (ReceiptKey(**fields),)


def test_the_last_view_outlives_the_agent(ledger, tmp_path):
    """P5: an agent that starts while nobody answers still knows its peers."""
    assert ledger.view() is None
    ledger.note_view(view())
    assert Ledger(tmp_path).view() == view()


def test_instances_are_remembered(ledger):
    """A control plane that is not among them was restored."""
    ledger.note_instance("cp-1")
    assert ledger.is_instance_known("cp-1")
    assert not ledger.is_instance_known("cp-2")


def test_a_broken_file_is_an_error_and_never_nothing(ledger, tmp_path):
    """Unknown is not permission: an unreadable adoption is not 'no adoption'."""
    (tmp_path / "adoption.json").write_text("{")
    with pytest.raises(BrokenState, match=r"adoption\.json"):
        ledger.adoption()


def test_keys_are_made_once_and_stay_private(tmp_path):
    """The private halves never leave, not even through the file mode."""
    identity = Identity(tmp_path)
    identity.make_keys()
    public = identity.public_key_pem()
    identity.make_keys()
    assert Identity(tmp_path).public_key_pem() == public
    assert identity.ssh_key.public_key().startswith("ssh-ed25519 ")
    assert (tmp_path / "agent.key").stat().st_mode & 0o077 == 0
    assert identity.ssh_key.file.stat().st_mode & 0o077 == 0


def test_a_request_token_is_signed_by_the_nodes_key(tmp_path):
    """The control plane checks issuer, audience and a life of a minute."""
    identity = Identity(tmp_path)
    with pytest.raises(BrokenState, match="not enrolled"):
        identity.node()
    identity.make_keys()
    identity.save_enrolment("node-a", "https://cp:8443", "pem")
    assert identity.is_enrolled()
    claims = jwt.decode(
        identity.token(), identity.public_key_pem(), algorithms=["EdDSA"], audience=TOKEN_AUDIENCE
    )
    assert claims["iss"] == "node-a"
    assert claims["exp"] - claims["iat"] == 60


def test_a_request_token_is_used_for_half_its_life(tmp_path):
    """Not longer, and not when the clock was set back: its time of issue would be to come."""
    now_s = [1000.0]
    identity = Identity(tmp_path, clock=lambda: now_s[0])
    identity.make_keys()
    identity.save_enrolment("node-a", "https://cp:8443", "pem")
    first = identity.token()
    now_s[0] += 29
    assert identity.token() == first
    now_s[0] += 1
    second = identity.token()
    now_s[0] -= 1
    assert len({first, second, identity.token()}) == 3


def test_host_keys_are_listed_without_comment(tmp_path):
    """Type and key, Ed25519 first."""
    for kind in ("rsa", "ed25519"):
        path = tmp_path / f"ssh_host_{kind}_key"
        subprocess.run(["ssh-keygen", "-q", "-t", kind, "-N", "", "-f", str(path)], check=True)
    keys = ssh_host_keys(tmp_path)
    assert [key.split()[0] for key in keys] == ["ssh-ed25519", "ssh-rsa"]
    assert all(len(key.split()) == 2 for key in keys)


def test_a_peer_may_run_our_receiver_from_its_address_and_nothing_else(tmp_path):
    """authorized_keys holds a forced command with `restrict` and `from` a peer."""
    files = SshFiles(tmp_path)
    peers = (
        peer(ssh_public_key="ssh-ed25519 AAAA b", ssh_host_keys=("ssh-ed25519 BBBB",)),
        peer("node-c", ssh_port=2222, ssh_host_keys=("ssh-ed25519 CCCC",)),
    )
    assert not files.is_current(peers)
    files.write(peers)
    assert files.is_current(peers)
    (line,) = (tmp_path / "authorized_keys").read_text().splitlines()
    assert line.endswith('node-b",from="198.51.100.12",restrict ssh-ed25519 AAAA b')
    assert line.startswith('command="')
    hosts = files.known_hosts.read_text()
    assert "198.51.100.12 ssh-ed25519 BBBB\n" in hosts
    assert "[198.51.100.12]:2222 ssh-ed25519 CCCC\n" in hosts
    assert not files.is_current(peers[:1])


def test_sshd_reads_the_usual_keys_and_ours(tmp_path):
    """The administrator's own authorized_keys go on working."""
    assert sshd_snippet(tmp_path) == (
        f"AuthorizedKeysFile .ssh/authorized_keys {tmp_path}/authorized_keys\n"
    )


def test_the_last_tick_can_be_read_until_it_is_stale(tmp_path):
    """`relay-agent status` never shows an agent that has stopped ticking."""
    with pytest.raises(Unreachable, match="does not run"):
        read_status(tmp_path)
    obs = observation(push_age_s=99.0)
    write_status(tmp_path, obs, decide(obs))
    content = read_status(tmp_path)
    assert content["rule"] == "push"
    assert content["plan"] == [{"action": "Push", "peers": ["node-b"], "generation": 4}]
    assert content["observation"]["view"]["leases"][0]["holder"] == "node-a"
    path = tmp_path / "status.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "at_s": 0.0}))
    with pytest.raises(Unreachable, match="has not ticked"):
        read_status(tmp_path)


def test_the_notify_fifo_tells_the_vrrp_state(tmp_path):
    """Lines as keepalived 2.2 writes them, in order, from a real fifo."""
    keepalived = Keepalived(tmp_path, pid_file=tmp_path / "pid")
    keepalived.prepare()
    assert keepalived.state is VrrpState.UNKNOWN
    seen: list[VrrpState] = []
    keepalived.watch(lambda: seen.append(keepalived.state))
    until_s = time.monotonic() + 30
    with keepalived.fifo.open("w") as fifo:
        for line, changes in (
            ('INSTANCE "relay" BACKUP 100\n', 1),
            ("GROUP x MASTER\n", 1),
            ('INSTANCE "relay" MASTER 100\n', 2),
        ):
            fifo.write(line)
            fifo.flush()
            while len(seen) < changes and time.monotonic() < until_s:
                time.sleep(0.01)
    assert seen == [VrrpState.BACKUP, VrrpState.MASTER]


def test_one_master_instance_makes_a_master(tmp_path):
    """Two VIPs, one here: the node holds mail's door open."""
    keepalived = Keepalived(tmp_path)
    keepalived.take_in(b'INSTANCE "one" FAULT 1')
    keepalived.take_in(b'INSTANCE "two" MASTER 1')
    assert keepalived.state is VrrpState.MASTER
    keepalived.take_in(b'INSTANCE "two" STOP 1')
    assert keepalived.state is VrrpState.FAULT


def test_the_track_file_is_written_in_place(tmp_path):
    """It keeps the inode that keepalived watches."""
    keepalived = Keepalived(tmp_path)
    keepalived.prepare()
    inode = (tmp_path / "fault").stat().st_ino
    assert not keepalived.is_fault_set()
    keepalived.set_fault(is_fault=True)
    assert keepalived.is_fault_set()
    assert (tmp_path / "fault").read_text() == "1\n"
    assert (tmp_path / "fault").stat().st_ino == inode


def test_a_dead_keepalived_is_told_from_one_that_never_ran(tmp_path):
    """None where there is no pid file, False where its process is gone or another's."""
    pid_file = tmp_path / "pid"
    keepalived = Keepalived(tmp_path, pid_file=pid_file)
    assert keepalived.is_running() is None
    pid_file.write_text(str(os.getpid()))
    assert keepalived.is_running() is False
