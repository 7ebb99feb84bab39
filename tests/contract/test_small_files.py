"""The small files and pipes of a node: what is written comes back, and what is torn is told."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeagent.adapters.command_journal import CommandJournal
from nodeagent.adapters.durable import (
    read_json,
    remove_durably,
    sync_directory,
    sync_filesystem,
    write_durably,
)
from nodeagent.adapters.event_spool import EVENTS_DROPPED, KIND_LIMIT, TEXT_LIMIT, EventSpool
from nodeagent.adapters.guard_file import GuardFile, ReceiptFiles
from nodeagent.adapters.identity import Identity, ssh_host_keys
from nodeagent.adapters.json_connection import JsonConnection
from nodeagent.adapters.keepalived import Keepalived
from nodeagent.adapters.ledger import Ledger
from nodeagent.adapters.line_channel import LineChannel
from nodeagent.adapters.locks import locked
from nodeagent.adapters.queue_counts import count_files, count_queue
from nodeagent.adapters.receiver_facts import ReceiverFacts, parse_facts, read_facts
from nodeagent.adapters.ssh_files import SshFiles, install_sshd_snippet, sshd_snippet
from nodeagent.adapters.whole_files import NOT_PLAIN, find_defect_at_rest
from nodeagent.core.contract import QueueCounts, RememberedReceipt, VrrpState
from nodeagent.core.guard_state import GuardState
from nodeagent.core.queue_contract import QueueCommand, QueueVerb
from nodeagent.errors import BrokenState, Refused, Unreachable
from tests.core.worlds import peer

some = settings(max_examples=40)
jsons = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner),
    max_leaves=6,
)
objects = st.dictionaries(st.text(max_size=6), jsons, max_size=4)


# Files that are written whole


@pytest.mark.parametrize("data", [b"", b"\0", b"x" * 100_000])
def test_a_file_is_written_whole_and_for_root_only(tmp_path: Path, data: bytes) -> None:
    """Over one that was longer, and over what a killed writer left."""
    path = tmp_path / "state.json"
    path.write_bytes(b"before" * 50_000)
    torn = tmp_path / "state.json.new"
    torn.touch(mode=0o600)
    torn.write_bytes(b"half" * 50_000)
    write_durably(path, data)
    assert path.read_bytes() == data
    assert path.stat().st_mode & 0o777 == 0o600
    assert [one.name for one in tmp_path.iterdir()] == ["state.json"]


def test_a_file_that_is_gone_may_be_removed_again(tmp_path: Path) -> None:
    """And a directory that is none is an error, not a silence."""
    path = tmp_path / "state.json"
    write_durably(path, b"1")
    for _ in range(2):
        remove_durably(path)
        assert not path.exists()
    sync_directory(tmp_path)
    sync_filesystem(tmp_path)
    with pytest.raises(NotADirectoryError):
        sync_directory(Path("/dev/null"))
    with pytest.raises(FileNotFoundError):
        sync_filesystem(tmp_path / "missing")


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "{path} cannot be read."),
        (b"{", "{path} cannot be read."),
        (b'{"a": 1}x', "{path} cannot be read."),
        (b"\xff\xfe", "{path} cannot be read."),
        (b"[]", "{path} does not hold a JSON object."),
        (b"null", "{path} does not hold a JSON object."),
        (b"1", "{path} does not hold a JSON object."),
        (b'"{}"', "{path} does not hold a JSON object."),
    ],
)
def test_a_torn_file_is_told_by_its_path(tmp_path: Path, content: bytes, sentence: str) -> None:
    """Unknown is never permission, so it is not read as nothing."""
    path = tmp_path / "promises.json"
    assert read_json(path) is None
    path.write_bytes(content)
    with pytest.raises(BrokenState) as caught:
        read_json(path)
    assert str(caught.value) == sentence.format(path=path)


def test_a_directory_in_place_of_a_file_is_torn_as_well(tmp_path: Path) -> None:
    """It is there, so it is not nothing."""
    with pytest.raises(BrokenState, match=r"cannot be read\.$"):
        read_json(tmp_path)


Ask = Callable[[Ledger], object]
RECEIPT = RememberedReceipt(number=7, queue="node-b", generation=1, holder="node-a", ids=())


@pytest.mark.parametrize(
    ("name", "content", "ask", "end"),
    [
        ("view.json", "{}", Ledger.view, "is no view."),
        ("view.json", '{"nodes": 1}', Ledger.view, "is no view."),
        ("view.json", "[]", Ledger.view, "does not hold a JSON object."),
        ("switchover.json", "{}", Ledger.last_switchover_id, "is no switchover."),
        ("switchover.json", '{"id": null}', Ledger.last_switchover_id, "is no switchover."),
        ("switchover.json", '{"id": "x"}', Ledger.last_switchover_id, "is no switchover."),
        ("receipts/7.json", "{}", Ledger.receipts, "cannot be read."),
        ("receipts/7.json", "", Ledger.receipts, "cannot be read."),
        ("receipts/7.json", "{", lambda ledger: ledger.receipt_keys((7,)), "cannot be read."),
        ("receipts/7.json", "[]", lambda ledger: ledger.note_receipt(RECEIPT), "cannot be read."),
    ],
)
def test_what_a_node_must_not_forget_is_told_by_its_file(
    tmp_path: Path, name: str, content: str, ask: Ask, end: str
) -> None:
    """In one sentence, and what is on disk stays as it is."""
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(content)
    with pytest.raises(BrokenState) as caught:
        ask(Ledger(tmp_path))
    assert str(caught.value) == f"{path} {end}"
    assert path.read_text() == content


# What was begun with messages of the queue


def command(action: int, *ids: str) -> QueueCommand:
    """Give a command for messages."""
    return QueueCommand(action=action, verb=QueueVerb.HOLD, ids=ids)


ID, OTHER, THIRD = "4jWfS362sJzJ9Fq", "4jWfS362WlzJ9FV", "4jWfS362XlzJ9FW"


def test_what_was_begun_is_known_until_it_is_reported(tmp_path: Path) -> None:
    """Of each action by itself, and to another process."""
    path = tmp_path / "commands.json"
    CommandJournal(path).begin((command(1, ID), command(2, OTHER, THIRD)))
    later = CommandJournal(path)
    assert later.interrupted(1) == {ID}
    assert later.interrupted(2) == {OTHER, THIRD}
    assert later.interrupted(3) == frozenset()
    later.end()
    assert later.interrupted(1) == frozenset()
    later.end()


def test_what_was_begun_before_a_second_interruption_is_not_forgotten(tmp_path: Path) -> None:
    """The same action with other messages adds to it; another action takes its place."""
    journal = CommandJournal(tmp_path / "commands.json")
    journal.begin((command(1, ID),))
    journal.begin((command(1, OTHER),))
    assert journal.interrupted(1) == {ID, OTHER}
    journal.begin((command(2, THIRD),))
    assert (journal.interrupted(1), journal.interrupted(2)) == (frozenset(), {THIRD})


def test_a_torn_journal_is_no_empty_one(tmp_path: Path) -> None:
    """Else messages that are gone would be reported as never found."""
    path = tmp_path / "commands.json"
    path.write_bytes(b'{"1": [')
    with pytest.raises(BrokenState):
        CommandJournal(path).interrupted(1)


# Events


def test_an_event_comes_back_as_it_was_noted(tmp_path: Path) -> None:
    """With its values, in order; what is too long is cut."""
    spool = EventSpool(tmp_path / "below" / "events.jsonl")
    assert spool.read() == ()
    spool.append("config", "Config version 3 is live.", version=3, is_new=True, note=None)
    spool.append("k" * (KIND_LIMIT + 1), "ä" * (TEXT_LIMIT + 1))
    first, second = spool.read()
    assert (first.kind, first.text) == ("config", "Config version 3 is live.")
    assert first.data == {"version": 3, "is_new": True, "note": None}
    assert (second.kind, second.text) == ("k" * KIND_LIMIT, "ä" * TEXT_LIMIT)
    assert spool.read(1) == (first,)


@some
@given(st.lists(st.integers(0, 7), max_size=8, unique=True), st.integers(0, 9))
def test_what_is_acknowledged_goes_and_nothing_else(
    tmp_path_factory: pytest.TempPathFactory, known: list[int], limit: int
) -> None:
    """Whichever of them, and ids that nobody knows."""
    spool = EventSpool(tmp_path_factory.mktemp("events") / "events.jsonl")
    spool._write([{"id": f"{n:036}", "at": AT, "kind": "k", "text": str(n)} for n in range(8)])
    spool.acknowledge({f"{n:036}" for n in known} | {"unknown"})
    left = [str(n) for n in range(8) if n not in known]
    assert [event.text for event in spool.read(limit)] == left[:limit]


AT = "2026-01-01T00:00:00+00:00"


@pytest.mark.parametrize("more", [1, 3])
def test_the_oldest_events_make_room_and_are_counted(tmp_path: Path, more: int) -> None:
    """One event says how many went, also those that it replaced."""
    spool = EventSpool(tmp_path / "events.jsonl", limit=20)
    for number in range(20 + more):
        spool.append("k", f"{number} {'x' * 100}")
    marker, *kept = spool.read()
    assert marker.kind == EVENTS_DROPPED
    assert marker.data == {"dropped": 4}  # 21 events, of which 17 stay beside the marker
    assert marker.text == "4 events were dropped: the control plane has not taken any for too long."
    assert [event.text.split()[0] for event in kept] == [str(n) for n in range(4, 20 + more)]
    for number in range(20 + more, 26):
        spool.append("k", f"{number} {'x' * 100}")
    counts = [one.data["dropped"] for one in spool.read() if one.kind == EVENTS_DROPPED]
    assert sum(map(int, counts)) + len(spool.read()) - len(counts) == 26


# The guard's proof, and receipts


@pytest.mark.parametrize(
    "content",
    [None, b"", b"{", b"[]", b"null", b'{"generation": 1, "nonsense": 2}', b"\xff", b'"x"'],
)
def test_a_proof_that_cannot_be_read_proves_nothing(tmp_path: Path, content: bytes | None) -> None:
    """A guard that starts with it fences."""
    path = tmp_path / "guard.json"
    if content is not None:
        path.write_bytes(content)
    assert GuardFile(path).load() == GuardState()
    assert not GuardFile(path).load().is_proven(0.0)


def test_a_proof_is_kept_without_the_answer_it_came_with(tmp_path: Path) -> None:
    """Pending mail is taken back once, by the process that was told."""
    file = GuardFile(tmp_path / "guard.json")
    file.save(GuardState(3, 100.0, 50.0, 2.0, {ID: 7}))
    assert file.load() == GuardState(3, 100.0, 50.0, 2.0, None)


def test_a_proof_that_cannot_be_written_is_none(tmp_path: Path) -> None:
    """An older one must not outlive what it said."""
    path = tmp_path / "guard.json"
    GuardFile(path).save(GuardState(3, 100.0))
    path.with_suffix(".new").mkdir()
    GuardFile(path).save(GuardState(4, 200.0))
    assert not path.exists()


def test_a_receipt_is_read_again_once_it_is_another_file(tmp_path: Path) -> None:
    """It is replaced as a whole, so another inode is another receipt."""
    files, path = ReceiptFiles(), tmp_path / "7.json"
    write_durably(path, json.dumps({"generation": 1, "ids": [ID, ID]}).encode())
    assert files.read(path) == files.read(path) == (1, {ID})
    write_durably(path, json.dumps({"generation": "2", "ids": [OTHER]}).encode())
    assert files.read(path) == (2, {OTHER})
    write_durably(path, b'{"generation": 2}')
    with pytest.raises(KeyError):
        files.read(path)
    path.unlink()
    with pytest.raises(FileNotFoundError):
        files.read(path)


# Asking a process of ours


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[[bytes], JsonConnection]]:
    """Give what connects to a server that reads one question and says these bytes."""
    path, threads, open_ones = tmp_path / "socket", [], []
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind(str(path))
    listener.listen()

    def connect(answer: bytes) -> JsonConnection:
        def run() -> None:
            with listener.accept()[0] as one, one.makefile("rb") as lines:
                lines.readline()
                one.sendall(answer)

        threads.append(threading.Thread(target=run))
        threads[-1].start()
        open_ones.append(JsonConnection(path, 10.0))
        return open_ones[-1]

    yield connect
    for one in open_ones:
        one.close()
    for thread in threads:
        thread.join()
    listener.close()


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b"", "The other side has closed the connection."),
        (b'{"ok": true}', "The other side has closed the connection."),
        (b"\n", "The other side's answer cannot be read."),
        (b"{}\n", "The other side's answer cannot be read."),
        (b"[]\n", "The other side's answer cannot be read."),
        (b"null\n", "The other side's answer cannot be read."),
        (b"\xff\n", "The other side's answer cannot be read."),
    ],
)
def test_an_answer_that_is_none_is_an_unreachable_server(
    serve: Callable[[bytes], JsonConnection], answer: bytes, sentence: str
) -> None:
    """One sentence, and no half an answer."""
    connection = serve(answer)
    with pytest.raises(Unreachable) as caught:
        connection.call("state")
    assert str(caught.value) == sentence


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        (b'{"ok": false, "reason": "Not now."}\n', "Not now."),
        (b'{"ok": false}\n', "The other side refused."),
        (b'{"ok": 0, "reason": 7}\n', "7"),
        (b'{"ok": null}\n', "The other side refused."),
    ],
)
def test_a_no_is_told_in_the_servers_words(
    serve: Callable[[bytes], JsonConnection], answer: bytes, sentence: str
) -> None:
    """Where it has none, ours."""
    connection = serve(answer)
    with pytest.raises(Refused) as caught:
        connection.call("state")
    assert str(caught.value) == sentence


def test_nobody_there_is_one_sentence(tmp_path: Path) -> None:
    """No socket, or a file that is none."""
    (tmp_path / "file").touch()
    for name in ("missing", "file"):
        with pytest.raises(Unreachable, match=r"^The other side does not answer\.$"):
            JsonConnection(tmp_path / name, 1.0)


@some
@given(st.lists(objects, max_size=5), st.integers(1, 30))
def test_objects_come_out_of_a_pipe_as_they_went_in(
    messages: list[dict[str, Any]], piece: int
) -> None:
    """However the bytes are cut, and None behind the last one."""
    read, write = os.pipe()
    channel = LineChannel(read, write)
    data = b"".join(json.dumps(one).encode() + b"\n" for one in messages)
    taken: list[dict[str, Any] | None] = []
    for start in range(0, len(data), piece):
        part = data[start : start + piece]
        os.write(write, part)
        taken += [channel.receive(5.0) for _ in range(part.count(b"\n"))]
    os.close(write)
    assert taken == messages
    assert channel.receive(5.0) is None
    os.close(read)


# Locks, keepalived, sshd


def test_a_lock_that_is_held_is_one_sentence(tmp_path: Path) -> None:
    """And is free again when its holder is done, whatever happened."""
    path = tmp_path / "lock"
    with locked(path):
        with pytest.raises(Refused) as caught, locked(path, timeout_s=0.0):
            pytest.fail("two hold one lock")
        assert str(caught.value) == f"{path} is locked by another process."
    with pytest.raises(ZeroDivisionError), locked(path):
        raise ZeroDivisionError
    with locked(path, timeout_s=0.0):
        pass


@pytest.mark.parametrize(
    ("lines", "state"),
    [
        ((), VrrpState.UNKNOWN),
        ((b'INSTANCE "A" BACKUP 100',), VrrpState.BACKUP),
        ((b'INSTANCE "A" BACKUP 100', b'INSTANCE "B" FAULT 100'), VrrpState.FAULT),
        ((b'INSTANCE "A" FAULT 100', b'INSTANCE "B" MASTER 100'), VrrpState.MASTER),
        ((b'INSTANCE "A" MASTER 100', b'INSTANCE "A" BACKUP 100'), VrrpState.BACKUP),
        ((b'INSTANCE "A" MASTER 100', b'INSTANCE "A" STOP 100'), VrrpState.UNKNOWN),
        ((b"INSTANCE A MASTER 100",), VrrpState.MASTER),
        ((b'INSTANCE "\xff" MASTER 100',), VrrpState.MASTER),
        ((b'GROUP "A" MASTER 100',), VrrpState.UNKNOWN),
        ((b'INSTANCE "A" master 100', b"", b"\0", b'INSTANCE "" MASTER'), VrrpState.UNKNOWN),
    ],
)
def test_the_state_is_what_keepalived_said_last(
    tmp_path: Path, lines: tuple[bytes, ...], state: VrrpState
) -> None:
    """One MASTER makes a master, one FAULT a fault; what is no notice changes nothing."""
    keepalived = Keepalived(tmp_path)
    for line in lines:
        keepalived.take_in(line)
    assert keepalived.state is state


@pytest.mark.parametrize(
    ("content", "is_set"), [(None, False), ("", False), ("0\n", False), ("1\n", True), ("2", True)]
)
def test_a_track_file_holds_a_fault_unless_it_says_none(
    tmp_path: Path, content: str | None, is_set: bool
) -> None:
    """Preparing leaves what an operator wrote there."""
    keepalived = Keepalived(tmp_path)
    if content is not None:
        (tmp_path / "fault").write_text(content)
    keepalived.prepare()
    keepalived.prepare()
    assert keepalived.is_fault_set() is is_set


@pytest.mark.parametrize(
    ("content", "runs"), [(None, None), ("", None), ("x", None), ("999999999", False)]
)
def test_a_pid_file_without_a_process_is_no_keepalived(
    tmp_path: Path, content: str | None, runs: bool | None
) -> None:
    """A number that another program has meanwhile is none either."""
    path = tmp_path / "pid"
    if content is not None:
        path.write_text(content)
    assert Keepalived(tmp_path, path).is_running() is runs
    path.write_text(f"{os.getpid()}\n")
    assert Keepalived(tmp_path, path).is_running() is False


def test_known_hosts_name_the_port_where_it_is_another(tmp_path: Path) -> None:
    """As ssh(1) looks a host up; a peer without keys has no line."""
    files = SshFiles(tmp_path / "ssh")
    one = peer("node-b").model_copy(
        update={"address": "192.0.2.1", "ssh_host_keys": ("ssh-ed25519 AAAA", "ssh-rsa BBBB")}
    )
    other = one.model_copy(update={"address": "192.0.2.2", "ssh_port": 2222})
    assert not files.is_current((one, other))
    files.write((one, other))
    assert files.is_current((one, other))
    assert not files.is_current((one,))
    assert files.known_hosts.read_text() == (
        "192.0.2.1 ssh-ed25519 AAAA\n192.0.2.1 ssh-rsa BBBB\n"
        "[192.0.2.2]:2222 ssh-ed25519 AAAA\n[192.0.2.2]:2222 ssh-rsa BBBB\n"
    )
    files.write(())
    assert files.known_hosts.read_text() == ""


def test_sshd_is_told_of_our_keys_once(tmp_path: Path) -> None:
    """Where it has no directory for snippets nothing is written."""
    snippet = tmp_path / "sshd_config.d" / "relay.conf"
    install_sshd_snippet(tmp_path, snippet, tmp_path / "pid")
    assert not snippet.exists()
    snippet.parent.mkdir()
    install_sshd_snippet(tmp_path, snippet, tmp_path / "pid")
    assert snippet.read_text() == sshd_snippet(tmp_path)
    before = snippet.stat().st_mtime_ns
    install_sshd_snippet(tmp_path, snippet, tmp_path / "pid")
    assert snippet.stat().st_mtime_ns == before


def test_a_node_that_is_not_enrolled_says_what_to_do(tmp_path: Path) -> None:
    """Its name comes last and completes it."""
    identity = Identity(tmp_path)
    for ask in (identity.node, identity.url, identity.ca_pem, identity.public_key_pem):
        with pytest.raises(BrokenState, match=r"^This node is not enrolled: run `relay-agent"):
            ask()
    assert not identity.is_enrolled()
    identity.save_enrolment("node-a", "https://cp.example:8443", "PEM")
    assert identity.is_enrolled()
    assert (identity.node(), identity.url(), identity.ca_pem()) == (
        *("node-a", "https://cp.example:8443"),
        "PEM",
    )


def test_host_keys_that_are_none_are_left_out(tmp_path: Path) -> None:
    """Ed25519 comes first; a file with one word is no key."""
    for name, text in (("rsa", "ssh-rsa B c"), ("ed25519", "ssh-ed25519 A"), ("dsa", "torn")):
        (tmp_path / f"ssh_host_{name}_key.pub").write_text(text)
    assert ssh_host_keys(tmp_path) == ("ssh-ed25519 A", "ssh-rsa B")
    assert ssh_host_keys(tmp_path / "missing") == ()


# Counts, message files and a receiver's facts


def test_messages_are_counted_where_they_lie(tmp_path: Path) -> None:
    """Below hashed directories too; a queue that cannot be read is unknown, not empty."""
    live, relay = tmp_path / "spool", tmp_path / "relay"
    for place in ("spool/active/A", "spool/deferred/0/1/B", "spool/deferred/C", "spool/hold/D"):
        (tmp_path / place).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / place).touch()
    for place in ("pending/1/active/E", "pending/2/hold/F", "retired/9/deferred/0/G"):
        (relay / place).parent.mkdir(parents=True, exist_ok=True)
        (relay / place).touch()
    for place in ("quarantine/H", "mirror/node-b/quarantine/I", "mirror/node-b/active/J"):
        (relay / place).parent.mkdir(parents=True, exist_ok=True)
        (relay / place).touch()
    assert count_queue(live, relay) == QueueCounts(
        incoming=None, active=1, deferred=2, hold=1, pending=2, retired=1, quarantined=2
    )
    (live / "hold" / "loop").symlink_to(live)
    assert count_files(live / "hold") == 2
    assert count_files(live / "active" / "A") is None


def test_what_is_no_plain_file_is_no_message(tmp_path: Path) -> None:
    """Neither followed nor waited for; one that is gone is an error of its own."""
    (tmp_path / "link").symlink_to("/etc/passwd")
    (tmp_path / "directory").mkdir()
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "directory", "pipe"):
        assert find_defect_at_rest(tmp_path / name) == NOT_PLAIN
    with pytest.raises(FileNotFoundError):
        find_defect_at_rest(tmp_path / "missing")
    (tmp_path / "empty").touch()
    assert find_defect_at_rest(tmp_path / "empty")


def test_a_receivers_facts_arrive_as_they_were_read(tmp_path: Path) -> None:
    """Through JSON and back."""
    facts = json.loads(json.dumps(read_facts(tmp_path / "relay")))
    parsed = parse_facts(facts)
    assert parsed == ReceiverFacts(**facts)
    assert parsed.free_bytes > 0
    assert (tmp_path / "relay").is_dir()


@pytest.mark.parametrize(
    "wrong",
    [
        {"free_bytes": None},
        {"free_bytes": "many"},
        {"free_inodes": []},
        {"clock_s": "noon"},
        {"clock_s": None},
    ],
    ids=str,
)
def test_facts_that_are_none_are_told(wrong: dict[str, object]) -> None:
    """So is each that is missing."""
    right: dict[str, object] = {
        "version": "1",
        "rsync": None,
        "free_bytes": 1,
        "free_inodes": 1,
        "clock_s": 1.5,
    }
    assert parse_facts(right).rsync is None
    for name in right:
        with pytest.raises(Unreachable):
            parse_facts({key: value for key, value in right.items() if key != name})
    with pytest.raises(Unreachable) as caught:
        parse_facts(right | wrong)
    assert str(caught.value) == "The receiver's answer cannot be read."
