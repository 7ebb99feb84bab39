"""The agent's small files under several processes, deaths and bad input; its settings too."""

from __future__ import annotations

import json
import os
import resource
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from nodeagent.adapters.event_spool import EventSpool
from nodeagent.adapters.ledger import Ledger
from nodeagent.adapters.promises import Promises
from nodeagent.core.observation import Adoption, AdoptionStep, Switchover, SwitchoverStep
from nodeagent.errors import BadSettings, BrokenState, Refused
from nodeagent.settings import AgentSettings, check_filesystem, load_settings
from tests.contract.dying import every_death
from tests.core.worlds import view


def in_processes(count: int, function: Callable[[int], object]) -> None:
    """Run `function` in that many processes at once; an error in any fails the test."""
    children = []
    for number in range(count):
        child = os.fork()
        if child == 0:
            code = 1
            try:
                function(number)
                code = 0
            finally:
                os._exit(code)
        children.append(child)
    statuses = [os.waitpid(child, 0)[1] for child in children]
    assert statuses == [0] * count


class TestPromises:
    """One ledger, shared by the agent and every receiver session."""

    @pytest.mark.parametrize("turn", range(8))
    def test_a_promise_and_a_decision_exclude_each_other_between_processes(self, tmp_path, turn):
        """Trace 13 under real locks: whoever comes first, never both."""
        path = tmp_path / "promises.json"
        Promises(path).start(1e-9)
        until_s = time.monotonic() + 0.05

        def ask_or_decide(number: int) -> None:
            ledger = Promises(path)
            while time.monotonic() < until_s:
                pass
            if (number + turn) % 2:
                given = ledger.promise("node-b", 60.0)
                (tmp_path / f"promised-{number}").write_text(str(given.for_s))
            else:
                try:
                    ledger.decide_to_adopt("node-b")
                except Refused:
                    return
                (tmp_path / f"decided-{number}").touch()

        ledger = Promises(path)
        ledger.note_length(60.0)
        in_processes(6, ask_or_decide)
        has_decided = any(tmp_path.glob("decided-*"))
        promised = [float(one.read_text()) for one in tmp_path.glob("promised-*")]
        assert len(promised) == 3
        assert has_decided is not any(length_s > 0 for length_s in promised)

    def test_an_open_promise_binds_every_other_process(self, tmp_path):
        """Given by one receiver session, seen by the agent's decision."""
        path = tmp_path / "promises.json"
        ledger = Promises(path)
        ledger.start(30.0)
        in_processes(1, lambda _number: Promises(path).promise("node-b", 20.0))
        with pytest.raises(Refused, match="was promised"):
            ledger.decide_to_adopt("node-b", skip_waiting=True)

    def test_killed_at_any_step_a_decision_is_on_file_or_not(self, tmp_path):
        """Whatever was answered before the death still holds after it."""
        path = tmp_path / "promises.json"

        def prepare() -> Callable[[], object]:
            path.unlink(missing_ok=True)
            ledger = Promises(path)
            ledger.start(30.0)
            ledger.promise("node-c", 20.0)
            return lambda: ledger.decide_to_adopt("node-b", skip_waiting=True)

        def check() -> None:
            ledger = Promises(path)
            assert ledger.promised_s("node-c") > 0
            ledger.decide_to_adopt("node-b", skip_waiting=True)
            assert ledger.promise("node-b", 5.0).refusal

        assert every_death(prepare, check) >= 3


