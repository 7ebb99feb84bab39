"""Nodes and VIPs: list, add, change, remove, enrol, revoke."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from controlplane.relayctl.connection import connect, fetch, path_of, remove
from controlplane.relayctl.errors import Misused
from controlplane.relayctl.output import (
    Columns,
    JsonFlag,
    age,
    given,
    print_done,
    print_facts,
    print_json,
    print_list,
)

nodes = typer.Typer(help="The relay hosts.", no_args_is_help=True)
vips = typer.Typer(help="The virtual addresses.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="The node's name.")]
Address = Annotated[str | None, typer.Option(help="The node's own address.")]
Interface = Annotated[str | None, typer.Option(help="Its network interface.")]
Priority = Annotated[int | None, typer.Option(help="VRRP priority, 1 to 254.")]
Mode = Annotated[str | None, typer.Option(help="standalone, master or slave.")]
PrefixLen = Annotated[int | None, typer.Option(help="Prefix length of its network.")]
SshUser = Annotated[str | None, typer.Option(help="User for SSH between the nodes.")]
SshPort = Annotated[int | None, typer.Option(help="Port for SSH between the nodes.")]
Hostname = Annotated[str | None, typer.Option(help="Postfix's myhostname.")]
Abandon = Annotated[
    bool, typer.Option("--abandon-queue", help="Leave the mail on its disk, which nobody adopts.")
]
Maintenance = Annotated[
    bool | None, typer.Option("--maintenance/--no-maintenance", help="Keep it off the VIPs.")
]


@nodes.command("list")
def list_nodes(*, as_json: JsonFlag = False) -> None:
    """List all nodes with what they last reported."""
    print_list(fetch("/nodes"), _NODE_COLUMNS, "There is no node yet.", as_json=as_json)


def _role(view: dict[str, Any]) -> str:
    status = view["status"]
    silent = "enrolled" if status["is_enrolled"] else "not enrolled"
    return str((status["report"] or {}).get("role", silent))


def _config(view: dict[str, Any]) -> object:
    wanted = view["status"]["assigned_version"]
    live = (view["status"]["report"] or {}).get("config_version")
    return live if live == wanted else f"{wanted} wanted, {live or 'none'} live"


_NODE_COLUMNS: Columns = {
    "NODE": lambda view: view["node"]["name"],
    "ADDRESS": lambda view: view["node"]["address"],
    "MODE": lambda view: view["node"]["cluster_mode"],
    "PRIORITY": lambda view: view["node"]["vrrp_priority"],
    "ROLE": _role,
    "VIPS": lambda view: (view["status"]["report"] or {}).get("holds_vips"),
    "CONFIG": _config,
    "SEEN": lambda view: age(view["status"]["last_seen_s"]),
}


@nodes.command("show")
def show_node(name: Name, *, as_json: JsonFlag = False) -> None:
    """Show one node."""
    view = fetch(path_of("nodes", name))
    if as_json:
        print_json(view)
    else:
        status = {key: value for key, value in view["status"].items() if key != "report"}
        print_facts({**view["node"], **status, **(view["status"]["report"] or {})})


@nodes.command("add")
def add_node(
    name: Name,
    address: Annotated[str, typer.Option(help="The node's own address.")],
    *,
    interface: Interface = None,
    priority: Priority = None,
    mode: Mode = None,
    prefix_len: PrefixLen = None,
    ssh_user: SshUser = None,
    ssh_port: SshPort = None,
    hostname: Hostname = None,
    as_json: JsonFlag = False,
) -> None:
    """Describe a new node; its token comes with `nodes token`."""
    body = given(
        address=address,
        interface=interface,
        vrrp_priority=priority,
        cluster_mode=mode,
        prefix_len=prefix_len,
        ssh_user=ssh_user,
        ssh_port=ssh_port,
        hostname=hostname,
    )
    with connect() as client:
        if name in {view["node"]["name"] for view in client.get("/nodes")}:
            raise Misused(f"There is a node {name} already; change it with: relayctl nodes set.")
        print_done(client.put(path_of("nodes", name), body), f"Added {name}.", as_json=as_json)


@nodes.command("set")
def set_node(
    name: Name,
    *,
    address: Address = None,
    interface: Interface = None,
    priority: Priority = None,
    mode: Mode = None,
    prefix_len: PrefixLen = None,
    ssh_user: SshUser = None,
    ssh_port: SshPort = None,
    hostname: Hostname = None,
    maintenance: Maintenance = None,
    as_json: JsonFlag = False,
) -> None:
    """Change a node; what is left out stays."""
    changes = given(
        address=address,
        interface=interface,
        vrrp_priority=priority,
        cluster_mode=mode,
        prefix_len=prefix_len,
        ssh_user=ssh_user,
        ssh_port=ssh_port,
        hostname=hostname,
        is_maintenance=maintenance,
    )
    with connect() as client:
        if changes.keys() == {"is_maintenance"}:
            answer = client.put(path_of("nodes", name, "maintenance"), changes)
        else:
            present = client.get(path_of("nodes", name))["node"]
            present.pop("name")
            answer = client.put(path_of("nodes", name), {**present, **changes})
    print_done(answer, f"Changed {name}.", as_json=as_json)


@nodes.command("remove")
def remove_node(name: Name, *, abandon_queue: Abandon = False, as_json: JsonFlag = False) -> None:
    """Remove a node and revoke its key; refused while mail waits there that nobody would adopt."""
    remove("nodes", name, as_json=as_json, abandon_queue=abandon_queue)


@nodes.command("token")
def make_token(name: Name, *, as_json: JsonFlag = False) -> None:
    """Make a one-time token for `relay-agent enrol` on the node; it works for 24 hours."""
    with connect() as client:
        issued = client.post(path_of("nodes", name, "enrolment-token"))
    print_done(issued, issued["token"], as_json=as_json)


@nodes.command("revoke")
def revoke_node(name: Name, *, as_json: JsonFlag = False) -> None:
    """Refuse every further request of the node until it is enrolled anew."""
    with connect() as client:
        client.post(path_of("nodes", name, "revoke-key"))
    print_done({"revoked": name}, f"The key of {name} is revoked.", as_json=as_json)


@nodes.command("strike")
def strike_node(name: Name, *, as_json: JsonFlag = False) -> None:
    """Give up on a node that is gone for good, so that a restored control plane waits no longer."""
    with connect() as client:
        client.post(path_of("nodes", name, "strike"))
    print_done({"struck": name}, f"{name} is struck off.", as_json=as_json)


@vips.command("list")
def list_vips(*, as_json: JsonFlag = False) -> None:
    """List all VIPs."""
    columns: Columns = {
        "VIP": "address",
        "ROUTER ID": "virtual_router_id",
        "PREFIX LEN": "prefix_len",
        "INTERFACE": "interface",
    }
    print_list(fetch("/vips"), columns, "There is no VIP yet.", as_json=as_json)


@vips.command("add")
def add_vip(
    address: Annotated[str, typer.Argument(help="The virtual address.")],
    router_id: Annotated[int, typer.Option(help="VRRP router id, 1 to 255.")],
    *,
    prefix_len: PrefixLen = None,
    interface: Interface = None,
    as_json: JsonFlag = False,
) -> None:
    """Create or replace a VIP."""
    body = given(virtual_router_id=router_id, prefix_len=prefix_len, interface=interface)
    with connect() as client:
        answer = client.put(path_of("vips", address), body)
    print_done(answer, f"Stored {address}.", as_json=as_json)


@vips.command("remove")
def remove_vip(
    address: Annotated[str, typer.Argument(help="The virtual address.")],
    *,
    as_json: JsonFlag = False,
) -> None:
    """Remove a VIP."""
    remove("vips", address, as_json=as_json)
