"""The whole state of a cluster as one file: everything that was set, and no secret.

Passwords and private keys never come back through the API, so they are in no file either: an import
keeps the password that is stored for the same sender and user name, and the certificate stays as it
is. A `password` may be written into a route of the file by hand. What also holds the secrets, for
another machine, is a backup.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from controlplane.core.spec import (
    NodeSpec,
    RecipientDomain,
    SenderPolicy,
    SenderRoute,
    Spec,
    TlsMode,
    VipSpec,
)

FORMAT: Literal["mail-relay-ha-state"] = "mail-relay-ha-state"


class RouteState(Spec):
    """A route as a file has it; `password` is never written, only read."""

    sender: str
    next_hop: str
    port: int = 25
    tls_mode: TlsMode = TlsMode.ENCRYPT
    username: str | None = None
    password: SecretStr | None = Field(default=None, exclude=True)

    def route(self) -> SenderRoute:
        """Return the route of the spec."""
        return SenderRoute(**dict(self))


class StateLists(Spec):
    """All lists of a cluster, each item as the API shows it."""

    nodes: tuple[NodeSpec, ...] = ()
    vips: tuple[VipSpec, ...] = ()
    recipient_domains: tuple[RecipientDomain, ...] = ()
    sender_policies: tuple[SenderPolicy, ...] = ()
    routes: tuple[RouteState, ...] = ()
    trusted_networks: tuple[str, ...] = ()

    def items(self, field: str) -> tuple[object, ...]:
        """Return the items of one list as the spec has them."""
        found: tuple[object, ...] = getattr(self, field)
        if field == "routes":
            return tuple(route.route() for route in self.routes)
        return found
