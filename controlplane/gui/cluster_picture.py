"""Where everything stands in the picture of the cluster: boxes, lines and arrows, no words.

Theory of operation. The picture is drawn by `templates/picture.html` from what `draw` returns; both
are pure. VIPs stand above, nodes in one row below, each wide enough for its words. Neighbours'
arrows run between their boxes, one lane for each kind, so that none hides another; those that pass
over a node bend below the row. What a silent node said last is drawn broken: it is not the present.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from controlplane.core.attention_finders import COPY_AGE_LEAST_S, COPY_AGE_PUSHES
from controlplane.core.situation import KnownLease, KnownNode, KnownPush, Situation

MARGIN: Final = 20
NODE_WIDTH: Final = 230
NODE_HEIGHT: Final = 150
NODE_TOP: Final = 120
GAP: Final = 190
VIP_WIDTH: Final = 230
VIP_HEIGHT: Final = 44
VIP_TOP: Final = 12
VIP_GAP: Final = 30
LANES: Final = {
    ("push", True): 28,
    ("push", False): 56,
    ("adoption", True): 84,
    ("adoption", False): 112,
}
SWITCHOVER_LANE: Final = 138
BENDS: Final = {"push": 3, "adoption": 2, "switchover": 1}
"""How deep an arrow bends, in thirds; and the less the further from the middle it stands."""
BEND: Final = 34
LABEL_ABOVE: Final = 7


class ArrowKind(StrEnum):
    """What goes from one node to another."""

    PUSH = "push"
    ADOPTION = "adoption"
    SWITCHOVER = "switchover"


@dataclass(frozen=True)
class VipBox:
    """One VIP; nobody, one node or, which should not be, several hold it."""

    address: str
    holders: tuple[str, ...]
    x: int
    tone: str


@dataclass(frozen=True)
class NodeBox:
    """One node with the lease of its queue."""

    node: KnownNode
    lease: KnownLease | None
    x: int
    tone: str


@dataclass(frozen=True)
class Line:
    """From a VIP to a node that holds it."""

    path: str
    tone: str


@dataclass(frozen=True)
class Arrow:
    """Mail on its way from one node to another; `at_s` is of the snapshot or of the begin."""

    kind: ArrowKind
    source: str
    destination: str
    messages: int | None
    at_s: float | None
    is_present: bool
    tone: str
    path: str
    label_x: int
    label_y: int


@dataclass(frozen=True)
class Picture:
    """Everything that is drawn, in units of the SVG's own."""

    width: int
    height: int
    vips: tuple[VipBox, ...]
    nodes: tuple[NodeBox, ...]
    lines: tuple[Line, ...]
    arrows: tuple[Arrow, ...]


def draw(situation: Situation) -> Picture:
    """Return the picture of a situation."""
    count, vips = max(1, len(situation.nodes)), len(situation.vips)
    nodes_width = count * NODE_WIDTH + (count - 1) * GAP
    vips_width = vips * VIP_WIDTH + max(0, vips - 1) * VIP_GAP
    width = max(nodes_width, vips_width) + 2 * MARGIN
    places = {
        node.name: (width - nodes_width) // 2 + number * (NODE_WIDTH + GAP)
        for number, node in enumerate(situation.nodes)
    }
    boxes = tuple(
        VipBox(
            address,
            situation.holders_of(address),
            (width - vips_width) // 2 + number * (VIP_WIDTH + VIP_GAP),
            "good" if len(situation.holders_of(address)) == 1 else "bad",
        )
        for number, address in enumerate(situation.vips)
    )
    arrows = tuple(_arrows(situation, places))
    bends = max((_span(arrow, places) for arrow in arrows), default=1) - 1
    return Picture(
        width=width,
        height=NODE_TOP + NODE_HEIGHT + MARGIN + bends * BEND * 2,
        vips=boxes,
        nodes=tuple(
            NodeBox(node, situation.lease_of(node.name), places[node.name], tone_of(node))
            for node in situation.nodes
        ),
        lines=tuple(_lines(boxes, places)),
        arrows=arrows,
    )


