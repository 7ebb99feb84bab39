"""Queue files: names, places, and which bytes are a whole message."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.names import is_node_name, is_queue_id
from nodeagent.core.queue_files import (
    DIRECTORIES,
    Key,
    Kind,
    candidate_paths,
    find_defect,
    hashed_directory,
    is_hash_directory,
    looks_whole,
    mode_of,
    parse_key,
    pointer_target,
    read_length,
)
from tests.fakes.postfix_queue import message, queue_id, record


@pytest.mark.parametrize("name", ["4Xk9Rb1234zH1", "4Xk9Rbyyyyz1", "4Xk9RbBCDFz1234567890"])
def test_long_queue_ids_are_queue_ids(name):
    """What Postfix makes with enable_long_queue_ids is taken."""
    assert is_queue_id(name)


@pytest.mark.parametrize(
    "name",
    [
        "",
        "A",
        "3F2A14E8",
        "../../etc/passwd",
        "4Xk9Rb1234",
        "4Xk9Rb1234zz",
        "lock",
        "4Xk9Rb1234zH1\n",
    ],
)
def test_anything_else_is_no_queue_id(name):
    """Short ids, hash directories, paths and torn ids are not taken."""
    assert not is_queue_id(name)


@pytest.mark.parametrize(("name", "is_one"), [("node-a", True), ("a", True), ("-a", False)])
def test_node_names_are_host_labels(name, is_one):
    """A queue is named as a node, and a node as a host label."""
    assert is_node_name(name) is is_one
    assert not is_node_name("../a")


@pytest.mark.parametrize(
    ("digits", "microseconds", "directory"),
    [
        ("0000", 0x00000, "0/0"),
        ("75pl", 0xF423F, "F/4"),
        ("64nc", 0xD1234, "D/1"),
        ("0H7h", 0x0A000, "0/A"),
    ],
)
def test_the_hash_is_that_of_the_microseconds(digits, microseconds, directory):
    """A hashed queue keeps a long id by the hexadecimal digits of its microseconds."""
    name = f"4Xk9Rb{digits}zH1"
    assert f"{microseconds:05X}".startswith(directory.replace("/", ""))
    assert hashed_directory(name) == directory[0]
    assert hashed_directory(name, 2) == directory


def test_a_message_is_looked_for_at_every_depth_of_its_three_places():
    """Mail is in incoming, active or deferred, hashed or not; the flat place comes first."""
    paths = list(candidate_paths(Kind.MAIL, queue_id(1)))
    assert paths[0] == f"incoming/{queue_id(1)}"
    assert {path.split("/")[0] for path in paths} == {"incoming", "active", "deferred"}
    assert f"deferred/{hashed_directory(queue_id(1))}/{queue_id(1)}" in paths
    assert f"deferred/{hashed_directory(queue_id(1), 2)}/{queue_id(1)}" in paths


def test_messages_are_executable_and_logs_are_not():
    """Mode 0700 says that a message is complete; logs are 0600."""
    assert [mode_of(kind) for kind in Kind] == [0o700, 0o700, 0o600, 0o600, 0o600]


def test_hash_directories_are_one_hexadecimal_digit():
    """Nothing else below a queue is walked into."""
    assert is_hash_directory("A")
    assert not any(is_hash_directory(name) for name in ("a", "AB", "", "G", "."))


@pytest.mark.parametrize(("kind", "name"), [("maildrop", queue_id(1)), ("mail", "../x")])
def test_words_of_a_peer_that_name_nothing_are_no_key(kind, name):
    """Unknown kinds and unsafe names give no key."""
    assert parse_key(kind, name) is None
    assert parse_key("mail", queue_id(1)) == Key(Kind.MAIL, queue_id(1))


def test_a_whole_message_has_no_defect():
    """From its size record to its end record all is there, long lines included."""
    assert find_defect(message("x" * 200_000)) is None


@given(st.integers(min_value=0, max_value=len(message()) - 1))
def test_a_message_cut_anywhere_is_defect(length):
    """A half-copied file never passes."""
    assert find_defect(message()[:length]) is not None


def test_a_message_with_a_hole_is_defect():
    """Zeros, as a file system leaves them after a power loss, are no records."""
    whole = message("y" * 100)
    assert find_defect(whole[:20] + bytes(len(whole) - 20)) is not None


def test_a_file_of_something_else_is_defect():
    """Text, an empty file and a file that begins with its end are no message."""
    for data in (b"", b"hello\n", record("E"), record("T", b"1") + record("E")):
        assert find_defect(data) == "it does not begin with a size record"


def test_a_pointer_is_followed():
    """A message that a milter edited reads on elsewhere and comes back."""
    head = record("C", b"1") + record("T", b"1")
    pointer = len(record("p", b"%15d" % 0))
    tail_at = len(head) + pointer + len(record("E"))
    data = head + record("p", b"%15d" % tail_at) + record("E")
    added = record("R", b"c@test.invalid")
    data += added + record("p", b"%15d" % (len(head) + pointer))
    assert find_defect(data) is None
    assert not looks_whole(data[:2], data[-2:])


def test_a_pointer_to_zero_means_read_on():
    """Postfix leaves room for pointers that lead nowhere yet."""
    assert find_defect(record("C", b"1") + record("p", b"%15d" % 0) + record("E")) is None


@pytest.mark.parametrize("target", [b"nonsense", b"9" * 5000])
def test_a_pointer_to_nowhere_is_defect(target):
    """A pointer that is no number ends the reading."""
    data = record("C", b"1") + record("p", target) + record("E")
    assert find_defect(data) == "a pointer record leads nowhere"


def test_pointers_in_a_circle_end():
    """A loop is a defect, not a hang."""
    head = record("C", b"1")
    data = head + record("p", b"%15d" % len(head)) + record("E")
    assert find_defect(data) == "a pointer record leads nowhere"


def test_a_pointer_behind_the_end_is_defect():
    """Beyond the last byte there is no end record."""
    data = record("C", b"1") + record("p", b"%15d" % 10_000) + record("E")
    assert find_defect(data) == "it has no end record"


@given(st.binary(max_size=300))
def test_no_bytes_make_the_reader_stumble(data):
    """Whatever a disk holds, the answer is a sentence or None."""
    assert find_defect(b"C" + data) is None or isinstance(find_defect(b"C" + data), str)


def test_a_whole_file_looks_whole_from_its_ends():
    """The cheap look reads two bytes at each end."""
    data = message()
    assert looks_whole(data[:2], data[-2:])
    assert not looks_whole(data[:2], data[-4:-2])


@pytest.mark.parametrize(
    ("head", "tail", "is_whole"),
    [
        (b"C\x0f", b"E\0", True),
        (b"T\x01", b"E\0", False),
        (b"C\x0f", b"E\x01", False),
        (b"C\x0f", b"X\0", False),
        (b"", b"", False),
    ],
)
def test_both_ends_are_looked_at(head, tail, is_whole):
    """A file of something else may end as a message does, and a torn one begins as one."""
    assert looks_whole(head, tail) is is_whole


@pytest.mark.parametrize("kind", [0x00, 0x20, 0x7F, 0xFF])
def test_a_record_of_no_printable_type_is_torn(kind):
    """Every type of Postfix is a visible character; anything else is damage, wherever it ends."""
    head = record("C", b"1")
    data = head + bytes([kind, 0]) + record("E")
    assert find_defect(data) == f"the record at byte {len(head)} is torn"


def test_a_record_longer_than_the_file_is_torn():
    """Its length says more than there is, by one byte or by billions."""
    head = record("C", b"1")
    for torn in (b"N\x02x", b"N\xff\xff\xff\xff\x7fx", b"N\xff", b"N"):
        assert find_defect(head + torn) == f"the record at byte {len(head)} is torn"


def test_a_message_without_an_end_record_has_not_been_finished():
    """The file stops between two records: each of them is whole, the message is not."""
    assert find_defect(record("C", b"1") + record("T", b"1")) == "it has no end record"


@given(st.integers(0, 2**40), st.binary(max_size=4))
def test_a_length_is_read_as_it_was_written(length, behind):
    """Groups of seven bits, the low ones first, whatever follows."""
    groups, rest = bytearray(), length
    while rest > 0x7F:
        groups.append(rest & 0x7F | 0x80)
        rest >>= 7
    groups.append(rest)
    assert read_length(b"N" + groups + behind, 1) == (1 + len(groups), length)


@pytest.mark.parametrize(
    ("body", "target"),
    [
        (b"             42", 42),
        (b"42 ", 42),
        (b"0", 0),
        (b"9" * 18, 10**18 - 1),
        (b"9" * 19, None),
        (b"-1", None),
        (b"4 2", None),
        (b"", None),
    ],
)
def test_a_pointer_names_an_offset(body, target):
    """Padded with blanks, as Postfix writes it; what no file is as long as is no offset."""
    assert pointer_target(body) == target


IDS = st.integers(0, 999_999).map(queue_id)  # an id has the microseconds in it


@given(IDS, st.sampled_from(Kind))
def test_every_place_of_a_file_is_a_place_of_its_kind(name, kind):
    """Flat or hashed, one digit a level, and nowhere twice."""
    paths = list(candidate_paths(kind, name))
    assert len(set(paths)) == len(paths)
    for path in paths:
        top, *levels, last = path.split("/")
        assert DIRECTORIES[top] is kind
        assert last == name
        assert all(is_hash_directory(level) for level in levels)
    assert len(paths) == 3 * sum(of is kind for of in DIRECTORIES.values())


@given(IDS, st.sampled_from(Kind))
def test_a_key_comes_back_from_its_words(name, kind):
    """What one host writes of a key, the other reads."""
    assert parse_key(kind.value, name) == Key(kind, name)
