"""What the queue's filters and pages find, against the plain words of their descriptions."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import delete

from controlplane.errors import Invalid
from controlplane.store.engine import Database
from controlplane.store.queue_search import QueueFilter, find_messages, list_states
from controlplane.store.queue_tables import QueueListRow, QueueMessageRow
from nodeagent.core.queue_contract import QueuedMessage, QueueName
from tests.fakes.queue_lists import NOW_S, batch, ids, lines, message, queue_id, store

WORDS = ("a", "A", "%", "_", "\\", "/", "'", "ab", "b%", "a_", "x.tld", "X.TLD", "")
FIXTURE_STAYS = [HealthCheck.function_scoped_fixture]
MESSAGES = st.lists(
    st.builds(
        dict,
        sender=st.sampled_from(WORDS),
        recipients=st.lists(st.sampled_from([f"r@{one}" for one in WORDS if one]), max_size=3).map(
            tuple
        ),
        reason=st.sampled_from(WORDS),
        next_hop=st.none() | st.sampled_from(WORDS),
        queue=st.sampled_from(list(QueueName)),
        arrived_at=st.sampled_from([0.0, -0.0, 1e-5, NOW_S, NOW_S + 0.1]),
    ),
    max_size=8,
)
FILTERS = st.fixed_dictionaries(
    {},
    optional={
        "sender": st.sampled_from(WORDS),
        "recipient": st.sampled_from([one for one in WORDS if one]),
        "domain": st.sampled_from([one for one in WORDS if one]),
        "reason": st.sampled_from([one for one in WORDS if one]),
        "queue": st.sampled_from(list(QueueName)),
        "node": st.sampled_from(["node-a", "node-b", "node-c"]),
    },
)


def empty(database: Database) -> None:
    """Forget every list."""
    with database.write() as session:
        session.execute(delete(QueueMessageRow))
        session.execute(delete(QueueListRow))


def matches(node: str, one: QueuedMessage, wanted: dict[str, Any]) -> bool:
    """Say what the filter's description says: parts of texts in any case, whole domains."""
    domains = {text.rpartition("@")[2].lower() for text in one.recipients}
    hop = None if one.next_hop is None else one.next_hop.lower()
    told = {
        "node": lambda text: node == text,
        "queue": lambda queue: one.queue is queue,
        "sender": lambda text: text.lower() in one.sender.lower() if text else one.sender == "",
        "recipient": lambda text: any(text.lower() in each.lower() for each in one.recipients),
        "domain": lambda text: text.lower() in domains or text.lower() == hop,
        "reason": lambda text: text.lower() in one.reason.lower(),
    }
    return all(told[name](value) for name, value in wanted.items())


@settings(max_examples=12, suppress_health_check=FIXTURE_STAYS, deadline=None)
@given(left=MESSAGES, right=MESSAGES, wanted=FILTERS)
def test_a_filter_finds_what_its_description_says(
    database: Database,
    left: list[dict[str, Any]],
    right: list[dict[str, Any]],
    wanted: dict[str, Any],
) -> None:
    """No wildcard, quote or case of a stranger's text finds more or less, on either database."""
    empty(database)
    expected = []
    for node, contents, first in (("node-a", left, 0), ("node-b", right, 100)):
        messages = [message(first + place, **one) for place, one in enumerate(contents)]
        store(database, node, batch(*messages))
        expected += [f"{node}/{one.id}" for one in messages if matches(node, one, wanted)]
    assert sorted(ids(database, **wanted)) == sorted(expected)


@settings(max_examples=8, suppress_health_check=FIXTURE_STAYS, deadline=None)
@given(
    times=st.lists(st.sampled_from([0.0, 1e-5, 0.1, NOW_S, NOW_S + 1e-6]), min_size=1, max_size=9),
    limit=st.integers(1, 4),
    is_oldest_first=st.booleans(),
)
def test_pages_cover_the_list_once_whatever_its_times(
    database: Database, times: list[float], limit: int, is_oldest_first: bool
) -> None:
    """Ties, times near zero and times that differ by a microsecond, on two nodes."""
    empty(database)
    for node, first in (("node-a", 0), ("node-b", 100)):
        messages = (message(first + place, arrived_at=at) for place, at in enumerate(times))
        store(database, node, batch(*messages))
    seen: list[tuple[float, str, str]] = []
    after: str | None = None
    while not seen or after is not None:
        with database.read() as session:
            page = find_messages(
                session, QueueFilter(), after=after, limit=limit, is_oldest_first=is_oldest_first
            )
        assert page.total == 2 * len(times)
        seen += [(row.arrived_at, row.node, row.queue_id) for row in page.rows]
        after = page.after
    assert seen == sorted(seen, reverse=not is_oldest_first)
    assert len(set(seen)) == len(seen) == 2 * len(times)


