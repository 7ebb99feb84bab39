"""The receiver's control session, asked directly: what it answers, notes and leaves behind."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from nodeagent.adapters.line_channel import LineChannel
from nodeagent.adapters.local_addresses import local_addresses
from nodeagent.adapters.owner import Owner
from nodeagent.adapters.promises import Promises
from nodeagent.adapters.staging import StagingSession, is_live, make_place, remove_dead_sessions
from nodeagent.core.push_rules import PushOffer
from nodeagent.core.push_wire import Commit, commit_message, offer_message
from nodeagent.core.rsync_command import StagingPlace
from nodeagent.errors import Refused, Unreachable
from nodeagent.receive_session import Places, Session
from tests.fakes.postfix_queue import message, queue_id
from tests.fakes.pushes import ELSEWHERE, VIP, mail

ONE = mail(queue_id(1))
QUESTION = PushOffer("node-a", 1, "agent-1", frozenset({VIP}))


@pytest.fixture
def places(tmp_path) -> Places:
    """Give the places of a host without any mirror."""
    return Places(tmp_path / "relay", tmp_path / "state", Owner.named())


@pytest.fixture
def session(places) -> Session:
    """Give a session of node-a on a host without its VIP."""
    return Session("node-a", places, lambda: ELSEWHERE)


def begin(session: Session, offer: PushOffer = QUESTION) -> dict[str, object]:
    """Begin."""
    return session.answer({"op": "begin", **offer_message(offer)})


def full_push(session: Session, places: Places, token: object, sequence: int) -> dict[str, object]:
    """Stage one message as rsync would, and commit it."""
    place = places.relay / "mirror/node-a/staging" / str(token) / str(sequence) / "mail"
    place.mkdir(parents=True)
    path = place / ONE.id
    path.write_bytes(message())
    path.chmod(0o700)
    if os.geteuid() == 0:
        os.chown(path, places.owner.uid, places.owner.gid)
    offer = PushOffer(
        "node-a", 1, "agent-1", frozenset({VIP}), sequence, sequence - 1, is_full=True
    )
    commit = Commit(offer, sequence, {ONE: len(message())}, frozenset(), frozenset({ONE}))
    return session.answer(commit_message(commit))


class TestSession:
    """Requests and answers."""

    def test_it_hands_back_what_it_has(self, session, places):
        """Generation, sequence and agent of the mirror, before anything is sent."""
        answer = begin(session)
        assert answer == {**answer, "ok": True, "generation": 0, "sequence": 0, "agent": ""}
        assert full_push(session, places, answer["token"], 1)["messages"] == 1
        again = begin(Session("node-a", places, lambda: ELSEWHERE))
        assert (again["generation"], again["sequence"], again["agent"]) == (1, 1, "agent-1")

    def test_it_lists_the_mirror(self, session, places):
        """With the sequence number at which that was true."""
        full_push(session, places, begin(session)["token"], 1)
        answer = session.answer({"op": "manifest"})
        assert answer["sequence"] == 1
        assert answer["files"]["mail"][ONE.id][0] == len(message())

    def test_a_commit_needs_a_session_that_has_begun(self, session):
        """There is no staging place otherwise."""
        commit = Commit(QUESTION, 1, {}, frozenset(), None)
        offer = {**commit_message(commit), "sequence": 1}
        answer = session.answer(offer)
        assert (answer["ok"], answer["text"]) == (False, "A push needs a session that has begun.")

    def test_staged_files_are_gone_after_a_commit(self, session, places):
        """Taken or dropped, nothing of it stays."""
        token = begin(session)["token"]
        full_push(session, places, token, 1)
        refused = full_push(session, places, token, 9)
        assert (refused["ok"], refused["reason"]) == (False, "base")
        staging = places.relay / "mirror/node-a/staging" / str(token)
        assert [path.name for path in staging.iterdir()] == ["lock"]

    def test_what_nobody_knows_is_refused(self, session):
        """An unknown operation, and none at all."""
        assert session.answer({"op": "delete"})["ok"] is False
        assert session.answer({})["text"] == "The receiver does not know this operation."
        assert session.answer({"op": "ping"}) == {"ok": True}

    def test_a_refusal_is_noted_once_a_session(self, session, places):
        """A sender that tries every second does not fill the disk."""
        for _ in range(3):
            assert begin(session, PushOffer("node-a", 0, "x", frozenset({VIP})))["ok"] is False
        begin(session, PushOffer("node-c", 1, "x", frozenset({VIP})))
        reasons = [event.data["reason"] for event in places.events().read()]
        assert reasons == ["generation", "stranger"]

    def test_unknown_addresses_take_nothing(self, places):
        """Unknown is never permission."""
        answer = begin(Session("node-a", places, lambda: None))
        assert (answer["ok"], answer["reason"]) == (False, "direction")

    def test_a_broken_mirror_is_told_in_one_sentence(self, session, places):
        """And nothing is taken."""
        begin(session)
        (places.relay / "mirror/node-a/state.json").write_text("{")
        answer = begin(session)
        assert (answer["ok"], answer["reason"]) == (False, "failed")
        assert "cannot be read" in answer["text"]


class TestPromise:
    """The failsafe's question, over the session."""

    def test_it_is_given_and_kept(self, session, places):
        """The agent of this host sees it in the same ledger."""
        ledger = Promises(places.state / "promises.json")
        ledger.start(15.0)
        answer = session.answer({"op": "promise", "queue": "node-a", "length_s": 10})
        assert (answer["ok"], answer["for_s"]) == (True, 10)
        assert 9 < ledger.promised_s("node-a") <= 10

    def test_it_is_refused_after_the_decision(self, session, places):
        """From before the lease is asked for until the adoption has ended."""
        ledger = Promises(places.state / "promises.json")
        ledger.start(15.0)
        ledger.decide_to_adopt("node-a", skip_waiting=True)
        answer = session.answer({"op": "promise", "queue": "node-a", "length_s": 10})
        assert (answer["ok"], answer["reason"]) == (False, "promise")

    def test_nobody_asks_for_another_queue(self, session, places):
        """A peer could otherwise keep this host from helping a third node."""
        Promises(places.state / "promises.json").start(15.0)
        answer = session.answer({"op": "promise", "queue": "node-c", "length_s": 10})
        assert "its own queue only" in answer["text"]


