"""What really happened, as nobody inside the cluster can see it, and the promises as checks.

Receipts count in the order in which the control plane committed them. A message belongs
to the holder of the last committed receipt naming it, else to the node it was born on. A receipt
that a restored control plane has forgotten and that no node has on file never took effect.

A violation is a sentence. A *soft double* is counted and allowed (section 4.11): a delivery by the
legal owner of a copy that was made before the first delivery, or after one that a fence cut off.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Committed:
    """One receipt at the moment of its commit."""

    queue: str
    generation: int
    holder: str
    number: int
    ids: frozenset[str]


@dataclass(frozen=True)
class Delivery:
    """One delivery that the remote side said yes to; `is_cut`: the node never heard the yes."""

    node: str
    at_s: float
    is_cut: bool


@dataclass(frozen=True)
class Placed:
    """A push that a receiver has put in place."""

    queue: str
    receiver: str
    snapshot_s: float


@dataclass
class Truth:
    """The record of one run; `is_on_file` tells whether anybody still remembers a receipt."""

    is_on_file: Callable[[Committed], bool]
    born_on: dict[str, str] = field(default_factory=dict)
    receipts: list[Committed] = field(default_factory=list)
    deliveries: dict[str, list[Delivery]] = field(default_factory=dict)
    removals_told: dict[tuple[str, str], dict[str, float]] = field(default_factory=dict)
    violations: list[str] = field(default_factory=list)
    soft_doubles: int = 0

    def violate(self, promise: str, text: str) -> None:
        """Note a broken promise, once."""
        sentence = f"{promise}: {text}"
        if sentence not in self.violations:
            self.violations.append(sentence)

    def owner(self, name: str) -> str:
        """Return the node that may deliver this message now."""
        for receipt in reversed(self.receipts):
            if name in receipt.ids and self.is_on_file(receipt):
                return receipt.holder
        return self.born_on[name]

    def is_delivered(self, name: str) -> bool:
        """Tell whether the message has reached its destination at least once."""
        return name in self.deliveries

    def undelivered(self) -> list[str]:
        """Return every accepted message that has not reached its destination."""
        return [name for name in self.born_on if name not in self.deliveries]

    def accepted(self, name: str, node: str) -> None:
        """Note that a client got its 250 for a new message."""
        self.born_on[name] = node

    def delivered(self, name: str, node: str, at_s: float, *, is_cut: bool = False) -> None:
        """Note a delivery and judge it."""
        owner = self.owner(name)
        before = self.deliveries.setdefault(name, [])
        if owner != node:
            self.violate("P2", f"{node} delivered {name}, which belongs to {owner}")
        elif any(one.node == node and not one.is_cut for one in before):
            self.violate("P2", f"{node} delivered {name} twice")
        elif before:
            self.soft_doubles += 1
        before.append(Delivery(node, at_s, is_cut))

    def committed(self, receipt: Committed) -> None:
        """Note a receipt that the control plane has just committed, and judge what it names."""
        for name in sorted(receipt.ids):
            owner = self.owner(name)
            if owner == receipt.holder:
                self.violate("P2", f"{owner} adopted {name}, which it owns already")
            elif owner != receipt.queue:
                self.violate("P2", f"{receipt.holder} adopted {name} of {owner} from elsewhere")
            if name in self.removals_told.get((receipt.holder, receipt.queue), ()):
                self.violate("P2", f"{receipt.holder} adopted {name} though it was removed")
        self.receipts.append(receipt)

    def pushed(self, push: Placed, before: set[str], after: set[str]) -> None:
        """Judge what a push that was just put in place did to its mirror."""
        told = self.removals_told.setdefault((push.receiver, push.queue), {})
        for name in sorted(before - after):
            if not self.is_delivered(name) and self.owner(name) == push.queue:
                self.violate("P4", f"a push of {push.queue} deleted the other copy of {name}")
        for name in after:
            if told.get(name, push.snapshot_s) < push.snapshot_s:
                del told[name]
        for name in set(self.deliveries) - after:
            told[name] = max(push.snapshot_s, told.get(name, 0.0))
