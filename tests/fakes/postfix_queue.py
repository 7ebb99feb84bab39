"""A queue directory as Postfix keeps it, with whole and broken messages, but without Postfix."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Self

from nodeagent.adapters.owner import Owner
from nodeagent.core.queue_files import DIRECTORIES, hashed_directory
from nodeagent.errors import Refused

DIGITS = "0123456789BCDFGHJKLMNPQRSTVWXYZbcdfghjklmnpqrstvwxyz"


def queue_id(number: int) -> str:
    """Return a valid long queue id; consecutive numbers differ in their microseconds."""
    text = ""
    for _ in range(4):
        number, digit = divmod(number, len(DIGITS))
        text = DIGITS[digit] + text
    return f"4Xk9Rb{text}zH1"


def record(kind: str, body: bytes = b"") -> bytes:
    """Return one record: type, length in groups of seven bits, bytes."""
    length, groups = len(body), bytearray()
    while length > 0x7F:
        groups.append(length & 0x7F | 0x80)
        length >>= 7
    groups.append(length)
    return kind.encode() + bytes(groups) + body


def message(text: str = "hello", recipient: str = "b@test.invalid") -> bytes:
    """Return a whole message file."""
    envelope = record("C", b"%15d" % len(text)) + record("T", b"1") + record("S", b"a@test.invalid")
    content = record("M") + record("N", b"Subject: x") + record("N", text.encode())
    return envelope + record("R", recipient.encode()) + content + record("X") + record("E")


class PostfixQueue:
    """Does to a queue directory what Postfix's programs do."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.owner = Owner.named()
        root.mkdir(parents=True, exist_ok=True)
        for name in DIRECTORIES:
            self.owner.make_directory(root / name)

    def place(self, directory: str, name: str) -> Path:
        """Return where this queue keeps a file; deferred and defer are hashed, depth 1."""
        if directory not in {"deferred", "defer"}:
            return self.root / directory / name
        sub = self.root / directory / hashed_directory(name)
        if not sub.is_dir():
            self.owner.make_directory(sub)
        return sub / name

    def write(self, directory: str, name: str, data: bytes, mode: int = 0o700) -> Path:
        """Write a file as cleanup(8) does: 0600 first, its mode last."""
        path = self.place(directory, name)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(descriptor, data)
        os.fchmod(descriptor, mode)
        os.close(descriptor)
        if os.geteuid() == 0:
            os.chown(path, self.owner.uid, self.owner.gid)
        return path

    def accept(self, *numbers: int, text: str = "hello") -> list[str]:
        """Accept whole messages into incoming; return their ids."""
        names = [queue_id(number) for number in numbers]
        for name in names:
            self.write("incoming", name, message(text))
        return names

    def move(self, name: str, source: str, target: str) -> None:
        """Hop."""
        self.place(source, name).rename(self.place(target, name))

    def defer(self, name: str, source: str = "incoming") -> None:
        """Try, fail, note why, and put off; the next try is the modification time."""
        self.move(name, source, "active")
        self.log("defer", name, b"connection refused\n")
        os.utime(self.place("active", name), (2_000_000_000, 2_000_000_000))
        self.move(name, "active", "deferred")

    def log(self, directory: str, name: str, text: bytes) -> None:
        """Append to a log file of a message."""
        path = self.place(directory, name)
        if not path.exists():
            self.write(directory, name, text, mode=0o600)
            return
        with path.open("ab") as file:
            file.write(text)

    def mark_done(self, directory: str, name: str) -> None:
        """Mark a recipient as done, in place, as qmgr(8) does."""
        path = self.place(directory, name)
        offset = path.read_bytes().index(b"R")
        with path.open("r+b") as file:
            file.seek(offset)
            file.write(b"D")

    def deliver(self, name: str, directory: str = "active") -> None:
        """Deliver and remove a message."""
        self.place(directory, name).unlink()

    def replace_directories(self, aside: Path) -> None:
        """Rename the queues aside and make new ones, as the lease guard does."""
        aside.mkdir()
        for name in DIRECTORIES:
            (self.root / name).rename(aside / name)
            self.owner.make_directory(self.root / name)

    def remove_everything(self) -> None:
        """Empty the queue."""
        for name in DIRECTORIES:
            shutil.rmtree(self.root / name)
            self.owner.make_directory(self.root / name)


class StillFreeze:
    """A freeze without a guard; `before` runs as Postfix's last deed, `refuses` as the guard."""

    def __init__(self, before: Callable[[], None] | None = None, *, refuses: bool = False) -> None:
        self.before = before
        self.refuses = refuses
        self.length_ms = 0.0
        self.count = 0

    def __call__(self) -> Self:
        """Be the factory of itself."""
        return self

    def __enter__(self) -> Self:
        self.count += 1
        if self.before is not None:
            before, self.before = self.before, None
            before()
        return self

    def __exit__(self, kind: object, *_rest: object) -> None:
        if kind is None and self.refuses:
            raise Refused("The freeze ended before the snapshot was complete.")
        self.length_ms = 1.5