class TestStaging:
    """Transfers belong to a live session."""

    @pytest.fixture
    def mirror(self, tmp_path) -> Path:
        """Give a mirror's directory."""
        (tmp_path / "staging").mkdir()
        return tmp_path

    def test_a_live_session_lets_its_transfer_in(self, mirror):
        """Once for each number."""
        session = StagingSession(mirror)
        place = StagingPlace(session.token, 1)
        assert make_place(mirror, place, Owner.named()).is_dir()
        with pytest.raises(Refused, match="made before"):
            make_place(mirror, place, Owner.named())

    def test_an_ended_session_lets_nothing_in(self, mirror):
        """An orphan rsync(1) finds the door closed."""
        session = StagingSession(mirror)
        session.close()
        with pytest.raises(Refused, match="has ended"):
            make_place(mirror, StagingPlace(session.token, 1), Owner.named())

    def test_only_dead_sessions_are_removed(self, mirror):
        """What a killed receiver left goes, what is in use stays."""
        dead, alive = StagingSession(mirror), StagingSession(mirror)
        dead.close()
        remove_dead_sessions(mirror)
        assert [path.name for path in (mirror / "staging").iterdir()] == [alive.token]
        assert is_live(mirror / "staging" / alive.token)


class TestChannel:
    """JSON lines over pipes."""

    @pytest.fixture
    def channels(self):
        """Give both ends."""
        (read_a, write_b), (read_b, write_a) = os.pipe(), os.pipe()
        yield LineChannel(read_a, write_a), LineChannel(read_b, write_b)
        for descriptor in (read_a, write_a, read_b, write_b):
            try:
                os.close(descriptor)
            except OSError:
                continue

    def test_a_line_larger_than_the_pipe_goes_through(self, channels):
        """Both sides wait for each other as long as it moves."""
        near, far = channels
        big = {"ids": ["x" * 20] * 100_000}
        thread = threading.Thread(target=near.send, args=(big, 10))
        thread.start()
        assert far.receive(10) == big
        thread.join()

    def test_nobody_waits_for_ever(self, channels):
        """Neither for an answer nor for a reader."""
        near, _far = channels
        with pytest.raises(Unreachable, match="in time"):
            near.receive(0.05)
        with pytest.raises(Unreachable, match="in time"):
            near.send({"ids": "x" * 1_000_000}, 0.05)

    @pytest.mark.parametrize("line", [b"hello\n", b"[1]\n", b"\xff\n"])
    def test_anything_but_an_object_ends_the_channel(self, channels, line):
        """A banner or an error text is no answer."""
        near, far = channels
        os.write(far._write, line)
        with pytest.raises(Unreachable, match="protocol"):
            near.receive(1)

    def test_two_lines_in_one_read_are_two_answers(self, channels):
        """Nothing is lost between them, and the end is the end."""
        near, far = channels
        os.write(far._write, b'{"a":1}\n{"b":2}\n')
        assert [near.receive(1), near.receive(1)] == [{"a": 1}, {"b": 2}]
        os.close(far._write)
        assert near.receive(1) is None

    def test_a_reader_that_has_gone_is_noticed(self, channels):
        """Writing to it raises no signal and no OSError."""
        near, far = channels
        os.close(far._read)
        with pytest.raises(Unreachable, match="closed"):
            near.send({}, 1)


def test_a_session_runs_until_its_peer_ends_it(session):
    """Each line one answer; after the end the staging place is dead."""
    (read_a, write_b), (read_b, write_a) = os.pipe(), os.pipe()
    near, far = LineChannel(read_a, write_a), LineChannel(read_b, write_b)
    thread = threading.Thread(target=session.run, args=(far,))
    thread.start()
    near.send({"op": "ping"}, 5)
    assert near.receive(5) == {"ok": True}
    os.close(write_a)
    thread.join(5)
    assert not thread.is_alive()


def test_the_kernel_tells_our_addresses():
    """The loopback is always among them, and nothing is there that is not an address."""
    addresses = local_addresses()
    assert addresses is not None
    assert "127.0.0.1" in addresses
    assert VIP not in addresses
