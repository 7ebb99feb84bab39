"""A node's side of the queue: it sends its list, does what it is told, and says so."""

from __future__ import annotations

from typing import Any

from nodeagent.core.queue_contract import (
    CommandResult,
    ItemResult,
    ItemState,
    QueueAnswer,
    QueuedMessage,
    QueueName,
    QueueReport,
)
from tests.fakes.enrolled_agent import EnrolledAgent

IDS = ("4jWm8M3632zKH0Y", "4jWm8M3632zKH1Z", "4jWm8M3632zKH2B")


class QueueNode:
    """One enrolled node with a queue."""

    def __init__(self, agent: EnrolledAgent) -> None:
        self.agent = agent
        self.sequence = 0

    def report(self, *ids: str, **content: Any) -> QueueAnswer:
        """Send one batch with these messages deferred, the list whole with it."""
        self.sequence += 1
        messages = tuple(
            QueuedMessage(
                id=one,
                queue=QueueName.DEFERRED,
                arrived_at=1_795_000_000 + number,
                size_bytes=300,
                sender="a@from.test",
                recipients=(f"b{number}@to.test",),
                recipient_count=1,
                next_hop="mx.to.test",
                reason="Connection refused",
            )
            for number, one in enumerate(ids)
        )
        values = {
            "session": "one",
            "sequence": self.sequence,
            "upserts": messages,
            "is_complete": True,
            "scan_age_s": 0.5,
        }
        answer = self.agent.post("queue", QueueReport(**(values | content)))
        assert answer.status_code == 200, answer.text
        return QueueAnswer.model_validate(answer.json())

    def obey_each(self, state: ItemState = ItemState.DONE) -> list[tuple[str, tuple[str, ...]]]:
        """Carry out what is asked until nothing is; return the verbs with their messages."""
        done: list[tuple[str, tuple[str, ...]]] = []
        commands = self.report().commands
        while commands:
            results = tuple(
                CommandResult(
                    action=one.action,
                    items=tuple(ItemResult(id=each, state=state) for each in one.ids),
                )
                for one in commands
            )
            done += [(one.verb.value, one.ids) for one in commands]
            commands = self.report(results=results).commands
        return done

    def obey(self, state: ItemState = ItemState.DONE) -> int:
        """Carry out what is asked until nothing is; return how many messages that was."""
        return sum(len(ids) for _verb, ids in self.obey_each(state))
