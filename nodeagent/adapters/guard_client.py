"""The agent's side of the lease guard's socket."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, Final

from nodeagent.adapters.fault_point import fault_point
from nodeagent.adapters.json_connection import JsonConnection
from nodeagent.core.guard_state import ProofOffer
from nodeagent.core.observation import GuardView, RetiredView
from nodeagent.errors import Unreachable

TIMEOUT_S: Final = 10.0
UNREADABLE: Final = "The lease guard's answer cannot be read."


class GuardConnection(JsonConnection):
    """One connection; a freeze or a drain lasts no longer than it."""

    server = "lease guard"

    def __init__(self, path: Path, timeout_s: float = TIMEOUT_S) -> None:
        super().__init__(path, timeout_s)


@dataclass
class Freeze:
    """A freeze under way; `length_ms` is known once it has ended."""

    connection: GuardConnection
    aside_reason: str | None = None
    length_ms: float = 0.0

    def set_aside_at_end(self, reason: str) -> None:
        """Have the guard set the queue aside before anything of it runs again."""
        self.aside_reason = reason


class GuardClient:
    """Calls of the guard, each on a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @contextmanager
    def _connection(self) -> Iterator[GuardConnection]:
        connection = GuardConnection(self._path)
        try:
            yield connection
        finally:
            connection.close()

    def _call(self, operation: str, **fields: Any) -> dict[str, Any]:
        with self._connection() as connection:
            return connection.call(operation, **fields)

    def status(self) -> tuple[GuardView, str]:
        """Return what the guard knows and the name of its freezer.

        While a host is upgraded its guard may be another version's and tell more than we know.
        """
        answer = self._call("status")
        try:
            told = {one.name: answer[one.name] for one in fields(GuardView)}
            told["retired"] = tuple(RetiredView(*one) for one in told["retired"])
            return GuardView(**told), str(answer["freezer"])
        except (KeyError, TypeError) as error:
            raise Unreachable(UNREADABLE) from error

    def offer_proof(self, offer: ProofOffer) -> None:
        """Bring a proof of the lease; raises `Refused` where it proves nothing."""
        self._call("proof", **asdict(offer))

    def set_aside(self, reason: str) -> None:
        """Stop all delivery and make the whole queue pending."""
        self._call("aside", reason=reason)

    def pending_ids(self) -> tuple[str, ...]:
        """Return the ids of all pending messages."""
        return tuple(self._call("pending")["ids"])

    def take_back_some(self) -> bool:
        """Move one batch of pending mail; True once nothing is pending."""
        return bool(self._call("take_back")["done"])

    def place_some(self, queue: str, generation: int) -> bool:
        """Move one batch of an adopted mirror into the live queue; True once all is there."""
        return bool(self._call("place", queue=queue, generation=generation)["done"])

    def remove_retired_some(self, receipts: tuple[int, ...], older_than_s: float) -> bool:
        """Remove one batch of these receipts' retired mail if it is that old; True at the end."""
        answer = self._call("remove_retired", receipts=receipts, older_than_s=older_than_s)
        return bool(answer["done"])

    @contextmanager
    def frozen(self) -> Iterator[Freeze]:
        """Freeze Postfix for the body; raises `Refused` if it was not frozen all the while."""
        with self._connection() as connection:
            connection.call("freeze")
            fault_point("frozen")
            freeze = Freeze(connection)
            yield freeze
            aside = {"aside": freeze.aside_reason} if freeze.aside_reason else {}
            freeze.length_ms = float(connection.call("thaw", **aside)["freeze_ms"])

    @contextmanager
    def drained(self) -> Iterator[GuardConnection]:
        """Stop the queue manager for the body; `call("drain")` says how many deliveries run."""
        with self._connection() as connection:
            connection.call("drain")
            yield connection
