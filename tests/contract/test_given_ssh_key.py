"""A user's key as the node's next one: on its disk, and in whatever order wishes come."""

from __future__ import annotations

from pathlib import Path

import pytest

from controlplane.core.private_keys import KeyPair, read_private_key
from nodeagent.adapters.ssh_key import SshKey
from nodeagent.errors import BrokenState
from tests.fakes.private_keys import make_key


@pytest.fixture
def key(tmp_path: Path) -> SshKey:
    """Give a node's key."""
    made = SshKey(tmp_path / "ssh")
    made.make()
    return made


@pytest.fixture(scope="module")
def given() -> KeyPair:
    """Give a user's key as the control plane sends it."""
    return read_private_key(make_key()[0])


def test_it_is_shown_as_the_next_one_and_put_in_use(key: SshKey, given: KeyPair) -> None:
    """Readable by root alone from its first moment; the old one is gone."""
    key.take_next(given.private, given.public)
    assert key.given_file.stat().st_mode & 0o777 == 0o600
    assert key.shown()[1] == f"{given.public} mail-relay"
    assert key.has_next(given.public)
    assert not key.has_next(None)
    key.replace()
    assert key.public_key() == f"{given.public} mail-relay"
    assert key.file.read_text() == given.private
    assert key.shown()[1] is None
    assert [file.name for file in key.file.parent.iterdir()] == ["id_ed25519"]


def test_another_key_than_announced_is_not_taken(key: SshKey, given: KeyPair) -> None:
    """The peers would let in what nobody has; garbage is refused as well."""
    before = key.shown()
    other = read_private_key(make_key()[0])
    for private in (other.private, "garbage", ""):
        with pytest.raises(BrokenState):
            key.take_next(private, given.public)
    assert key.shown() == before
    assert key.following() is None


def test_the_last_wish_counts(key: SshKey, given: KeyPair) -> None:
    """A wish that was ended and another that came before the next heartbeat: one next key."""
    key.make_next()
    assert key.has_next(None)
    assert not key.has_next(given.public)
    key.take_next(given.private, given.public)
    assert not key.next_file.exists()
    other = read_private_key(make_key()[0])
    assert not key.has_next(other.public)
    key.take_next(other.private, other.public)
    assert key.has_next(other.public)
    key.make_next()
    assert key.has_next(None)
    assert not key.given_file.exists()
    key.take_next(given.private, given.public)
    key.drop_next()
    assert key.following() is None
    with pytest.raises(BrokenState):
        key.replace()
