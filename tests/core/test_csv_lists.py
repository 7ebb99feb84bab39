"""CSV in and out: a round trip changes nothing, no cell is a formula, a line has one sentence."""

from __future__ import annotations

import csv
import io
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from controlplane.core.csv_cells import FORMULA_STARTS, csv_lines, guarded, unguarded
from controlplane.core.csv_lists import (
    DOMAINS_CSV,
    NETWORKS_CSV,
    POLICIES_CSV,
    ROUTES_CSV,
    CsvList,
    read_csv,
    write_csv,
)
from controlplane.core.spec import (
    RecipientDomain,
    SenderAction,
    SenderPolicy,
    SenderRoute,
    TlsMode,
)
from controlplane.core.state_file import RouteState, StateLists

TEXT = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x2FF, exclude_characters="\x7f"))
TRICKS = st.text(st.sampled_from("=+-@\t\r\n;,'\" x"), max_size=12)
"""What spreadsheets split at, run, or read as quotes."""
ANYWHERE = re.compile(r'[;\t\r\n]"*[=+\-@]')
"""What begins a formula in a spreadsheet that splits elsewhere."""


@given(st.lists((TEXT | TRICKS).map(str.strip)))
def test_what_goes_out_comes_in_unchanged(replies: list[str]) -> None:
    """Commas, quotes, apostrophes and formulas survive, in every cell."""
    policies = [
        SenderPolicy(domain=f"d{number}.tld", action=SenderAction.BLOCKED, reply_text=reply)
        for number, reply in enumerate(replies)
    ]
    rows = read_csv(POLICIES_CSV, write_csv(POLICIES_CSV, policies))
    assert (list(rows.items.values()), dict(rows.problems)) == (policies, {})


@given(st.lists(TEXT | TRICKS))
def test_no_cell_that_goes_out_is_a_formula(replies: list[str]) -> None:
    """Whatever was typed, no cell begins with what a spreadsheet would run."""
    policies = [
        SenderPolicy(domain="d.tld", action=SenderAction.BLOCKED, reply_text=reply)
        for reply in replies
    ]
    for cells in csv.reader(io.StringIO(write_csv(POLICIES_CSV, policies), newline="")):
        assert not any(cell.startswith(tuple(FORMULA_STARTS)) for cell in cells)


@given(st.lists(st.lists(TEXT | TRICKS, min_size=1), min_size=1))
def test_no_spreadsheet_finds_a_formula_however_it_splits(rows: list[list[str]]) -> None:
    """At semicolons or tabs, and at line breaks within cells, which quotes do not hold then."""
    out = "".join(csv_lines(["n", "text"], [[[number, *row] for number, row in enumerate(rows)]]))
    assert ANYWHERE.search(out) is None
    for delimiter in ";\t":
        for cells in csv.reader(io.StringIO(out, newline=""), delimiter=delimiter):
            assert not any(cell.startswith(tuple("=+-@")) for cell in cells)


@pytest.mark.parametrize(
    ("said", "cell"),
    [
        ("Hello;=cmd|' /C calc'!A0", "Hello;'=cmd|' /C calc'!A0"),
        ("a\t+1", "a\t'+1"),
        ("a\r\n@x", "a\r\n'@x"),
        ('a;"-1"', 'a;\'"-1"'),
        ("a;'=1", "a;''=1"),
        ("a;b; =1", "a;b; =1"),
        ("=1;=2", "'=1;'=2"),
        ("\n=1", "'\n'=1"),
    ],
)
def test_a_formula_within_a_cell_is_guarded(said: str, cell: str) -> None:
    """Behind a separator, and as little as that takes; the way back is the same."""
    assert guarded(said) == cell
    assert unguarded(cell) == said


def test_a_password_never_goes_out() -> None:
    """Neither the column nor the value; a sender's @ is disarmed."""
    route = SenderRoute(
        sender="@d.tld", next_hop="mx.tld", username="u", password=SecretStr("hunter22")
    )
    text = write_csv(ROUTES_CSV, [route])
    assert text == "sender,next_hop,port,tls_mode,username\r\n'@d.tld,mx.tld,25,encrypt,u\r\n"
    assert read_csv(ROUTES_CSV, text).items[2].sender == "@d.tld"


def test_a_password_may_come_in() -> None:
    """A column of its own, in any place."""
    rows = read_csv(ROUTES_CSV, "password,sender,next_hop,username\nhunter22,@d.tld,mx.tld,u\n")
    assert rows.items[2].password == SecretStr("hunter22")