@pytest.mark.parametrize(
    "after",
    [
        "nan/node-a/x",
        "inf/node-a/x",
        "1e400/node-a/x",
        "1e9999/node-a/x",
        "1/node-a/x/more",
        "1//x",
        "1/node-a/",
        "1/node\x00a/x",
        "0x1/node-a/x",
        " 1/node-a/x",
        "1_0/node-a/x",
        "\u0661/node-a/x",
    ],
)
def test_only_a_page_gives_a_place(sqlite_database: Database, after: str) -> None:
    """What no list can hold is refused, before a database compares with it."""
    with sqlite_database.read() as session, pytest.raises(Invalid, match="no place"):
        find_messages(session, QueueFilter(), after=after, limit=1, is_oldest_first=True)


def test_a_page_behind_a_message_that_is_gone_goes_on(database: Database) -> None:
    """The place of a page outlives the message that it names."""
    store(database, "node-a", batch(*(message(number) for number in range(4))))
    with database.read() as session:
        page = find_messages(session, QueueFilter(), after=None, limit=2, is_oldest_first=True)
    gone = (queue_id(1), queue_id(2))
    store(database, "node-a", batch(sequence=2, removals=gone))
    with database.read() as session:
        rest = find_messages(
            session, QueueFilter(), after=page.after, limit=2, is_oldest_first=True
        )
    assert [row.queue_id for row in rest.rows] == [queue_id(3)]
    assert (rest.total, rest.after) == (2, None)


def test_an_empty_list_has_one_empty_page(database: Database) -> None:
    """And a node that says so is listed with none, not left out."""
    store(database, "node-a", batch())
    assert ids(database) == []
    with database.read() as session:
        (state,) = list_states(session)
    assert (state.node, state.messages, state.is_complete) == ("node-a", 0, True)


HOSTILE = {
    "nul": "a\x00b",
    "breaks": "a\r\nb\x0bc\x85d\u2028e",
    "quotes": "'; DROP TABLE queue_messages; --",
    "longer in lower case": "\u0130" * 255,
    "emoji": "\U0001f4a9" * 255,
    "right to left": "\u202egnp.exe",
}


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE)
def test_a_strangers_text_is_stored_in_every_field(database: Database, text: str) -> None:
    """Nothing of it stops the list: a batch that is refused is repeated for ever."""
    odd = message(
        1,
        sender=text,
        recipients=(text, f"r@{text}"),
        recipient_count=2,
        next_hop=text,
        reason=text,
    )
    assert store(database, "node-a", batch(odd))
    assert ids(database) == lines(1)
    with database.read() as session:
        (row,) = find_messages(
            session, QueueFilter(), after=None, limit=1, is_oldest_first=True
        ).rows
    assert len(row.recipients.split("\n")) == 2
    for shown in (row.sender, row.reason, row.next_hop or ""):
        assert not set(shown) & set("\x00\r\n\x0b\x85\u2028")


@pytest.mark.parametrize("session", ["", "x" * 37, "a\x00", "a b", "a\n", "\u00e4"])
def test_a_session_is_a_plain_short_name(session: str) -> None:
    """It is compared and stored; PostgreSQL takes no NUL."""
    with pytest.raises(ValueError, match="session"):
        batch(session=session)


def test_one_message_named_twice_in_a_batch_is_listed_as_named_last(database: Database) -> None:
    """It moved from the active to the deferred queue between two looks."""
    moved = [message(1, queue=queue) for queue in (QueueName.ACTIVE, QueueName.DEFERRED)]
    assert store(database, "node-a", batch(*moved))
    assert ids(database, queue="deferred") == lines(1)
    assert ids(database, queue="active") == []


def test_a_message_that_a_batch_names_and_removes_is_gone(database: Database) -> None:
    """A removal is the later news of the two."""
    assert store(database, "node-a", batch(message(1), message(2), removals=(queue_id(1),)))
    assert ids(database) == lines(2)


def test_what_is_removed_on_one_node_stays_on_the_other(database: Database) -> None:
    """Short ids are no names beyond their node, and a node removes from its own list alone."""
    for node in ("node-a", "node-b"):
        store(database, node, batch(message(1, id="ABCDEF123")))
    store(database, "node-a", batch(sequence=2, removals=("ABCDEF123",)))
    assert ids(database) == ["node-b/ABCDEF123"]


@pytest.mark.parametrize(
    "wanted",
    [
        {"node": "Node-A"},
        {"node": "a/b"},
        {"queue": "corrupt"},
        {"queue_id": "../x"},
        {"queue_id": ""},
        {"recipient": ""},
        {"domain": ""},
        {"reason": ""},
        {"sender": "x" * 256},
        {"older_than_s": -1},
        {"older_than_s": float("nan")},
        {"younger_than_s": float("inf")},
        {"younger_than_s": 1e12},
        {"older": 1},
    ],
)
def test_a_filter_that_means_nothing_is_refused(wanted: dict[str, Any]) -> None:
    """Before any message is selected by it."""
    with pytest.raises(ValueError, match=next(iter(wanted))):
        QueueFilter(**wanted)
