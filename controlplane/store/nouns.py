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
from controlplane.core.spec import (
    NodeSpec,
    RecipientDomain,
    SenderPolicy,
    SenderRoute,
    Spec,
    VipSpec,
)
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
SpecT = TypeVar("SpecT", bound=Spec)


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


def _show(item: Spec) -> dict[str, Any]:
    return item.model_dump(mode="json")


def _plain_values(item: Spec, box: SecretBox) -> dict[str, Any]:
    del box
    return _show(item)


def _plain_reader(model: type[SpecT]) -> Callable[[Mapping[str, Any], SecretBox], SpecT]:
    """Return what makes an item of a row that holds no secret."""

    def read(row: Mapping[str, Any], box: SecretBox) -> SpecT:
        del box
        return model.model_validate({name: row[name] for name in model.model_fields})

    return read


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
    return _show_network(network)


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


NODES = Noun("node", "nodes", NodeRow, "name", _plain_values, _plain_reader(NodeSpec), _show)
VIPS = Noun(
    "vip",
    "vips",
    VipRow,
    "address",
    _plain_values,
    _plain_reader(VipSpec),
    _show,
    _canonical(names.parse_address),
)
DOMAINS = Noun(
    "recipient-domain",
    "recipient_domains",
    RecipientDomainRow,
    "name",
    _plain_values,
    _plain_reader(RecipientDomain),
    _show,
    _canonical(names.parse_domain_pattern),
)
POLICIES = Noun(
    "sender-policy",
    "sender_policies",
    SenderPolicyRow,
    "domain",
    _plain_values,
    _plain_reader(SenderPolicy),
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