class TestLedger:
    """Each step is on disk whole, or the one before it is."""

    ADOPTIONS = tuple(Adoption("node-b", step, 5) for step in AdoptionStep)

    @pytest.mark.parametrize(
        ("before", "after"),
        [*zip((None, *ADOPTIONS[:-1]), ADOPTIONS, strict=True), (ADOPTIONS[-1], None)],
        ids=lambda adoption: "none" if adoption is None else str(adoption.step),
    )
    def test_an_adoption_is_at_one_step_or_the_next(self, tmp_path, before, after):
        """Never torn, never forgotten."""
        ledger = Ledger(tmp_path)

        def prepare() -> Callable[[], object]:
            ledger.note_adoption(before)
            return lambda: ledger.note_adoption(after)

        every_death(prepare, lambda: self._is_one_of(ledger.adoption(), before, after))
        assert ledger.adoption() == after

    def test_a_switchover_too(self, tmp_path):
        """Its id outlives its end."""
        ledger = Ledger(tmp_path)
        handed = Switchover(3, "node-b", SwitchoverStep.HANDED)

        def prepare() -> Callable[[], object]:
            ledger.note_switchover(3, "node-b", SwitchoverStep.HANDED)
            return lambda: ledger.note_switchover(3, "node-b", None)

        every_death(prepare, lambda: self._is_one_of(ledger.switchover(), handed, None))
        assert ledger.last_switchover_id() == 3

    def test_a_view_is_the_old_one_or_the_new_one(self, tmp_path):
        """An agent that dies while it notes the view starts with the one before."""
        ledger = Ledger(tmp_path)
        old, new = view(), view(is_maintenance=True)

        def prepare() -> Callable[[], object]:
            ledger.note_view(old)
            return lambda: ledger.note_view(new)

        every_death(prepare, lambda: self._is_one_of(ledger.view(), old, new))
        assert ledger.view() == new

    @pytest.mark.parametrize("content", ["", "[]", '{"step": "handed"}', '{"id": 1, "step": "x"}'])
    def test_a_switchover_that_cannot_be_read_is_not_none(self, tmp_path, content):
        """It may be handed: a node that forgot it would take the VIP back."""
        (tmp_path / "switchover.json").write_text(content)
        with pytest.raises(BrokenState, match=r"switchover\.json"):
            Ledger(tmp_path).switchover()

    @staticmethod
    def _is_one_of(found: object, *allowed: object) -> None:
        assert found in allowed


class TestEventSpool:
    """Written by three programs at once."""

    def test_no_event_of_any_process_is_lost(self, tmp_path):
        """Appended and acknowledged at the same time."""
        path = tmp_path / "events"
        EventSpool(path).append("config", "first")
        first = EventSpool(path).read()[0].id

        def write(number: int) -> None:
            spool = EventSpool(path)
            for turn in range(10):
                spool.append("config", f"{number}/{turn}")
                if number == 0:
                    spool.acknowledge([first])

        in_processes(3, write)
        texts = [event.text for event in EventSpool(path).read()]
        assert sorted(texts) == sorted(f"{n}/{turn}" for n in range(3) for turn in range(10))

    def test_killed_at_any_step_of_an_acknowledgement_nothing_else_goes(self, tmp_path):
        """What the control plane has may be sent again; what it has not must not be lost."""
        path = tmp_path / "events"
        spool = EventSpool(path)

        def prepare() -> Callable[[], object]:
            path.unlink(missing_ok=True)
            spool.append("config", "one")
            spool.append("config", "two")
            return lambda: spool.acknowledge([spool.read()[0].id])

        def check() -> None:
            assert [event.text for event in spool.read()] in (["one", "two"], ["two"])

        assert every_death(prepare, check) >= 3

    def test_a_disk_that_takes_half_of_an_event_has_not_taken_it(self, tmp_path):
        """Who appended is told, and the half keeps no other event back."""
        path = tmp_path / "events"
        spool = EventSpool(path)
        spool.append("config", "before")
        size_bytes = path.stat().st_size

        def fill(_number: int) -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes + 50, size_bytes + 50))
            with pytest.raises(OSError, match="too large"):
                spool.append("config", "never whole")

        in_processes(1, fill)
        assert path.stat().st_size == size_bytes + 50
        spool.append("config", "after")
        assert [event.text for event in spool.read()] == ["before", "after"]

    @pytest.mark.parametrize(
        "line", [b"torn {", b"[]", b"5", b'{"id": 5}', b'{"id": "x", "at": "never"}', b"\xff\x00"]
    )
    def test_a_line_that_is_no_event_keeps_no_other_back(self, tmp_path, line):
        """Torn by a power loss, or of another version."""
        spool = EventSpool(tmp_path / "events")
        spool.append("config", "before")
        with (tmp_path / "events").open("ab") as file:
            file.write(line)
        spool.append("config", "after")
        events = spool.read()
        assert [event.text for event in events] == ["before", "after"]
        spool.acknowledge([event.id for event in events])
        assert spool.read() == ()

    @pytest.mark.parametrize("text", ["\ud800", "x" * 5000, "\x00", "a\nb", "\u2028"])
    def test_any_text_goes_out_as_one_event(self, tmp_path, text):
        """Peers and files name things as they like."""
        spool = EventSpool(tmp_path / "events")
        spool.append("push-refused", text, peer=text)
        (event,) = spool.read()
        assert len(event.text) <= 2000
        json.loads(event.model_dump_json())


