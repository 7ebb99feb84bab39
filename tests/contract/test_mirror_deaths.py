"""A mirror whose receiver or agent dies at any step: all of a push or nothing, a receipt once."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from nodeagent.adapters.mirror import Mirror
from nodeagent.core.push_rules import PushRefusal
from nodeagent.core.queue_files import Key, Kind
from tests.contract.dying import every_death, run_and_die
from tests.fakes.postfix_queue import message, queue_id
from tests.fakes.pushes import PushKit, mail

ONE, TWO, THREE, FOUR = (mail(queue_id(number)) for number in range(1, 5))
HELD = Key(Kind.HOLD, FOUR.id)
LOG = Key(Kind.DEFER, TWO.id)

Content = dict[Key, bytes]


def content(kit: PushKit) -> Content:
    """Return what a reader of the mirror sees."""
    keys = kit.keys()
    return {key: kit.read(key) for key in keys}


def in_a_fresh_kit(root: Path) -> PushKit:
    """Return a kit whose mirror has one, two and a log."""
    shutil.rmtree(root, ignore_errors=True)
    root.mkdir()
    kit = PushKit(root)
    kit.full({ONE: message("1"), TWO: message("2"), LOG: b"why\n"})
    return kit


class TestPush:
    """A push killed at each of its steps in turn."""

    BEFORE: ClassVar[Content] = {ONE: message("1"), TWO: message("2"), LOG: b"why\n"}

    def check_every_death(
        self,
        root: Path,
        push: Callable[[PushKit], object],
        after: Content,
    ) -> None:
        """See the mirror as it was or as it shall be, and let the next push in."""
        kit: PushKit
        seen: list[bool] = []

        def prepare() -> Callable[[], object]:
            nonlocal kit
            kit = in_a_fresh_kit(root)
            return lambda: push(kit)

        def check() -> None:
            kit.attempts += 1  # the child's
            found = content(kit)
            is_done = kit.mirror.read_state().sequence == 2
            seen.append(is_done)
            assert found == (after if is_done else self.BEFORE)
            messages = sum(1 for key in found if key.kind in {Kind.MAIL, Kind.HOLD})
            assert kit.mirror.read_state().messages == messages
            assert not (kit.mirror.path / "journal.json").exists()
            assert kit.full(after).verdict.is_accepted
            assert content(kit) == after

        assert every_death(prepare, check) >= 6
        assert seen == sorted(seen), "a later death undid what an earlier one had done"
        assert seen[0] is False
        assert seen[-1] is True

    def test_changes(self, tmp_path):
        """One sent, one sent again, one removed with its log."""
        files = {THREE: message("3"), ONE: message("1, marked")}
        self.check_every_death(
            tmp_path / "kit", lambda kit: kit.commit(files, removes=[TWO, LOG]), files
        )

    def test_everything(self, tmp_path):
        """A full push puts right whatever the mirror had."""
        files = {ONE: message("1"), FOUR: message("4")}
        self.check_every_death(tmp_path / "kit", lambda kit: kit.full(files), files)

    def test_a_move_to_hold(self, tmp_path):
        """At no moment is the message nowhere."""
        after = {ONE: message("1"), TWO: message("2"), LOG: b"why\n"}
        held = {**after, HELD: message("4")}
        self.check_every_death(tmp_path / "kit", lambda kit: kit.commit({HELD: message("4")}), held)

    def test_a_push_of_many_files(self, tmp_path):
        """More than are synced one by one."""
        files = {mail(queue_id(number)): message(str(number)) for number in range(10, 22)}
        after = {**self.BEFORE, **files}
        self.check_every_death(tmp_path / "kit", lambda kit: kit.commit(files), after)


def adopt(mirror: Mirror, generation: int) -> None:
    """Write the receipt and take everything that it names, as agent and guard do."""
    with mirror.locked() as locked:
        locked.write_receipt(generation)
    with mirror.locked() as locked:
        receipt = locked.receipt()
        if receipt is None:
            return
        for _key, path in locked.files_of(receipt):
            taken = mirror.path.parent.parent / "taken"
            taken.mkdir(exist_ok=True)
            path.rename(taken / f"{_key.kind}.{_key.id}")
        locked.finish_receipt()


class TestReceipt:
    """An adoption killed at each of its steps in turn, and repeated."""

    def test_each_message_is_taken_once(self, tmp_path):
        """Whatever was renamed before the death is not there again after it."""
        kit: PushKit

        def prepare() -> Callable[[], object]:
            nonlocal kit
            kit = in_a_fresh_kit(tmp_path / "kit")
            return lambda: adopt(kit.mirror, 2)

        def check() -> None:
            if kit.mirror.read_state().lowest_generation < 2:
                assert content(kit) == TestPush.BEFORE
            else:
                assert kit.full({}).verdict.refusal in {
                    PushRefusal.RECEIPT,
                    PushRefusal.GENERATION,
                }
            adopt(kit.mirror, 2)
            taken = {path.name for path in (kit.root / "taken").iterdir()}
            assert taken == {f"{key.kind}.{key.id}" for key in TestPush.BEFORE}
            assert kit.keys() == set()
            assert kit.full({ONE: message("1")}).verdict.refusal is PushRefusal.GENERATION

        assert every_death(prepare, check) >= 8

    def test_narrowing_takes_files_and_names_alike(self, tmp_path):
        """Killed in between, the same answer of the control plane finishes it."""
        kit: PushKit

        def prepare() -> Callable[[], object]:
            nonlocal kit
            kit = in_a_fresh_kit(tmp_path / "kit")
            with kit.mirror.locked() as mirror:
                mirror.write_receipt(2)
            return narrow

        def narrow() -> None:
            with kit.mirror.locked() as mirror:
                mirror.narrow_receipt(frozenset({TWO.id}))

        def check() -> None:
            narrow()
            with kit.mirror.locked() as mirror:
                assert mirror.receipt().ids == (ONE.id,)
            assert kit.keys() == {ONE}

        assert every_death(prepare, check) >= 3

    def test_a_corrupt_copy_is_reported_at_the_adoption_too(self, tmp_path):
        """It was reported when it came; that it is missing now is another thing to know."""
        kit = in_a_fresh_kit(tmp_path / "kit")
        kit.commit({ONE: b"C torn"})
        (kit.mirror.path / "mail" / ONE.id).write_bytes(b"C torn on this disk")
        with kit.mirror.locked() as mirror:
            assert mirror.write_receipt(2) == (TWO.id,)
        texts = [event.text for event in kit.events.read() if event.kind == "quarantined"]
        assert len(texts) == 2
        assert all(f"mail/{ONE.id} of node-a is not used" in text for text in texts)

    @pytest.mark.parametrize("damage", ["truncate", "hole", "link", "mode"])
    def test_no_damaged_copy_gets_into_a_receipt(self, tmp_path, damage):
        """It is kept, reported, and the rest is adopted."""
        kit = in_a_fresh_kit(tmp_path / "kit")
        path = kit.mirror.path / "mail" / ONE.id
        whole = path.read_bytes()
        if damage == "truncate":
            path.write_bytes(whole[:-1])
        elif damage == "hole":
            path.write_bytes(whole[:30] + bytes(len(whole) - 30))
        elif damage == "link":
            (kit.root / "other").hardlink_to(path)
        else:
            path.chmod(0o600)
        with kit.mirror.locked() as mirror:
            assert mirror.write_receipt(2) == (TWO.id,)
        assert kit.quarantined() == {f"mail.{ONE.id}"}
        assert [event.kind for event in kit.events.read()] == ["quarantined"]


class PushedMirror(RuleBasedStateMachine):
    """Pushes of all kinds, late and torn ones, and adoptions, each killed at some step.

    The model is the content after the last push that counts. After a death it is asked of the
    state's sequence, and from then on must be exactly that.
    """

    keys = st.sampled_from([mail(queue_id(number)) for number in range(6)])
    texts = st.text("ab\n", max_size=20)

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.kit = PushKit(self.root)
        self.kit.full({})
        self.content: Content = {}
        self.taken: set[str] = set()

    def teardown(self) -> None:
        """Remove the disk."""
        shutil.rmtree(self.root)

    def _push(
        self,
        step: int,
        files: Mapping[Key, bytes],
        *,
        removes: Iterable[Key] = (),
        listed: Iterable[Key] | None = None,
    ) -> None:
        kit = self.kit
        before = kit.mirror.read_state().sequence
        offer = kit.offer(is_full=listed is not None)
        run_and_die(
            step,
            lambda: kit.commit(files, removes=removes, listed=listed, offer=offer),
        )
        kit.attempts += 1  # the child's
        if kit.keys() is not None and kit.mirror.read_state().sequence == before:
            return
        after = {**self.content, **files}
        kept = set(after) - set(removes) if listed is None else set(listed)
        self.content = {key: data for key, data in after.items() if key in kept | set(files)}

    @rule(step=st.integers(1, 60), files=st.dictionaries(keys, texts, max_size=4), data=st.data())
    def push_changes(self, step: int, files: dict[Key, str], data: st.DataObject) -> None:
        """Send some, remove some."""
        known = sorted(self.content)
        removes = data.draw(st.sets(st.sampled_from(known))) if known else set()
        sent = {key: message(text) for key, text in files.items()}
        self._push(step, sent, removes=removes - set(sent))

    @rule(step=st.integers(1, 60), files=st.dictionaries(keys, texts, max_size=4), data=st.data())
    def push_everything(self, step: int, files: dict[Key, str], data: st.DataObject) -> None:
        """List what there is, some of which the mirror has already."""
        known = sorted(self.content)
        kept = data.draw(st.sets(st.sampled_from(known))) if known else set()
        sent = {key: message(text) for key, text in files.items()}
        self._push(step, sent, listed=kept | set(sent))

    @rule(key=keys)
    def push_late(self, key: Key) -> None:
        """Offer what was computed against an older state."""
        offer = self.kit.offer(sequence=self.kit.mirror.read_state().sequence)
        placed = self.kit.commit({key: message("late")}, offer=offer)
        assert placed.verdict.refusal is PushRefusal.SEQUENCE

    @rule(key=keys, length=st.integers(0, 40))
    def push_torn(self, key: Key, length: int) -> None:
        """Send half a file: it is quarantined, and what was there stays."""
        placed = self.kit.commit({key: message("torn")[:length]})
        assert set(placed.rejected) == {key}
        assert f"mail.{key.id}" in self.kit.quarantined()

    @precondition(lambda self: self.content)
    @rule(step=st.integers(1, 40))
    def adopt(self, step: int) -> None:
        """Take everything; the owner is back with the next generation."""
        generation = self.kit.generation = self.kit.generation + 1
        mirror = self.kit.mirror
        run_and_die(step, lambda: adopt(mirror, generation))
        adopt(mirror, generation)
        place = self.root / "taken"
        assert {path.name for path in place.iterdir()} == {f"mail.{key.id}" for key in self.content}
        for key, data in self.content.items():
            assert (place / f"mail.{key.id}").read_bytes() == data
        shutil.rmtree(place)
        self.content = {}
        self.kit.generation += 1
        assert self.kit.full({}).verdict.is_accepted

    @invariant()
    def a_reader_sees_the_last_push_that_counts(self) -> None:
        """Keys, bytes and the count of messages."""
        assert content(self.kit) == self.content
        assert self.kit.mirror.read_state().messages == len(self.content)


PushedMirror.TestCase.settings = settings(max_examples=15, stateful_step_count=8, deadline=None)
TestPushedMirror = PushedMirror.TestCase
