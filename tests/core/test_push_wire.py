"""What goes over the control session comes out as it went in, and nothing else is let in."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.push_rules import PushOffer
from nodeagent.core.push_wire import (
    Commit,
    commit_message,
    group_keys,
    group_manifest,
    offer_message,
    read_commit,
    read_offer,
    read_promise,
    ungroup_keys,
    ungroup_manifest,
)
from nodeagent.core.queue_files import Facts, Key, Kind
from nodeagent.core.rsync_command import (
    SENDER_OPTIONS,
    StagingPlace,
    parse_server_command,
    server_words,
)
from nodeagent.errors import Refused
from tests.fakes.postfix_queue import queue_id

OFFER = PushOffer("node-a", 3, "agent-1", frozenset({"198.51.100.100"}), 8, 7, is_full=False)
ids = st.integers(0, 50_000).map(queue_id)
keys = st.builds(Key, st.sampled_from(Kind), ids)
TOKEN = "0123456789abcdef" * 2


def over_the_wire(message):
    """Return a message as the other side reads it."""
    return json.loads(json.dumps(message))


@given(
    st.dictionaries(keys, st.integers(0, 2**40), max_size=20),
    st.frozensets(keys, max_size=20),
    st.none() | st.frozensets(keys, max_size=20),
)
def test_a_push_is_read_as_it_was_written(puts, removes, listed):
    """Any push of changes or of everything."""
    offer = replace(OFFER, is_full=listed is not None)
    commit = Commit(offer, 4, puts, removes, listed)
    assert read_commit(over_the_wire(commit_message(commit))) == commit


@given(st.dictionaries(keys, st.builds(Facts, st.integers(0), st.integers(0)), max_size=20))
def test_a_manifest_is_read_as_it_was_written(manifest):
    """Sizes and times of any mirror."""
    message = over_the_wire({"files": group_manifest(manifest)})
    assert ungroup_manifest(message, "files") == manifest


@given(st.frozensets(keys, max_size=20))
def test_keys_are_read_as_they_were_written(some):
    """Grouped by kind and back."""
    assert ungroup_keys(over_the_wire({"x": group_keys(some)}), "x") == some


def test_a_question_is_read_as_it_was_asked():
    """The beginning of a session has no number yet."""
    question = replace(OFFER, sequence=0, base=0)
    assert read_offer(over_the_wire(offer_message(question))) == question


@pytest.mark.parametrize(
    "change",
    [
        {"queue": ""},
        {"queue": 5},
        {"generation": -1},
        {"generation": "3"},
        {"generation": True},
        {"generation": None},
        {"agent": None},
        {"holds_vips": "198.51.100.100"},
        {"holds_vips": [1]},
        {"sequence": 0},
        {"sequence": 1.5},
        {"attempt": None},
        {"puts": []},
        {"puts": {"mail": [queue_id(1)]}},
        {"puts": {"mail": {"../../etc/passwd": 1}}},
        {"puts": {"mail": {queue_id(1): -5}}},
        {"puts": {"maildrop": {queue_id(1): 5}}},
        {"removes": {"mail": {queue_id(1): 1}}},
        {"removes": {"mail": ["lock"]}},
        {"removes": {"mail": [None]}},
        {"removes": None},
        {"listed": {}},
        {"is_full": True},
        {"is_full": True, "listed": {"mail": "x"}},
    ],
)
def test_a_push_that_makes_no_sense_is_refused(change):
    """Every field of another host is checked before it is used."""
    message = commit_message(Commit(OFFER, 4, {}, frozenset(), None))
    with pytest.raises(Refused):
        read_commit({**message, **change})


@pytest.mark.parametrize("length_s", [None, "5", True, [5]])
def test_a_promise_has_a_length(length_s):
    """A number of seconds."""
    assert read_promise({"queue": "node-a", "length_s": 5}) == ("node-a", 5.0)
    with pytest.raises(Refused):
        read_promise({"queue": "node-a", "length_s": length_s})


@pytest.mark.parametrize("short", ["-Wtpre.LsfxCIvu", "-tprWe.iLsfxC", "-rptWe30.1Ls"])
def test_the_own_transfer_passes(short):
    """Whatever the version of rsync adds about itself behind the e."""
    command = f"rsync --server {short} --timeout=60 . {TOKEN}/7"
    assert parse_server_command(command) == (StagingPlace(TOKEN, 7), short)


@pytest.mark.parametrize(
    "command",
    [
        "",
        "relay-receive session now",
        f"rsync --server --sender -Wtpre.Ls --timeout=60 . {TOKEN}/7",
        f"rsync --server -Wtpre.Ls . {TOKEN}/7",
        f"rsync --server -Wtpre.Ls --timeout=60 . {TOKEN}/7 /etc",
        f"rsync --server -Wtpre.Ls --timeout=60 --delete . {TOKEN}/7",
        f"rsync --server -Wtpre.Ls --remove-source-files . {TOKEN}/7",
        f"rsync --server -Wtprle.Ls --timeout=60 . {TOKEN}/7",
        f"rsync --server -WtprDe.Ls --timeout=60 . {TOKEN}/7",
        f"rsync --server -Wtpr --timeout=60 . {TOKEN}/7",
        f"rsync --server -Wtpre.Ls --timeout=60 . {TOKEN}",
        f"rsync --server -Wtpre.Ls --timeout=60 . {TOKEN}/0",
        f"rsync --server -Wtpre.Ls --timeout=60 . {TOKEN}/7/..",
        f"rsync --server -Wtpre.Ls --timeout=60 . ../{TOKEN}/7",
        f"rsync --server -Wtpre.Ls --timeout=60 . /{TOKEN}/7",
        f"rsync --server -Wtpre.Ls --timeout=60 / {TOKEN}/7",
        f"/usr/bin/rsync --server -Wtpre.Ls --timeout=60 . {TOKEN}/7",
        f"rsync --server -Wtpre.Ls --timeout=60 . {TOKEN}/7; id",
        f"rsync --server -Wtpre.Ls --timeout=60 . '{TOKEN}/7",
        f"rsync --server -Wtpre.Ls --timeout=60 . {TOKEN}/7\nid",
    ],
)
def test_any_other_command_is_refused(command):
    """Other options, other paths, other directions, other programs."""
    with pytest.raises(Refused):
        parse_server_command(command)


def test_the_receiver_runs_a_command_of_its_own_making():
    """Nothing of the peer's words but the checked letters gets into it."""
    words = server_words("-Wtpre.Ls")
    assert words == ["rsync", "--server", "-Wtpre.Ls", SENDER_OPTIONS[-1], ".", "."]
