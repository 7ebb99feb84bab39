"""What the agent can do: one frozen value an effect; `execute` carries it out, nothing else does.

Every action is idempotent. Those marked `is_job` take longer than a tick may and run in the agent's
one worker, in which only one of them runs at a time.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import ClassVar, Final

_WORD_START: Final = re.compile(r"(?<=[a-z])(?=[A-Z])")


@dataclass(frozen=True)
class Action:
    """Base of all actions."""

    is_job: ClassVar[bool] = False


@dataclass(frozen=True)
class SetAside(Action):
    """Stop all delivery and make the whole own queue pending."""

    reason: str


@dataclass(frozen=True)
class Reconcile(Action):
    """The way back of section 4.4: acquire, learn who owns what, retire and take back."""

    is_job: ClassVar[bool] = True


@dataclass(frozen=True)
class AskPromises(Action):
    """Ask every peer for "I will not adopt your queue before T" (section 4.7)."""

    peers: tuple[str, ...]


@dataclass(frozen=True)
class DecideAdoption(Action):
    """Refuse promises for `queue` from now on and note the adoption as begun."""

    queue: str
    skip_waiting: bool  # granted by its owner, or confirmed dead by an operator


@dataclass(frozen=True)
class AcquireLease(Action):
    """Ask the control plane for the lease of the queue that is being adopted."""

    queue: str
    is_job: ClassVar[bool] = True


@dataclass(frozen=True)
class WriteReceipt(Action):
    """Raise the mirror's lowest generation, then write the receipt to the local disk."""

    queue: str
    generation: int
    is_job: ClassVar[bool] = True


@dataclass(frozen=True)
class CommitReceipt(Action):
    """Commit the receipt at the control plane, or learn what became of it."""

    queue: str
    generation: int
    is_job: ClassVar[bool] = True


@dataclass(frozen=True)
class PlaceAdopted(Action):
    """Let the guard rename the receipt's files into the live queue."""

    queue: str
    generation: int
    is_job: ClassVar[bool] = True


@dataclass(frozen=True)
class FinishAdoption(Action):
    """Report the receipt as done, release the lease, forget the adoption."""

    queue: str
    generation: int
    is_job: ClassVar[bool] = True


@dataclass(frozen=True)
class ReleaseLease(Action):
    """Give back a peer's lease that is held without an adoption."""

    queue: str
    generation: int
    is_job: ClassVar[bool] = True


@dataclass(frozen=True)
class Push(Action):
    """Snapshot the own queue and push it to these peers."""

    peers: tuple[str, ...]
    generation: int
    is_job: ClassVar[bool] = True


@dataclass(frozen=True)
class HandOver(Action):
    """The source's part of a switchover: drain, last push, set aside, grant (section 4.6)."""

    id: int
    destination: str
    generation: int
    is_job: ClassVar[bool] = True


@dataclass(frozen=True)
class EndSwitchover(Action):
    """The VIP has left: report the switchover's end and let this node stand by again."""

    id: int
    is_job: ClassVar[bool] = True


@dataclass(frozen=True)
class SetFault(Action):
    """Put this node's keepalived into FAULT, or let it out, by the track file."""

    is_fault: bool


@dataclass(frozen=True)
class DropVip(Action):
    """Remove VIPs that a dead keepalived left behind on this node."""

    vips: tuple[str, ...]


@dataclass(frozen=True)
class ApplyConfig(Action):
    """Fetch, validate, swap in, reload and verify a config version."""

    version: int
    is_job: ClassVar[bool] = True


@dataclass(frozen=True)
class WriteSshFiles(Action):
    """Write authorized_keys and known_hosts from the view's peers."""


@dataclass(frozen=True)
class RemoveRetired(Action):
    """Have the guard remove the retired mail of receipts that are done for long enough."""

    receipts: tuple[int, ...]
    is_job: ClassVar[bool] = True


@dataclass(frozen=True)
class ReportRecovery(Action):
    """Tell a restored control plane what this node remembers (section 4.9)."""

    is_job: ClassVar[bool] = True


@dataclass(frozen=True)
class DropAdoption(Action):
    """Forget an adoption that has not listed anything yet; promises are possible again."""

    queue: str
    is_job: ClassVar[bool] = True


def failure_kind(action: Action) -> str:
    """Return the kind of the event that says that an action failed: `push-failed` for `Push`."""
    return _failure_kind(type(action))


def failure_kinds() -> frozenset[str]:
    """Return the kinds that the failure of any action is reported by."""
    return frozenset(_failure_kind(one) for one in Action.__subclasses__())


def _failure_kind(action: type[Action]) -> str:
    return f"{_WORD_START.sub('-', action.__name__).lower()}-failed"
