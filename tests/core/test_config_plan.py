"""Which tables must be compiled, and the order of the swap."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.config_plan import IndexedTable, files_sha256, indexed_tables, swap_order
from nodeagent.core.contract import ConfigFile

MAIN = ConfigFile(
    path="/etc/postfix/main.cf",
    content=(
        "transport_maps = lmdb:$config_directory/relay/transport\n"
        "relay_domains = lmdb:/etc/postfix/relay/domains\n"
        "alias_maps = hash:/etc/aliases\n"
        "mynetworks = cidr:/etc/postfix/relay/networks\n"
    ),
)
TABLES = tuple(
    ConfigFile(path=f"/etc/postfix/relay/{name}", content="")
    for name in ("transport", "domains", "networks")
)


def test_only_our_own_indexed_tables_are_compiled():
    """A cidr table needs no postmap, and /etc/aliases is not ours."""
    assert set(indexed_tables((MAIN, *TABLES))) == {
        IndexedTable("lmdb", "/etc/postfix/relay/transport"),
        IndexedTable("lmdb", "/etc/postfix/relay/domains"),
    }


def test_what_refers_to_others_is_swapped_in_last():
    """`main.cf` never names a table that is not there yet."""
    master = ConfigFile(path="/etc/postfix/master.cf", content="")
    assert swap_order((MAIN, master, *TABLES))[-2:] == (MAIN, master)


@pytest.mark.parametrize("kind", ["lmdb", "hash", "btree", "cdb"])
@pytest.mark.parametrize("base", ["$config_directory/", "${config_directory}/", "/etc/postfix/"])
def test_a_table_is_named_in_three_ways(kind: str, base: str) -> None:
    """Postfix's own variable, the same in braces, and the whole path."""
    main = ConfigFile(path="/etc/postfix/main.cf", content=f"x = {kind}:{base}relay/domains\n")
    assert indexed_tables((main, *TABLES)) == (IndexedTable(kind, "/etc/postfix/relay/domains"),)


@pytest.mark.parametrize("kind", ["cidr", "regexp", "pcre", "texthash", "inline", "xlmdb"])
def test_a_table_that_is_read_as_text_is_not_compiled(kind: str) -> None:
    """postmap(1) would leave a file beside it that nothing reads."""
    main = ConfigFile(path="/etc/postfix/main.cf", content=f"x = {kind}:/etc/postfix/relay/domains")
    assert indexed_tables((main, *TABLES)) == ()


def test_only_what_postfix_reads_as_settings_names_tables() -> None:
    """A sentence in a table that looks like a setting is none; `master.cf` has settings too."""
    text = "-o transport_maps=lmdb:/etc/postfix/relay/transport\n"
    master = ConfigFile(path="/etc/postfix/master.cf", content=text)
    table = ConfigFile(path="/etc/postfix/relay/networks", content=text)
    assert indexed_tables((table, TABLES[0])) == ()
    assert indexed_tables((table, master, *TABLES[:1])) == (
        IndexedTable("lmdb", "/etc/postfix/relay/transport"),
    )


def test_a_table_that_is_named_twice_is_compiled_once() -> None:
    """Two settings may look into one table."""
    twice = MAIN.model_copy(update={"content": MAIN.content * 2})
    assert len(indexed_tables((twice, *TABLES))) == 2


@given(st.permutations([MAIN, *TABLES, ConfigFile(path="/etc/keepalived/x", content="y")]))
def test_the_order_of_rendering_is_neither_in_the_hash_nor_in_the_swap(
    files: list[ConfigFile],
) -> None:
    """The same bundle has the same hash and goes live in the same order, however it was listed."""
    assert files_sha256(files) == files_sha256(sorted(files, key=lambda one: one.path))
    ordered = swap_order(tuple(files))
    assert [one.path for one in ordered[:-1]] == sorted(
        one.path for one in files if one.path != MAIN.path
    )
    assert ordered[-1] == MAIN


@pytest.mark.parametrize(
    "change",
    [
        {"path": "/etc/postfix/relay/other"},
        {"content": "x "},
        {"mode": "0600"},
        {"owner": "postfix"},
    ],
)
def test_whatever_goes_to_the_disk_is_in_the_hash(change: dict[str, str]) -> None:
    """A bundle of which a path, a letter, a mode or an owner was changed is another bundle."""
    one = ConfigFile(path="/etc/postfix/relay/transport", content="x", mode="0644", owner="root")
    assert files_sha256([one]) != files_sha256([one.model_copy(update=change)])
    assert files_sha256([one]) != files_sha256([])
    assert files_sha256([one]) == files_sha256([one.model_copy()])


def test_the_hash_of_a_bundle_is_the_same_in_every_release() -> None:
    """A node compares what it was sent with what the control plane computed; both may be older."""
    one = ConfigFile(path="/etc/postfix/a", content="b\n", mode="0644", owner="root")
    plain = b'[["/etc/postfix/a","root","0644","b\\n"]]'
    assert files_sha256([one]) == hashlib.sha256(plain).hexdigest()
