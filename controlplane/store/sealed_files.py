"""A node's rendered files as one sealed text: they hold relay credentials and the TLS key."""

from __future__ import annotations

from pydantic import TypeAdapter

from controlplane.store.crypto import SecretBox
from nodeagent.core.contract import ConfigFile

_FILES = TypeAdapter(tuple[ConfigFile, ...])


def seal_files(box: SecretBox, files: tuple[ConfigFile, ...]) -> str:
    """Return the files as a text for the database."""
    return box.seal(_FILES.dump_json(files).decode())


def open_files(box: SecretBox, sealed: str) -> tuple[ConfigFile, ...]:
    """Return the files of a sealed text."""
    return _FILES.validate_json(box.open(sealed))
