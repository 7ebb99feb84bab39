"""The policy on this node's disk: the courier writes it, and the hook needs no network to start.

Sections are files named by the SHA-256 of their plain text, so a file never changes. A new
manifest is an offer, written when all of its sections are there; it replaces the one in force when
the hook has taken it, so that a policy which cannot be taken is not all that is left at a restart.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from nodeagent.adapters.durable import sync_directory
from nodeagent.errors import BrokenState
from nodeagent.policy.document import Manifest, Section
from nodeagent.policy.engine.sections import read_plain

MANIFEST: Final = "manifest.json"
OFFER: Final = "offer.json"
SUFFIX: Final = ".gz"
READABLE: Final = 0o640  # by the hook, whose group the directory has; nobody else: it has secrets


class StoredPolicy:
    """One directory; what is read is checked by who compiles it."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory

    def manifest(self) -> Manifest | None:
        """Return the manifest in force, None before the first; raises `BrokenState`."""
        return self._read(MANIFEST)

    def newest(self) -> Manifest | None:
        """Return what came last, be it in force or an offer only; raises `BrokenState`."""
        return self._read(OFFER) or self._read(MANIFEST)

    def _read(self, name: str) -> Manifest | None:
        path = self._directory / name
        try:
            return Manifest.model_validate_json(path.read_bytes())
        except FileNotFoundError:
            return None
        except (OSError, ValidationError) as error:
            raise BrokenState(f"{path} cannot be read.") from error

    def section(self, sha256: str) -> bytes | None:
        """Return a section's body, None when it is not here or cannot be read."""
        try:
            return self._file(sha256).read_bytes()
        except OSError:
            return None

    def lacking(self, manifest: Manifest) -> tuple[str, ...]:
        """Return which sections of a manifest are still to be fetched."""
        names = (section.sha256 for section in manifest.sections)
        return tuple(name for name in dict.fromkeys(names) if not self._file(name).exists())

    def keep_section(self, sha256: str, body: bytes) -> None:
        """Write a section; raises OSError."""
        self._write(self._file(sha256), body)

    def drop_torn(self, manifest: Manifest) -> bool:
        """Remove sections that are not what they are called: a disk lost a part of them.

        Return whether there was any.
        """
        torn = [section for section in manifest.sections if self._is_torn(section)]
        for section in torn:
            self._file(section.sha256).unlink(missing_ok=True)
        return bool(torn)

    def _is_torn(self, section: Section) -> bool:
        body = self.section(section.sha256)
        try:
            if body is not None:
                read_plain(section, body)
        except ValueError:
            return True
        return False

    def offer(self, manifest: Manifest) -> None:
        """Write what the hook is to try; what is in force stays beside it. Raises OSError."""
        self._write(self._directory / OFFER, manifest.model_dump_json().encode())
        sync_directory(self._directory)

    def take_offer(self) -> None:
        """Put the offer in force, if there is one, and drop sections that it does not name.

        Raises `BrokenState` and OSError.
        """
        manifest = self._read(OFFER)
        if manifest is None:
            return
        (self._directory / OFFER).rename(self._directory / MANIFEST)
        sync_directory(self._directory)
        named = {section.sha256 for section in manifest.sections}
        for path in list(self._directory.glob(f"*{SUFFIX}")):
            if path.name.removesuffix(SUFFIX) not in named:
                path.unlink(missing_ok=True)

    def _file(self, sha256: str) -> Path:
        return self._directory / f"{sha256}{SUFFIX}"

    def _write(self, path: Path, data: bytes) -> None:
        """Write a file whole or not at all; its content is on the disk before its name."""
        new = path.with_name(f"{path.name}.new")
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW
        with open(os.open(new, flags, READABLE), "wb") as file:  # noqa: PTH123 - has no such flag
            os.fchmod(file.fileno(), READABLE)
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        new.rename(path)
