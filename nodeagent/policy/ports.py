"""What the doors need of the rest of the hook, as protocols; tests give them twins."""

from __future__ import annotations

from collections.abc import Callable, Collection
from enum import StrEnum
from typing import Final, Protocol

from nodeagent.errors import AgentError
from nodeagent.policy.document import PolicySettings
from nodeagent.policy.log_wire import Door
from nodeagent.policy.model import (
    AddRecipient,
    Change,
    Decision,
    Envelope,
    Fired,
    Message,
    Reply,
    RuleKind,
    Session,
    Stage,
    Verdict,
)
from nodeagent.policy.places import LIST_DOMAIN


class Unjudged(StrEnum):
    """Why a door answers without a decision: the rule, of the kind FAULT, that the log names."""

    DEFECT = "hook:defect"
    TIMEOUT = "hook:timeout"
    STOPPED = "hook:stopped"
    UNREADABLE = "hook:unreadable"
    UNSAYABLE = "hook:unsayable"
    TOO_LARGE = "hook:too-large"
    BUSY = "hook:busy"
    SLOW = "hook:slow"
    DENIED = "hook:denied"
    HEADERS = "hook:headers"
    MEMORY = "hook:memory"
    SESSIONS = "hook:sessions"
    CLOSED = "hook:closed"
    NOT_KEPT = "hook:not-kept"
    NOT_LOGGED = "hook:not-logged"


WHY: Final = {
    Unjudged.DEFECT: "the hook failed while it judged",
    Unjudged.TIMEOUT: "the decision took too long",
    Unjudged.STOPPED: "the hook was stopped before it had decided",
    Unjudged.UNREADABLE: "the question could not be read",
    Unjudged.UNSAYABLE: "what was decided cannot be said to this MTA",
    Unjudged.TOO_LARGE: "the question was larger than the door reads",
    Unjudged.BUSY: "there were too many large questions at once",
    Unjudged.SLOW: "the question did not come in time",
    Unjudged.DENIED: "who asked showed no credential of this door",
    Unjudged.HEADERS: "the headers are longer than the policy inspects",
    Unjudged.MEMORY: "there was no memory for the mail",
    Unjudged.SESSIONS: "there were too many sessions at once",
    Unjudged.CLOSED: "far too many connections: closed, and the MTA does what it is set to",
    Unjudged.NOT_KEPT: "Postfix did not take what has to be in its queue first",
    Unjudged.NOT_LOGGED: "nothing is discarded that is not in the log first",
}


def unjudged(
    why: Unjudged, verdict: Verdict, reply: Reply | None = None, detail: str | None = None
) -> Decision:
    """Return what is answered in a decision's place; `detail` may be personal."""
    fired = Fired(RuleKind.FAULT, why.value, WHY[why], verdict=verdict, matched=detail)
    return Decision(verdict, reply, fired=(fired,))


def is_for_subscriber(change: Change) -> bool:
    """Tell whether a change gives a subscriber of a category a copy."""
    if not isinstance(change, AddRecipient):
        return False
    return change.address.rpartition("@")[2].lower() == LIST_DOMAIN


def is_for_our_postfix(decision: Decision) -> bool:
    """Tell whether an MTA that asks over HTTP leaves the mail, or copies of it, to our Postfix."""
    if decision.verdict is Verdict.ACCEPT:
        return any(map(is_for_subscriber, decision.changes))
    return decision.verdict is Verdict.QUARANTINE


CannotSay = Callable[[Decision], str | None]
"""Why a decision cannot be said to the MTA that asked, None where it can."""


class Decides(Protocol):
    """Judges and writes down what it decided; a door does neither itself."""

    @property
    def settings(self) -> PolicySettings:
        """Return the settings in force now."""

    def decide_now(
        self,
        door: Door,
        stage: Stage,
        session: Session,
        envelope: Envelope,
        message: Message | None = None,
        *,
        cannot_say: CannotSay | None = None,
        stages: Collection[Stage] | None = None,
    ) -> Decision | None:
        """Return the decision, or None where it takes a look-up or long work: ask `decide`.

        One that cannot be said is replaced by a tempfail that can, before it is written down: so
        there is one line for each answer, and it says what was answered. `stages` are those at
        which this session is asked about, where that was agreed; None: those of the settings.
        """

    async def decide(
        self,
        door: Door,
        stage: Stage,
        session: Session,
        envelope: Envelope,
        message: Message | None = None,
        *,
        cannot_say: CannotSay | None = None,
        stages: Collection[Stage] | None = None,
    ) -> Decision:
        """Return the decision, one that can be said.

        Raises what a defect raises: the door answers then, as it is set, and says so by
        `note_unjudged`.

        A message that is to be discarded is in the log on the disk before this returns. One that
        came over HTTP and `is_for_our_postfix` is not in the log yet: `note_held` says where it is.
        """

    def note_held(
        self,
        session: Session,
        envelope: Envelope,
        message: Message,
        decision: Decision,
        queue_id: str | None,
    ) -> None:
        """Write down where in our Postfix a mail of the HTTP door is, or its copies; None: nowhere.

        The line is that of the decision, or of the tempfail that was answered instead.
        """

    def note_unjudged(
        self,
        door: Door,
        stage: Stage,
        session: Session,
        envelope: Envelope,
        message: Message | None,
        *,
        answered: Decision,
    ) -> None:
        """Write down what a door answered by itself: what `unjudged` gave.

        Without a message only so many a minute of each rule; the rest is counted in a gap.
        """

    def end_connection(self, door: Door, session: Session, messages: int) -> None:
        """Write down that a session ended, and how many mails it brought."""


class NotKept(AgentError):
    """Postfix did not take the mail: whoever sent it must keep it and try again."""


class MailKeeper(Protocol):
    """Puts mail into this node's own Postfix, past the hook."""

    async def hold(self, envelope: Envelope, message: Message, reason: str) -> str:
        """Put the mail into Postfix's hold queue (the quarantine); return its queue id.

        Raises `NotKept` when Postfix did not say 250 for it.
        """

    async def send(self, envelope: Envelope, message: Message) -> str:
        """Put the mail into Postfix's queue; return its queue id. Raises `NotKept`."""
