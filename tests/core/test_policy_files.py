"""Files of the mail policy's lists: read entry by entry, and quickly where nothing is to judge."""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from controlplane.core.csv_cells import csv_text
from controlplane.core.csv_lists import LONGEST_LINE
from controlplane.core.names import BadValue
from controlplane.core.policy_drafts import BadwordDraft, CategoryDraft, ListDraft, RateDraft
from controlplane.core.policy_files import (
    CHUNK_BYTES,
    LONGEST_OBJECT,
    Found,
    csv_drafts,
    json_drafts,
)
from controlplane.core.quick_entries import MOST_REASON, is_kept_form, quick_list_values
from controlplane.store.policy_kinds import BLOCKLIST
from nodeagent.policy.document import RateSubject, RateWindow
from nodeagent.policy.engine.values import list_value
from nodeagent.policy.model import Severity, Verdict

ENDLESS = "What follows is no JSON object, or does not end."
GOES_ON = "The array has ended, but the file goes on."
NOT_UTF8 = "What follows is not written in UTF-8."
Read = Callable[..., Iterator[tuple[int, Found]]]


def told(found: Iterator[tuple[int, Found]]) -> list[tuple[int, object]]:
    """Return what a file gave, the sentences as texts."""
    return [(place, str(one) if isinstance(one, BadValue) else one) for place, one in found]


def of_json(text: str | bytes, model: Any = ListDraft) -> list[tuple[int, object]]:
    """Return what a JSON file gives."""
    return told(json_drafts(model, io.BytesIO(text.encode() if isinstance(text, str) else text)))


def of_csv(text: str | bytes, model: Any = ListDraft) -> list[tuple[int, object]]:
    """Return what a CSV file gives."""
    return told(csv_drafts(model, io.BytesIO(text.encode() if isinstance(text, str) else text)))


A, B = ListDraft(value="a.tld"), ListDraft(value="b.tld", reason="so")
JSON_A, JSON_B = '{"value": "a.tld"}', '{"reason": "so", "value": "b.tld"}'


@pytest.mark.parametrize(
    "text",
    [
        f"[{JSON_A}, {JSON_B}]",
        f"[{JSON_A},{JSON_B},]",
        f"[\r\n{JSON_A}\r\n,\r\n{JSON_B}\r\n]\r\n",
        f"{JSON_A}\n{JSON_B}\n",
        f"{JSON_A}{JSON_B}",
        f"{JSON_A}, {JSON_B}",
        f"\ufeff[{JSON_A}, {JSON_B}]",
        f"\ufeff{JSON_A}\n{JSON_B}",
        f"\n\n\t [ {JSON_A} {JSON_B} ] ",
        "\n".join(json.dumps(json.loads(one), indent=4) for one in (JSON_A, JSON_B)),
    ],
)
def test_an_array_and_lines_are_the_same_list(text: str) -> None:
    """What another program writes is read: with commas or without, a mark, any white space."""
    assert of_json(text) == [(1, A), (2, B)]


@pytest.mark.parametrize("text", ["", " \n", "[]", "[ ]", "\ufeff", "[,]", "\ufeff[]\n"])
def test_a_json_file_may_hold_nothing(text: str) -> None:
    """An empty list is one."""
    assert of_json(text) == []


@pytest.mark.parametrize(
    ("text", "places"),
    [
        ("[", [(1, ENDLESS)]),
        (f"[{JSON_A}", [(1, A), (2, ENDLESS)]),
        (f"[{JSON_A}, {JSON_B[:-1]}", [(1, A), (2, ENDLESS)]),
        (f"{JSON_A} oops {JSON_B}", [(1, A), (2, ENDLESS)]),
        (f"{JSON_A} ]", [(1, A), (2, ENDLESS)]),
        ("value,reason\na.tld,so\n", [(1, ENDLESS)]),
        ("{'value': 'a.tld'}", [(1, ENDLESS)]),
        ('{"value": "a\nb"}', [(1, ENDLESS)]),
        (100_000 * "[", [(1, ENDLESS)]),
        (f"{JSON_A}\n" + 100_000 * '{"value":', [(1, A), (2, ENDLESS)]),
    ],
    ids=range(10),
)
def test_where_a_json_file_breaks_is_told_by_its_place(
    text: str, places: list[tuple[int, object]]
) -> None:
    """What stood before it was read; nothing is read beyond it."""
    assert of_json(text) == places


