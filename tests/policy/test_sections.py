"""Sections: the same entries have the same name; what is torn, swollen or wrong is refused."""

from __future__ import annotations

import gzip
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.policy.document import (
    ENTRIES_A_SECTION,
    Badword,
    Category,
    ListEntry,
    Listing,
    Posting,
    RateRule,
    RateSubject,
    RateWindow,
    Section,
    SectionKind,
    Subscription,
    ThreatSetting,
)
from nodeagent.policy.engine import sections
from nodeagent.policy.engine.sections import Entry, pack_section, read_entries, read_section

SAMPLES: dict[SectionKind, tuple[Entry, ...]] = {
    SectionKind.LIST: (
        ListEntry(id=1, value="192.0.2.0/24", reason="a bad net", expires_at=1.5),
        ListEntry(id=2, listing=Listing.ALLOW, value="*@example.com"),
    ),
    SectionKind.BADWORDS: (
        Badword(id=3, pattern="büchse"),
        Badword(id=4, pattern="a+", is_regex=1),
    ),
    SectionKind.RATES: (
        RateRule(id=5, subject=RateSubject.SENDER, window=RateWindow.HOUR, limit=10),
    ),
    SectionKind.THREATS: (ThreatSetting(rule="sql-union", score=0.0),),
    SectionKind.CATEGORIES: (
        Category(
            id=6, address="news@example.com", posting=Posting.ALLOWED, allowed_senders=("a@b",)
        ),
    ),
    SectionKind.SUBSCRIPTIONS: (
        Subscription(id=7, category=6, address="a@example.net", token="t" * 16),
    ),
}


def packed_by_hand(kind: SectionKind, plain: bytes, entries: int) -> tuple[Section, bytes]:
    """Return a section of this plain text, right or wrong."""
    name = hashlib.sha256(plain).hexdigest()
    return Section(kind=kind, number=3, sha256=name, entries=entries), gzip.compress(plain)


@pytest.mark.parametrize("kind", SectionKind)
def test_entries_of_each_kind_come_back_as_they_were(kind: SectionKind) -> None:
    """What was packed is read, whatever kind of entry it is."""
    packed = pack_section(kind, 9, SAMPLES[kind])
    assert read_section(packed.section, packed.body) == SAMPLES[kind]
    assert (packed.section.kind, packed.section.number) == (kind, 9)


@given(
    st.lists(
        st.builds(
            ListEntry,
            id=st.integers(1, 2**53 - 1),
            listing=st.sampled_from(Listing),
            value=st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable()),
            reason=st.text(max_size=40),
            expires_at=st.none() | st.floats(0, 2**33),
        ),
        unique_by=lambda entry: entry.id,
        max_size=20,
    ),
    st.randoms(),
)
def test_the_order_in_which_entries_are_given_changes_nothing(entries, random) -> None:
    """Two control planes that hold the same entries name the section alike, byte for byte."""
    first = pack_section(SectionKind.LIST, 0, entries)
    random.shuffle(entries)
    second = pack_section(SectionKind.LIST, 0, entries)
    assert first == second
    back, problems = read_entries(first.section, first.body, ListEntry)
    assert problems == ()
    assert back == tuple(sorted(entries, key=lambda entry: entry.id))


def test_an_edit_of_any_field_gives_another_name() -> None:
    """A node that compares names alone misses no edit."""
    entry = SAMPLES[SectionKind.LIST][0]
    names = {
        pack_section(SectionKind.LIST, 0, [entry.model_copy(update=update)]).section.sha256
        for update in (
            {},
            {"value": "192.0.2.0/25"},
            {"reason": ""},
            {"expires_at": None},
            {"listing": Listing.ALLOW},
            {"id": 2},
        )
    }
    assert len(names) == 6


@pytest.mark.parametrize(
    ("kind", "entries", "sentence"),
    [
        (SectionKind.LIST, SAMPLES[SectionKind.RATES], "a section of list has no RateRule in it"),
        (
            SectionKind.LIST,
            SAMPLES[SectionKind.LIST] * 2,
            "a section of list has two entries 1",
        ),
        (
            SectionKind.THREATS,
            SAMPLES[SectionKind.THREATS] * 2,
            "a section of threats has two entries sql-union",
        ),
        (
            SectionKind.LIST,
            [ListEntry(id=number + 1, value="x") for number in range(ENTRIES_A_SECTION + 1)],
            "a section has at most 65536 entries, not 65537",
        ),
    ],
)
def test_entries_that_make_no_section_are_refused(kind, entries, sentence) -> None:
    """Mixed kinds, an id twice, and too many entries are said in one sentence."""
    with pytest.raises(ValueError, match=sentence):
        pack_section(kind, 0, entries)


