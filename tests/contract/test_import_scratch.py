"""What a file names, sorted on the disk: each entry once, the last of each, in parts."""

from __future__ import annotations

from itertools import chain

from hypothesis import given
from hypothesis import strategies as st

from controlplane.store.import_scratch import AT_ONCE, ImportScratch

KEYS = st.text(st.characters(exclude_categories=["Cs"]), max_size=3)


@given(st.lists(st.tuples(KEYS, st.integers())), st.integers(1, 5))
def test_it_gives_the_last_of_each_in_order(entries: list[tuple[str, int]], size: int) -> None:
    """In parts that are full, but for the last one."""
    with ImportScratch() as scratch:
        scratch.keep((key, {"number": number}) for key, number in entries)
        parts = list(scratch.parts(size))
    wanted = dict(entries)
    in_order = sorted(wanted, key=lambda key: key.encode())
    assert [one["number"] for one in chain(*parts)] == [wanted[key] for key in in_order]
    assert all(len(part) == size for part in parts[:-1])
    assert all(parts)


def test_more_than_is_read_at_once_is_given_whole() -> None:
    """Also where the same key goes on from one reading to the next."""
    count = 2 * AT_ONCE + 1
    with ImportScratch() as scratch:
        scratch.keep((f"{number // 2:06}", {"number": number}) for number in range(count))
        found = [one["number"] for one in chain(*scratch.parts(999))]
    assert found == [*range(1, count - 1, 2), count - 1]