class TestSettings:
    """One sentence a field, named as the environment names it."""

    @pytest.fixture
    def toml(self, tmp_path, monkeypatch) -> Path:
        """Give the place of the settings file."""
        path = tmp_path / "agent.toml"
        monkeypatch.setitem(AgentSettings.model_config, "toml_file", path)
        return path

    @pytest.mark.parametrize(
        ("text", "sentence"),
        [
            ('queue_directory = "spool"', "RELAY_AGENT_QUEUE_DIRECTORY: Must be an absolute path."),
            ("relay_directory = 5", "RELAY_AGENT_RELAY_DIRECTORY: Input is not a valid path"),
            ("tick_s = 0", "RELAY_AGENT_TICK_S: Input should be greater than 0."),
            ("tick_s = 11", "RELAY_AGENT_TICK_S: Input should be less than or equal to 10."),
            ('tick_s = "soon"', "RELAY_AGENT_TICK_S: Input should be a valid number"),
            ("tick = 1", "RELAY_AGENT_TICK: Extra inputs are not permitted."),
            ("tick_s 1", "is not TOML: "),
            ("\ud800", "is not TOML: "),
        ],
    )
    def test_a_wrong_value_is_told_by_name(self, toml, text, sentence):
        """And by what is wrong with it."""
        toml.write_text(text, errors="surrogatepass")
        with pytest.raises(BadSettings) as caught:
            load_settings()
        assert sentence in str(caught.value)
        assert "\n" not in str(caught.value)

    def test_every_wrong_field_has_its_sentence(self, toml):
        """Nobody repairs them one restart at a time."""
        toml.write_text('tick_s = -1\nrun_directory = "run"\n')
        with pytest.raises(BadSettings) as caught:
            load_settings()
        assert "RELAY_AGENT_TICK_S: " in str(caught.value)
        assert "RELAY_AGENT_RUN_DIRECTORY: " in str(caught.value)

    def test_the_environment_wins(self, toml, monkeypatch):
        """Over the file, as the reference says."""
        toml.write_text("tick_s = 2\n")
        assert load_settings().tick_s == 2
        monkeypatch.setenv("RELAY_AGENT_TICK_S", "3")
        assert load_settings().tick_s == 3

    def test_directories_of_one_filesystem_fit_together(self, tmp_path):
        """Whether the relay's is there already or not; without a queue nothing is known yet."""
        settings = AgentSettings(
            queue_directory=tmp_path / "queue", relay_directory=tmp_path / "not/yet"
        )
        check_filesystem(settings)
        (tmp_path / "queue").mkdir()
        check_filesystem(settings)
        with pytest.raises(BadSettings, match="must be on the filesystem"):
            check_filesystem(settings.model_copy(update={"relay_directory": Path("/proc/relay")}))
