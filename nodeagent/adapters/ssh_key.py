"""The node's SSH key, and the one that shall replace it; neither leaves this host.

The next key is made here, or a user brought it along; each kind has a file of its own, and at most
one of the two is there. Which key is in use is decided by one rename; whatever its type, the file's
name stays. The public half is worked out of the private one, so that no moment shows halves of two
keys: ssh(1) would offer the one and sign with the other.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from nodeagent.adapters.durable import sync_directory, write_durably
from nodeagent.errors import BrokenState, ToolFailed

COMMENT: Final = "mail-relay"


class SshKey:
    """The key files below one directory; for one writing thread at a time."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self.file = directory / "id_ed25519"
        self.next_file = directory / "id_ed25519.next"
        self.given_file = directory / "id_given.next"

    def make(self) -> None:
        """Make the key if there is none."""
        if not self.file.exists():
            self._generate(self.file)

    def make_next(self) -> None:
        """Make the key that shall replace the present one, if there is none yet."""
        self.given_file.unlink(missing_ok=True)
        if not self.next_file.exists():
            self._generate(self.next_file)

    def take_next(self, private: str, public_key: str) -> None:
        """Have a user's key replace the present one; raises `BrokenState` if it is another."""
        if _words(_public_half(private.encode())) != _words(public_key):
            raise BrokenState("The private key that came is not of the public key announced.")
        self.next_file.unlink(missing_ok=True)
        write_durably(self.given_file, private.encode())

    def following(self) -> Path | None:
        """Return the file of the next key, None when there is none."""
        return next((file for file in (self.given_file, self.next_file) if file.exists()), None)

    def has_next(self, public_key: str | None) -> bool:
        """Tell whether the next key is this one of a user's; None: one that was made here."""
        if public_key is None:
            return self.following() == self.next_file
        shown = self.next_public_key() if self.following() == self.given_file else None
        return shown is not None and _words(shown) == _words(public_key)

    def drop_next(self) -> None:
        """Keep the present key after all."""
        for file in (self.given_file, self.next_file):
            file.unlink(missing_ok=True)

    def replace(self) -> None:
        """Put the next key in the present one's place, in one step."""
        following = self.following()
        if following is None:
            raise BrokenState("There is no next SSH key.")
        self.file.with_suffix(".pub").unlink(missing_ok=True)
        following.replace(self.file)
        sync_directory(self._directory)

    def public_key(self) -> str:
        """Return the public half of the key in use as one line; raises `BrokenState`."""
        try:
            return _public_half(self.file.read_bytes())
        except OSError as error:
            raise BrokenState("The node's SSH key is missing.") from error

    def next_public_key(self) -> str | None:
        """Return the public half of the next key, None when there is none."""
        for file in (self.given_file, self.next_file):
            try:
                return _public_half(file.read_bytes())
            except FileNotFoundError:
                continue
        return None

    def shown(self) -> tuple[str, str | None]:
        """Return the public halves of both keys, as a heartbeat shows them.

        The next one is read first: when it takes the other's place meanwhile it is shown twice,
        and never not at all. Peers let in what is shown.
        """
        following = self.next_public_key()
        return self.public_key(), following

    def _generate(self, path: Path) -> None:
        self._directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = path.with_name(f"{path.name}.fresh")
        for left in (fresh, fresh.with_name(f"{fresh.name}.pub")):
            left.unlink(missing_ok=True)
        command = ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", COMMENT, "-f", str(fresh)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise ToolFailed(f"ssh-keygen failed: {done.stderr.strip()[:200]}")
        fresh.with_name(f"{fresh.name}.pub").unlink()
        with fresh.open("rb") as file:
            os.fsync(file.fileno())
        fresh.replace(path)
        sync_directory(self._directory)


def _words(public_key: str) -> list[str]:
    """Return type and key, without the comment."""
    return public_key.split()[:2]


def _public_half(private: bytes) -> str:
    try:
        public = serialization.load_ssh_private_key(private, password=None).public_key()
        line = public.public_bytes(
            serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
        )
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise BrokenState("The node's SSH key cannot be read.") from error
    return f"{line.decode()} {COMMENT}"
