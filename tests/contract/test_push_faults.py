"""Pushes on a host that fails them, and to a peer that answers nonsense: no change is forgotten."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.errors import AgentError, Unreachable
from tests.contract.test_push import Pair
from tests.fakes.postfix_queue import queue_id
from tests.fakes.pushes import mail

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="sshd lets root in only as root")


@pytest.fixture
def pair(tmp_path, sshd) -> Iterator[Pair]:
    """Give a sender whose queue has been pushed once: one, two, three."""
    pair = Pair(tmp_path, sshd)
    pair.queue.accept(1, 2, 3)
    pair.push()
    yield pair
    pair.close()


def change(pair: Pair) -> None:
    """Deliver one message and accept another."""
    pair.queue.deliver(queue_id(1), "incoming")
    pair.queue.accept(4)


def check_nothing_forgotten(pair: Pair) -> None:
    """Push again: the mirror is what the queue is, and nothing of the failure is left behind."""
    pair.push()
    assert pair.keys() == {mail(queue_id(number)) for number in (2, 3, 4)}
    assert list((pair.root / "snapshot").iterdir()) == []


def path_without(program: str, place: Path) -> str:
    """Return a PATH on which all programs are but this one."""
    place.mkdir()
    for name in {"ssh", "rsync"} - {program}:
        found = shutil.which(name)
        assert found is not None
        (place / name).symlink_to(found)
    return str(place)


@pytest.mark.parametrize("program", ["rsync", "ssh"])
def test_a_missing_program_is_one_sentence_and_costs_no_change(
    pair, program, tmp_path, monkeypatch
):
    """An upgrade takes it away for a moment: what was touched meanwhile is in the next push."""
    change(pair)
    with monkeypatch.context() as patch:
        patch.setenv("PATH", path_without(program, tmp_path / "bin"))
        if program == "ssh":
            pair.pusher._link.close()
        with pytest.raises(Unreachable, match=program):
            pair.push()
    check_nothing_forgotten(pair)


def test_a_run_directory_that_cannot_be_made_is_one_sentence(pair, sshd):
    """The connection cannot be opened: unreachable, as any other time."""
    change(pair)
    pair.pusher._link.close()
    run = sshd.run
    shutil.rmtree(run)
    run.write_text("in the way")
    with pytest.raises(Unreachable, match="node-b cannot be reached"):
        pair.push()
    run.unlink()
    check_nothing_forgotten(pair)


def test_a_snapshot_that_the_disk_refuses_costs_no_change(pair):
    """No directory for the links: the log has its changes again."""
    change(pair)
    root = pair.root / "snapshot"
    root.rmdir()
    root.write_text("in the way")
    with pytest.raises(OSError, match="snapshot"):
        pair.push()
    root.unlink()
    check_nothing_forgotten(pair)


def test_a_full_mirror_takes_nothing_by_halves(pair):
    """The journal cannot be written: the peer says so, keeps what it had, and takes the next."""
    change(pair)
    before = pair.keys()
    journal = pair.mirror.path / "journal.json.new"
    journal.mkdir()
    with pytest.raises(AgentError, match=r"journal\.json\.new"):
        pair.push()
    assert pair.keys() == before
    journal.rmdir()
    check_nothing_forgotten(pair)


ANSWERS = (
    '{"ok": true}',
    '{"ok": true, "token": 5, "sequence": 0, "agent": ""}',
    '{"ok": true, "token": "x", "sequence": -1, "agent": ""}',
    '{"ok": true, "token": "x", "sequence": 1e9, "agent": ""}',
    '{"ok": true, "token": "x", "sequence": 0, "files": {"mail": {"../x": [1, 1]}}}',
    '{"ok": true, "token": "x", "sequence": 0, "files": {"spam": {"x": [1, 1]}}}',
    '{"ok": true, "token": "x", "sequence": 0, "files": []}',
    '{"ok": "yes"}',
    "[]",
    "Welcome to node-b!",
)


@pytest.mark.parametrize("answer", ANSWERS)
def test_a_peer_that_answers_nonsense_is_told_from_one_that_answers(tmp_path, sshd, answer):
    """Whatever it says, the push fails in one sentence; with a sane peer it begins anew."""
    keys = sshd.root / "authorized_keys"
    sane = keys.read_text()
    script = tmp_path / "nonsense"
    script.write_text(f"#!/bin/sh\nwhile read line; do printf '%s\\n' '{answer}'; done\n")
    script.chmod(0o755)
    keys.write_text(f'command="{script}",restrict {(sshd.root / "id.pub").read_text()}')
    pair = Pair(tmp_path, sshd)
    try:
        pair.queue.accept(1, 2, 3)
        with pytest.raises(AgentError):
            pair.push()
        change(pair)
        keys.write_text(sane)
        pair.pusher._link.close()
        check_nothing_forgotten(pair)
    finally:
        pair.close()
