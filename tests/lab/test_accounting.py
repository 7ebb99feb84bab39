"""The accounting that every end-to-end test trusts: loads, queue files, losses and doubles."""

from __future__ import annotations

import signal
from collections import Counter
from pathlib import Path

import pytest

from lab.layout import HOSTS
from tests.e2e.accounting import Attempt, Load, Report, Shape, deliveries, ids_below
from tests.e2e.driver import Lab, until
from tests.lab.probe import can_reach

TO_SINK = Shape(address=HOSTS["sink"].address, timeout_s=5)
A, B, C = "a" * 24, "b" * 24, "c" * 24


def report(
    acknowledged: str = "",
    delivered: str = "",
    live: tuple[str, str] = ("", ""),
    pending: tuple[str, str] = ("", ""),
) -> Report:
    """Make a report in which every message is one letter."""
    nodes = ("node-a", "node-b")
    return Report(
        acknowledged=frozenset(acknowledged),
        delivered=Counter(delivered),
        live={node: Counter(found) for node, found in zip(nodes, live, strict=True)},
        pending={node: Counter(found) for node, found in zip(nodes, pending, strict=True)},
        refused=(),
        broken=(),
        longest_stall_s=0.0,
        times={id_: float(number) for number, id_ in enumerate(acknowledged)},
    )


def test_lost_is_what_is_nowhere_in_the_order_of_its_250() -> None:
    """Acknowledged, not delivered, in no queue: lost; anything else is not."""
    found = report("dcba", delivered="a", live=("b", ""))
    assert found.lost == ["d", "c"]
    with pytest.raises(AssertionError, match="2 of 4 lost"):
        found.assert_nothing_lost()
    report("ab", delivered="a", pending=("", "b")).assert_nothing_lost()


def test_delivered_without_a_250_is_no_loss_and_no_double() -> None:
    """A client whose session broke may find its message delivered all the same."""
    found = report("a", delivered="ab")
    found.assert_nothing_lost()
    found.assert_doubled_at_most(0)


def test_every_delivery_after_the_first_is_a_double() -> None:
    """Three deliveries of one message are two doubles."""
    found = report("ab", delivered="aaab")
    assert found.doubled == ["a", "a"]
    found.assert_doubled_at_most(2)
    with pytest.raises(AssertionError, match="2 doubled, not 1"):
        found.assert_doubled_at_most(1)


def test_a_delivered_message_in_a_live_queue_is_about_to_double() -> None:
    """So is one in two live queues; one that is set aside is not yet."""
    assert report("a", delivered="a", live=("", "a")).about_to_double == ["a"]
    assert report("a", live=("a", "a")).about_to_double == ["a"]
    assert report("a", live=("a", ""), pending=("", "a")).about_to_double == []


def test_all_delivered_is_more_than_nothing_lost() -> None:
    """A queued message is not lost, but it is not delivered either."""
    found = report("ab", delivered="a", live=("b", ""))
    found.assert_nothing_lost()
    with pytest.raises(AssertionError, match="1 still queued"):
        found.assert_all_delivered()


def test_the_summary_is_one_line() -> None:
    """What a bench prints."""
    assert str(report("ab", delivered="a", live=("b", ""))).startswith(
        "2 acknowledged = 1 delivered + 1 queued, 0 lost, 0 doubled"
    )


def test_only_complete_queue_files_count(tmp_path: Path) -> None:
    """A file without the execute bit was never acknowledged; the id ends where its record ends."""
    for id_, mode in ((A, 0o700), (B, 0o600)):
        path = tmp_path / "d" / id_
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(b"N*X-Relay-Test-Id: " + id_.encode() + b"N\x01xE\x00")
        path.chmod(mode)
    (tmp_path / "other").write_bytes(b"no id")
    (tmp_path / "other").chmod(0o700)
    assert ids_below(tmp_path) == {A: 1}
    assert ids_below(tmp_path / "missing") == {}


def test_the_stall_is_the_longest_time_without_a_250() -> None:
    """It counts from the first attempt and up to the last answer, whatever that was."""
    load = Load(Lab())
    assert load.longest_stall_s == 0.0
    load.attempts = [
        Attempt(A, 10.0, 10.5, "acknowledged"),
        Attempt(B, 10.1, 11.0, "acknowledged"),
        Attempt(C, 10.2, 14.0, "broken"),
    ]
    load._finished_s = 14.0
    assert load.longest_stall_s == 3.0


@pytest.mark.usefixtures("bare_lab")
class TestLoad:
    """A load in a real lab, straight to the sink."""

    def test_a_counted_load_sends_exactly_so_many(self) -> None:
        """Every message of it is acknowledged, and in the journal once."""
        lab = Lab()
        until(lambda: can_reach("client", TO_SINK.address, 25), "the sink answers")
        with Load(lab, rate=1000, count=205, shape=TO_SINK) as load:
            load.wait_for_count()
        assert len(load.acknowledged) == 205
        found = deliveries()
        assert all(found[id_] == 1 for id_ in load.acknowledged)

    def test_several_messages_share_a_session_when_asked(self) -> None:
        """`per_session` divides the number of sessions, not that of messages."""
        shape = Shape(address=TO_SINK.address, per_session=20)
        with Load(Lab(), rate=2000, count=90, shape=shape) as load:
            load.wait_for_count()
        assert len(load.acknowledged) == 90

    def test_a_rate_is_kept(self) -> None:
        """About so many messages a second go out."""
        with Load(Lab(), rate=50, shape=TO_SINK) as load:
            until(lambda: len(load.attempts) >= 100, "two seconds' worth went out")
        first, *others = (attempt.began_s for attempt in load.attempts)
        assert 30 <= len(others) / (others[-1] - first) <= 70

    def test_what_the_relay_refuses_is_refused(self) -> None:
        """A no by SMTP, and a closed port, are refusals with their text."""
        lab = Lab()
        with lab.sink_set("refuse"), Load(lab, count=3, shape=TO_SINK) as load:
            load.wait_for_count()
        assert [attempt.outcome for attempt in load.attempts] == ["refused"] * 3
        assert load.attempts[0].reply.startswith("550 5.7.1")
        closed = Shape(address=HOSTS["client"].address)
        with Load(lab, count=2, shape=closed) as load:
            load.wait_for_count()
        assert len(load.ids("refused")) == 2

    def test_a_session_that_ends_in_the_middle_is_broken(self) -> None:
        """The sink dies while it takes its second over twenty messages; the next are refused."""
        lab = Lab()
        lab.disable("sink", "sink")
        with lab.sink_set("slow"), Load(lab, rate=20, shape=TO_SINK) as load:
            until(lambda: bool(load.acknowledged), "the first of many took its second")
            lab.signal("sink", "sink", signal.SIGKILL)
            until(lambda: bool(load.ids("refused")), "nobody listens any more")
        cut = [attempt.reply for attempt in load.attempts if attempt.outcome == "broken"]
        assert any(not reply.startswith("TimeoutError") for reply in cut)
        lab.enable("sink", "sink")
        until(lambda: can_reach("client", TO_SINK.address, 25), "the sink answers")
