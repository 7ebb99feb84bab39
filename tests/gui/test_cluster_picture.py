"""The picture of the cluster: it draws what is known, and no more; every word is escaped."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations
from typing import Any
from xml.etree import ElementTree as ET

import pytest

from controlplane.core.situation import Adoption, KnownMirror, Situation
from controlplane.gui.cluster_picture import NODE_WIDTH, ArrowKind, Picture, draw
from controlplane.gui.language import Localizer
from controlplane.gui.templating import environment
from nodeagent.core.contract import SwitchoverWish
from tests.core.situations import (
    NOW_S,
    VIP,
    active_report,
    healthy,
    known_node,
    known_push,
    known_report,
    with_node,
    with_report,
)

SVG = "{http://www.w3.org/2000/svg}"
SECOND_VIP = "198.51.100.101"


def written(picture: Picture, language: str = "en") -> tuple[ET.Element, str]:
    """Return the SVG as parsed XML, and its words."""
    template = environment(language).get_template("picture.html")
    text = str(template.module.draw(picture, Localizer(language)))  # type: ignore[attr-defined]
    found = re.search(r"<svg.*?</svg>", text, re.DOTALL)
    assert found is not None
    tree = ET.fromstring(found[0].replace("<svg", '<svg xmlns="http://www.w3.org/2000/svg"', 1))
    return tree, " ".join("".join(tree.itertext()).split())


def three(**values: Any) -> Situation:
    """Return three nodes and two VIPs; node-a pushes to both others, node-c is active too."""
    pushes = (known_push(), known_push(peer="node-c"))
    return healthy(
        vips=(VIP, SECOND_VIP),
        nodes=(
            known_node("node-a", active_report(pushes=pushes)),
            known_node("node-b", known_report()),
            known_node("node-c", active_report(holds_vips=(SECOND_VIP,), pushes=())),
        ),
        **values,
    )


def test_a_pair_is_drawn_with_what_it_says() -> None:
    """Roles, holders, leases with generations, what waits, and the push with its size."""
    mirror = KnownMirror(queue="node-a", generation=3, sequence=9, messages=42)
    picture = draw(with_report(healthy(), "node-b", mirrors=(mirror,)))
    _, words = written(picture)
    for word in (
        "ACTIVE",
        "STANDBY",
        VIP,
        "lease: node-a, generation 3",
        "42 messages wait",
        "copy of node-a: 42",
    ):
        assert word in words, word
    assert re.search(r"42 messages, \d", words)
    (arrow,) = picture.arrows
    assert (arrow.kind, arrow.source, arrow.destination, arrow.tone) == (
        ArrowKind.PUSH,
        "node-a",
        "node-b",
        "good",
    )
    assert len(picture.lines) == 1


def test_a_silent_node_is_drawn_as_unknown() -> None:
    """Its box and its arrows are broken lines, and it holds nothing."""
    picture = draw(with_node(healthy(), "node-a", is_fresh=False, seen_at_s=NOW_S - 90))
    tree, words = written(picture)
    assert "unknown, last said ACTIVE" in words
    assert "held by nobody that is known" in words
    assert "waiting: unknown" in words
    assert (picture.lines, picture.arrows[0].is_present) == ((), False)
    assert len(tree.findall(f".//{SVG}path[@class='pic-dashed']")) == 1


def test_a_vip_on_two_nodes_has_two_lines() -> None:
    """Drawn as what should not be."""
    picture = draw(with_report(healthy(), "node-b", holds_vips=(VIP,)))
    assert {line.tone for line in picture.lines} == {"bad"}
    assert len(picture.lines) == 2
    assert picture.vips[0].holders == ("node-a", "node-b")


def test_an_adoption_and_a_switchover_are_drawn() -> None:
    """While they are under way, beside the push, on lanes of their own."""
    situation = healthy(
        adoptions=(Adoption("node-a", "node-b", 4, 40, NOW_S - 2),),
        switchover=SwitchoverWish(id=1, source="node-a", destination="node-b"),
        switchover_at_s=NOW_S - 3,
    )
    picture = draw(situation)
    _, words = written(picture)
    assert "adopts 40 messages" in words
    assert "switchover" in words
    assert len({arrow.path for arrow in picture.arrows}) == 3
    assert len({arrow.label_y for arrow in picture.arrows}) == 3


def test_an_old_copy_has_another_tone() -> None:
    """The age beside it says how old."""
    old = with_report(healthy(), "node-a", pushes=(known_push(at_s=NOW_S - 31),))
    assert draw(old).arrows[0].tone == "warn"


def test_three_nodes_and_two_vips_stand_apart() -> None:
    """No two boxes overlap, all lie within the picture, and a far arrow bends below the row."""
    picture = draw(three())
    for boxes in (picture.nodes, picture.vips):
        for one, other in combinations(boxes, 2):
            assert abs(one.x - other.x) >= NODE_WIDTH
        assert all(0 <= box.x <= picture.width - NODE_WIDTH for box in boxes)
    near, far = picture.arrows
    assert "C" in far.path
    assert "C" not in near.path
    assert all(0 < arrow.label_y < picture.height for arrow in picture.arrows)
    assert picture.height > draw(healthy()).height
    assert len(picture.lines) == 2


@pytest.mark.parametrize("situation", [healthy(nodes=(), vips=(), leases=()), healthy(), three()])
@pytest.mark.parametrize("language", ["en", "de"])
def test_whatever_is_drawn_is_well_formed_and_described(
    situation: Situation, language: str
) -> None:
    """With a title and a description that name every node."""
    tree, _ = written(draw(situation), language)
    assert tree.get("role") == "img"
    title, description = tree.find(f"{SVG}title"), tree.find(f"{SVG}desc")
    assert title is not None
    assert title.text
    assert description is not None
    for node in situation.nodes:
        assert node.name in (description.text or "")


def test_no_word_becomes_markup() -> None:
    """Names are checked at the door; the picture does not rely on it."""
    hostile = '"><script>alert(1)</script>&'
    situation = healthy()
    nodes = tuple(replace(one, address=hostile) for one in situation.nodes)
    tree, words = written(draw(replace(situation, nodes=nodes)))
    assert '"><script>alert(1)</sc' in words
    assert tree.findall(f".//{SVG}script") == []


def test_an_arrow_to_a_node_that_is_gone_is_not_drawn() -> None:
    """There is nowhere for it to point."""
    assert draw(with_report(healthy(), "node-a", pushes=(known_push(peer="gone"),))).arrows == ()
