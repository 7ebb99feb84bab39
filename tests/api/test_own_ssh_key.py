"""A private key of the user's own: given, fetched by its node alone, used, and never shown."""

from __future__ import annotations

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest
from fastapi.testclient import TestClient
from sqlalchemy import text

from controlplane.store.engine import Database
from nodeagent.core.ssh_wire import GivenKeyQuestion, fingerprint
from nodeagent.errors import Unreachable
from tests.api.test_ssh import kinds
from tests.fakes.enrolled_agent import HOST_KEY, SSH_KEY, EnrolledAgent
from tests.fakes.private_keys import body_of, make_key
from tests.fakes.ssh_peer import SSH, Peer, Rotating, beat, shown

VALUES = {"number": "1", "version": "1"}
KEY = f"{SSH}/node-a/key"
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="sshd lets root in only as root")


@pytest.fixture(scope="module")
def own_key() -> tuple[str, str]:
    """Give a private key and its public half."""
    private, public = make_key()
    return private, " ".join(public.split()[:2])


def give(client: TestClient, private: str, path: str = KEY, **more: Any) -> Any:
    """Bring a key along."""
    return client.put(path, json={"private_key": private, **more})


def fetched(agent: EnrolledAgent, public: str) -> Any:
    """Have a node ask for the private half."""
    return agent.post("ssh_key", GivenKeyQuestion(public_key=public))


def sealed(database: Database) -> list[str | None]:
    """Return what is stored of private halves."""
    with database.read() as session:
        return list(session.execute(text("SELECT private_sealed FROM given_ssh_keys")).scalars())


class TestTheWish:
    """What the node is told, what the page shows, and how it ends."""

    def test_from_the_key_to_its_use(
        self,
        pair: TestClient,
        agents: dict[str, EnrolledAgent],
        sqlite_database: Database,
        own_key: tuple[str, str],
    ) -> None:
        """Asked twice it is one; once in use the private half is erased here."""
        private, public = own_key
        for _ in range(2):
            view = give(pair, private).json()
            assert view["is_rotating"] is True
            assert view["next_key"]["fingerprint"] == fingerprint(public)
            assert view["next_key"]["given_by"] == "admin"
            assert view["next_key"]["given_at"] is not None
            assert view["client_key"]["given_by"] is None
        answer = beat(agents["node-a"], ssh_public_key=SSH_KEY)
        assert (answer.ssh_replace, answer.ssh_replace_by) == (SSH_KEY, public)
        assert fetched(agents["node-a"], public).status_code == 200
        comment = f"{public} mail-relay"
        beat(agents["node-a"], ssh_public_key=SSH_KEY, ssh_next_public_key=comment)
        assert beat(agents["node-b"]).view.peers[0].ssh_next_public_key == comment
        assert sealed(sqlite_database) != [None]
        assert beat(agents["node-a"], ssh_public_key=comment).ssh_replace_by is None
        assert sealed(sqlite_database) == [None]
        assert fetched(agents["node-a"], public).status_code == 404
        now = shown(pair)
        assert (now["is_rotating"], now["next_key"]) == (False, None)
        assert now["client_key"]["given_by"] == "admin"
        assert kinds(pair).count("ssh-rotated") == 1
        (row,) = (
            one for one in pair.get("/api/v1/audit").json() if one["action"] == "ssh.give-key"
        )
        assert row["after"] == {"type": "ssh-ed25519", "fingerprint": fingerprint(public)}

    def test_back_to_a_key_of_the_nodes_own(
        self,
        pair: TestClient,
        agents: dict[str, EnrolledAgent],
        sqlite_database: Database,
        own_key: tuple[str, str],
    ) -> None:
        """An ordinary rotation; then nothing is left of the user's key."""
        private, public = own_key
        give(pair, private)
        beat(agents["node-a"], ssh_public_key=public)
        pair.post(f"{SSH}/node-a/rotation")
        answer = beat(agents["node-a"], ssh_public_key=public)
        assert (answer.ssh_replace, answer.ssh_replace_by) == (public, None)
        beat(agents["node-a"], ssh_public_key=SSH_KEY)
        assert (shown(pair)["client_key"]["given_by"], sealed(sqlite_database)) == (None, [])

    @pytest.mark.parametrize(
        ("method", "path"),
        [
            ("DELETE", f"{SSH}/node-a/rotation"),
            ("POST", "/api/v1/nodes/node-a/revoke-key"),
            ("POST", "/api/v1/nodes/node-a/strike"),
            ("DELETE", "/api/v1/nodes/node-a?abandon_queue=true"),
        ],
    )
    def test_what_ends_the_wish_erases_the_key(
        self,
        pair: TestClient,
        agents: dict[str, EnrolledAgent],
        sqlite_database: Database,
        own_key: tuple[str, str],
        *,
        method: str,
        path: str,
    ) -> None:
        """Nobody can fetch it any more."""
        give(pair, own_key[0])
        assert len(sealed(sqlite_database)) == 1
        assert pair.request(method, path).status_code in {200, 204}
        assert sealed(sqlite_database) == []
        assert fetched(agents["node-a"], own_key[1]).status_code in {403, 404}

    def test_a_node_that_makes_a_key_of_its_own_instead_is_told_of(
        self,
        pair: TestClient,
        agents: dict[str, EnrolledAgent],
        sqlite_database: Database,
        own_key: tuple[str, str],
    ) -> None:
        """An agent of an earlier version knows of no users' keys."""
        give(pair, own_key[0])
        beat(agents["node-a"], ssh_public_key=HOST_KEY)
        (event,) = (
            one for one in pair.get("/api/v1/events").json() if one["kind"] == "ssh-rotated"
        )
        assert event["text"].endswith(f"not {fingerprint(own_key[1])} as it was asked.")
        assert sealed(sqlite_database) == []

    def test_only_its_node_gets_it_and_only_this_key(
        self, pair: TestClient, agents: dict[str, EnrolledAgent], own_key: tuple[str, str]
    ) -> None:
        """Another node asks in vain, and so does whoever has no token."""
        give(pair, own_key[0])
        assert fetched(agents["node-b"], own_key[1]).status_code == 404
        assert fetched(agents["node-a"], HOST_KEY).status_code == 404
        question = GivenKeyQuestion(public_key=own_key[1])
        assert agents["node-a"].post("ssh_key", question, "no token").status_code == 401


