"""How a node is described in a form, and what the form builds."""

from __future__ import annotations

from typing import Any, Final

from controlplane.api.nodes import NodeBody
from controlplane.core.spec import ClusterMode, NodeSpec
from controlplane.core.validation import VRRP_PRIORITIES
from controlplane.gui.forms import Field, FilledForm, Form, Option, Widget
from controlplane.gui.language import N_
from controlplane.gui.mail_lists import build_given

NAME: Final = Field(
    "name",
    N_("Name"),
    hint=N_("Lower-case letters, digits and hyphens; it cannot be changed later."),
    is_required=True,
    attributes={"autocomplete": "off", "maxlength": "63"},
)
FIELDS: Final = (
    Field(
        "address",
        N_("Address"),
        hint=N_("The host's own IP address, not the VIP; VRRP and SSH use it."),
        is_required=True,
        attributes={"autocomplete": "off", "maxlength": "64"},
    ),
    Field(
        "interface",
        N_("Interface"),
        hint=N_("As `ip address` names it on that host."),
        is_required=True,
        attributes={"autocomplete": "off", "maxlength": "15"},
    ),
    Field(
        "prefix_len",
        N_("Prefix length"),
        hint=N_("Of the host's network; empty: 24 for IPv4, 64 for IPv6."),
        widget=Widget.NUMBER,
        attributes={"min": "8", "max": "128"},
    ),
    Field(
        "cluster_mode",
        N_("Cluster mode"),
        hint=N_("Master and slave share the VIPs; standalone has no peer."),
        widget=Widget.SELECT,
        options=tuple(Option.of(mode.value) for mode in ClusterMode),
    ),
    Field(
        "vrrp_priority",
        N_("VRRP priority"),
        hint=N_("1 to 254, each node its own; the master has the highest."),
        widget=Widget.NUMBER,
        is_required=True,
        attributes={"min": "1", "max": "254"},
    ),
    Field(
        "hostname",
        N_("Host name"),
        hint=N_("What Postfix calls itself; empty: the name within the cluster's domain."),
        attributes={"autocomplete": "off", "maxlength": "255"},
    ),
    Field(
        "ssh_user",
        N_("SSH user"),
        hint=N_("Whom the peers log in as; root, for the receiver gives files to Postfix."),
        is_required=True,
        attributes={"autocomplete": "off", "maxlength": "32"},
    ),
    Field(
        "ssh_port",
        N_("SSH port"),
        hint=N_("Where sshd listens on the host."),
        widget=Widget.NUMBER,
        is_required=True,
        attributes={"min": "1", "max": "65535"},
    ),
)
NEW_NODE: Final = Form((NAME, *FIELDS), submit=N_("Add the node"))
NODE: Final = Form(FIELDS)


def suggested(nodes: list[NodeSpec]) -> dict[str, Any]:
    """Return what the form of a new node shows first: a mode and a priority that go together.

    Without a master that is one above all others, else a slave below them, or wherever is room.
    """
    group = [node for node in nodes if node.cluster_mode is not ClusterMode.STANDALONE]
    taken = {node.vrrp_priority for node in group}
    lowest, highest = VRRP_PRIORITIES
    free = set(range(lowest, highest + 1)) - taken
    if highest in taken or any(node.cluster_mode is ClusterMode.MASTER for node in group):
        mode, wanted = ClusterMode.SLAVE, min([150, *taken]) - 10
        free = {one for one in free if one < max(taken)} or free
    else:
        mode, wanted = ClusterMode.MASTER, max([140, *taken]) + 10
    priority = min(free, key=lambda one: abs(one - wanted), default=lowest)
    present = NodeBody(address="").model_dump(mode="json")
    return {**present, "cluster_mode": mode.value, "vrrp_priority": priority}


def build_node(form: FilledForm, name: str, *, is_maintenance: bool = False) -> NodeSpec:
    """Return the node of a form; raises Invalid beside the fields at fault."""
    for one in form.form.fields:
        if one.is_required:
            form.required(one.name)
    given = dict(build_given(form, NodeBody))
    return NodeSpec(name=name, **{**given, "is_maintenance": is_maintenance})