@pytest.mark.parametrize(
    "rest",
    [
        f"[{JSON_B}]",
        f"\n[{JSON_B}]\n",
        f",{JSON_B}",
        JSON_B,
        "]",
        ",",
        "garbage",
        "\0",
        " " * (3 * CHUNK_BYTES) + f"[{JSON_B}]",
    ],
)
def test_nothing_stands_behind_an_array(rest: str) -> None:
    """An import that replaces would delete what it has not read."""
    assert of_json(f"[{JSON_A}]{rest}") == [(1, A), (2, GOES_ON)]
    assert of_json(f"[]{rest}") == [(1, GOES_ON)]


@pytest.mark.parametrize("shift", [-1, 0, 1])
def test_white_space_behind_an_array_may_be_long(shift: int) -> None:
    """Also where the bracket is the last sign, or the first, of a part of the file."""
    before = f"[{JSON_A}" + " " * (CHUNK_BYTES - len(JSON_A) - 2 + shift)
    for behind in ("", "\n", "\r\n\t " * CHUNK_BYTES):
        assert of_json(f"{before}]{behind}") == [(1, A)]
    assert of_json(f"{before}]x") == [(1, A), (2, GOES_ON)]
    assert of_json(f"{before}]".encode() + b" " * CHUNK_BYTES + b"\xff") == [(1, A), (2, NOT_UTF8)]


@pytest.mark.parametrize("value", ["1", "null", '"a.tld"', '["a.tld"]', "true", "NaN", "1e999"])
def test_a_value_that_is_no_object_is_one_sentence(value: str) -> None:
    """The entries around it are read all the same."""
    found = of_json(f"[{JSON_A}, {value}, {JSON_B}]")
    assert found == [(1, A), (2, ENDLESS), (3, B)]


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ({}, "value cannot be used: Field required."),
        ({"value": None}, "value cannot be used: Input should be a valid string."),
        ({"value": ["a.tld"]}, "value cannot be used: Input should be a valid string."),
        ({"value": "a.tld", "reason": 1}, "reason cannot be used: Input should be a valid string."),
        ({"value": "a.tld", "": 1}, " cannot be used: Extra inputs are not permitted."),
        ({"value": "a.tld/8"}, '"a.tld/8" is not a valid network such as'),
        ({"value": "a.tld", "reason": "\ud800"}, "reason cannot be used: "),
    ],
)
def test_an_object_that_is_no_entry_is_one_sentence(fields: dict[str, Any], said: str) -> None:
    """By the name of its field; with and without the quick way."""
    text = f"[{json.dumps(fields)}, {JSON_B}]".encode()
    for quick in (None, quick_list_values):
        (first, why), (second, kept) = told(json_drafts(ListDraft, io.BytesIO(text), quick))
        assert (first, second) == (1, 2)
        assert str(why).startswith(said)
        assert kept in (B, {"value": "b.tld", "reason": "so", "expires_at": None})


@pytest.mark.parametrize("read", [json_drafts, csv_drafts])
def test_a_file_is_left_open_where_it_was_read(read: Read) -> None:
    """Who opened it closes it; also one that is not read to its end."""
    file = io.BytesIO(b"value\na.tld\nb.tld\n" if read is csv_drafts else JSON_A.encode() * 3)
    found = read(ListDraft, file)
    next(found)
    assert isinstance(found, Iterator)
    found.close()  # type: ignore[attr-defined]
    assert not file.closed
    file.seek(0)
    assert next(read(ListDraft, file))[1] == A


@pytest.mark.parametrize("shift", [-2, -1, 0, 1, 2])
def test_an_entry_may_lie_across_two_parts_of_a_file(shift: int) -> None:
    """In the middle of a sign of two bytes, of a word, and between two entries."""
    before = f"[{JSON_A},".encode()
    spaces = b" " * (CHUNK_BYTES - len(before) - 20 + shift)
    umlauts = json.dumps({"value": "b.tld", "reason": 20 * "ü"}, ensure_ascii=False).encode()
    found = of_json(before + spaces + umlauts + b"]")
    assert found == [(1, A), (2, ListDraft(value="b.tld", reason=20 * "ü"))]


