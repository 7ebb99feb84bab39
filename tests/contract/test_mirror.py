"""The mirror on a real filesystem: pushes are taken whole or not at all, and survive a kill."""

from __future__ import annotations

import json
import os
import stat
import threading
from dataclasses import replace

import pytest

from nodeagent.adapters.mirror import Mirror
from nodeagent.core.push_rules import PushRefusal
from nodeagent.core.queue_files import Key, Kind
from nodeagent.errors import BrokenState, Refused
from tests.fakes.postfix_queue import message, queue_id
from tests.fakes.pushes import VIP, PushKit, mail

ONE, TWO, THREE = (mail(queue_id(number)) for number in (1, 2, 3))
HELD = Key(Kind.HOLD, ONE.id)
LOG = Key(Kind.DEFER, ONE.id)


@pytest.fixture
def kit(tmp_path) -> PushKit:
    """Give an empty mirror of node-a."""
    return PushKit(tmp_path)


class TestPush:
    """What a push does to the mirror."""

    def test_a_full_push_fills_an_empty_mirror(self, kit):
        """The files are there with their bytes, owner and mode; the state counts messages."""
        placed = kit.full({ONE: message("1"), LOG: b"why\n"})
        assert placed.verdict.is_accepted
        assert (placed.state.sequence, placed.state.messages) == (1, 1)
        assert kit.keys() == {ONE, LOG}
        assert kit.read(ONE) == message("1")
        status = (kit.mirror.path / "mail" / ONE.id).stat()
        assert stat.S_IMODE(status.st_mode) == 0o700
        assert status.st_uid == kit.mirror.owner.uid

    def test_directories_belong_to_postfix(self, kit):
        """qmgr(8) dies over directories of anybody else, and adoption only renames."""
        for kind in Kind:
            status = (kit.mirror.path / kind).stat()
            assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (kit.mirror.owner.uid, 0o700)

    def test_a_push_of_changes_adds_replaces_and_removes(self, kit):
        """What it does not name stays."""
        kit.full({ONE: message("1"), TWO: message("2")})
        placed = kit.commit({ONE: message("x"), THREE: message("3")}, removes=[TWO])
        assert kit.keys() == {ONE, THREE}
        assert kit.read(ONE) == message("x")
        assert placed.state.messages == 2

    def test_a_full_push_removes_what_it_does_not_list(self, kit):
        """It says what the queue is, not what changed."""
        kit.full({ONE: message("1"), TWO: message("2"), LOG: b"why\n"})
        placed = kit.commit({THREE: message("3")}, listed=[ONE, THREE])
        assert kit.keys() == {ONE, THREE}
        assert placed.state.messages == 2

    def test_a_full_push_says_what_is_missing(self, kit):
        """A file that the sender believes here and is not is asked for."""
        kit.full({ONE: message("1"), TWO: message("2")})
        (kit.mirror.path / "mail" / TWO.id).unlink()
        placed = kit.commit({}, listed=[ONE, TWO])
        assert placed.missing == {TWO}
        assert placed.state.messages == 1

    def test_an_empty_push_moves_the_sequence_and_touches_nothing(self, kit):
        """It says that the copy is as new as the push."""
        kit.full({ONE: message("1")})
        before = (kit.mirror.path / "mail").stat().st_mtime_ns
        placed = kit.commit({})
        assert (placed.state.sequence, placed.state.messages) == (2, 1)
        assert (kit.mirror.path / "mail").stat().st_mtime_ns == before

    def test_mail_that_was_put_on_hold_moves(self, kit):
        """One key goes, the other comes, in one push."""
        kit.full({ONE: message("1")})
        placed = kit.commit({HELD: message("1")}, removes=[ONE])
        assert kit.keys() == {HELD}
        assert placed.state.messages == 1

    def test_the_state_survives_the_process(self, kit, tmp_path):
        """The sequence and the generations are on disk."""
        kit.generation = 4
        kit.full({ONE: message("1")})
        state = PushKit(tmp_path).mirror.read_state()
        assert (state.highest_generation, state.sequence, state.agent) == (4, 1, "agent-1")


