"""Any order of writing, rotating, packing, restarting: each line comes once, or a gap says so."""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from nodeagent.adapters.mail_log import CHUNK_BYTES, MailLog
from tests.contract.test_mail_log import Reader, path, reader, rotate, write

__all__ = ["path", "reader"]

START_S = 1_700_000_000


class Machine:
    """A host whose log is written and rotated, with a clock that moves at each step."""

    def __init__(self, home: Path) -> None:
        self.path = home / "mail.log"
        self.reader = Reader(self.path)
        self.written: list[str] = []
        self.read: list[str] = []
        self._steps = 0
        self._rotated: list[Path] = []
        self._is_torn = False
        self.write()
        self.look()

    def _touch(self) -> None:
        os.utime(self.path, (START_S + self._steps, START_S + self._steps))

    def write(self) -> None:
        """Append a line, or the rest of one."""
        line = f"line {len(self.written)}"
        with self.path.open("a") as file:
            file.write(f"{line[4:] if self._is_torn else line}\n")
        self._is_torn = False
        self.written.append(line)
        self._touch()

    def tear(self) -> None:
        """Append the beginning of the next line."""
        if not self._is_torn:
            with self.path.open("a") as file:
                file.write("line")
            self._is_torn = True
            self._touch()

    def rotate(self, name: str) -> None:
        """Rename the log; what is torn is finished first, as postlogd(8) does."""
        if self._is_torn:
            self.write()
        if self.path.exists():
            self._rotated.append(self.path.rename(self.path.with_name(name)))

    def copy_and_truncate(self) -> None:
        """Copytruncate of logrotate(8)."""
        if self._is_torn:
            self.write()
        if self.path.exists() and self.path.stat().st_size:
            copy = self.path.with_name(f"mail.log.{self._steps}")
            shutil.copy2(self.path, copy)
            self._rotated.append(copy)
            os.truncate(self.path, 0)
            self._touch()

    def pack(self) -> None:
        """Compress the oldest file that is not packed, keeping its time."""
        if self._rotated:
            old = self._rotated.pop(0)
            packed = old.with_name(f"{old.name}.gz")
            packed.write_bytes(gzip.compress(old.read_bytes()))
            shutil.copystat(old, packed)
            old.unlink()

    def look(self) -> None:
        """Read what is new."""
        self.read += self.reader.new()

    def step(self, name: str) -> None:
        """Do one thing."""
        self._steps += 1
        if name == "rotate":
            self.rotate(f"mail.log.{self._steps}")
        elif name == "rotate by date":
            self.rotate(f"mail.log-{20260000 + self._steps}")
        else:
            steps = {
                "write": self.write,
                "tear": self.tear,
                "copytruncate": self.copy_and_truncate,
                "pack": self.pack,
                "look": self.look,
                "restart": self.reader.restart,
            }
            steps[name]()


STEPS = ("write", "tear", "rotate", "rotate by date", "copytruncate", "pack", "look", "restart")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(STEPS), max_size=25))
@example(["write", "copytruncate", "write", "look"])
@example(["write", "rotate by date", "restart", "look"])
@example(["write", "rotate", "write", "rotate", "pack", "pack", "restart", "write"])
def test_each_line_comes_once_in_its_order_whatever_is_rotated(steps: list[str]) -> None:
    """Nothing is lost, doubled or mixed up as long as no file is removed, and no gap is told."""
    with tempfile.TemporaryDirectory() as home:
        machine = Machine(Path(home))
        for step in steps:
            machine.step(step)
        machine.step("write")
        machine.step("restart")
        machine.look()
        assert machine.read == machine.written, steps
        assert machine.reader.gaps == 0
        machine.reader.log.close()


def test_what_was_written_before_a_copytruncate_is_read_from_the_copy(
    path: Path, reader: Reader
) -> None:
    """The reader that runs knows the file by its inode no more than one that starts."""
    write(path, "one")
    assert reader.new() == ["one"]
    write(path, "two")
    shutil.copy2(path, path.with_name("mail.log.1"))
    os.truncate(path, 0)
    assert reader.new() == ["two"]
    write(path, "three")
    assert reader.new() == ["three"]
    assert reader.gaps == 0


def test_a_truncation_without_a_copy_is_a_gap(path: Path, reader: Reader) -> None:
    """Nobody knows what stood there: it is said."""
    write(path, "one")
    assert reader.new() == ["one"]
    path.write_text("")
    write(path, "two")
    assert reader.new() == ["two"]
    assert reader.gaps == 1


@pytest.mark.parametrize("keep", [0, 10, 0.5])
def test_a_packed_file_that_breaks_off_is_a_gap(path: Path, reader: Reader, keep: float) -> None:
    """A power loss while gzip(1) wrote: what cannot be unpacked is not passed over in silence."""
    write(path, "one")
    assert reader.new() == ["one"]
    write(path, *(os.urandom(300).hex() for _ in range(900)))
    old = rotate(path, "mail.log.1", START_S)
    packed = gzip.compress(old.read_bytes())
    size = int(len(packed) * keep) if isinstance(keep, float) else keep
    old.with_name("mail.log.1.gz").write_bytes(packed[:size])
    os.utime(old.with_name("mail.log.1.gz"), (START_S, START_S))
    old.unlink()
    write(path, "last")
    reader.restart()
    assert reader.new()[-1] == "last"
    assert reader.gaps == 1


@pytest.mark.parametrize("name", ["mail.log.d", "mail.log.fifo", "mail.log.self"])
def test_what_is_no_log_beside_the_log_holds_nobody_up(
    path: Path, reader: Reader, name: str
) -> None:
    """A directory, a symbolic link to itself, or a pipe that nobody writes to."""
    other = path.with_name(name)
    if name.endswith("d"):
        other.mkdir()
    elif name.endswith("fifo"):
        os.mkfifo(other)
    else:
        other.symlink_to(other)
    write(path, "one")
    assert reader.new() == ["one"]
    path.unlink()
    reader.restart()
    assert reader.new() == []
    write(path, "two")
    assert reader.new() == ["two"]


def test_a_log_that_is_unreadable_for_a_while_costs_no_line(path: Path, reader: Reader) -> None:
    """A directory in its place, as a wrong restore leaves it; then the file is back."""
    write(path, "one")
    assert reader.new() == ["one"]
    away = path.rename(path.with_name("elsewhere"))
    path.mkdir()
    reader.restart()
    assert reader.new() == []
    path.rmdir()
    away.rename(path)
    write(path, "two")
    assert reader.new() == ["two"]
    assert reader.gaps == 0


def test_lines_across_a_chunks_end_stay_whole(path: Path) -> None:
    """Chunks end where lines end, whatever their length."""
    lines = [f"{number} " + "x" * (number * 37 % 900) for number in range(3000)]
    path.write_text("".join(f"{line}\n" for line in lines))
    assert path.stat().st_size > 4 * CHUNK_BYTES
    found: list[str] = []
    log, position = MailLog(path), None
    while (chunk := log.read(position)) is not None:
        found += chunk.lines
        position = chunk.position
    assert found == lines
    log.close()