def tone_of(node: KnownNode) -> str:
    """Return a node's tone; the words beside it say the same."""
    report = node.present
    if report is None:
        return "bad" if node.report is not None else "unknown"
    return "good" if report.is_proven and report.config_error is None else "warn"


def _lines(vips: tuple[VipBox, ...], places: dict[str, int]) -> Iterator[Line]:
    for vip in vips:
        x, bottom = vip.x + VIP_WIDTH // 2, VIP_TOP + VIP_HEIGHT
        middle = (bottom + NODE_TOP) // 2
        for holder in vip.holders:
            to = places[holder] + NODE_WIDTH // 2
            yield Line(f"M{x} {bottom} C{x} {middle} {to} {middle} {to} {NODE_TOP}", vip.tone)


def _arrows(situation: Situation, places: dict[str, int]) -> Iterator[Arrow]:
    limit_s = max(COPY_AGE_LEAST_S, COPY_AGE_PUSHES * situation.push_interval_s)
    for node in situation.nodes:
        for push in node.report.pushes if node.report is not None else ():
            if push.peer in places:
                is_old = situation.now_s - push.at_s > limit_s
                yield _push(node, push, places, is_old=is_old)
    for one in situation.adoptions:
        if one.queue in places and one.holder in places and one.queue != one.holder:
            path, x, y = _route(ArrowKind.ADOPTION, one.queue, one.holder, places)
            yield Arrow(
                ArrowKind.ADOPTION,
                one.queue,
                one.holder,
                one.messages,
                one.committed_at_s,
                is_present=True,
                tone="warn",
                path=path,
                label_x=x,
                label_y=y,
            )
    wish = situation.switchover
    if wish is not None and wish.source in places and wish.destination in places:
        path, x, y = _route(ArrowKind.SWITCHOVER, wish.source, wish.destination, places)
        yield Arrow(
            ArrowKind.SWITCHOVER,
            wish.source,
            wish.destination,
            None,
            situation.switchover_at_s,
            is_present=True,
            tone="info",
            path=path,
            label_x=x,
            label_y=y,
        )


def _push(node: KnownNode, push: KnownPush, places: dict[str, int], *, is_old: bool) -> Arrow:
    path, x, y = _route(ArrowKind.PUSH, node.name, push.peer, places)
    tone = "unknown" if not node.is_fresh else "warn" if is_old else "good"
    return Arrow(
        ArrowKind.PUSH,
        node.name,
        push.peer,
        push.messages,
        push.at_s,
        is_present=node.is_fresh,
        tone=tone,
        path=path,
        label_x=x,
        label_y=y,
    )


def _span(arrow: Arrow, places: dict[str, int]) -> int:
    return abs(places[arrow.destination] - places[arrow.source]) // (NODE_WIDTH + GAP)


def _route(
    kind: ArrowKind, source: str, destination: str, places: dict[str, int]
) -> tuple[str, int, int]:
    """Return an arrow's path, and where the middle of its label stands."""
    begin, end = places[source], places[destination]
    is_forward = begin < end
    middle = (begin + end + NODE_WIDTH) // 2
    if abs(end - begin) == NODE_WIDTH + GAP:
        y = NODE_TOP + LANES.get((kind.value, is_forward), SWITCHOVER_LANE)
        x1, x2 = (begin + NODE_WIDTH, end - 6) if is_forward else (begin, end + NODE_WIDTH + 6)
        return f"M{x1} {y} H{x2}", middle, y - LABEL_ABOVE
    span = abs(end - begin) // (NODE_WIDTH + GAP)
    bottom = NODE_TOP + NODE_HEIGHT
    low = bottom + (span - 1) * BEND * 2 * BENDS[kind.value] // 3
    shift = (4 - BENDS[kind.value]) * (12 if is_forward else -12)
    x1, x2 = begin + NODE_WIDTH // 2 + shift, end + NODE_WIDTH // 2 + shift
    path = f"M{x1} {bottom} C{x1} {low} {x2} {low} {x2} {bottom + 6}"
    return path, middle + shift, bottom + (low - bottom) * 3 // 4 - LABEL_ABOVE