def test_entries_are_read_as_they_come() -> None:
    """The first is there before the rest of a long file was looked at."""
    data = f"[{JSON_A}, {JSON_B},".encode() + b" " * (9 * CHUNK_BYTES) + b"\xff"
    file = io.BytesIO(data)
    found = json_drafts(ListDraft, file)
    assert [next(found), next(found)] == [(1, A), (2, B)]
    assert file.tell() <= 2 * CHUNK_BYTES
    assert [(place, str(one)) for place, one in found] == [(3, NOT_UTF8)]


def test_a_long_object_is_given_up() -> None:
    """One that fits into the window is read, though it cannot be used; beyond it nothing is."""
    fits = json.dumps({"value": "a.tld", "reason": "x" * (LONGEST_OBJECT - 100)})
    assert of_json(fits) == [
        (1, "reason cannot be used: String should have at most 500 characters.")
    ]
    beyond = json.dumps({"value": "a.tld", "reason": "x" * (4 * LONGEST_OBJECT)})
    assert of_json(f"{beyond}\n{JSON_B}") == [(1, ENDLESS)]


@pytest.mark.parametrize("rest", [b"\xff", b"\xc3", b"\xed\xa0\x80", "ä".encode("latin-1")])
def test_what_is_no_utf8_is_told_at_its_place(rest: bytes) -> None:
    """In whichever part of the file; latin-1 is what a spreadsheet makes of an umlaut."""
    far = (b" " * 1023 + b"\n") * (3 * CHUNK_BYTES // 1024)
    assert of_json(JSON_A.encode() + far + rest) == [(1, A), (2, NOT_UTF8)]
    assert of_json(rest) == [(1, NOT_UTF8)]
    assert of_csv(rest) == [(1, NOT_UTF8)]
    assert of_csv(b"value\na.tld\n" + far + rest)[0] == (2, A)
    assert of_csv(b"value\na.tld\n" + far + rest)[-1][1] == NOT_UTF8


@pytest.mark.parametrize("read", [json_drafts, csv_drafts])
@given(content=st.binary(max_size=200) | st.text('[]{}",:\\n\nvaluereson0', max_size=200))
def test_any_file_ends_in_entries_and_sentences(read: Read, content: bytes | str) -> None:
    """Their places rise, and nothing is raised."""
    data = content.encode() if isinstance(content, str) else content
    found = told(read(ListDraft, io.BytesIO(data)))
    places = [place for place, _one in found]
    assert places == sorted(set(places))
    assert all(isinstance(one, ListDraft) or str(one).endswith(".") for _place, one in found)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("value\na.tld\n", [(2, A)]),
        ("reason,value\nso,b.tld\n", [(2, B)]),
        ("value;reason\r\na.tld;\r\n\r\nb.tld;so\r\n", [(2, A), (4, B)]),
        ("\ufeffVALUE , Reason\na.tld,\n", [(2, A)]),
        ('value,reason\n"a.tld",""\n', [(2, A)]),
        ("", [(1, "The first line has to name the columns: value,reason,expires_at.")]),
        ("reason\nso\n", [(1, "The first line has to name the columns: value,reason,expires_at.")]),
        (
            "value,why\na.tld,so\n",
            [(1, 'There is no column "why"; the columns are value,reason,expires_at.')],
        ),
        (
            "value,id\na.tld,5\n",
            [(1, 'There is no column "id"; the columns are value,reason,expires_at.')],
        ),
        ("value,reason\n,so\na.tld,\n", [(2, "value is empty."), (3, A)]),
        (
            "value,reason\na.tld\nb.tld,so\n",
            [(2, "This line has 1 cells, the first line 2."), (3, B)],
        ),
        ("value\n'=1+1\n", [(2, '"=1+1" is not a valid domain name.')]),
    ],
)
def test_a_csv_file_is_read_line_by_line(text: str, found: list[tuple[int, object]]) -> None:
    """The names of the columns in any order and case; a default for what is not there."""
    assert of_csv(text) == found


def test_a_line_of_csv_has_an_end() -> None:
    """What a quotation mark opened does not take the whole file along."""
    short = "x" * (LONGEST_LINE - 3 - len("a.tld,"))
    (found,) = of_csv(f"value,reason\na.tld,{short}\n")
    assert found == (2, "reason cannot be used: String should have at most 500 characters.")
    (found,) = of_csv(f"value,reason\na.tld,{LONGEST_LINE * 'x'}\n")
    assert found == (
        2,
        f"This line is no CSV: it is longer than {LONGEST_LINE} characters.",
    )


