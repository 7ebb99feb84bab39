"""Which tables must be compiled, and the order of the swap."""

from __future__ import annotations

from nodeagent.core.config_plan import IndexedTable, indexed_tables, swap_order
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