class TestRefusal:
    """A push that is refused under the lock changes nothing."""

    @pytest.mark.parametrize(
        ("change", "refusal"),
        [
            ({"generation": 2}, PushRefusal.GENERATION),
            ({"sequence": 1}, PushRefusal.SEQUENCE),
            ({"base": 0}, PushRefusal.BASE),
            ({"agent": "agent-2"}, PushRefusal.NOT_FULL),
            ({"holds_vips": frozenset()}, PushRefusal.DIRECTION),
            ({"queue": "node-c"}, PushRefusal.STRANGER),
        ],
    )
    def test_a_push_that_does_not_fit_is_dropped_whole(self, kit, change, refusal):
        """Neither its files nor its removals nor its number get in."""
        kit.generation = 3
        kit.full({ONE: message("1")})
        offer = replace(kit.offer(), **change)
        placed = kit.commit({TWO: message("2")}, removes=[ONE], offer=offer)
        assert placed.verdict.refusal is refusal
        assert kit.keys() == {ONE}
        assert kit.mirror.read_state().sequence == 1

    def test_a_host_with_the_vip_takes_nothing(self, kit):
        """P4, looked at again under the lock."""
        kit.addresses = frozenset({VIP})
        assert kit.full({ONE: message("1")}).verdict.refusal is PushRefusal.DIRECTION
        assert kit.keys() == set()

    def test_an_orphan_of_an_older_session_is_dropped(self, kit):
        """Trace 10: staged before, committed after a newer push."""
        kit.full({ONE: message("1")})
        late = kit.offer()
        kit.commit({}, removes=[ONE])
        placed = kit.commit({ONE: message("1")}, offer=late)
        assert placed.verdict.refusal is PushRefusal.SEQUENCE
        assert kit.keys() == set()

    def test_an_unreadable_state_takes_nothing(self, kit):
        """Unknown is never permission."""
        kit.full({ONE: message("1")})
        (kit.mirror.path / "state.json").write_text("{")
        with pytest.raises(BrokenState, match=r"state\.json cannot be read"):
            kit.keys()

    @pytest.mark.parametrize("name", ["../x", "", "A", "node_a", "x/y"])
    def test_a_mirror_has_the_name_of_a_node(self, kit, name):
        """No name leads out of the mirrors' directory."""
        with pytest.raises(Refused):
            Mirror(kit.root, name, events=kit.events)


class TestBadFiles:
    """A bad copy goes to quarantine, is reported once, and never replaces a good one."""

    def check_rejected(self, kit, placed, text):
        """Check that the good copy stayed and that one event says what is wrong with the other."""
        assert text in placed.rejected[ONE]
        assert kit.read(ONE) == message("1")
        assert kit.keys() == {ONE, TWO}
        assert [event.kind for event in kit.events.read()] == ["quarantined"]
        assert ONE.id in kit.events.read()[0].text

    @pytest.fixture
    def filled(self, kit) -> PushKit:
        """Give a mirror with one good message."""
        kit.full({ONE: message("1")})
        return kit

    def test_a_torn_file(self, filled):
        """A message without its end; the rest of the push proceeds."""
        placed = filled.commit({ONE: message("new")[:-4], TWO: message("2")})
        self.check_rejected(filled, placed, "no end record")
        assert filled.quarantined() == {f"mail.{ONE.id}"}

    def test_a_file_of_the_wrong_size(self, filled):
        """Whole, but not what the sender has."""
        place = filled.stage({ONE: message("longer"), TWO: message("2")})
        placed = filled.commit_staged(place, {ONE: 1, TWO: len(message("2"))})
        self.check_rejected(filled, placed, "bytes instead of 1")

    def test_a_file_still_being_written(self, filled):
        """Mode 0600 says that cleanup(8) has not finished it."""
        placed = filled.commit({ONE: message("x"), TWO: message("2")}, mode=0o600)
        assert "mode is 0600" in placed.rejected[ONE]
        assert set(placed.rejected) == {ONE, TWO}
        assert filled.read(ONE) == message("1")

    def test_a_symbolic_link(self, filled):
        """A link is no queue file, wherever it points."""
        place = filled.stage({TWO: message("2")})
        link = filled.mirror.path / "staging" / place / "mail" / ONE.id
        link.symlink_to("/etc/passwd")
        placed = filled.commit_staged(place, {ONE: 1, TWO: len(message("2"))})
        self.check_rejected(filled, placed, "not a plain file")

    @pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
    def test_a_file_of_another_user(self, filled):
        """Postfix would not touch it."""
        place = filled.stage({ONE: message("x")})
        os.chown(filled.mirror.path / "staging" / place / "mail" / ONE.id, 0, 0)
        placed = filled.commit_staged(place, {ONE: len(message("x"))})
        assert placed.rejected == {ONE: "it belongs to user 0"}
        assert filled.read(ONE) == message("1")

    def test_a_bad_file_keeps_the_other_key_of_its_message(self, filled):
        """A held copy that is bad must not cost the good copy of the mail."""
        placed = filled.commit({HELD: b"torn"}, removes=[ONE])
        assert set(placed.rejected) == {HELD}
        assert filled.keys() == {ONE}
        assert placed.state.messages == 1

    def test_a_file_that_was_not_sent(self, filled):
        """Announced and absent: reported, nothing to quarantine."""
        place = filled.stage({})
        placed = filled.commit_staged(place, {TWO: 5})
        assert placed.rejected == {TWO: "it was announced but not sent"}
        assert filled.quarantined() == set()

    def test_the_same_bad_file_is_reported_once(self, filled):
        """A sender that tries again does not flood the events."""
        for _ in range(3):
            filled.commit({ONE: b"C"})
        assert len(filled.events.read()) == 1

    def test_a_log_may_have_grown(self, filled):
        """Logs are appended to through the snapshot's link while they are read."""
        place = filled.stage({LOG: b"first\nsecond\n"})
        placed = filled.commit_staged(place, {LOG: 6})
        assert placed.rejected == {}
        assert filled.read(LOG) == b"first\nsecond\n"


