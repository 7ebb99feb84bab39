"""The addresses of this host by netlink (rtnetlink(7)): which VIPs it holds, and every change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import structlog
from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError
from pyroute2.netlink.rtnl import RTMGRP_IPV4_IFADDR, RTMGRP_IPV6_IFADDR

log = structlog.get_logger()


class Addresses:
    """Reads the kernel's addresses over one netlink socket; safe to use from several threads."""

    def __init__(self) -> None:
        self._route = IPRoute()
        self._lock = threading.Lock()

    def _dump(self) -> list[tuple[str, int, int]]:
        with self._lock:
            messages = list(self._route.get_addr())
        return [
            (str(address), message["prefixlen"], message["index"])
            for message in messages
            if (address := message.get_attr("IFA_ADDRESS")) is not None
        ]

    def held(self, vips: tuple[str, ...]) -> tuple[str, ...] | None:
        """Return those of `vips` that are configured here, None if the kernel did not say."""
        try:
            present = {address for address, _prefix, _index in self._dump()}
        except (NetlinkError, OSError):
            return None
        return tuple(vip for vip in vips if vip in present)

    def remove(self, vips: tuple[str, ...]) -> None:
        """Remove these addresses from whatever interface has them."""
        for address, prefix, index in self._dump():
            if address in vips:
                with self._lock:
                    self._route.addr("del", index=index, address=address, prefixlen=prefix)


def watch_addresses(on_change: Callable[[], None]) -> threading.Thread:
    """Call `on_change` at every change of an address, from a thread of its own."""

    def watch() -> None:
        with IPRoute() as route:
            route.bind(groups=RTMGRP_IPV4_IFADDR | RTMGRP_IPV6_IFADDR)
            while True:
                messages: Any = route.get()
                if messages:
                    on_change()

    thread = threading.Thread(target=watch, name="netlink", daemon=True)
    thread.start()
    return thread