@pytest.mark.parametrize(
    ("model", "text", "found"),
    [
        (
            BadwordDraft,
            "pattern,is_regex,severity\nwin [0-9]+,yes,high\nb,no,\n",
            [
                (2, BadwordDraft(pattern="win [0-9]+", is_regex=True, severity=Severity.HIGH)),
                (3, BadwordDraft(pattern="b")),
            ],
        ),
        (
            RateDraft,
            "subject;window;limit;verdict\nsender;day;5;reject\n",
            [
                (
                    2,
                    RateDraft(
                        subject=RateSubject.SENDER,
                        window=RateWindow.DAY,
                        limit=5,
                        verdict=Verdict.REJECT,
                    ),
                )
            ],
        ),
        (
            CategoryDraft,
            'address,allowed_senders\nnews@e.tld,"a@e.tld *@f.tld"\n',
            [(2, CategoryDraft(address="news@e.tld", allowed_senders=("a@e.tld", "*@f.tld")))],
        ),
        (
            RateDraft,
            "subject,window,limit\nsender,day,x\n",
            [(2, "limit has to be a whole number.")],
        ),
        (
            RateDraft,
            "subject,window\nsender,day\n",
            [
                (
                    1,
                    (
                        "The first line has to name the columns: "
                        "subject,window,limit,verdict,is_enabled."
                    ),
                )
            ],
        ),
    ],
)
def test_every_list_has_its_columns(model: Any, text: str, found: list[tuple[int, object]]) -> None:
    """Words, numbers and lists within a cell."""
    assert of_csv(text, model) == found


LABELS = st.text("abcxyz019_-", min_size=1, max_size=12)
NAMES = st.lists(LABELS, min_size=1, max_size=4).map(".".join)
VALUES = (
    NAMES
    | st.tuples(st.sampled_from(["*.", "*@", "user@", "a+b@", "A@", '"a b"@', "@"]), NAMES).map(
        "".join
    )
    | st.ip_addresses().map(str)
    | st.tuples(st.ip_addresses().map(str), st.integers(-1, 130)).map("{0[0]}/{0[1]}".format)
    | st.text("0123456789abcdef.:/", max_size=24)
    | st.sampled_from(["*.*.tld", "xn--mller-kva.example", "*@xn--a.example", "a.b.c.1", "1.2"])
    | st.text(max_size=12)
)
REASONS = st.text(max_size=12) | st.just("x" * MOST_REASON) | st.just("x" * (MOST_REASON + 1))
TIMES = (
    st.datetimes(timezones=st.timezones()).map(lambda one: one.isoformat())
    | st.sampled_from(["", "soon", "2027-01-31T00:00:00", "1969-12-31T23:59:59Z", "1700000000"])
    | st.none()
    | st.integers()
)
ENTRIES = st.fixed_dictionaries(
    {"value": VALUES}, optional={"reason": REASONS, "expires_at": TIMES, "id": st.integers()}
)


@given(ENTRIES)
@example({"value": "192.0.2.0/24", "reason": "", "expires_at": None})
@example({"value": "192.0.2.1/32"})
@example({"value": "::ffff:c000:201"})
@example({"value": "::ffff:0:0/96"})
@example({"value": "2001:db8::/32", "expires_at": "9999-01-01T00:00:00Z"})
@example({"value": "a.tld", "reason": "a\u2028b"})
def test_the_quick_way_gives_what_the_draft_gives_or_leaves_it_to_it(
    entry: dict[str, Any],
) -> None:
    """It never takes what would be refused, and never keeps another form."""
    quick = quick_list_values(entry)
    if quick is None:
        return
    assert quick == BLOCKLIST.to_values(ListDraft(**entry))


@given(VALUES)
def test_a_kept_form_is_what_the_strict_way_returns(value: str) -> None:
    """Only then is it sure; a value in its plain form is nearly always told to be one."""
    if is_kept_form(value):
        assert list_value(value) == value