class TestRefusals:
    """One sentence beside the field, and nothing changed."""

    def test_each_field_has_its_sentence(
        self, pair: TestClient, agents: dict[str, EnrolledAgent], sqlite_database: Database
    ) -> None:
        """A wrong passphrase stands beside the passphrase, the rest beside the key."""
        locked, public = make_key(passphrase="right")
        for body, field, words in (
            ({"private_key": public}, "private_key", "public key; the private one"),
            ({"private_key": ""}, "private_key", "Paste a private key"),
            ({"private_key": "x" * 20_001}, "private_key", "too long for a private key"),
            ({"private_key": locked}, "passphrase", "has a passphrase; give it"),
            ({"private_key": locked, "passphrase": "no"}, "passphrase", "does not open"),
        ):
            refused = pair.put(KEY, json=body)
            assert refused.status_code == 422, refused.text
            assert words in refused.json()["fields"][field]
            assert locked not in refused.text
        assert sealed(sqlite_database) == []
        assert beat(agents["node-a"], ssh_public_key=SSH_KEY).ssh_replace is None
        assert give(pair, locked, passphrase="right").status_code == 200

    def test_a_key_belongs_to_one_node(
        self, pair: TestClient, agents: dict[str, EnrolledAgent], own_key: tuple[str, str]
    ) -> None:
        """Else each of the two could push as the other; the one in use is refused, too."""
        private, public = own_key
        give(pair, private)
        again = give(pair, private, f"{SSH}/node-b/key")
        assert again.json()["fields"]["private_key"].startswith("node-a has this key;")
        beat(agents["node-a"], ssh_public_key=f"{public} mail-relay")
        again = give(pair, private, f"{SSH}/node-b/key")
        assert again.json()["fields"]["private_key"].startswith("node-a has this key;")
        assert give(pair, private).json()["fields"] == {
            "private_key": "node-a uses this key already."
        }

    def test_one_rotation_at_a_time(
        self, pair: TestClient, agents: dict[str, EnrolledAgent], own_key: tuple[str, str]
    ) -> None:
        """Neither kind takes the other's place unnoticed."""
        assert agents
        pair.post(f"{SSH}/node-a/rotation")
        assert give(pair, own_key[0]).status_code == 409
        pair.delete(f"{SSH}/node-a/rotation")
        assert give(pair, own_key[0]).status_code == 200
        refused = pair.post(f"{SSH}/node-a/rotation")
        assert (refused.status_code, refused.json()["detail"]) == (
            409,
            "The SSH key of node-a is being replaced already; wait for that or end it.",
        )
        assert give(pair, make_key()[0]).status_code == 409

    def test_no_node_no_key(self, pair: TestClient, own_key: tuple[str, str]) -> None:
        """A node that is not there, or not enrolled."""
        assert give(pair, own_key[0], f"{SSH}/node-c/key").status_code == 404
        assert give(pair, own_key[0]).status_code == 409


