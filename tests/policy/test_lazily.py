"""A lazy property: computed once, on frozen objects too, and never behind another's lock."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

from nodeagent.policy.engine.lazily import lazily

PATIENCE_S = 60


@dataclass(frozen=True)
class Mail:
    """An object whose value takes as long as its gate is closed."""

    number: int
    gate: threading.Event = field(default_factory=threading.Event)
    began: threading.Event = field(default_factory=threading.Event)
    asked: list[int] = field(default_factory=list)

    @lazily
    def doubled(self) -> int:
        """Return twice the number."""
        self.asked.append(self.number)
        self.began.set()
        assert self.gate.wait(PATIENCE_S)
        return 2 * self.number


def test_a_value_is_computed_once_for_each_object() -> None:
    """Asking again costs nothing; the other object has its own."""
    first, second = Mail(1), Mail(2)
    first.gate.set()
    second.gate.set()
    assert [first.doubled, first.doubled, second.doubled] == [2, 2, 4]
    assert (first.asked, second.asked) == ([1], [2])
    assert Mail.doubled.__doc__ == "Return twice the number."


def test_a_long_one_in_a_thread_keeps_nobody_waiting() -> None:
    """The event loop judges small mails while a large one is read elsewhere."""
    slow, quick = Mail(1), Mail(2)
    thread = threading.Thread(target=lambda: slow.doubled)
    thread.start()
    assert slow.began.wait(PATIENCE_S)
    quick.gate.set()
    assert quick.doubled == 4  # with a lock of the class this would wait for the other
    slow.gate.set()
    thread.join(PATIENCE_S)
    assert slow.doubled == 2
