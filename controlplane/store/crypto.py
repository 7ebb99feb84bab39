"""Secrets at rest: sealed with a key that lives in a file outside the database.

A stolen database or backup alone opens no relay credential and no private key. The key file is made
at the first start, mode 0600; whoever restores a backup must bring it along.
"""

from __future__ import annotations

import os
import secrets
from pathlib import Path
from typing import Annotated

from cryptography.fernet import Fernet, InvalidToken
from fastapi import Depends, Request

from controlplane.errors import SetupFailed

KEY_FILE = "secret.key"


class SecretBox:
    """Seals and opens short texts (Fernet: AES-128-CBC with HMAC-SHA256)."""

    def __init__(self, key: bytes) -> None:
        try:
            self._fernet = Fernet(key)
        except ValueError as error:
            raise SetupFailed("The key for secrets at rest is not a valid key.") from error

    @classmethod
    def load(cls, state_dir: Path) -> SecretBox:
        """Read the key file below `state_dir`, or make it at the first start."""
        path = state_dir / KEY_FILE
        if not path.exists():
            create_private(path, Fernet.generate_key())
        try:
            return cls(path.read_bytes().strip())
        except OSError as error:
            raise SetupFailed(f"{path} cannot be read: {error.strerror}.") from error

    def seal(self, text: str) -> str:
        """Return `text` encrypted; two seals of the same text differ."""
        return self._fernet.encrypt(text.encode()).decode()

    def open(self, sealed: str) -> str:
        """Return the text; `SetupFailed` when another key sealed it."""
        try:
            return self._fernet.decrypt(sealed.encode()).decode()
        except InvalidToken as error:
            raise SetupFailed(
                f"A stored secret does not open: {KEY_FILE} is not the key it was sealed with."
            ) from error


def create_private(path: Path, content: bytes) -> None:
    """Write a file that only its owner may read, whole or not at all; an existing one stays.

    Two processes that start together agree on the one that was linked first.
    """
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_synced(temporary, content)
        try:
            os.link(temporary, path)
        except FileExistsError:
            return
        finally:
            temporary.unlink()
    except OSError as error:
        raise SetupFailed(f"{path} cannot be written: {error.strerror}.") from error


def replace_private(path: Path, content: bytes) -> None:
    """Put a new private file in place of an old one, in one step."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        _write_synced(temporary, content)
        temporary.replace(path)
    except OSError as error:
        raise SetupFailed(f"{path} cannot be written: {error.strerror}.") from error


def _write_synced(path: Path, content: bytes) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
    with os.fdopen(os.open(path, flags, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def get_secret_box(request: Request) -> SecretBox:
    """Give an endpoint the application's key."""
    box = request.app.state.secret_box
    if not isinstance(box, SecretBox):
        raise SetupFailed("The application was started without a key for secrets.")
    return box


SecretBoxDep = Annotated[SecretBox, Depends(get_secret_box)]
