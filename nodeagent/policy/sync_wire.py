"""What a node and the control plane tell each other about the policy, about once a second.

Theory of operation of the counts. Rates are counted by each running hook for itself (`source`) in
buckets of a window's length; a count only grows. What the cluster counted is the sum over all
sources, so it does not matter how often or in which order counts are told, and after a failover
the other node already has them. `seen` is the place in the control plane's list of changes.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, StringConstraints

from nodeagent.core.contract import Wire
from nodeagent.policy.document import RateWindow

MOST_COUNTS: Final = 2_000
SourceId = Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]


class RateCount(Wire):
    """How many one source counted of one key in one bucket; the key is a keyed hash."""

    window: RateWindow
    bucket: int = Field(ge=0, lt=2**40)  # seconds since 1970, divided by the window's length
    key: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{32}$")]
    count: int = Field(ge=1, lt=2**40)


class SourcedCount(RateCount):
    """The same, with whose count it is."""

    source: SourceId


class PolicySync(Wire):
    """What a node says."""

    source: SourceId
    revision: int | None = Field(default=None, ge=0, lt=2**53)  # in force; None: none
    problem: Annotated[str, StringConstraints(max_length=500)] = ""  # why a newer one is not
    counts: tuple[RateCount, ...] = Field(default=(), max_length=MOST_COUNTS)
    seen: int = Field(default=0, ge=0, lt=2**53)


class PolicyAnswer(Wire):
    """What the control plane says; the node fetches the manifest when it has another revision."""

    revision: int = Field(ge=0, lt=2**53)
    counts: tuple[SourcedCount, ...] = Field(default=(), max_length=MOST_COUNTS)
    seen: int = Field(default=0, ge=0, lt=2**53)
    has_more: bool = False


class SectionQuestion(Wire):
    """Which section a node wants; the answer is its gzip body."""

    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
