"""The wire types between versions: hosts and control plane are upgraded one after the other."""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from nodeagent.core.contract import HeartbeatAnswer, HeartbeatRequest, NodeReport, Role
from nodeagent.core.queue_contract import QueueAnswer, QueueReport
from tests.core.worlds import view


def newer(text: str) -> str:
    """Return what a newer version would send: every object has a field more."""

    def grown(value: object) -> object:
        if isinstance(value, dict):
            return {**{key: grown(one) for key, one in value.items()}, "of_tomorrow": {"a": [1]}}
        return [grown(one) for one in value] if isinstance(value, list) else value

    return json.dumps(grown(json.loads(text)))


MESSAGES = (
    HeartbeatRequest(report=NodeReport(role=Role.ACTIVE)),
    HeartbeatAnswer(view=view(), renewed=True),
    QueueReport(session="s", sequence=1, is_complete=True, scan_age_s=0.0),
    QueueAnswer(is_expected=True),
)


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_field_of_tomorrow_is_not_read(message):
    """What both versions know arrives as it was said."""
    assert type(message).model_validate_json(newer(message.model_dump_json())) == message


@pytest.mark.parametrize("message", MESSAGES, ids=lambda message: type(message).__name__)
def test_a_known_field_is_judged_as_ever(message):
    """A value that does not fit is refused, in a message with more fields too."""
    body = json.loads(newer(message.model_dump_json()))
    body[next(iter(type(message).model_fields))] = {"not": "this"}
    with pytest.raises(ValidationError):
        type(message).model_validate(body)


def test_messages_cannot_be_changed():
    """They go from thread to thread."""
    with pytest.raises(ValidationError, match="frozen"):
        MESSAGES[0].report = None  # type: ignore[misc]
