"""Mail is counted by what Postfix logs: each message once, nothing of the time before the start."""

from __future__ import annotations

from collections.abc import Iterable

from nodeagent.core.contract import MailFlow
from nodeagent.core.mail_flow import MOST_BEGUN, FlowCounter
from nodeagent.core.trace_wire import TraceEntry
from tests.fakes.postfix_queue import queue_id
from tests.fakes.traces import START_S, accepted, entry, removed, tried

ONE, TWO = queue_id(1), queue_id(2)
NOTHING = {"accepted": 0, "delivered": 0, "deferrals": 0, "bounced": 0, "rejected": 0}


def counted(entries: Iterable[TraceEntry], started_s: int = START_S) -> dict[str, int]:
    """Return the counts that are not zero."""
    counter = FlowCounter(started_s)
    counter.count(entries)
    return {name: count for name, count in counter.totals().model_dump().items() if count}


def queued(name: str, second: int) -> TraceEntry:
    """Return the line of a message that comes into the active queue."""
    return entry(second, f"qmgr[1]: {name}: from=<a@x.test>, size=300, nrcpt=1 (queue active)")


def test_nothing_is_zero_and_not_unknown() -> None:
    """A log that was read and held no mail."""
    assert FlowCounter(START_S).totals() == MailFlow(**NOTHING)


def test_a_message_is_accepted_once_however_often_it_is_tried() -> None:
    """Each try of a deferred message puts it into the active queue again."""
    lines = [*accepted(ONE), tried(ONE, 1, "deferred"), queued(ONE, 300), tried(ONE, 301, "sent")]
    found = counted([*lines, removed(ONE, 302), *accepted(TWO, 400), tried(TWO, 401, "bounced")])
    assert found == {"accepted": 2, "delivered": 1, "deferrals": 1, "bounced": 1}


def test_a_message_that_no_client_brought_was_not_accepted_here() -> None:
    """It was adopted from another node, or Postfix made it: a bounce."""
    assert counted([queued(ONE, 1), tried(ONE, 2, "sent")]) == {"delivered": 1}


def test_a_session_that_broke_off_has_brought_nothing() -> None:
    """A client line alone is no message."""
    assert counted(accepted(ONE)[:2]) == {}


def test_refusals_and_expiries_are_counted() -> None:
    """One for each line that says so."""
    refused = (
        "smtpd[1]: NOQUEUE: reject: RCPT from u[192.0.2.66]: 554 5.7.1 no; from=<-s@x.test> "
        "to=<r@z.test> proto=ESMTP helo=<x>"
    )
    expired = f"qmgr[1]: {ONE}: from=<a@x.test>, status=expired, returned to sender"
    assert counted([entry(1, refused), entry(2, refused)]) == {"rejected": 2}
    assert counted([entry(3, expired)]) == {"bounced": 1}


def test_what_was_logged_before_the_start_is_not_counted() -> None:
    """Otherwise an agent that was away would report a day's mail as a minute's."""
    lines = [*accepted(ONE), tried(ONE, 1, "sent"), *accepted(TWO, 60), tried(TWO, 61, "sent")]
    assert counted(lines, START_S + 60) == {"accepted": 1, "delivered": 1}


def test_sessions_that_break_off_for_ever_take_no_memory() -> None:
    """The oldest are forgotten; the newest still count."""
    counter = FlowCounter(START_S)
    counter.count(accepted(queue_id(number))[0] for number in range(MOST_BEGUN + 10))
    counter.count([queued(queue_id(0), 1), queued(queue_id(MOST_BEGUN + 9), 1)])
    assert counter.totals().accepted == 1


def test_sessions_that_overlap_are_counted_each() -> None:
    """Two clients begin before either's message is queued: both were accepted, in any order."""
    begun = [accepted(ONE)[0], accepted(TWO)[0]]
    for order in ((ONE, TWO), (TWO, ONE)):
        ends = [queued(name, 5 + number) for number, name in enumerate(order)]
        assert counted([*begun, *ends]) == {"accepted": 2}
    assert counted([*begun, queued(TWO, 5)]) == {"accepted": 1}


def test_one_client_line_is_one_message() -> None:
    """A message that is queued again, after a reload or a retry, was not accepted again."""
    assert counted([accepted(ONE)[0], queued(ONE, 5), queued(ONE, 6)]) == {"accepted": 1}


def test_a_log_read_in_pieces_counts_as_a_log_read_at_once() -> None:
    """Each heartbeat reads what was logged since the last one."""
    lines = [*accepted(ONE), tried(ONE, 1, "deferred"), queued(ONE, 300), tried(ONE, 301, "sent")]
    for cut in range(len(lines) + 1):
        counter = FlowCounter(START_S)
        counter.count(lines[:cut])
        counter.count(lines[cut:])
        found = {name: count for name, count in counter.totals().model_dump().items() if count}
        assert found == {"accepted": 1, "delivered": 1, "deferrals": 1}


def test_what_is_logged_in_the_second_of_the_start_counts() -> None:
    """Stamps have whole seconds, so the first one belongs to the agent."""
    assert counted([tried(ONE, 60, "sent")], START_S + 60) == {"delivered": 1}
    assert counted([tried(ONE, 59, "sent")], START_S + 60) == {}