def test_a_body_cut_anywhere_is_refused() -> None:
    """A transfer that broke off is never taken for a shorter list."""
    packed = pack_section(SectionKind.LIST, 0, SAMPLES[SectionKind.LIST])
    for length in range(len(packed.body)):
        with pytest.raises(ValueError, match="section list/0 is"):
            read_section(packed.section, packed.body[:length])


@given(st.binary(max_size=200))
def test_a_body_of_random_bytes_is_refused(body: bytes) -> None:
    """Nothing but gzip is unpacked."""
    section = pack_section(SectionKind.LIST, 0, SAMPLES[SectionKind.LIST]).section
    with pytest.raises(ValueError, match="section list/0"):
        read_section(section, body)


def test_a_body_that_is_another_section_is_refused() -> None:
    """The name is compared, and nothing may stand behind the end."""
    first = pack_section(SectionKind.LIST, 0, SAMPLES[SectionKind.LIST][:1])
    second = pack_section(SectionKind.LIST, 0, SAMPLES[SectionKind.LIST][1:])
    with pytest.raises(ValueError, match="is not the one that the manifest names"):
        read_section(first.section, second.body)
    with pytest.raises(ValueError, match="is torn"):
        read_section(first.section, first.body + b"more")


def test_a_body_that_swells_is_never_unpacked_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    """Unpacking stops at the limit."""
    monkeypatch.setattr(sections, "MOST_PLAIN_BYTES", 10_000)
    section, body = packed_by_hand(SectionKind.LIST, b" " * 10_001 + b"\n", 1)
    assert len(body) < 100
    with pytest.raises(ValueError, match="more than 10000 bytes unpacked"):
        read_section(section, body)


@pytest.mark.parametrize(
    ("plain", "entries", "sentence"),
    [
        (b'{"id":1,"value":"x"}', 1, "section list/3 ends within a line"),
        (b'{"id":1,"value":"x"}\n', 2, "section list/3 has 1 entries, not 2"),
        (b"\n", 1, "line 1 is left out"),
        (b'{"id":0,"value":"x"}\n', 1, "line 1 is left out: id: "),
        (b'{"id":1,"value":""}\n', 1, "line 1 is left out: value: "),
        (b'{"id":1,"value":"x","listing":"grey"}\n', 1, "line 1 is left out: listing: "),
        (b"[]\n", 1, "line 1 is left out: "),
        (b'{"id":1,"value":"x"},{"id":2,"value":"y"}\n', 1, "line 1 is left out: "),
        (b"\xff\n", 1, "line 1 is left out: "),
    ],
)
def test_a_wrong_line_is_named(plain: bytes, entries: int, sentence: str) -> None:
    """The control plane learns which line it stored wrong."""
    with pytest.raises(ValueError, match=sentence):
        read_section(*packed_by_hand(SectionKind.LIST, plain, entries))


def test_a_node_leaves_out_the_wrong_line_alone() -> None:
    """What a newer control plane wrote must not cost a node the rest of the section."""
    plain = b'{"id":1,"value":"x"}\n{"id":2,"value":"y","listing":"grey"}\n{"id":3,"value":"z"}\n'
    entries, problems = read_entries(*packed_by_hand(SectionKind.LIST, plain, 3), ListEntry)
    assert [entry.id for entry in entries] == [1, 3]
    assert len(problems) == 1
    assert problems[0].startswith("section list/3: line 2 is left out: listing: Input should be")


def test_fields_of_a_newer_version_are_not_read() -> None:
    """A newer control plane may tell more than this version knows."""
    plain = b'{"id":1,"value":"x","colour":"red"}\n'
    entries, problems = read_entries(*packed_by_hand(SectionKind.LIST, plain, 1), ListEntry)
    assert (entries, problems) == ((ListEntry(id=1, value="x"),), ())


def test_problems_are_counted_up_to_a_hundred() -> None:
    """A section of nonsense makes no report of 65,536 lines."""
    section, body = packed_by_hand(SectionKind.LIST, b"{}\n" * 500, 500)
    entries, problems = read_entries(section, body, ListEntry)
    assert (entries, len(problems)) == ((), sections.MOST_PROBLEMS)
