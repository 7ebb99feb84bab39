"""This host's own IP addresses, read from the kernel in one rtnetlink(7) dump.

The receiver needs them for every push and must start fast, so this asks the kernel directly
instead of loading a netlink library.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from typing import Final

_RTM_NEWADDR: Final = 20
_RTM_GETADDR: Final = 22
_REQUEST_DUMP: Final = 0x301
_ERROR: Final = 2
_DONE: Final = 3
_IFA_ADDRESS: Final = 1
_IFA_LOCAL: Final = 2
_HEADER: Final = struct.Struct("=IHHII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_ATTRIBUTE: Final = struct.Struct("=HH")
_TIMEOUT_S: Final = 2.0
_BUFFER_BYTES: Final = 1 << 16


def local_addresses() -> frozenset[str] | None:
    """Return every IPv4 and IPv6 address of this host, None if they cannot be read."""
    try:
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as netlink:
            netlink.settimeout(_TIMEOUT_S)
            size = _HEADER.size + _ADDRESS.size
            request = _HEADER.pack(size, _RTM_GETADDR, _REQUEST_DUMP, 1, 0)
            netlink.send(request + _ADDRESS.pack(0, 0, 0, 0, 0))
            return frozenset(_dump(netlink))
    except (OSError, struct.error):
        return None


def _dump(netlink: socket.socket) -> Iterator[str]:
    while True:
        data = netlink.recv(_BUFFER_BYTES)
        while data:
            length, kind, _flags, _sequence, _pid = _HEADER.unpack_from(data)
            if kind == _DONE:
                return
            if kind == _ERROR or length < _HEADER.size:
                raise OSError("The kernel refused to list the addresses.")
            if kind == _RTM_NEWADDR:
                yield from _address(data[_HEADER.size : length])
            data = data[_align(length) :]


def _address(message: bytes) -> Iterator[str]:
    """Yield the address of one interface; on a point-to-point link that is IFA_LOCAL."""
    family = _ADDRESS.unpack_from(message)[0]
    found: dict[int, bytes] = {}
    rest = message[_ADDRESS.size :]
    while len(rest) >= _ATTRIBUTE.size:
        length, kind = _ATTRIBUTE.unpack_from(rest)
        found[kind] = rest[_ATTRIBUTE.size : length]
        rest = rest[_align(max(length, _ATTRIBUTE.size)) :]
    packed = found.get(_IFA_LOCAL, found.get(_IFA_ADDRESS))
    if packed is not None and family in {socket.AF_INET, socket.AF_INET6}:
        yield socket.inet_ntop(family, packed)


def _align(length: int) -> int:
    return (length + 3) & ~3
