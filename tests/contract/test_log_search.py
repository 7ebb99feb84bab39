"""Places between the pages of a log: read back as they were given, and nothing is passed over."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Float,
    MetaData,
    Table,
    create_engine,
    insert,
    select,
)

from controlplane.errors import Invalid
from controlplane.store.log_search import Cursor, cut_page, is_behind, is_between

ENTRIES = Table("entries", MetaData(), Column("at", Float), Column("number", BigInteger))
TIMES = st.integers(0, 2**33 * 1000).map(lambda ms: ms / 1000)
ROWS = st.lists(
    st.tuples(st.sampled_from((0.0, 1.5, 1_795_000_000.123456, 1_795_000_000.123457)) | TIMES),
    max_size=12,
)


def place(row: tuple[float, int]) -> Cursor:
    """Return the place of a row."""
    return Cursor(*row)


@pytest.fixture(scope="module")
def connection() -> Iterator[Connection]:
    """Give a database with one table of times and numbers."""
    engine = create_engine("sqlite://")
    ENTRIES.metadata.create_all(engine)
    with engine.connect() as made:
        yield made
    engine.dispose()


@settings(max_examples=60, deadline=None, derandomize=True)
@given(times=ROWS, limit=st.integers(1, 5))
def test_pages_together_show_every_row_once(
    connection: Connection, times: list[tuple[float]], limit: int
) -> None:
    """Newest first, also where many rows have one time."""
    rows = [(at, number) for number, (at,) in enumerate(times, 1)]
    connection.execute(ENTRIES.delete())
    if rows:
        connection.execute(insert(ENTRIES), [{"at": at, "number": n} for at, n in rows])
    at, number = ENTRIES.c.at, ENTRIES.c.number
    found: list[tuple[float, int]] = []
    text: str | None = None
    for _ in range(len(rows) + 1):
        asked = select(at, number).where(*is_behind(at, number, Cursor.given(text)))
        asked = asked.order_by(at.desc(), number.desc()).limit(limit + 1)
        page, text = cut_page([tuple(row) for row in connection.execute(asked)], limit, place)
        found += page
        if text is None:
            break
    assert found == sorted(rows, reverse=True)


@given(at=TIMES, number=st.integers(0, 10**18 - 1))
def test_a_place_is_read_as_it_was_given(at: float, number: int) -> None:
    """To the last digit that tells two rows apart."""
    assert Cursor.given(Cursor(at, number).text()) == Cursor(at, number)


def test_the_first_page_has_no_place() -> None:
    """Nothing is behind nothing."""
    assert Cursor.given(None) is None
    assert is_behind(ENTRIES.c.at, ENTRIES.c.number, None) == []


@pytest.mark.parametrize(
    "text", ["", "x", "1", "1_", "_1", "-1_1", "1_1 ", "1e9_1", "12345678901_1", "1_" + "9" * 19]
)
def test_what_is_no_place_is_refused(text: str) -> None:
    """In one sentence, beside the parameter."""
    with pytest.raises(Invalid) as refused:
        Cursor.given(text)
    assert list(refused.value.fields) == ["after"]


@pytest.mark.parametrize(
    ("found", "limit", "shown", "following"),
    [
        ([], 2, [], None),
        ([(3.0, 3)], 2, [(3.0, 3)], None),
        ([(3.0, 3), (2.0, 2)], 2, [(3.0, 3), (2.0, 2)], None),
        ([(3.0, 3), (2.0, 2), (1.0, 1)], 2, [(3.0, 3), (2.0, 2)], "2.000000000_2"),
    ],
)
def test_a_page_goes_on_only_when_there_is_more(
    found: list[tuple[float, int]],
    limit: int,
    shown: list[tuple[float, int]],
    following: str | None,
) -> None:
    """One row more than is shown tells; the next page begins behind the last that is shown."""
    assert cut_page(found, limit, place) == (shown, following)


@pytest.mark.parametrize(
    ("since", "until", "numbers"),
    [
        (None, None, [1, 2, 3]),
        (2.0, None, [2, 3]),
        (None, 2.0, [1]),
        (1.0, 3.0, [1, 2]),
        (2.0, 2.0, []),
        (0.0, 0.0, []),
    ],
)
def test_a_span_has_its_first_moment_and_not_its_last(
    connection: Connection, since: float | None, until: float | None, numbers: list[int]
) -> None:
    """Two spans that meet share no row; zero is a time."""
    connection.execute(ENTRIES.delete())
    connection.execute(insert(ENTRIES), [{"at": float(n), "number": n} for n in (1, 2, 3)])
    asked = select(ENTRIES.c.number).where(*is_between(ENTRIES.c.at, since, until))
    assert sorted(connection.execute(asked).scalars()) == numbers
