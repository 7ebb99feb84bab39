"""Events and promises in their files: shared by processes, and still there after a kill."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from nodeagent.adapters.durable import read_json, write_durably
from nodeagent.adapters.event_spool import EventSpool
from nodeagent.adapters.promises import Promises
from nodeagent.errors import BrokenState, Refused

REPOSITORY = Path(__file__).resolve().parents[2]


def run_many(code: str, argument: Path, times: int = 4) -> list[str]:
    """Run the same code in several processes at once; return what each printed."""
    command = [sys.executable, "-c", code, str(argument)]
    running = [
        subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True)
        for _ in range(times)
    ]
    return [process.communicate(timeout=60)[0].strip() for process in running]


class TestEvents:
    """The spool between those who note and the one who reports."""

    @pytest.fixture
    def spool(self, tmp_path) -> EventSpool:
        """Give an empty spool."""
        return EventSpool(tmp_path / "state" / "events")

    def test_an_event_comes_out_as_it_went_in(self, spool):
        """Kind, text, data, a time and an id of its own."""
        spool.append("push-refused", "node-a: no", peer="node-a", count=3)
        (event,) = spool.read()
        assert (event.kind, event.text) == ("push-refused", "node-a: no")
        assert event.data == {"peer": "node-a", "count": 3}
        assert event.at.tzinfo is not None

    def test_events_stay_until_they_are_acknowledged(self, spool):
        """In their order, whatever was acknowledged before them."""
        for number in range(5):
            spool.append("role", str(number))
        first, second, *_ = spool.read()
        spool.acknowledge([second.id])
        assert [event.text for event in spool.read()] == ["0", "2", "3", "4"]
        spool.acknowledge([first.id, "unknown"])
        assert [event.text for event in spool.read(2)] == ["2", "3"]

    def test_nothing_is_read_from_nothing(self, spool):
        """No file, no event, no error."""
        assert spool.read() == ()
        spool.acknowledge(["x"])
        spool.acknowledge([])

    def test_long_texts_are_cut(self, spool):
        """The control plane takes no more."""
        spool.append("k" * 100, "t" * 5000)
        (event,) = spool.read()
        assert (len(event.kind), len(event.text)) == (64, 2000)

    def test_a_torn_line_costs_itself_only(self, spool, tmp_path):
        """A power loss in the middle of an append."""
        spool.append("role", "before")
        with (tmp_path / "state/events").open("ab") as file:
            file.write(b'{"id": "x", "at"')
        spool.append("role", "after")
        assert [event.text for event in spool.read()] == ["before", "after"]

    def test_a_full_spool_drops_the_oldest_and_says_how_many(self, tmp_path):
        """The newest stay, in their order, behind one event that counts all that are gone."""
        spool = EventSpool(tmp_path / "events", limit=50)
        for number in range(237):
            spool.append("role", str(number))
        marker, *kept = spool.read(1000)
        assert len(kept) < 50
        assert [event.text for event in kept] == [str(237 - n) for n in range(len(kept), 0, -1)]
        assert marker.kind == "events-dropped"
        assert marker.data == {"dropped": 237 - len(kept)}
        assert marker.text.startswith(f"{237 - len(kept)} events were dropped")

    def test_what_was_told_as_dropped_is_not_told_again(self, tmp_path):
        """An acknowledged count is over; the next one begins at nothing."""
        spool = EventSpool(tmp_path / "events", limit=50)
        for number in range(60):
            spool.append("role", str(number))
        (told, *kept) = spool.read(1000)
        spool.acknowledge([told.id])
        for number in range(30):
            spool.append("role", str(number))
        again, *rest = spool.read(1000)
        assert again.data["dropped"] == len(kept) + 30 - len(rest)

    def test_the_limit_is_ten_thousand(self, tmp_path):
        """Whatever the length of the texts; counting begins where so many could be."""
        path = tmp_path / "events"
        spool = EventSpool(path)
        line = {"id": "x", "at": "2026-01-01T00:00:00+00:00", "kind": "k", "text": "", "data": {}}
        path.write_text(
            "".join(f"{json.dumps({**line, 'id': f'{n:036}'})}\n" for n in range(9_999))
        )
        spool.append("role", "fits")
        assert len(spool.read(20_000)) == 10_000
        spool.append("role", "one too many")
        marker, *_, newest = spool.read(20_000)
        assert (marker.data["dropped"], newest.text) == (1_002, "one too many")
        assert len(spool.read(20_000)) == 9_000

    def test_a_crash_while_dropping_leaves_the_spool_whole(self, tmp_path):
        """Killed before the rename: all events are there, and the next append drops anew."""
        spool = EventSpool(tmp_path / "events", limit=50)
        for number in range(50):
            spool.append("role", str(number))
        (tmp_path / "events.new").write_text('{"half')
        assert len(spool.read(1000)) == 50
        spool.append("role", "50")
        marker, *kept = spool.read(1000)
        assert marker.data["dropped"] + len(kept) == 51

    def test_processes_do_not_lose_each_others_events(self, spool, tmp_path):
        """Appending and acknowledging at once."""
        code = (
            "import os, sys, pathlib\n"
            "from nodeagent.adapters.event_spool import EventSpool\n"
            "spool = EventSpool(pathlib.Path(sys.argv[1]))\n"
            "for n in range(20):\n"
            "    spool.append('role', str(n), pid=os.getpid())\n"
            "    mine = [e.id for e in spool.read(999) if e.data['pid'] == os.getpid()]\n"
            "    if n % 5 == 0: spool.acknowledge(mine[:1])\n"
        )
        run_many(code, tmp_path / "state/events")
        assert len(spool.read(1000)) == 4 * 20 - 4 * 4


@dataclass
class Clock:
    """A clock that stands until it is told."""

    now_s: float = 100.0

    def __call__(self) -> float:
        """Tell the time."""
        return self.now_s


class TestPromises:
    """The ledger in its file."""

    @pytest.fixture
    def clock(self) -> Clock:
        """Give a clock."""
        return Clock()

    @pytest.fixture
    def ledger(self, tmp_path, clock) -> Promises:
        """Give the ledger of an agent that started a promise length ago."""
        ledger = Promises(tmp_path / "promises.json", clock_s=clock, boot_id="boot-1")
        ledger.start(15.0)
        clock.now_s += 15.0
        return ledger

    def test_a_promise_holds_in_another_process(self, ledger, tmp_path, clock):
        """Given by the receiver, seen by the agent."""
        assert ledger.promise("node-a", 10.0).for_s == 10.0
        other = Promises(tmp_path / "promises.json", clock_s=clock, boot_id="boot-1")
        assert other.promised_s("node-a") == 10.0
        with pytest.raises(Refused, match="promised"):
            other.decide_to_adopt("node-a")

    def test_a_decision_holds_in_another_process(self, ledger, tmp_path, clock):
        """Made by the agent, respected by the receiver, also after a boot."""
        ledger.decide_to_adopt("node-a")
        other = Promises(tmp_path / "promises.json", clock_s=clock, boot_id="boot-2")
        other.start(15.0)
        assert other.promise("node-a", 10.0).refusal
        other.decide_to_adopt("node-a")
        other.end_adoption("node-a")
        other.end_adoption("node-a")
        assert other.promise("node-a", 10.0).for_s == 10.0

    def test_the_waiting_after_a_start_is_told(self, ledger, clock):
        """What `decide` sees as its grace."""
        assert ledger.start_grace_s() == 0.0
        ledger.start(20.0)
        clock.now_s += 5
        assert ledger.start_grace_s() == 15.0
        with pytest.raises(Refused, match="after the start"):
            ledger.decide_to_adopt("node-a")

    def test_a_changed_length_counts_from_the_next_promise(self, ledger):
        """The control plane may change it while the agent runs."""
        ledger.note_length(3.0)
        assert ledger.promise("node-a", 10.0).for_s == 3.0

    @pytest.mark.parametrize("text", ["{", "[]", '{"until_s": {}}', '{"adopting": [], "x": 1}'])
    def test_an_unreadable_ledger_permits_nothing(self, ledger, tmp_path, text):
        """Neither a promise nor a decision."""
        (tmp_path / "promises.json").write_text(text)
        with pytest.raises(BrokenState):
            ledger.promise("node-a", 10.0)
        with pytest.raises(BrokenState):
            ledger.decide_to_adopt("node-a", skip_waiting=True)

    def test_processes_that_race_never_do_both(self, tmp_path):
        """Trace 13: one promises, one decides, at the same moment, again and again."""
        path = tmp_path / "promises.json"
        Promises(path, boot_id="b", clock_s=Clock(0.0)).start(15.0)
        code = (
            "import sys, os, pathlib\n"
            "from nodeagent.adapters.promises import Promises\n"
            "from nodeagent.errors import Refused\n"
            "ledger = Promises(pathlib.Path(sys.argv[1]), boot_id='b', clock_s=lambda: 50.0)\n"
            "outcome = ''\n"
            "for n in range(30):\n"
            "    queue = f'node-{n}'\n"
            "    if os.getpid() % 2:\n"
            "        outcome += 'p' if ledger.promise(queue, 5.0).for_s else '-'\n"
            "        continue\n"
            "    try:\n"
            "        ledger.decide_to_adopt(queue)\n"
            "        outcome += 'd'\n"
            "    except Refused:\n"
            "        outcome += '-'\n"
            "print(outcome)\n"
        )
        for turn in zip(*run_many(code, path), strict=True):
            assert not {"p", "d"} <= set(turn)
            assert set(turn) != {"-"}


def test_a_file_is_written_whole(tmp_path):
    """The old content or the new one, private to root, and no leftovers."""
    path = tmp_path / "x.json"
    for number in range(3):
        write_durably(path, json.dumps({"n": number}).encode())
    assert read_json(path) == {"n": 2}
    assert [entry.name for entry in tmp_path.iterdir()] == ["x.json"]
    assert path.stat().st_mode & 0o777 == 0o600


def test_no_file_is_not_a_broken_file(tmp_path):
    """Absence is an answer, damage is not."""
    assert read_json(tmp_path / "x.json") is None
    with pytest.raises(BrokenState, match="cannot be read"):
        read_json(tmp_path)