class TestJournal:
    """What a killed push left is finished by the next that takes the lock, or stops everything."""

    def test_an_old_journal_does_nothing(self, kit):
        """One that came back from the dead does not turn the state back."""
        kit.full({ONE: message("1")})
        journal = {
            "staging": "x/1",
            "puts": {},
            "removes": {"mail": [ONE.id]},
            "state": {"queue": "node-a", "sequence": 1},
        }
        (kit.mirror.path / "journal.json").write_text(json.dumps(journal))
        assert kit.keys() == {ONE}
        assert kit.mirror.read_state().highest_generation == 1

    def test_lost_staged_files_force_a_full_push(self, kit):
        """A journal whose files are gone is finished, but not believed."""
        kit.full({ONE: message("1")})
        state = {"queue": "node-a", "highest_generation": 1, "sequence": 2, "agent": "agent-1"}
        journal = {"staging": "x/1", "puts": {"mail": [TWO.id]}, "removes": {}, "state": state}
        (kit.mirror.path / "journal.json").write_text(json.dumps(journal))
        assert kit.keys() == {ONE}
        assert kit.commit({}).verdict.refusal is PushRefusal.NOT_FULL

    def test_an_unreadable_journal_stops_everything(self, kit):
        """Nobody reads a mirror of which it is not known whether it is in one piece."""
        (kit.mirror.path / "journal.json").write_text('{"puts": 1}')
        with pytest.raises(BrokenState, match="not a journal"):
            kit.keys()


