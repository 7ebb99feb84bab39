"""SSH keys that users bring along for nodes.

Theory of operation. The private half is sealed here only until its node uses it; then it is erased,
and what stays is who brought the key and when. A key that is neither shown by the node nor waited
for is forgotten whole.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import select
from sqlmodel import Session, col

from controlplane.core.private_keys import KeyPair
from controlplane.errors import NotFound
from controlplane.store.audit import Actor
from controlplane.store.clock import read_clock_s
from controlplane.store.crypto import SecretBox
from controlplane.store.ownership_tables import GivenKeyRow
from nodeagent.core.ssh_wire import fingerprint


def store(session: Session, box: SecretBox, node: str, key: KeyPair, actor: Actor) -> None:
    """Seal a key until `node` fetches it."""
    session.merge(
        GivenKeyRow(
            node=node,
            fingerprint=fingerprint(key.public) or "",
            public_key=key.public,
            private_sealed=box.seal(key.private),
            given_by=actor.name[:64],
            given_at=read_clock_s(session),
        )
    )
    session.flush()


def waiting(session: Session, node: str) -> GivenKeyRow | None:
    """Return the key that `node` does not use yet."""
    statement = select(GivenKeyRow).where(
        col(GivenKeyRow.node) == node, col(GivenKeyRow.private_sealed).is_not(None)
    )
    return session.execute(statement).scalar_one_or_none()


def private_half(session: Session, box: SecretBox, node: str, public_key: str) -> str:
    """Return the private half that waits for this very node; raises NotFound."""
    row = waiting(session, node)
    if row is None or row.private_sealed is None or row.public_key != public_key:
        raise NotFound(f"No such SSH key waits for {node}.")
    return box.open(row.private_sealed)


def keep(
    session: Session, node: str, shown: Iterable[str | None], *, is_open: bool = False
) -> None:
    """Forget what `node` does not show; with `is_open` the key that it is to use next stays sealed.

    `shown` are public keys with or without a comment, the one in use first.
    """
    prints = [fingerprint(key) for key in shown if key is not None]
    rows = session.execute(select(GivenKeyRow).where(col(GivenKeyRow.node) == node)).scalars()
    for row in rows.all():
        is_waiting = is_open and row.private_sealed is not None
        if is_waiting and row.fingerprint not in prints[:1]:
            continue
        if row.fingerprint in prints:
            row.private_sealed = None
            session.add(row)
        else:
            session.delete(row)
    session.flush()


def of_node(session: Session, node: str) -> dict[str, GivenKeyRow]:
    """Return the keys that were brought along for `node`, by fingerprint."""
    rows = session.execute(select(GivenKeyRow).where(col(GivenKeyRow.node) == node)).scalars()
    return {row.fingerprint: row for row in rows}


def holder(session: Session, public_key: str) -> str | None:
    """Return the node that this key was brought along for."""
    statement = select(col(GivenKeyRow.node)).where(col(GivenKeyRow.public_key) == public_key)
    return session.execute(statement.limit(1)).scalar_one_or_none()
