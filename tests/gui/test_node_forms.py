"""The form of a new node: what it suggests can be saved as it stands."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controlplane.core.spec import ClusterMode, ClusterSpec, NodeSpec, VipSpec
from controlplane.core.validation import validate
from controlplane.errors import Invalid
from controlplane.gui.node_forms import NEW_NODE, build_node, suggested

MASTER, SLAVE, ALONE = ClusterMode.MASTER, ClusterMode.SLAVE, ClusterMode.STANDALONE
VIP = VipSpec(address="198.51.100.254", virtual_router_id=51)


def nodes_of(*said: tuple[ClusterMode, int]) -> list[NodeSpec]:
    """Return nodes with these modes and priorities."""
    return [
        NodeSpec(
            name=f"node-{number}",
            address=f"198.51.100.{number}",
            interface="eth0",
            cluster_mode=mode,
            vrrp_priority=priority,
        )
        for number, (mode, priority) in enumerate(said, 1)
    ]


@pytest.mark.parametrize(
    ("present", "mode", "priority"),
    [
        ([], MASTER, 150),
        ([(MASTER, 150)], SLAVE, 140),
        ([(MASTER, 150), (SLAVE, 140)], SLAVE, 130),
        ([(MASTER, 254)], SLAVE, 140),
        ([(MASTER, 9)], SLAVE, 1),
        ([(MASTER, 150), (SLAVE, 1)], SLAVE, 2),
        ([(MASTER, 3), (SLAVE, 1), (SLAVE, 2)], SLAVE, 4),
        ([(SLAVE, 100)], MASTER, 150),
        ([(SLAVE, 200)], MASTER, 210),
        ([(SLAVE, 250)], MASTER, 254),
        ([(SLAVE, 254)], SLAVE, 140),
        ([(ALONE, 150)], MASTER, 150),
    ],
)
def test_a_new_node_is_the_master_or_comes_after_the_others(
    present: list[tuple[ClusterMode, int]], mode: ClusterMode, priority: int
) -> None:
    """With room between, so that one can be put there later; a standalone node has no rank."""
    shown = suggested(nodes_of(*present))
    assert (shown["cluster_mode"], shown["vrrp_priority"]) == (mode.value, priority)


@st.composite
def groups(draw: st.DrawFn) -> list[NodeSpec]:
    """Return nodes that a cluster can have, often with priorities at an end of the range."""
    numbers = st.integers(1, 254) | st.sampled_from((1, 2, 140, 150, 253, 254))
    priorities = sorted(draw(st.sets(numbers, max_size=5)))
    modes = [SLAVE] * len(priorities)
    if priorities and draw(st.booleans()):
        modes[-1] = MASTER
    alone = draw(st.lists(numbers, max_size=1))
    return nodes_of(*zip(modes, priorities, strict=True), *((ALONE, one) for one in alone))


def build(nodes: list[NodeSpec]) -> NodeSpec:
    """Return the node that a form makes in which only the name and the address were typed."""
    shown = NEW_NODE.filled({**suggested(nodes), "name": "new", "address": "198.51.100.99"})
    return build_node(NEW_NODE.posted({**shown.values, "interface": ["eth0"]}), "new")


@given(groups())
def test_what_is_suggested_is_taken(nodes: list[NodeSpec]) -> None:
    """Whatever nodes there are: only a master with nobody's room below it is in the way."""
    problems = validate(ClusterSpec(nodes=(*nodes, build(nodes)), vips=(VIP,)))
    taken = [node.vrrp_priority for node in nodes if node.cluster_mode is not ALONE]
    if taken != list(range(1, len(taken) + 1)) or not taken:
        assert problems == ()
    assert not any(one.field.startswith(f"nodes.{len(nodes)}.") for one in problems)


def test_a_full_range_suggests_what_will_be_refused_in_words() -> None:
    """There is no priority left; the form still opens."""
    nodes = nodes_of(*((SLAVE, one) for one in range(1, 254)), (MASTER, 254))
    assert suggested(nodes)["vrrp_priority"] == 1


@pytest.mark.parametrize("name", ["address", "interface", "vrrp_priority", "ssh_user", "ssh_port"])
def test_a_field_that_is_needed_is_asked_for(name: str) -> None:
    """Beside it, before anything is built of the others."""
    shown = NEW_NODE.filled({**suggested([]), "name": "new", "address": "198.51.100.99"})
    typed = NEW_NODE.posted({**shown.values, "interface": ["eth0"], name: [""]})
    with pytest.raises(Invalid) as refused:
        build_node(typed, "new")
    assert refused.value.fields == {name: "Fill in this field."}


def test_maintenance_is_kept_beside_the_form() -> None:
    """It has a switch of its own; saving the form does not end it."""
    shown = NEW_NODE.filled({**suggested([]), "name": "new", "address": "198.51.100.99"})
    typed = NEW_NODE.posted({**shown.values, "interface": ["eth0"]})
    assert build_node(typed, "new", is_maintenance=True).is_maintenance
    assert not build_node(typed, "new").is_maintenance