def test_spreadsheets_of_all_countries_are_read() -> None:
    """A semicolon, a byte order mark, CR LF, empty lines, columns in another order."""
    text = "\ufeffport;name;tls_mode\r\n587;a.tld;verify\r\n\r\n;b.tld;\r\n"
    rows = read_csv(DOMAINS_CSV, text)
    assert rows.problems == {}
    assert rows.items == {
        2: RecipientDomain(name="a.tld", port=587, tls_mode=TlsMode.VERIFY),
        4: RecipientDomain(name="b.tld"),
    }


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("a.tld,mx.tld,many,may", "port has to be a whole number."),
        ("a.tld,mx.tld,25,always", "tls_mode has to be one of none, may, encrypt or verify."),
        (",mx.tld,25,may", "name is empty."),
        ("a.tld,25", "This line has 2 cells, the first line 4."),
        ('a.tld,"mx"x,25,may', "This line is no CSV: ',' expected after '\"'."),
    ],
)
def test_a_line_that_cannot_be_used_has_a_sentence(line: str, sentence: str) -> None:
    """The lines around it are read all the same."""
    rows = read_csv(DOMAINS_CSV, f"name,next_hop,port,tls_mode\nok.tld,,,\n{line}\n")
    assert rows.problems == {3: sentence}
    assert list(rows.items) == [2]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "The first line has to name the columns: network."),
        ("198.51.100.0/24\n", "The first line has to name the columns: network."),
        ("network,network\n", "The first line has to name the columns: network."),
        ("network,colour\n", 'There is no column "colour"; the columns are network.'),
    ],
)
def test_a_list_without_a_usable_first_line_says_so(text: str, sentence: str) -> None:
    """Nothing is guessed from the place of a column."""
    assert read_csv(NETWORKS_CSV, text).problems == {1: sentence}


NAMES = st.from_regex(r"[a-z0-9]{1,8}\.(tld|example)", fullmatch=True)
HOPS = st.sampled_from(["mx.tld", "192.0.2.1", "[192.0.2.1]", "2001:db8::1", "=cmd", "'x", "-"])
PORTS = st.integers(-1, 70_000)
MODES = st.sampled_from(list(TlsMode))
DOMAINS = st.builds(
    RecipientDomain, name=NAMES, next_hop=st.none() | HOPS, port=PORTS, tls_mode=MODES
)
ROUTES = st.builds(
    SenderRoute,
    sender=NAMES.map(lambda name: f"@{name}") | NAMES.map(lambda name: f"+x@{name}"),
    next_hop=HOPS,
    port=PORTS,
    tls_mode=MODES,
    username=st.none() | TEXT.map(str.strip).filter(bool),
)
NETWORKS = st.sampled_from(["192.0.2.0/24", "2001:db8::/32", "::1", "+1", "@x", "'", "''"])


@pytest.mark.parametrize(
    ("shape", "items"),
    [(DOMAINS_CSV, DOMAINS), (ROUTES_CSV, ROUTES), (NETWORKS_CSV, NETWORKS)],
    ids=["domains", "routes", "networks"],
)
@given(data=st.data())
def test_every_list_comes_in_as_it_went_out(
    shape: CsvList, items: st.SearchStrategy[object], data: st.DataObject
) -> None:
    """Also what the validation would refuse: a file tells the whole truth, line by line."""
    listed = data.draw(st.lists(items, max_size=5))
    rows = read_csv(shape, write_csv(shape, listed))
    assert (list(rows.items.values()), dict(rows.problems)) == (listed, {})


@given(st.text(max_size=60), st.sampled_from([DOMAINS_CSV, POLICIES_CSV, ROUTES_CSV, NETWORKS_CSV]))
def test_no_text_is_more_than_a_sentence_a_line(text: str, shape: CsvList) -> None:
    """A file of any kind is read to its end: items and problems by line, each in one line."""
    for given_text in (text, f"{','.join(shape.columns)}\n{text}"):
        rows = read_csv(shape, given_text)
        assert not set(rows.items) & set(rows.problems)
        assert all(1 <= line <= len(given_text) + 1 for line in (*rows.items, *rows.problems))
        assert all(said.endswith(".") for said in rows.problems.values())


def test_a_line_is_counted_as_an_editor_counts_it() -> None:
    """A quoted cell of three lines moves the next one down."""
    text = 'domain,action,reply_text\na.tld,blocked,"one\ntwo\nthree"\nb.tld,many,\n'
    rows = read_csv(POLICIES_CSV, text)
    assert list(rows.items) == [2]
    assert list(rows.problems) == [5]


