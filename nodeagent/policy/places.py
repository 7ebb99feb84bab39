"""Where Postfix and the hook meet on a node: rendered into Postfix's files, opened by the hook."""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import Final

RUN_DIRECTORY: Final = Path("/run/relay-policy")
MILTER_SOCKET: Final = RUN_DIRECTORY / "milter.sock"
LISTS_SOCKET: Final = RUN_DIRECTORY / "lists.sock"
COURIER_SOCKET: Final = RUN_DIRECTORY / "courier.sock"
HEALTH_CHECK: Final = IPv4Address("127.0.0.1")
"""Whence keepalived asks for Postfix's greeting: refused or late, it would take the VIP away."""
SEND_PORT: Final = 10026
"""An smtpd(8) on the loopback that asks no milter: mail that was judged already."""
HOLD_PORT: Final = 10027
"""The same, and everything goes into the hold queue: the quarantine."""
LIST_DOMAIN: Final = "list.relay.invalid"
"""`SUBSCRIPTION.CATEGORY@` this is one subscriber of a category; no name of the DNS (RFC 6761)."""