@pytest.mark.parametrize(
    "value",
    [
        "192.0.2.1",
        "192.0.2.0/24",
        "0.0.0.0/0",
        "2001:db8::1",
        "2001:db8::/32",
        "::/0",
        "e.tld",
        "*.e.tld",
        "*@e.tld",
        "a+b.c@e.tld",
        f"{63 * 'a'}.tld",
        f"{64 * 'a'}@e.tld",
        "_dmarc.e.tld",
    ],
)
def test_what_lists_are_made_of_goes_the_quick_way(value: str) -> None:
    """Else a million entries take twenty times as long."""
    assert is_kept_form(value)
    assert quick_list_values({"value": value}) == {
        "value": value,
        "reason": "",
        "expires_at": None,
    }


@pytest.mark.parametrize(
    "value",
    [
        "",
        " e.tld",
        "E.tld",
        "e.tld.",
        "e.tld\n",
        "tld",
        "*",
        "*.",
        "@e.tld",
        '"a b"@e.tld',
        "xn--mller-kva.example",
        "müller.example",
        f"{64 * 'a'}.tld",
        f"{65 * 'a'}@e.tld",
        "a.b.1",
        "user@[192.0.2.1]",
        "192.0.2.1/24",
        "192.0.2.1/32",
        "192.0.2.0/024",
        "192.0.2.0/+4",
        "192.0.2.0/",
        "192.0.2",
        "192.0.2.01",
        "2001:DB8::1",
        "2001:db8:0::1",
        "2001:db8::1/128",
        "2001:db8::1/64",
        "::ffff:192.0.2.1",
        "fe80::1%eth0",
        "1.2.3.4\x00",
    ],
)
def test_what_may_be_changed_or_refused_is_left_to_the_draft(value: str) -> None:
    """Also some that would be kept as they are: being unsure costs time, not truth."""
    assert not is_kept_form(value)
    assert quick_list_values({"value": value}) is None


@pytest.mark.parametrize(
    "more",
    [
        {"id": 1},
        {"reason": None},
        {"reason": 1},
        {"reason": "a\nb"},
        {"reason": "x" * (MOST_REASON + 1)},
        {"expires_at": 1_700_000_000},
        {"expires_at": ""},
        {"expires_at": "2027-01-31T00:00:00"},
        {"expires_at": "9999-01-01T00:00:00Z"},
    ],
)
def test_a_field_that_is_not_plain_is_left_to_the_draft(more: dict[str, Any]) -> None:
    """Which may take it, and else says what is wrong."""
    assert quick_list_values({"value": "e.tld", **more}) is None


def test_no_value_is_left_to_the_draft() -> None:
    """A file of reasons has no entries."""
    assert quick_list_values({"reason": "so"}) is None
    assert quick_list_values({}) is None


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1970-01-01T00:00:00Z", 0.0),
        ("1970-01-01T01:00:00.5+01:00", 0.5),
        ("2027-01-31T00:00:00Z", 1_801_353_600.0),
    ],
)
def test_a_time_is_in_seconds_since_1970(text: str, seconds: float) -> None:
    """In whichever zone it was written."""
    found = quick_list_values({"value": "e.tld", "expires_at": text})
    assert found is not None
    assert found["expires_at"] == seconds


@given(
    st.lists(
        st.builds(
            ListDraft,
            value=st.sampled_from(["a.tld", "*@b.tld", "192.0.2.0/24", "2001:db8::1", "a@c.tld"]),
            reason=st.text(
                st.characters(min_codepoint=0x20, max_codepoint=0x24F, exclude_characters="\x7f"),
                max_size=20,
            ).map(str.strip),
            expires_at=st.none() | st.just("2027-01-31T00:00:00+01:00"),
        ),
        max_size=6,
    )
)
def test_a_list_that_goes_out_comes_in_as_it_was(drafts: list[ListDraft]) -> None:
    """As CSV and as JSON, the quick way and the other, formulas and quotes and all."""
    columns = list(ListDraft.model_fields)
    rows = [draft.model_dump(mode="json") for draft in drafts]
    as_csv = csv_text([columns, *([row[name] for name in columns] for row in rows)])
    values = [BLOCKLIST.to_values(draft) for draft in drafts]
    for quick in (None, quick_list_values):
        found = [
            *(one for _line, one in csv_drafts(ListDraft, io.BytesIO(as_csv.encode()), quick)),
            *(
                one
                for _place, one in json_drafts(
                    ListDraft, io.BytesIO(json.dumps(rows).encode()), quick
                )
            ),
        ]
        read = [BLOCKLIST.to_values(one) if isinstance(one, ListDraft) else one for one in found]
        assert read == values + values
