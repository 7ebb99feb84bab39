"""Words and numbers that are on disks and wires: an upgrade finds them as they were written.

A host that is upgraded reads the ledger that the version before it wrote, and speaks with peers and
a control plane of the other version. What is listed here may grow; nothing in it may change.
"""

from __future__ import annotations

from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import BaseModel, ValidationError

from nodeagent.core.contract import ReceiptState, Role, SwitchoverWish, VrrpState
from nodeagent.core.names import (
    LARGEST_GENERATION,
    LARGEST_NUMBER,
    is_node_name,
    is_queue_id,
    is_stored_id,
)
from nodeagent.core.observation import AdoptionStep, SwitchoverStep
from nodeagent.core.push_rules import PushRefusal
from nodeagent.core.ssh_wire import (
    PEER_TEST_STEPS,
    GivenKey,
    PeerTestLine,
    PeerTestReport,
    PeerTestStep,
    fingerprint,
)
from nodeagent.core.trace_wire import DeliveryStatus, TraceKind
from tests.fakes.postfix_queue import queue_id


@pytest.mark.parametrize(
    ("words", "known"),
    [
        (AdoptionStep, "decided leased listed committed placed"),
        (SwitchoverStep, "handed released"),
        (Role, "ACTIVE STANDBY FENCED"),
        (VrrpState, "MASTER BACKUP FAULT UNKNOWN"),
        (ReceiptState, "unknown committed done"),
        (PushRefusal, "stranger direction receipt generation sequence base not-full"),
        (PeerTestStep, "address connect host-key login receiver space rsync clock"),
        (DeliveryStatus, "sent deferred bounced undeliverable deliverable"),
    ],
    ids=lambda value: value.__name__ if isinstance(value, type) else "",
)
def test_words_stay_what_they_are(words: type[StrEnum], known: str) -> None:
    """An adoption that a newer version could not read would be an adoption forgotten."""
    assert [str(word) for word in words] == known.split()


def test_a_trace_entry_says_what_it_always_said() -> None:
    """Hosts send what they traced hours ago, under another version perhaps."""
    assert {str(kind) for kind in TraceKind} >= {
        *("connect", "disconnect", "client", "message-id", "queued", "delivery", "removed"),
        *("expired", "rejected", "notice", "deleted", "note"),
    }


@pytest.mark.parametrize(
    ("name", "is_good"),
    [
        ("a", True),
        ("0", True),
        ("relay-1", True),
        ("a" * 63, True),
        ("a" * 64, False),
        ("", False),
        ("-a", False),
        ("a-", False),
        ("Relay-1", False),
        ("relay_1", False),
        ("relay.1", False),
        ("relay-1\n", False),
        ("knoten-ä", False),
    ],
)
def test_node_names_are_host_labels(name: str, is_good: bool) -> None:
    """The check on the host and the one of the wire are the same."""
    assert is_node_name(name) is is_good
    assert does_take(SwitchoverWish, id=1, source=name, destination="b") is is_good


def does_take(model: type[BaseModel], **content: object) -> bool:
    """Tell whether the wire takes this message."""
    try:
        model.model_validate(content)
    except ValidationError:
        return False
    return True


@pytest.mark.parametrize(
    ("name", "is_long", "is_stored"),
    [
        (queue_id(1), True, True),
        ("4Xk9Rb1234zH1", True, True),
        ("3F2A14E8", False, True),
        ("3F2A14", False, True),
        ("3F2A1", False, False),
        ("a" * 64, False, True),
        ("a" * 65, False, False),
        ("4Xk9Rb1234z", False, True),
        ("4Xk9Ab1234zH1", False, True),
        ("4Xk9Rb1234zz", False, True),
        ("4Xk9Rb1234zH1\n", False, False),
        ("4Xk9Rb1234zH1.tmp", False, False),
        ("", False, False),
    ],
)
def test_a_file_name_is_a_queue_id_or_none(name: str, is_long: bool, is_stored: bool) -> None:
    """Long ones are unique for ever and may be adopted; short ones may only be counted."""
    assert is_queue_id(name) is is_long
    assert is_stored_id(name) is is_stored


@given(st.text(max_size=70) | st.from_regex(r"[\w./-]{1,70}", fullmatch=True))
def test_no_name_leaves_its_directory(name: str) -> None:
    """Every name that the protocol accepts is one plain path component."""
    assert is_stored_id(name) or not is_queue_id(name)
    if is_node_name(name) or is_stored_id(name):
        assert name.isascii()
        assert name.replace("-", "a").isalnum()


@pytest.mark.parametrize(
    ("number", "is_good"),
    [(-1, False), (0, True), (LARGEST_NUMBER, True), (LARGEST_NUMBER + 1, False)],
)
def test_numbers_fit_every_database(number: int, is_good: bool) -> None:
    """PostgreSQL's integer ends at 2147483647; one more would be an error of the driver."""
    assert LARGEST_NUMBER == 2147483647
    assert does_take(SwitchoverWish, id=number, source="a", destination="b") is is_good


def test_a_generation_can_always_rise() -> None:
    """What one wild report makes the control plane skip leaves as much room again."""
    assert 2 * LARGEST_GENERATION <= LARGEST_NUMBER + 1
    assert LARGEST_GENERATION > 10**9


ED25519 = "AAAAC3NzaC1lZDI1NTE5AAAAIHa2zLKX9KIWtDAimf/5Kceg5fybHeKBquz6EqBBdZGG"


@pytest.mark.parametrize("line", [f"ssh-ed25519 {ED25519}", f"ssh-ed25519 {ED25519} who@where x"])
def test_a_fingerprint_is_what_ssh_keygen_shows(line: str) -> None:
    """As OpenSSH 9.2 wrote it; what follows the key is a comment."""
    assert fingerprint(line) == "SHA256:WM+RuywlBHfQ8iBd30YAjBhX404+meb3WzWiUFKPnyA"


@pytest.mark.parametrize("line", ["", "ssh-ed25519", "ssh-ed25519 AAA", "ssh-ed25519 AA!AA", "\n"])
def test_what_is_no_key_has_no_fingerprint(line: str) -> None:
    """A key that cannot be read is not given a name that looks like one."""
    assert fingerprint(line) is None


def test_a_private_key_goes_over_the_wire_and_into_no_log() -> None:
    """Its holder gets it; whoever prints the message does not."""
    text = "-----BEGIN OPENSSH PRIVATE KEY-----\n"
    given_key = GivenKey.model_validate({"private_key": text})
    assert text.strip() not in repr(given_key) + str(given_key)
    assert GivenKey.model_validate_json(given_key.model_dump_json()) == given_key
    assert text[:20] in given_key.model_dump_json()
    assert text[:20] not in str(given_key.model_dump())


def test_a_peer_test_has_a_line_for_each_step_at_most() -> None:
    """In sentences of 500 characters; whatever a peer answers, no row grows without end."""
    line = PeerTestLine(step=PeerTestStep.CLOCK, ok=True, text="x" * 500)
    whole = {"id": 1, "ok": True, "text": "x" * 500, "lines": (line,) * len(PEER_TEST_STEPS)}
    assert does_take(PeerTestReport, **whole)
    assert not does_take(PeerTestReport, **{**whole, "lines": (line,) * 9})
    assert not does_take(PeerTestReport, **{**whole, "text": "x" * 501})
    assert not does_take(PeerTestLine, step=PeerTestStep.CLOCK, ok=True, text="x" * 501)
