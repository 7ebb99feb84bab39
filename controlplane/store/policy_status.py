"""The policy hook in a few numbers: is it on, what it did in a day, what each node has in force."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import func, select
from sqlmodel import Session, col

from controlplane.store.policy_items import count
from controlplane.store.policy_kinds import ALLOWLIST
from controlplane.store.policy_log_counts import Counts, count_recent
from controlplane.store.policy_nodes import NOTED_EVERY_S, NodePolicy, read_nodes
from controlplane.store.policy_revision import read_revision
from controlplane.store.policy_settings import read_policy_settings
from controlplane.store.policy_tables import PolicySectionRow
from nodeagent.policy.document import SectionKind

QUIET_S: Final = 3 * NOTED_EVERY_S
"""A hook that has not asked for so long is not well, and what it said of the past."""


@dataclass(frozen=True)
class PolicyStatus:
    """The numbers; lists are counted as they are published."""

    is_active: bool
    revision: int
    badwords: int
    blocklist: int
    day: Counts
    nodes: Sequence[NodePolicy]


def read_status(session: Session) -> PolicyStatus:
    """Return how the policy hook stands; a million list entries are not counted for it."""
    return PolicyStatus(
        is_active=read_policy_settings(session).is_active,
        revision=read_revision(session),
        badwords=_published(session, SectionKind.BADWORDS),
        blocklist=max(0, _published(session, SectionKind.LIST) - count(session, ALLOWLIST)),
        day=count_recent(session),
        nodes=read_nodes(session),
    )


def present_problems(session: Session) -> dict[str, str]:
    """Return what hooks that ask now say is wrong, by node; of a policy that is off nothing is."""
    if not read_policy_settings(session).is_active:
        return {}
    return {
        one.node: one.problem
        for one in read_nodes(session)
        if one.problem and one.seen_s is not None and one.seen_s <= QUIET_S
    }


def _published(session: Session, kind: SectionKind) -> int:
    entries = func.coalesce(func.sum(col(PolicySectionRow.entries)), 0)
    found = select(entries).where(col(PolicySectionRow.kind) == kind.value)
    return int(session.execute(found).scalar_one())
