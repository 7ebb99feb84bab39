"""Heartbeats: many nodes report, renew and read in one transaction.

Theory of operation. All that is written for a group of heartbeats is written first, each kind in
one statement; then what their answers show is read once. That is what one transaction for each
would do, in some order, but for its costs: one commit, and one look at the cluster. A heartbeat
that the database refuses is rolled back alone; the others are taken one by one then. Nobody is
answered before the commit.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from sqlalchemy import select
from sqlalchemy.exc import DBAPIError
from sqlmodel import Session, col

from controlplane.errors import ControlPlaneError, Forbidden, Unauthenticated
from controlplane.store import agents, instance, leases, receipts, reports, ssh_keys
from controlplane.store.engine import Database, translated
from controlplane.store.facts import ClusterFacts, ClusterReader, StoredCluster
from controlplane.store.group_commit import GroupCommit
from controlplane.store.ownership_tables import AgentRow
from controlplane.store.views import Views, read_peers, remember_peers
from nodeagent.core import contract as wire
from nodeagent.core.lease import retired_keep_s


@dataclass(frozen=True)
class Heartbeat:
    """What `node` sent, and the public key (PEM) that its sender was proved by, if it was."""

    node: str
    request: wire.HeartbeatRequest
    proved_by: str | None = None


Outcome: TypeAlias = wire.HeartbeatAnswer | Exception

_REFUSALS: Final = (ControlPlaneError, DBAPIError, ValueError, OverflowError)
"""The last two are Python's own, of values that a driver cannot express."""


class Heartbeats:
    """Takes heartbeats in; one for all of a process, so that it knows what did not change."""

    def __init__(self, database: Database, facts: ClusterReader) -> None:
        self._database = database
        self._facts = facts
        self._peers = remember_peers()

    def take(self, beats: Sequence[Heartbeat]) -> list[Outcome]:
        """Take all in one transaction; return for each its answer, or why it was refused."""
        with self._database.write() as session:
            try:
                with session.begin_nested():
                    return self._take(session, beats)
            except _REFUSALS:
                if len(beats) == 1:
                    raise
            return [self._take_alone(session, beat) for beat in beats]

    def _take_alone(self, session: Session, beat: Heartbeat) -> Outcome:
        try:
            with translated(), session.begin_nested():
                return self._take(session, [beat])[0]
        except _REFUSALS as error:
            return error

    def _take(self, session: Session, beats: Sequence[Heartbeat]) -> list[Outcome]:
        rows = _read_agents(session, beats)
        refused = {
            place: error
            for place, beat in enumerate(beats)
            if (error := _why_refused(beat, rows.get(beat.node))) is not None
        }
        heard = [beat for place, beat in enumerate(beats) if place not in refused]
        answers = iter(self._answers(session, heard, rows))
        return [refused.get(place) or next(answers) for place in range(len(beats))]

    def _answers(
        self, session: Session, beats: Sequence[Heartbeat], rows: dict[str, AgentRow]
    ) -> list[wire.HeartbeatAnswer]:
        facts = self._facts.cluster(session)
        reports.store_reports(session, [(beat.node, beat.request.report) for beat in beats])
        for beat in beats:
            if beat.node in rows:
                ssh_keys.take_over(session, rows[beat.node], beat.request)
            if beat.request.events:
                reports.store_events(session, beat.node, beat.request.events)
        if not instance.ensure_instance(session).is_recovering:
            _note_generations(session, beats)
        claims = [(beat.node, beat.request.generation) for beat in beats if beat.request.renew]
        renewed = leases.renew(session, claims, facts.timings.lease_duration_s)
        peers = read_peers(session, facts, self._peers)
        views = Views(session, facts, peers, [(beat.node, beat.request) for beat in beats])
        return [
            views.answer(
                beat.node,
                beat.request,
                renewed=beat.request.renew and (beat.node, beat.request.generation) in renewed,
                acknowledged_events=reports.event_ids(beat.request.events),
                removable_receipts=_removable(session, facts, beat.request),
                **_wanted_key(session, rows.get(beat.node)),
            )
            for beat in beats
        ]


def gather_heartbeats(database: Database) -> GroupCommit[Heartbeat, Outcome]:
    """Return what takes in the heartbeats that one process is sent."""
    return GroupCommit(Heartbeats(database, StoredCluster()).take)


def _why_refused(beat: Heartbeat, row: AgentRow | None) -> ControlPlaneError | None:
    if beat.proved_by is None:
        return None
    try:
        key_pem = agents.active_key(beat.node, row)
    except (Unauthenticated, Forbidden) as error:
        return error
    is_current = key_pem == beat.proved_by
    return None if is_current else Unauthenticated(f"{beat.node} has another key by now.")


def _read_agents(session: Session, beats: Sequence[Heartbeat]) -> dict[str, AgentRow]:
    names = {beat.node for beat in beats}
    rows = session.execute(select(AgentRow).where(col(AgentRow.name).in_(names))).scalars()
    return {row.name: row for row in rows}


def _note_generations(session: Session, beats: Sequence[Heartbeat]) -> None:
    """Note who has seen a generation that this database has not: it is older than the cluster."""
    known = leases.known_generations(session, {beat.node for beat in beats})
    for beat in beats:
        node, seen = beat.node, max(beat.request.generation, beat.request.report.generation)
        is_news = seen > known.get(node, seen)
        if is_news and leases.note_seen_generation(session, node, seen):
            text = (
                f"{node} has seen generation {seen}, this database has not: it is older than the "
                "cluster; run `relay-controlplane restore --adopt-database`."
            )
            data = {"generation": seen}
            reports.add_event(session, "generation-below-seen", text, node=node, data=data)


def _wanted_key(session: Session, row: AgentRow | None) -> dict[str, str | None]:
    """Return the fields of an answer that say which SSH key shall go, and which shall come."""
    if row is None or row.ssh_replace is None:
        return {}
    return {"ssh_replace": row.ssh_replace, "ssh_replace_by": ssh_keys.to_use(session, row.name)}


def _removable(
    session: Session, facts: ClusterFacts, request: wire.HeartbeatRequest
) -> tuple[int, ...]:
    if not request.kept_receipts or instance.ensure_instance(session).is_recovering:
        return ()
    return receipts.removable(session, request.kept_receipts, retired_keep_s(facts.timings))
