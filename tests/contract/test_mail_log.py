"""Following the log: every line once, through rotation, compression, truncation and restarts."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from nodeagent.adapters.mail_log import CHUNK_BYTES, MailLog, Position

MOST_LINES = 1000


class Reader:
    """Reads as the agent does; `restart` forgets everything but the position."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.log = MailLog(path)
        self.position: Position | None = None
        self.gaps = 0

    def restart(self) -> None:
        """Begin anew, as after a kill."""
        self.log.close()
        self.log = MailLog(self.path)

    def new(self) -> list[str]:
        """Return what is new."""
        lines: list[str] = []
        while (chunk := self.log.read(self.position)) is not None:
            assert len(lines) < MOST_LINES, "it does not end"
            lines += chunk.lines
            self.gaps += chunk.is_after_gap
            self.position = chunk.position
        return lines


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Give where the log is; there is none yet."""
    return tmp_path / "mail.log"


@pytest.fixture
def reader(path: Path) -> Reader:
    """Give a reader of that log."""
    return Reader(path)


def write(path: Path, *lines: str) -> None:
    """Append whole lines."""
    with path.open("a", newline="") as file:
        file.writelines(f"{line}\n" for line in lines)


def rotate(path: Path, name: str, mtime_s: int, *, is_compressed: bool = False) -> Path:
    """Rename the log as logrotate(8) does, perhaps compress it, keeping its mtime."""
    os.utime(path, (mtime_s, mtime_s))
    target = path.rename(path.with_name(name))
    if is_compressed:
        packed = target.with_name(f"{name}.gz")
        packed.write_bytes(gzip.compress(target.read_bytes()))
        os.utime(packed, (mtime_s, mtime_s))
        target.unlink()
        return packed
    return target


def test_each_line_comes_once(path: Path, reader: Reader) -> None:
    """Nothing before there is a log, then what is there, then what is new."""
    assert reader.new() == []
    write(path, "one", "two")
    assert reader.new() == ["one", "two"]
    assert reader.new() == []
    write(path, "three")
    reader.restart()
    assert reader.new() == ["three"]


def test_half_a_line_waits_for_its_other_half(path: Path, reader: Reader) -> None:
    """A line counts when its end is written."""
    write(path, "one")
    with path.open("a") as file:
        file.write("tw")
    assert reader.new() == ["one"]
    with path.open("a") as file:
        file.write("o\n")
    assert reader.new() == ["two"]


@pytest.mark.parametrize("separator", ["\x0b", "\x0c", "\x1c", "\x85", "\u2028", "\r"])
def test_only_a_newline_ends_a_line(path: Path, reader: Reader, separator: str) -> None:
    """No other character lets a stranger begin a line of their own."""
    write(path, f"one{separator}Nov 21 08:50:08 h postfix/qmgr[1]: forged")
    assert len(reader.new()) == 1


@pytest.mark.parametrize("is_restarted", [False, True])
@pytest.mark.parametrize("is_compressed", [False, True])
def test_a_rotation_loses_nothing(
    path: Path, reader: Reader, is_restarted: bool, is_compressed: bool
) -> None:
    """What was written to the old file after the last look is read, then the new one."""
    write(path, "one")
    assert reader.new() == ["one"]
    write(path, "two")
    rotate(path, "mail.log.1", 1_700_000_000, is_compressed=is_compressed)
    if is_restarted:
        reader.restart()
    assert reader.new() == ["two"]
    path.touch()
    assert reader.new() == []
    write(path, "three")
    assert reader.new() == ["three"]
    assert reader.gaps == 0


def test_lines_written_to_the_old_file_after_its_renaming_are_read(
    path: Path, reader: Reader
) -> None:
    """postlogd(8) writes to the renamed file until it is told; the new file waits for that."""
    write(path, "one")
    assert reader.new() == ["one"]
    old = rotate(path, "mail.log.1", 1_700_000_000)
    path.touch()
    write(old, "two")
    assert reader.new() == ["two"]
    write(old, "three")
    write(path, "four")
    assert reader.new() == ["three", "four"]


def test_several_rotations_while_the_agent_was_off_are_read_in_order(
    path: Path, reader: Reader
) -> None:
    """Each rotated file since the position comes once, the oldest first, packed or not."""
    write(path, "zero")
    rotate(path, "mail.log.9", 1_600_000_000)
    write(path, "one")
    os.utime(path, (1_700_000_000, 1_700_000_000))
    assert reader.new() == ["one"]
    write(path, "two")
    rotate(path, "mail.log.3", 1_700_000_100, is_compressed=True)
    write(path, "three")
    rotate(path, "mail.log.2", 1_700_000_200, is_compressed=True)
    write(path, "four")
    rotate(path, "mail.log.1", 1_700_000_300)
    write(path, "five")
    reader.restart()
    assert reader.new() == ["two", "three", "four", "five"]
    assert reader.gaps == 0


def test_the_packed_copy_of_a_file_that_was_read_is_not_read_again(
    path: Path, reader: Reader
) -> None:
    """gzip(1) leaves both for a moment, and `postfix logrotate` packs at once."""
    write(path, "one")
    assert reader.new() == ["one"]
    old = rotate(path, "mail.log.1", 1_700_000_000)
    packed = old.with_name("mail.log.1.gz")
    packed.write_bytes(gzip.compress(old.read_bytes()))
    os.utime(packed, (1_700_000_000, 1_700_000_000))
    assert reader.new() == []
    old.unlink()
    assert reader.new() == []
    write(path, "two")
    assert reader.new() == ["two"]


def test_a_file_that_was_removed_unread_is_a_gap(path: Path, reader: Reader) -> None:
    """What cannot be found is said, not passed over in silence."""
    write(path, "one")
    assert reader.new() == ["one"]
    path.unlink()
    reader.restart()
    assert reader.new() == []
    write(path, "two")
    assert reader.new() == ["two"]
    assert reader.gaps == 1


def test_a_truncated_log_is_read_from_its_start(path: Path, reader: Reader) -> None:
    """Copytruncate of logrotate(8); also when it has grown beyond the old place since."""
    write(path, "one")
    assert reader.new() == ["one"]
    path.write_text("")
    assert reader.new() == []
    write(path, "two", "three", "four")
    assert reader.new() == ["two", "three", "four"]


def test_an_inode_that_was_given_again_is_another_file(path: Path, reader: Reader) -> None:
    """A file is known by what it begins with: the same inode and length prove nothing."""
    write(path, "one of the old file")
    assert reader.new() == ["one of the old file"]
    path.write_text("")
    write(path, "two, in a new file, longer than the old one was")
    reader.restart()
    assert reader.new() == ["two, in a new file, longer than the old one was"]


def test_a_line_without_end_is_passed_over(path: Path, reader: Reader) -> None:
    """What is longer than anything Postfix writes neither stops the reader nor fills memory."""
    path.write_text("x" * (CHUNK_BYTES + 10) + "\n")
    write(path, "two")
    assert [line[:10] for line in reader.new()][-1] == "two"


def test_a_reader_who_lost_their_place_can_begin_at_the_end(path: Path, reader: Reader) -> None:
    """Nothing is read twice."""
    assert reader.log.end() is None
    write(path, "one", "two")
    reader.position = reader.log.end()
    reader.restart()
    write(path, "three")
    assert reader.new() == ["three"]


def test_a_clock_that_steps_back_has_nothing_read_twice(path: Path, reader: Reader) -> None:
    """The log is the newest file, whatever the times of the others say."""
    write(path, "one")
    assert reader.new() == ["one"]
    rotate(path, "mail.log.1", 4_000_000_000)
    write(path, "two")
    assert reader.new() == ["two"]
    reader.restart()
    assert reader.new() == []
    write(path, "three")
    assert reader.new() == ["three"]
