"""Removing retired mail from a real directory: by age, in batches, never on a doubtful clock."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from nodeagent.adapters.queue_dirs import (
    QueueDirs,
    remove_retired,
    retired_ages_s,
    set_aside,
    take_back,
)

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="queue directories belong to postfix")
DAY_S = 86400.0


@pytest.fixture
def dirs(tmp_path) -> QueueDirs:
    """Return an empty live queue and nothing beside it."""
    made = QueueDirs(tmp_path / "live", tmp_path / "relay")
    made.make_directory(made.live)
    made.make_directory(made.relay)
    return made


def retire(dirs: QueueDirs, receipt: int, *names: str) -> Path:
    """Have these messages deferred, set aside, and given up to a receipt."""
    for name in names:
        dirs.make_directory(dirs.live / "deferred")
        (dirs.live / "deferred" / name).write_text("mail")
        dirs.make_directory(dirs.live / "defer")
        (dirs.live / "defer" / name).write_text("why")
    set_aside(dirs)
    assert take_back(dirs, dict.fromkeys(names, receipt), pytest.fail)
    return dirs.retired / str(receipt)


def age(directory: Path, days: float) -> None:
    """Make a receipt's directory that many days old."""
    at_s = time.time() - days * DAY_S
    os.utime(directory, (at_s, at_s))


def test_only_named_receipts_that_are_old_enough_are_removed(dirs):
    """Seven is old and named, eight is old only, nine is named only."""
    for receipt, days in ((7, 15), (8, 15), (9, 13)):
        age(retire(dirs, receipt, f"message{receipt}"), days)
    assert remove_retired(dirs, [7, 9, 10], 14 * DAY_S)
    assert {path.name for path in dirs.retired.iterdir()} == {"8", "9"}


def test_a_clock_that_jumped_back_removes_nothing(dirs):
    """Retired in the future, says the disk: not even a limit of nothing makes that old."""
    age(retire(dirs, 7, "message"), -2)
    assert remove_retired(dirs, [7], 0.0)
    assert (dirs.retired / "7/deferred/message").exists()


def test_mail_that_follows_under_the_same_receipt_makes_it_young_again(dirs):
    """The days count from the last message that was retired."""
    age(retire(dirs, 7, "first"), 20)
    retire(dirs, 7, "second")
    assert retired_ages_s(dirs)[7] < DAY_S
    assert remove_retired(dirs, [7], 14 * DAY_S)
    assert (dirs.retired / "7/deferred/first").exists()


def test_a_removal_cut_off_goes_on_where_it_stopped(dirs):
    """Batches do not make what is left look young."""
    receipt = retire(dirs, 7, *(f"message{number}" for number in range(5)))
    age(receipt, 15)
    assert not remove_retired(dirs, [7], 14 * DAY_S, limit=4)
    assert sum(1 for path in receipt.rglob("*") if path.is_file()) == 6
    assert not remove_retired(dirs, [7], 14 * DAY_S, limit=4)
    assert remove_retired(dirs, [7], 14 * DAY_S, limit=4)
    assert not receipt.exists()


def test_what_is_not_a_receipt_stays(dirs):
    """An administrator's own directory beside them is nobody's to remove."""
    age(retire(dirs, 7, "message"), 15)
    (dirs.retired / "kept by hand").mkdir()
    assert remove_retired(dirs, [7], 14 * DAY_S)
    assert [path.name for path in dirs.retired.iterdir()] == ["kept by hand"]
