"""Secrets at rest: sealed with a key outside the database, private from the first byte."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from cryptography.fernet import Fernet

from controlplane.errors import SetupFailed
from controlplane.store.crypto import KEY_FILE, SecretBox, create_private, replace_private


def test_what_is_sealed_opens_again(tmp_path: Path) -> None:
    """The key is made once and kept."""
    sealed = SecretBox.load(tmp_path).seal("pässword")
    assert "pässword" not in sealed
    assert SecretBox.load(tmp_path).open(sealed) == "pässword"


def test_sealing_twice_gives_different_texts(tmp_path: Path) -> None:
    """Equal passwords cannot be told from a stolen database."""
    box = SecretBox.load(tmp_path)
    assert box.seal("same") != box.seal("same")


def test_another_key_opens_nothing(tmp_path: Path) -> None:
    """A database restored without its key file says so in one sentence."""
    sealed = SecretBox.load(tmp_path / "one").seal("secret")
    with pytest.raises(SetupFailed, match=KEY_FILE):
        SecretBox.load(tmp_path / "two").open(sealed)


def test_a_changed_text_does_not_open(tmp_path: Path) -> None:
    """Sealed values are authenticated."""
    box = SecretBox.load(tmp_path)
    sealed = box.seal("secret")
    changed = sealed[:20] + ("A" if sealed[20] != "A" else "B") + sealed[21:]
    with pytest.raises(SetupFailed):
        box.open(changed)


def test_the_key_file_is_private(tmp_path: Path) -> None:
    """Mode 0600 in a directory of mode 0700."""
    SecretBox.load(tmp_path / "state")
    assert (tmp_path / "state" / KEY_FILE).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700


def test_a_broken_key_file_is_one_sentence(tmp_path: Path) -> None:
    """A damaged key stops the start; no new key is made over it."""
    (tmp_path / KEY_FILE).write_bytes(b"damaged")
    with pytest.raises(SetupFailed, match="not a valid key"):
        SecretBox.load(tmp_path)
    assert (tmp_path / KEY_FILE).read_bytes() == b"damaged"


def test_all_that_start_together_agree_on_one_key(tmp_path: Path) -> None:
    """The first file stays, whole, whoever else wanted to make one."""
    path = tmp_path / "key"
    threads = [
        threading.Thread(target=create_private, args=(path, Fernet.generate_key()))
        for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first = path.read_bytes()
    Fernet(first)
    create_private(path, Fernet.generate_key())
    assert path.read_bytes() == first
    assert [file.name for file in tmp_path.iterdir()] == ["key"]


def test_a_replaced_file_is_private_and_whole(tmp_path: Path) -> None:
    """The new content takes the place of the old in one step."""
    path = tmp_path / "tls" / "pair.pem"
    for content in (b"old", b"new"):
        replace_private(path, content)
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o777 == 0o600
    assert [file.name for file in path.parent.iterdir()] == ["pair.pem"]


def test_an_unwritable_place_is_one_sentence(tmp_path: Path) -> None:
    """The error names the file."""
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(SetupFailed, match="file/key"):
        create_private(tmp_path / "file" / "key", b"x")