class TestReceipt:
    """The adoption's list: what is taken, in which generation, and what never gets in behind it."""

    @pytest.fixture
    def filled(self, kit) -> PushKit:
        """Give a mirror with mail, held mail and a log."""
        kit.full({TWO: message("2"), HELD: message("1"), LOG: b"why\n"})
        return kit

    def test_it_lists_mail_and_held_mail(self, filled):
        """Logs go with their messages and are no messages."""
        with filled.mirror.locked() as mirror:
            assert mirror.write_receipt(2) == tuple(sorted((ONE.id, TWO.id)))
            assert mirror.receipt().generation == 2

    def test_no_push_gets_in_while_it_is_unfinished(self, filled):
        """Trace 7, also for a generation that is newer."""
        with filled.mirror.locked() as mirror:
            mirror.write_receipt(2)
        filled.generation = 3
        assert filled.full({}).verdict.refusal is PushRefusal.RECEIPT
        assert len(filled.keys()) == 3

    def test_it_is_written_once(self, filled):
        """A restart gets the same list, whatever has been renamed away since."""
        with filled.mirror.locked() as mirror:
            ids = mirror.write_receipt(2)
            mirror.files.remove([TWO])
            assert mirror.write_receipt(2) == ids

    def test_another_adoption_waits(self, filled):
        """An unfinished receipt is finished or dropped first."""
        with filled.mirror.locked() as mirror:
            mirror.write_receipt(2)
            with pytest.raises(Refused, match="not finished"):
                mirror.write_receipt(3)

    def test_an_old_generation_adopts_nothing(self, filled):
        """A lease that others have overtaken gives no right."""
        filled.generation = 5
        filled.full({TWO: message("2")})
        with filled.mirror.locked() as mirror, pytest.raises(Refused, match="Generation 5"):
            mirror.write_receipt(4)

    def test_a_corrupt_message_is_not_listed(self, filled):
        """It goes to quarantine with an event; the rest is adopted."""
        (filled.mirror.path / "mail" / TWO.id).write_bytes(message("2")[:-3])
        with filled.mirror.locked() as mirror:
            assert mirror.write_receipt(2) == (ONE.id,)
        assert filled.quarantined() == {f"mail.{TWO.id}"}
        assert [event.kind for event in filled.events.read()] == ["quarantined"]

    def test_a_message_in_doubt_is_read_whole(self, filled):
        """One that a milter edited does not end with its end record, and is good."""
        data = message("2") + b"p\x00"
        (filled.mirror.path / "mail" / TWO.id).write_bytes(data)
        with filled.mirror.locked() as mirror:
            assert TWO.id in mirror.write_receipt(2)

    def test_logs_come_before_their_messages(self, filled):
        """A message never runs without its history."""
        with filled.mirror.locked() as mirror:
            mirror.write_receipt(2)
            kinds = [key.kind for key, _path in mirror.files_of(mirror.receipt())]
        assert kinds == [Kind.DEFER, Kind.HOLD, Kind.MAIL]

    def test_it_is_finished_only_when_all_is_taken(self, filled):
        """A receipt is not forgotten over messages that are still here."""
        with filled.mirror.locked() as mirror:
            mirror.write_receipt(2)
            with pytest.raises(BrokenState, match="2 messages"):
                mirror.finish_receipt()
            for _key, path in mirror.files_of(mirror.receipt()):
                path.unlink()
            mirror.finish_receipt()
            assert mirror.receipt() is None
            assert mirror.state.messages == 0

    def test_finishing_removes_logs_without_mail(self, filled):
        """Nothing of the adopted queue stays behind; a second call does nothing."""
        with filled.mirror.locked() as mirror:
            mirror.write_receipt(2)
            mirror.files.remove([TWO, HELD])
            mirror.finish_receipt()
            mirror.finish_receipt()
        assert filled.keys() == set()

    def test_a_dropped_receipt_leaves_the_mirror(self, filled):
        """Never committed, so nothing was taken; the owner's next push must be full and newer."""
        with filled.mirror.locked() as mirror:
            mirror.write_receipt(2)
            mirror.drop_receipt()
        assert len(filled.keys()) == 3
        filled.generation = 3
        assert filled.commit({}).verdict.refusal is PushRefusal.NOT_FULL
        assert filled.full({}).verdict.is_accepted

    def test_a_damaged_receipt_is_not_ignored(self, filled):
        """It might be committed."""
        (filled.mirror.path / "receipt.json").write_text('{"ids": []}')
        with filled.mirror.locked() as mirror, pytest.raises(BrokenState, match="not a receipt"):
            mirror.receipt()


def test_one_at_a_time(kit):
    """Who waits too long for the lock is refused, not let in."""
    with kit.mirror.locked(), pytest.raises(Refused, match="locked"):
        _enter(kit.mirror.locked(timeout_s=0.05))


def _enter(context):
    with context:
        raise AssertionError("two processes had the lock")


def test_pushes_of_many_threads_leave_one_order(kit):
    """Whoever is late is dropped; the mirror is always what one push made of it."""
    kit.full({})
    kits = [replace(kit) for _ in range(4)]

    def push(one: PushKit, number: int) -> None:
        for turn in range(5):
            key = mail(queue_id(100 * number + turn))
            one.commit({key: message()}, listed=[key], offer=one.offer(is_full=True))

    threads = [threading.Thread(target=push, args=(k, n)) for n, k in enumerate(kits)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    state = kit.mirror.read_state()
    assert state.messages == len(kit.keys()) == 1
    assert 2 <= state.sequence <= 21
