"""The clauses of the ownership protocol, as parts of a world, and each of them left out.

`REAL` runs what ships. Every other value replaces one part by one that lacks a clause of DESIGN.md
section 4: the simulator has to notice each of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from nodeagent.core.decision import OWNERSHIP, Rule
from nodeagent.core.push_rules import PushOffer, PushVerdict, ReceiverState, judge_push
from tests.sim.control_plane_twin import ControlPlanePort
from tests.sim.guard_twin import SimGuard
from tests.sim.peers_twin import SimPeers
from tests.sim.port_twins import SimMirrors
from tests.sim.promises_twin import SimPromises


@dataclass(frozen=True)
class Clauses:
    """The parts that carry the protocol's clauses."""

    guard: type[SimGuard] = SimGuard
    control_plane: type[ControlPlanePort] = ControlPlanePort
    peers: type[SimPeers] = SimPeers
    mirrors: type[SimMirrors] = SimMirrors
    promises: type[SimPromises] = SimPromises
    ownership: tuple[Rule, ...] = OWNERSHIP
    judge_push: Callable[[ReceiverState, PushOffer], PushVerdict] = judge_push
    is_death_checked: bool = True
    is_restore_announced: bool = True


REAL: Final = Clauses()