def test_no_answer_and_no_file_has_the_key(
    pair: TestClient, agents: dict[str, EnrolledAgent], tmp_path: Path
) -> None:
    """Waiting or used: what every GET answers, and the files of the database, are searched."""
    private, public = make_key(passphrase="the passphrase")
    pair.put(KEY, json={"private_key": private, "passphrase": "the passphrase"})
    plain = fetched(agents["node-a"], " ".join(public.split()[:2])).json()["private_key"]
    secrets = [*body_of(private), *body_of(plain), "the passphrase"]
    pair.post("/api/v1/config/versions", json={"reason": "look"})
    paths = pair.get("/openapi.json").json()["paths"]
    for phase in ("waiting", "used"):
        if phase == "used":
            beat(agents["node-a"], ssh_public_key=public)
        texts = [
            pair.get(re.sub(r"{(\w+)}", lambda one: VALUES.get(one[1], "node-a"), path)).text
            for path, calls in paths.items()
            if "get" in calls and not path.startswith("/api/v1/agent/")
        ]
        assert len(texts) > 20
        texts += [beat(agent).model_dump_json() for agent in agents.values()]
        assert not [secret for secret in secrets if any(secret in one for one in texts)], phase
        files = [file for file in tmp_path.iterdir() if file.is_file()]
        assert any(b"given_ssh_keys" in file.read_bytes() for file in files)
        for file in files:
            assert not [one for one in secrets if one.encode() in file.read_bytes()], file


@as_root
def test_the_users_key_is_put_in_use_and_no_login_fails_meanwhile(
    pair: TestClient, loopback: dict[str, EnrolledAgent], peer: Peer, tmp_path: Path
) -> None:
    """With a real sshd, an ECDSA key in PEM; back again by a rotation; private on the disk."""
    node = Rotating(loopback["node-a"], peer, tmp_path / "a")
    key, old = node.key, tmp_path / "old"
    shutil.copy(key.file, old)
    peer.follow(loopback["node-b"])
    private, public = make_key("-t", "ecdsa", "-b", "521", "-m", "PEM", passphrase="open it")
    give(pair, private, passphrase="open it")
    node.rotate(pair, loopback["node-b"])
    assert key.public_key().split()[:2] == public.split()[:2]
    assert key.file.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in key.file.parent.iterdir()] == [key.file.name]
    peer.follow(loopback["node-b"])
    with pytest.raises(Unreachable, match="Permission denied"):
        peer.ping(old)
    users = tmp_path / "users"
    shutil.copy(key.file, users)
    node = Rotating(loopback["node-a"], peer, tmp_path / "a")
    pair.post(f"{SSH}/node-a/rotation")
    node.rotate(pair, loopback["node-b"])
    assert node.key.public_key().startswith("ssh-ed25519 ")
    peer.follow(loopback["node-b"])
    with pytest.raises(Unreachable, match="Permission denied"):
        peer.ping(users)
