"""The lists that make up a cluster, each as one `Noun`: its table, its key, its way in and out.

Theory of operation. Nodes, VIPs, recipient domains, sender policies, routes and trusted networks
are all lists of small values with one key. A `Noun` says how such a value becomes a row and back;
everything else (put, delete, replace the list, audit, validate) is written once, in
`controlplane.store.cluster`. Passwords are sealed on the way in and opened on the way out.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, TypeVar

from pydantic import SecretStr
from sqlmodel import SQLModel

from controlplane.core import names
from controlplane.core.spec import NodeSpec, RecipientDomain, SenderPolicy, SenderRoute, VipSpec
from controlplane.store.cluster_tables import (
    NodeRow,
    RecipientDomainRow,
    RouteRow,
    SenderPolicyRow,
    TrustedNetworkRow,
    VipRow,
)
from controlplane.store.crypto import SecretBox

ItemT = TypeVar("ItemT")


@dataclass(frozen=True)
class Noun(Generic[ItemT]):
    """One list of the cluster; `field` is its name in `ClusterSpec`, `key` that of its key."""

    name: str
    field: str
    table: type[SQLModel]
    key: str
    to_values: Callable[[ItemT, SecretBox], dict[str, Any]]
    from_row: Callable[[Mapping[str, Any], SecretBox], ItemT]
    show: Callable[[ItemT], dict[str, Any]]
    normalise_key: Callable[[str], str] = str

    def key_of(self, item: ItemT) -> str:
        """Return the key under which `item` is stored."""
        return self.normalise_key(str(self.show(item)[self.key]))


def _show(
    item: NodeSpec | VipSpec | RecipientDomain | SenderPolicy | SenderRoute,
) -> dict[str, Any]:
    return item.model_dump(mode="json")


def _plain_values(item: NodeSpec | VipSpec | RecipientDomain | SenderPolicy, box: SecretBox) -> Any:
    del box
    return item.model_dump(mode="json")


def _columns(row: Mapping[str, Any], names: Mapping[str, Any]) -> dict[str, Any]:
    return {name: row[name] for name in names}


def _node(row: Mapping[str, Any], box: SecretBox) -> NodeSpec:
    del box
    return NodeSpec.model_validate(_columns(row, NodeSpec.model_fields))


def _vip(row: Mapping[str, Any], box: SecretBox) -> VipSpec:
    del box
    return VipSpec.model_validate(_columns(row, VipSpec.model_fields))


def _domain(row: Mapping[str, Any], box: SecretBox) -> RecipientDomain:
    del box
    return RecipientDomain.model_validate(_columns(row, RecipientDomain.model_fields))


def _policy(row: Mapping[str, Any], box: SecretBox) -> SenderPolicy:
    del box
    return SenderPolicy.model_validate(_columns(row, SenderPolicy.model_fields))


def _route(row: Mapping[str, Any], box: SecretBox) -> SenderRoute:
    values = dict(row)
    sealed = values.pop("password_sealed")
    password = SecretStr(box.open(sealed)) if sealed is not None else None
    return SenderRoute.model_validate({**values, "password": password})


def _route_values(route: SenderRoute, box: SecretBox) -> dict[str, Any]:
    values = route.model_dump(mode="json", exclude={"password"})
    secret = route.password
    sealed = box.seal(secret.get_secret_value()) if secret is not None else None
    return {**values, "password_sealed": sealed}


def _network_values(network: str, box: SecretBox) -> dict[str, Any]:
    del box
    return {"network": network}


def _network(row: Mapping[str, Any], box: SecretBox) -> str:
    del box
    return str(row["network"])


def _show_network(network: str) -> dict[str, Any]:
    return {"network": network}


def _canonical(parse: Callable[[str], object]) -> Callable[[str], str]:
    """Return a function that gives one spelling to equal keys; bad ones stay for the validation."""

    def normalise(text: str) -> str:
        try:
            return str(parse(text))
        except names.BadValue:
            return text

    return normalise


NODES = Noun("node", "nodes", NodeRow, "name", _plain_values, _node, _show)
VIPS = Noun(
    "vip", "vips", VipRow, "address", _plain_values, _vip, _show, _canonical(names.parse_address)
)
DOMAINS = Noun(
    "recipient-domain",
    "recipient_domains",
    RecipientDomainRow,
    "name",
    _plain_values,
    _domain,
    _show,
    _canonical(names.parse_domain_pattern),
)
POLICIES = Noun(
    "sender-policy",
    "sender_policies",
    SenderPolicyRow,
    "domain",
    _plain_values,
    _policy,
    _show,
    _canonical(names.parse_domain_pattern),
)
ROUTES = Noun(
    "route",
    "routes",
    RouteRow,
    "sender",
    _route_values,
    _route,
    _show,
    _canonical(names.parse_sender),
)
NETWORKS = Noun(
    "trusted-network",
    "trusted_networks",
    TrustedNetworkRow,
    "network",
    _network_values,
    _network,
    _show_network,
    _canonical(names.parse_network),
)
ALL_NOUNS: tuple[Noun[Any], ...] = (NODES, VIPS, DOMAINS, POLICIES, ROUTES, NETWORKS)
