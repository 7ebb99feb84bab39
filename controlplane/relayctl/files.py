"""Reads and writes the files that a command line names."""

from __future__ import annotations

import sys
from pathlib import Path

from controlplane.relayctl.errors import Misused


def read_text(file: Path) -> str:
    """Return a file's text, that of standard input for "-"; raises Misused."""
    try:
        return sys.stdin.read() if str(file) == "-" else file.read_text()
    except OSError as error:
        raise Misused(f"{file} cannot be read: {error.strerror}.") from error
    except UnicodeDecodeError as error:
        raise Misused(f"{file} is not UTF-8 text.") from error


def read_bytes(file: Path) -> bytes:
    """Return a file's bytes, those of standard input for "-"; raises Misused."""
    try:
        return sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
    except OSError as error:
        raise Misused(f"{file} cannot be read: {error.strerror}.") from error


def write_text(file: Path, text: str) -> None:
    """Write a file in one go; raises Misused."""
    try:
        file.write_text(text)
    except OSError as error:
        raise Misused(f"{file} cannot be written: {error.strerror}.") from error
