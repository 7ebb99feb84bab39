"""What the agent makes of a guard that is killed, babbles, hangs, or is of another version."""

from __future__ import annotations

import json
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nodeagent.adapters.guard_client import GuardClient, GuardConnection
from nodeagent.errors import Refused, Unreachable

STATUS: dict[str, Any] = {
    "ok": True,
    "is_proven": True,
    "remaining_s": 5.0,
    "generation": 3,
    "has_pending": False,
    "freezer": "cgroup",
    "retired": [[7, 60.0]],
}


class Guard:
    """Answers each request with the same bytes, then hangs up."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.answer = b""
        self.heard: list[bytes] = []
        self._listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._listener.bind(str(path))
        self._listener.listen(16)
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        while True:
            try:
                connection, _address = self._listener.accept()
            except OSError:
                return
            with connection:
                self.heard.append(connection.makefile("rb").readline())
                connection.sendall(self.answer)

    def stop(self) -> None:
        """Be gone; the socket's file stays, as after a kill."""
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@pytest.fixture
def guard(tmp_path: Path) -> Iterator[Guard]:
    """Give a guard that says what a test has it say."""
    one = Guard(tmp_path / "guard.sock")
    yield one
    one.stop()


CALLS: dict[str, Callable[[GuardClient], object]] = {
    "status": lambda client: client.status(),
    "pending": lambda client: client.pending_ids(),
    "take_back": lambda client: client.take_back_some(),
    "place": lambda client: client.place_some("node-b", 3),
    "aside": lambda client: client.set_aside("a test"),
}


@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b'{"ok": true, "ids": ["4Xk9Rb1234zH1"',
        b'{"ok": true, "done": true, "ids": []}',
        b"\n",
        b"[]\n",
        b'"ok"\n',
        b"null\n",
        b"{}\n",
        b"\xff\xfe\n",
        b'{"ok": tru\n',
    ],
)
def test_half_an_answer_is_none(guard: Guard, call: str, answer: bytes) -> None:
    """The guard was killed while it wrote: nothing of it counts, above all not as done."""
    guard.answer = answer
    with pytest.raises(Unreachable):
        CALLS[call](GuardClient(guard.path))


def test_a_guard_of_a_newer_version_is_understood(guard: Guard) -> None:
    """In the middle of an upgrade it may tell more than the agent knows."""
    guard.answer = json.dumps({**STATUS, "invented_later": {"a": 1}}).encode() + b"\n"
    view, freezer = GuardClient(guard.path).status()
    assert (view.generation, view.is_proven, freezer) == (3, True, "cgroup")
    assert [(one.receipt, one.age_s) for one in view.retired] == [(7, 60.0)]


@pytest.mark.parametrize("name", [name for name in STATUS if name != "ok"])
def test_a_guard_that_tells_less_is_not_believed(guard: Guard, name: str) -> None:
    """Unknown is never permission: a missing fact is not taken for false, or for none."""
    less = {key: value for key, value in STATUS.items() if key != name}
    guard.answer = json.dumps(less).encode() + b"\n"
    with pytest.raises(Unreachable, match="cannot be read"):
        GuardClient(guard.path).status()


def test_a_refusal_is_told_in_the_guards_words(guard: Guard) -> None:
    """Also one without any."""
    guard.answer = b'{"ok": false, "reason": "Postfix is frozen already."}\n'
    with pytest.raises(Refused, match=r"^Postfix is frozen already\.$"):
        GuardClient(guard.path).take_back_some()
    guard.answer = b'{"ok": false}\n'
    with pytest.raises(Refused, match=r"^The lease guard refused\.$"):
        GuardClient(guard.path).take_back_some()


def test_a_snapshot_whose_thaw_is_not_answered_does_not_count(guard: Guard) -> None:
    """The guard was gone before the end: nobody knows whether Postfix stood still all the while."""
    guard.answer = b'{"ok": true}\n'
    with pytest.raises(Unreachable), GuardClient(guard.path).frozen():
        pass
    assert guard.heard == [b'{"op": "freeze"}\n']


def test_a_guard_that_is_gone_is_one_sentence(guard: Guard, tmp_path: Path) -> None:
    """No socket, or one that nobody listens on."""
    guard.stop()
    for path in (tmp_path / "never", guard.path):
        with pytest.raises(Unreachable, match=r"^The lease guard does not answer\.$"):
            GuardClient(path).status()


def test_a_guard_that_hangs_costs_no_more_than_the_limit(tmp_path: Path) -> None:
    """It takes the connection and says nothing."""
    path = tmp_path / "guard.sock"
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(path))
        listener.listen(1)
        connection = GuardConnection(path, timeout_s=0.2)
        with pytest.raises(Unreachable, match="does not answer"):
            connection.call("status")
        connection.close()


values = st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.lists(st.integers())


@settings(max_examples=80, deadline=None, derandomize=True)
@given(st.dictionaries(st.sampled_from([*STATUS, "more"]), values, max_size=4))
def test_no_answer_breaks_the_agent(
    tmp_path_factory: pytest.TempPathFactory, odd: dict[str, Any]
) -> None:
    """Refused, unreachable, or a view: the tick goes on whatever a guard says."""
    guard = Guard(tmp_path_factory.mktemp("guard") / "guard.sock")
    guard.answer = json.dumps({**STATUS, **odd}).encode() + b"\n"
    try:
        _view, freezer = GuardClient(guard.path).status()
        assert isinstance(freezer, str)
    except (Refused, Unreachable):
        pass
    finally:
        guard.stop()
