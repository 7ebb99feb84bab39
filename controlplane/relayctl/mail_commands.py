"""Where mail may go and come from: domains, routes, policies, networks."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Annotated, Any, Final

import typer

from controlplane.relayctl.client import Client
from controlplane.relayctl.connection import connect, fetch, path_of, remove
from controlplane.relayctl.files import read_text
from controlplane.relayctl.output import Columns, JsonFlag, given, print_done, print_list

domains = typer.Typer(help="Domains that mail is relayed to.", no_args_is_help=True)
routes = typer.Typer(help="Next hops by sender.", no_args_is_help=True)
policies = typer.Typer(help="Sender domains: allowed or blocked.", no_args_is_help=True)
networks = typer.Typer(help="Clients that may relay anywhere.", no_args_is_help=True)

PAGE: Final = 10_000
NextHop = Annotated[str | None, typer.Option(help="Host or address; left out: the MX.")]
Port = Annotated[int | None, typer.Option(help="Port of the next hop.")]
TlsMode = Annotated[str | None, typer.Option(help="none, may, encrypt or verify.")]
Sender = Annotated[str, typer.Argument(help="user@example.com or @example.com.")]
Domain = Annotated[str, typer.Argument(help="The domain; .example.com: all its subdomains.")]
Network = Annotated[str, typer.Argument(help="CIDR, for instance 198.51.100.0/24.")]


@domains.command("list")
def list_domains(
    search: Annotated[str, typer.Option(help="Only names with this in them.")] = "",
    *,
    as_json: JsonFlag = False,
) -> None:
    """List recipient domains."""
    with connect() as client:
        listed = _all_domains(client, search)
    columns: Columns = {
        "DOMAIN": "name",
        "NEXT HOP": lambda one: one["next_hop"] or "MX",
        "PORT": "port",
        "TLS": "tls_mode",
    }
    print_list(listed, columns, "There is no recipient domain.", as_json=as_json)


def _all_domains(client: Client, search: str) -> list[dict[str, Any]]:
    listed: list[dict[str, Any]] = []
    after: str | None = ""
    while after is not None:
        page = client.get("/recipient-domains", search=search, after=after, limit=PAGE)
        listed += page["items"]
        after = page["next_after"]
    return listed


@domains.command("add")
def add_domain(
    name: Domain,
    *,
    next_hop: NextHop = None,
    port: Port = None,
    tls_mode: TlsMode = None,
    as_json: JsonFlag = False,
) -> None:
    """Create or replace a recipient domain."""
    body = given(next_hop=next_hop, port=port, tls_mode=tls_mode)
    with connect() as client:
        answer = client.put(path_of("recipient-domains", name), body)
    print_done(answer, f"Stored {name}.", as_json=as_json)


@domains.command("import")
def import_domains(
    file: Annotated[Path, typer.Argument(help="One domain a line, # starts a comment; -: stdin.")],
    replace: Annotated[bool, typer.Option("--replace", help="Remove all others.")] = False,
    *,
    as_json: JsonFlag = False,
) -> None:
    """Add many recipient domains at once, all or none."""
    names = [line.partition("#")[0].strip() for line in read_text(file).splitlines()]
    body = {"domains": [name for name in names if name]}
    with connect() as client:
        send = client.put if replace else client.post
        result = send("/recipient-domains", body)
    sentence = "{added} added, {changed} changed, {removed} removed, {total} in all."
    print_done(result, sentence.format(**result), as_json=as_json)


@domains.command("remove")
def remove_domain(name: Domain, *, as_json: JsonFlag = False) -> None:
    """Remove a recipient domain."""
    remove("recipient-domains", name, as_json=as_json)


@routes.command("list")
def list_routes(*, as_json: JsonFlag = False) -> None:
    """List all routes; passwords are never shown."""
    columns: Columns = {
        "SENDER": "sender",
        "NEXT HOP": "next_hop",
        "PORT": "port",
        "TLS": "tls_mode",
        "USER": "username",
        "PASSWORD": lambda one: "set" if one["has_password"] else None,
    }
    print_list(fetch("/routes"), columns, "There is no route.", as_json=as_json)


@routes.command("add")
def add_route(
    sender: Sender,
    next_hop: Annotated[str, typer.Option(help="Host or address.")],
    *,
    port: Port = None,
    tls_mode: TlsMode = None,
    username: Annotated[str | None, typer.Option(help="User at the next hop.")] = None,
    as_json: JsonFlag = False,
) -> None:
    """Create or replace a route.

    With --username the password is asked for, or RELAYCTL_ROUTE_PASSWORD; for a route that has one
    already, an empty answer keeps it.
    """
    body = given(next_hop=next_hop, port=port, tls_mode=tls_mode, username=username)
    password = _route_password() if username is not None else None
    if password:
        body["password"] = password
    with connect() as client:
        answer = client.put(path_of("routes", sender), body)
    print_done(answer, f"Stored the route of {sender}.", as_json=as_json)


def _route_password() -> str | None:
    given = os.environ.get("RELAYCTL_ROUTE_PASSWORD")
    if given is not None or not sys.stdin.isatty():
        return given
    return str(typer.prompt("Password at the next hop", hide_input=True, default="", err=True))


@routes.command("remove")
def remove_route(sender: Sender, *, as_json: JsonFlag = False) -> None:
    """Remove a route and its credentials."""
    remove("routes", sender, as_json=as_json)


@policies.command("list")
def list_policies(*, as_json: JsonFlag = False) -> None:
    """List all sender policies."""
    columns: Columns = {
        "DOMAIN": "domain",
        "ACTION": "action",
        "REPLY": lambda one: one["reply_text"] or None,
    }
    print_list(fetch("/sender-policies"), columns, "There is no sender policy.", as_json=as_json)


@policies.command("allow")
def allow_domain(domain: Domain, *, as_json: JsonFlag = False) -> None:
    """Accept mail from a sender domain."""
    _put_policy(domain, {"action": "allowed"}, as_json=as_json)


@policies.command("block")
def block_domain(
    domain: Domain,
    reply: Annotated[str, typer.Option(help='What follows "550 5.7.1".')] = "",
    *,
    as_json: JsonFlag = False,
) -> None:
    """Refuse mail from a sender domain."""
    _put_policy(domain, {"action": "blocked", "reply_text": reply}, as_json=as_json)


def _put_policy(domain: str, body: dict[str, object], *, as_json: bool) -> None:
    with connect() as client:
        answer = client.put(path_of("sender-policies", domain), body)
    print_done(answer, f"{domain} is {body['action']}.", as_json=as_json)


@policies.command("remove")
def remove_policy(domain: Domain, *, as_json: JsonFlag = False) -> None:
    """Remove a policy: the cluster's default holds again."""
    remove("sender-policies", domain, as_json=as_json)


@networks.command("list")
def list_networks(*, as_json: JsonFlag = False) -> None:
    """List all trusted networks."""
    columns: Columns = {"NETWORK": "network"}
    print_list(fetch("/trusted-networks"), columns, "There is no trusted network.", as_json=as_json)


@networks.command("add")
def add_network(network: Network, *, as_json: JsonFlag = False) -> None:
    """Trust a network."""
    with connect() as client:
        answer = client.put(path_of("trusted-networks", network))
    print_done(answer, f"{network} is trusted.", as_json=as_json)


@networks.command("remove")
def remove_network(network: Network, *, as_json: JsonFlag = False) -> None:
    """Trust a network no longer."""
    remove("trusted-networks", network, as_json=as_json)