def test_a_cell_without_end_is_a_sentence() -> None:
    """A quote that nobody closed swallows the rest of the file, and one of 200,000 letters too."""
    for cell in ('"never closed', "x" * 200_000):
        rows = read_csv(NETWORKS_CSV, f"network\n192.0.2.0/24\n{cell}\n")
        assert list(rows.items) == [2]
        assert rows.problems[3].startswith("This line is no CSV: ")


@given(st.lists(ROUTES, max_size=4))
def test_routes_of_a_state_file_are_the_specs(routes: list[SenderRoute]) -> None:
    """A password is taken from a file and never written into one."""
    with_password = [one.model_copy(update={"password": SecretStr("hunter22")}) for one in routes]
    lists = StateLists(routes=tuple(RouteState(**dict(one)) for one in with_password))
    assert lists.items("routes") == tuple(with_password)
    assert "hunter22" not in lists.model_dump_json()
    assert "password" not in lists.model_dump_json()
    again = StateLists.model_validate_json(lists.model_dump_json())
    assert again.items("routes") == tuple(routes)


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("'", "'"),
        ("''", "'"),
        ("'n Abend", "'n Abend"),
        ("'=1+1", "=1+1"),
        ("'@e.tld", "@e.tld"),
        ("''=1", "'=1"),
        ("=1+1", "=1+1"),
        ("  '@e.tld  ", "@e.tld"),
        ("", ""),
    ],
)
def test_only_an_apostrophe_that_guards_is_taken_off(typed: str, said: str) -> None:
    """One that was typed before a letter is part of the text."""
    assert unguarded(typed) == said


@given((TEXT | TRICKS).map(str.strip))
def test_a_guarded_cell_says_what_it_said(text: str) -> None:
    """Once, and through a spreadsheet that shows and saves it again."""
    cell = guarded(text)
    assert unguarded(cell) == text
    assert unguarded(guarded(unguarded(cell))) == text
    assert not cell.startswith(tuple(FORMULA_STARTS))


@pytest.mark.parametrize(
    ("value", "cell"), [(None, ""), (-1, "-1"), (0, "0"), (False, "False"), ("-1", "'-1")]
)
def test_a_number_is_no_formula(value: object, cell: str) -> None:
    """A spreadsheet may count with it; a text that looks like one stays a text."""
    assert guarded(value) == cell


def test_pages_become_one_file() -> None:
    """The names come once, an empty page adds nothing, and a file without rows has its names."""
    pages = [[["a", 1], ["=b", None]], [], [["c,d", 2]]]
    assert "".join(csv_lines(["name", "n"], pages)) == ('name,n\r\na,1\r\n\'=b,\r\n"c,d",2\r\n')
    assert "".join(csv_lines(["name", "n"], [])) == "name,n\r\n"


@pytest.mark.parametrize(
    ("shape", "text", "sentence"),
    [
        (
            DOMAINS_CSV,
            "name,colour\n",
            'There is no column "colour"; the columns are name,next_hop,port,tls_mode.',
        ),
        (
            ROUTES_CSV,
            "sender,next_hop,secret\n",
            (
                'There is no column "secret"; the columns are '
                "sender,next_hop,port,tls_mode,username,password."
            ),
        ),
        (
            ROUTES_CSV,
            "sender\n",
            "The first line has to name the columns: sender,next_hop,port,tls_mode,username.",
        ),
    ],
)
def test_a_first_line_is_told_which_columns_there_are(
    shape: CsvList, text: str, sentence: str
) -> None:
    """Also those that are only read, to who has tried to write one."""
    assert read_csv(shape, text).problems == {1: sentence}


def test_a_password_from_a_file_is_a_secret_from_then_on() -> None:
    """No sentence and no log can show it; a number in its place is still a text."""
    rows = read_csv(ROUTES_CSV, "sender,next_hop,username,password\n@d.tld,mx.tld,u,12345678\n")
    (route,) = rows.items.values()
    assert "12345678" not in repr(rows)
    assert route.password == SecretStr("12345678")


@pytest.mark.parametrize("port", ["1e3", "25.5", "²", "--"])
def test_a_port_is_a_whole_number_in_plain_digits(port: str) -> None:
    """A spreadsheet that made something else of it is told so."""
    rows = read_csv(DOMAINS_CSV, f"name,port\na.tld,{port}\n")
    assert rows.problems == {2: "port has to be a whole number."}
