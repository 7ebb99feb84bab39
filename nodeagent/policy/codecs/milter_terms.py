"""What is agreed with an MTA when a milter connection begins: who sends and answers what."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from nodeagent.policy.codecs import milter_packets as wire
from nodeagent.policy.codecs.milter import VERSION, Actions, MacroStage, OutOfOrder, Packet, Steps
from nodeagent.policy.codecs.milter_replies import Speaker
from nodeagent.policy.document import PolicySettings
from nodeagent.policy.model import Stage

OLDEST_VERSION: Final = 2
ACTIONS: Final = (
    Actions.ADD_HEADERS
    | Actions.CHANGE_HEADERS
    | Actions.ADD_RECIPIENTS
    | Actions.DELETE_RECIPIENTS
    | Actions.CHANGE_SENDER
    | Actions.QUARANTINE
)
NO_MACRO: Final = "{none}"
"""To an empty list Postfix prefers its own, for which it resolves each recipient's address."""
MACROS: Final = (
    (int(MacroStage.CONNECT), NO_MACRO),
    (int(MacroStage.HELO), "{tls_version}"),
    (int(MacroStage.MAIL), "{auth_authen} {tls_version}"),
    (int(MacroStage.RCPT), NO_MACRO),
    (int(MacroStage.DATA), NO_MACRO),
    (int(MacroStage.END_OF_HEADERS), NO_MACRO),
    (int(MacroStage.END_OF_MESSAGE), "i"),
)
UNUSED: Final = (
    Steps.NO_UNKNOWN
    | Steps.NO_DATA
    | Steps.NO_END_OF_HEADERS
    | Steps.NO_REPLY_UNKNOWN
    | Steps.NO_REPLY_DATA
    | Steps.NO_REPLY_END_OF_HEADERS
)
NO_REPLY: Final[dict[type[Packet], Steps]] = {
    wire.Connect: Steps.NO_REPLY_CONNECT,
    wire.Helo: Steps.NO_REPLY_HELO,
    wire.Mail: Steps.NO_REPLY_MAIL,
    wire.Rcpt: Steps.NO_REPLY_RCPT,
    wire.Data: Steps.NO_REPLY_DATA,
    wire.HeaderField: Steps.NO_REPLY_HEADER,
    wire.EndOfHeaders: Steps.NO_REPLY_END_OF_HEADERS,
    wire.Body: Steps.NO_REPLY_BODY,
    wire.UnknownCommand: Steps.NO_REPLY_UNKNOWN,
}
JUDGED_AT: Final[dict[type[Packet], frozenset[Stage]]] = {
    wire.Connect: frozenset({Stage.CONNECT}),
    wire.Helo: frozenset(),
    wire.Mail: frozenset({Stage.EHLO, Stage.AUTH, Stage.MAIL}),
    wire.Rcpt: frozenset({Stage.RCPT}),
}
"""At which packets an MTA waits for which stages.

The login of a session is known from its first MAIL on, so AUTH is judged there. EHLO is judged when
it comes and answered at MAIL: Postfix says 250 to a refused EHLO and refuses MAIL in any case, and
so HELO and MAIL travel together.
"""


def stages_of(settings: PolicySettings) -> frozenset[Stage]:
    """Return the stages at which the policy judges; none while it is not active."""
    return frozenset(settings.stages) if settings.is_active else frozenset()


@lru_cache(maxsize=256)
def steps_for(stages: frozenset[Stage], *, answers_body: bool = False) -> Steps:
    """Return what an MTA need not send, and what it need not wait for."""
    steps = UNUSED | Steps.LEADING_SPACE | Steps.SKIP | Steps.NO_REPLY_HEADER
    if not answers_body:
        steps |= Steps.NO_REPLY_BODY
    for packet, judged_at in JUDGED_AT.items():
        if not stages & judged_at:
            steps |= NO_REPLY[packet]
    if Stage.DATA not in stages:
        steps |= Steps.NO_HEADERS | Steps.NO_BODY
    return steps


@dataclass(frozen=True)
class Terms:
    """What was agreed: the answer to the MTA's offer, and what follows from it."""

    answer: wire.Negotiate
    silent: frozenset[type[Packet]]  # packets that get no answer
    can_skip: bool
    speaker: Speaker


@lru_cache(maxsize=64)
def agree(version: int, actions: int, offered: int, wanted: Steps) -> Terms:
    """Return the terms under which a filter wants what it wants, and nothing that is not offered.

    MTAs offer the same again and again. Raises `OutOfOrder` for a version that is too old.
    """
    if version < OLDEST_VERSION:
        raise OutOfOrder(f"version {version} of the protocol is too old")
    macros = MACROS if actions & Actions.SET_MACROS else ()
    granted = int((ACTIONS | Actions.SET_MACROS) & actions)
    steps = Steps(wanted & offered)
    silent = frozenset({wire.Macros, wire.Abort, *(p for p, s in NO_REPLY.items() if steps & s)})
    return Terms(
        wire.Negotiate(min(VERSION, version), granted, int(steps), macros),
        silent,
        Steps.SKIP in steps and wire.Body not in silent,
        Speaker(granted, has_leading_space=Steps.LEADING_SPACE in steps),
    )
