"""Host keys of the user's choice: what the peers are told, what is refused, what goes out."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient

from nodeagent.adapters.peer_test import PeerTester
from nodeagent.core.contract import PeerView
from nodeagent.core.ssh_wire import PeerTestStep, PeerTestWish, fingerprint
from nodeagent.errors import Unreachable
from tests.api.conftest import NODE_B
from tests.api.test_own_ssh_key import as_root
from tests.fakes.enrolled_agent import HOST_KEY, EnrolledAgent
from tests.fakes.private_keys import make_key
from tests.fakes.ssh_peer import SSH, Peer, Rotating, beat, shown

PINS = f"{SSH}/known-hosts"
B = "198.51.100.12"


@pytest.fixture(scope="module")
def other_key() -> str:
    """Give a public key that no node reports."""
    return " ".join(make_key()[1].split()[:2])


def pin(client: TestClient, text: str) -> Any:
    """Give known_hosts lines."""
    return client.put(PINS, json={"known_hosts": text})


def told(agent: EnrolledAgent) -> tuple[str, ...]:
    """Return the host keys that a node is told of its peer."""
    return beat(agent).view.peers[0].ssh_host_keys


def test_a_pin_overrides_what_is_reported_and_the_difference_is_named(
    pair: TestClient, agents: dict[str, EnrolledAgent], other_key: str
) -> None:
    """For the peers of this node alone, audited once; without lines all is as before."""
    assert told(agents["node-a"]) == (HOST_KEY,)
    for _ in range(2):
        answer = pin(pair, f"{B} {other_key} compared by olga\n")
        assert answer.status_code == 200, answer.text
    assert (told(agents["node-a"]), told(agents["node-b"])) == ((other_key,), (HOST_KEY,))
    view = shown(pair, "node-b")
    (pinned,) = view["pinned_host_keys"]
    assert (pinned["fingerprint"], pinned["given_by"]) == (fingerprint(other_key), "admin")
    assert view["host_keys"][0]["fingerprint"] == fingerprint(HOST_KEY)
    assert "compare them on the host itself" in view["host_key_finding"]
    assert shown(pair, "node-a")["host_key_finding"] is None
    beat(agents["node-b"], ssh_host_keys=(HOST_KEY, other_key))
    assert shown(pair, "node-b")["host_key_finding"] is None
    assert told(agents["node-a"]) == (other_key,)
    assert pin(pair, "").status_code == 200
    assert told(agents["node-a"]) == (HOST_KEY, other_key)
    rows = [one for one in pair.get("/api/v1/audit").json() if one["action"] == "ssh.pin-host-keys"]
    assert [row["after"]["pinned"] for row in rows] == [[], [fingerprint(other_key)]]
    events = [event["kind"] for event in pair.get("/api/v1/events").json()]
    assert events.count("ssh-host-keys-pinned") == 2


def test_what_is_in_use_goes_out_as_a_file_that_can_come_in_again(
    pair: TestClient, agents: dict[str, EnrolledAgent], other_key: str
) -> None:
    """All trusted keys, or the user's lines only."""
    reported = f"198.51.100.11 {HOST_KEY}\n{B} {HOST_KEY}\n"
    assert pair.get(PINS).text == reported
    assert pair.get(PINS).headers["content-type"].startswith("text/plain")
    beat(agents["node-b"], ssh_host_keys=(HOST_KEY, other_key))
    lines = f"@revoked {B} {other_key}\n"
    pin(pair, lines)
    assert pair.get(PINS).text == reported
    assert pair.get(PINS, params={"only_pins": True}).text == lines
    whole = pair.get(PINS).text
    assert pin(pair, whole).json()[1]["pinned_host_keys"][0]["is_revoked"] is False
    assert pair.get(PINS, params={"only_pins": True}).text == whole


def test_a_refused_file_changes_nothing(
    pair: TestClient, agents: dict[str, EnrolledAgent], other_key: str
) -> None:
    """A bad line, a node left without any key; one sentence beside the field."""
    pin(pair, f"{B} {other_key}")
    for text, words in (
        (f"{B} {HOST_KEY}\n192.0.2.77 {HOST_KEY}", "Line 2 names no node"),
        (f"@cert-authority {B} {HOST_KEY}", "Line 1: certificate authorities"),
        (f"@revoked {B} {HOST_KEY}", "leave no trusted host key of node-b"),
    ):
        refused = pin(pair, text)
        assert refused.status_code == 422
        assert words in refused.json()["fields"]["known_hosts"]
        assert told(agents["node-a"]) == (other_key,)


def test_pins_stay_with_their_node(
    pair: TestClient, agents: dict[str, EnrolledAgent], other_key: str
) -> None:
    """Another address changes nothing; one that is revoked or removed is trusted by nobody."""
    pin(pair, f"{B} {other_key}")
    moved = {**NODE_B, "address": "198.51.100.13"}
    answer = pair.put("/api/v1/nodes/node-b", json=moved)
    assert answer.status_code == 200, answer.text
    assert told(agents["node-a"]) == (other_key,)
    assert f"198.51.100.13 {other_key}" in pair.get(PINS).text
    pair.post("/api/v1/nodes/node-b/revoke-key")
    assert told(agents["node-a"]) == ()
    gone = pair.delete("/api/v1/nodes/node-b", params={"abandon_queue": True})
    assert gone.status_code == 204, gone.text
    assert "198.51.100.13" not in pair.get(PINS, params={"only_pins": True}).text


@as_root
def test_a_real_sshd_must_show_what_is_pinned(
    pair: TestClient,
    loopback: dict[str, EnrolledAgent],
    peer: Peer,
    tmp_path: Path,
    other_key: str,
) -> None:
    """ssh(1) refuses the host's own key while another is pinned; the test of the peer says so."""
    node = Rotating(loopback["node-a"], peer, tmp_path / "a")
    peer.follow(loopback["node-b"])
    known_hosts = peer.sshd.root / "known_hosts"

    def use() -> PeerView:
        known_hosts.write_text(pair.get(PINS).text)
        return beat(loopback["node-a"]).view.peers[0]

    assert pin(pair, f"[127.0.0.2]:{peer.sshd.port} {other_key}").status_code == 200
    view = use()
    with pytest.raises(Unreachable, match="Host key verification failed"):
        peer.ping(node.key.file)
    report = PeerTester(peer.files(node.key.file)).test(
        PeerTestWish(id=1, peer=view), lambda _: None
    )
    assert (report.ok, report.lines[-1].step) == (False, PeerTestStep.HOST_KEY)
    assert str(fingerprint(other_key)) in report.text
    assert pin(pair, f"[127.0.0.2]:{peer.sshd.port} {peer.host_key}").status_code == 200
    use()
    peer.ping(node.key.file)
    node.rotation.stop()
