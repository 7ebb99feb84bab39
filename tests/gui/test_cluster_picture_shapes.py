"""The shapes of the cluster's picture, for whatever cluster: apart, inside, from box to box."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.situation import Adoption, Situation
from controlplane.gui.cluster_picture import (
    NODE_HEIGHT,
    NODE_TOP,
    NODE_WIDTH,
    VIP_HEIGHT,
    VIP_TOP,
    VIP_WIDTH,
    Arrow,
    ArrowKind,
    Picture,
    draw,
    tone_of,
)
from nodeagent.core.contract import SwitchoverWish
from tests.core.situations import (
    NOW_S,
    active_report,
    healthy,
    known_node,
    known_push,
    known_report,
)


@st.composite
def clusters(draw_: st.DrawFn) -> Situation:
    """Return clusters of up to five nodes and three VIPs, with mail on its way between any."""
    names = [f"node-{letter}" for letter in "abcde"[: draw_(st.integers(1, 5))]]
    vips = tuple(f"198.51.100.{number}" for number in range(100, 100 + draw_(st.integers(0, 3))))
    peers = st.lists(st.sampled_from([*names, "gone"]), max_size=3, unique=True)
    nodes = []
    for name in names:
        report = active_report(
            holds_vips=tuple(draw_(st.lists(st.sampled_from(vips), unique=True))) if vips else (),
            pushes=tuple(
                replace(known_push(peer=peer), at_s=NOW_S - draw_(st.sampled_from((1, 999))))
                for peer in draw_(peers)
                if peer != name
            ),
        )
        nodes.append(known_node(name, draw_(st.sampled_from((report, known_report(), None)))))
    pair = st.lists(st.sampled_from([*names, "gone"]), min_size=2, max_size=2)
    moves = draw_(st.lists(pair, max_size=2))
    wish = draw_(st.none() | pair)
    return healthy(
        nodes=tuple(nodes),
        vips=vips,
        leases=(),
        adoptions=tuple(
            Adoption(queue, holder, generation=4, messages=3, committed_at_s=NOW_S - 5)
            for queue, holder in moves
        ),
        switchover=(
            None
            if wish is None or wish[0] == wish[1]
            else SwitchoverWish(id=1, source=wish[0], destination=wish[1])
        ),
    )


def numbers(path: str) -> list[int]:
    """Return all coordinates of a path."""
    return [int(number) for number in re.findall(r"-?\d+", path)]


def ends_of(arrow: Arrow) -> tuple[int, int]:
    """Return where an arrow begins and ends, from left to right as it points."""
    found = numbers(arrow.path)
    return found[0], found[2] if "H" in arrow.path else found[-2]


def place_of(picture: Picture, name: str) -> range:
    """Return the columns of a node's box, its edge and an arrow's head included."""
    (box,) = (box for box in picture.nodes if box.node.name == name)
    return range(box.x - 6, box.x + NODE_WIDTH + 7)


@given(clusters())
def test_boxes_stand_apart_and_inside(situation: Situation) -> None:
    """In the order of the lists, with the same room at both sides."""
    picture = draw(situation)
    for boxes, width in ((picture.nodes, NODE_WIDTH), (picture.vips, VIP_WIDTH)):
        assert all(one.x + width < other.x for one, other in pairwise(boxes))
        if boxes:
            assert boxes[0].x > 0
            assert abs(boxes[0].x - (picture.width - boxes[-1].x - width)) <= 1
    assert [box.node for box in picture.nodes] == list(situation.nodes)
    assert [box.address for box in picture.vips] == list(situation.vips)
    assert VIP_TOP + VIP_HEIGHT < NODE_TOP
    assert picture.height > NODE_TOP + NODE_HEIGHT


@given(clusters())
def test_arrows_go_from_their_source_to_their_destination(situation: Situation) -> None:
    """All of them inside the picture, with a label, and between nodes that are there."""
    picture = draw(situation)
    names = {node.name for node in situation.nodes}
    for arrow in picture.arrows:
        assert {arrow.source, arrow.destination} <= names
        assert arrow.source != arrow.destination
        begin, end = ends_of(arrow)
        assert begin in place_of(picture, arrow.source)
        assert end in place_of(picture, arrow.destination)
        assert 0 < arrow.label_x < picture.width
        assert NODE_TOP < arrow.label_y < picture.height
        assert max(numbers(arrow.path)[1::2]) <= max(picture.width, picture.height)


@given(clusters())
def test_no_two_arrows_hide_each_other(situation: Situation) -> None:
    """Each kind and direction has a lane or a bend of its own, and a place for its label."""
    arrows = {(one.kind, one.source, one.destination): one for one in draw(situation).arrows}
    assert len({one.path for one in arrows.values()}) == len(arrows)
    assert len({(one.label_x, one.label_y) for one in arrows.values()}) == len(arrows)


@pytest.mark.parametrize(("source", "destination"), [("node-a", "node-b"), ("node-b", "node-a")])
def test_a_switchover_does_not_hide_its_adoption(source: str, destination: str) -> None:
    """Both go the same way at the same time, in either direction."""
    adoption = Adoption(source, destination, generation=4, messages=3, committed_at_s=NOW_S)
    wish = SwitchoverWish(id=1, source=source, destination=destination)
    drawn = draw(healthy(adoptions=(adoption,), switchover=wish)).arrows
    lanes = [numbers(arrow.path)[1] for arrow in drawn]
    assert {ArrowKind.ADOPTION, ArrowKind.SWITCHOVER} <= {arrow.kind for arrow in drawn}
    assert len(set(lanes)) == len(lanes)
    assert all(NODE_TOP < lane < NODE_TOP + NODE_HEIGHT for lane in lanes)


@given(clusters())
def test_a_vip_has_a_line_to_each_that_holds_it(situation: Situation) -> None:
    """Good where it is one; none, or several, is what somebody has to look at."""
    picture = draw(situation)
    assert len(picture.lines) == sum(len(box.holders) for box in picture.vips)
    for box in picture.vips:
        assert box.tone == ("good" if len(box.holders) == 1 else "bad")
    tones = [line.tone for line in picture.lines]
    assert tones == [box.tone for box in picture.vips for _holder in box.holders]
    for line in picture.lines:
        assert numbers(line.path)[1] == VIP_TOP + VIP_HEIGHT
        assert numbers(line.path)[-1] == NODE_TOP


@pytest.mark.parametrize(
    ("node_report", "is_fresh", "tone"),
    [
        (known_report(), True, "good"),
        (known_report(is_proven=False), True, "warn"),
        (known_report(config_error="No."), True, "warn"),
        (known_report(), False, "bad"),
        (None, False, "unknown"),
    ],
)
def test_a_node_has_the_tone_of_what_is_known(
    node_report: object, is_fresh: bool, tone: str
) -> None:
    """A node that was never heard is unknown, one that fell silent is bad."""
    node = known_node("node-a", node_report, is_fresh=is_fresh)
    assert tone_of(node) == tone
    (box, *_others) = draw(healthy(nodes=(node,), leases=())).nodes
    assert box.tone == tone
