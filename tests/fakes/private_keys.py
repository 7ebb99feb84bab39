"""Private SSH keys made by ssh-keygen(1), as users bring them along."""

from __future__ import annotations

import subprocess
import tempfile
from pathlib import Path

ED25519 = ("-t", "ed25519")
SHORTEST_LINE = 32


def make_key(*options: str, passphrase: str = "") -> tuple[str, str]:
    """Return a fresh private key's text and its public line (with the comment "jane")."""
    with tempfile.TemporaryDirectory() as place:
        file = Path(place) / "key"
        words = ["ssh-keygen", "-q", "-C", "jane", "-N", passphrase, *(options or ED25519)]
        subprocess.run([*words, "-f", str(file)], check=True)
        return file.read_text(), file.with_suffix(".pub").read_text().strip()


def body_of(pem: str) -> list[str]:
    """Return the lines of a key that are its secret; none of them may come out anywhere.

    The last one may be so short that it stands elsewhere by chance.
    """
    lines = (line for line in pem.splitlines() if not line.startswith("-----"))
    return [line for line in lines if len(line) >= SHORTEST_LINE]
