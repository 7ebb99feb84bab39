"""The VIPs of this host: which it holds, dropping one, and being told of every change.

Reading is `local_addresses`; changing and watching go through pyroute2 (rtnetlink(7)).
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from ipaddress import ip_address

from pyroute2 import IPRoute
from pyroute2.netlink.rtnl import RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR

from nodeagent.adapters.local_addresses import local_addresses


def held_vips(vips: tuple[str, ...]) -> tuple[str, ...] | None:
    """Return those of `vips` that are configured here, None if the kernel did not say."""
    present = local_addresses()
    if present is None:
        return None
    return tuple(vip for vip in vips if str(ip_address(vip)) in present)


def remove_addresses(vips: tuple[str, ...]) -> None:
    """Remove these addresses from whatever interface has them."""
    with IPRoute() as route:
        for message in route.get_addr():
            address = message.get_attr("IFA_ADDRESS")
            if address in vips:
                route.addr(
                    "del",
                    index=message["index"],
                    address=address,
                    prefixlen=message["prefixlen"],
                )


def watch_addresses(on_change: Callable[[], None]) -> threading.Thread:
    """Call `on_change` at every change of an address, from a thread of its own."""

    def watch() -> None:
        with IPRoute() as route:
            route.bind(groups=RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR)
            while True:
                if any(True for _message in route.get()):
                    on_change()

    thread = threading.Thread(target=watch, name="netlink", daemon=True)
    thread.start()
    return thread
