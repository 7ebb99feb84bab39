"""A host's system log: reads /dev/log and keeps mail apart from the rest."""

from __future__ import annotations

import os
import re
import socket
import time
from pathlib import Path
from typing import Final

from lab.layout import LOG_DIR_IN_HOST

_SOCKET: Final = Path("/dev/log")
_MAIL_FACILITY: Final = 2
_PRIORITY: Final = re.compile(rb"^<(\d{1,3})>")
_DATAGRAM_BYTES: Final = 8192


def file_of(datagram: bytes) -> str:
    """Name of the log that a datagram belongs to, by its facility (RFC 3164, 4.1.1)."""
    match = _PRIORITY.match(datagram)
    is_mail = match is not None and int(match[1]) >> 3 == _MAIL_FACILITY
    return "mail.log" if is_mail else "syslog.log"


def line_of(datagram: bytes, now: float) -> bytes:
    """Make the datagram one line; the sender's time stamp gives way to one with microseconds."""
    text = _PRIORITY.sub(b"", datagram).rstrip(b"\n\0").replace(b"\n", b" ")
    seconds, fraction = divmod(now, 1)
    stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    return f"{stamp}.{int(fraction * 1e6):06d}Z ".encode() + text[16:] + b"\n"


def listen() -> socket.socket:
    """Bind /dev/log, over one that a killed run left."""
    _SOCKET.unlink(missing_ok=True)
    receiver = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    receiver.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    receiver.bind(str(_SOCKET))
    _SOCKET.chmod(0o666)
    return receiver


def main() -> None:
    """Write log lines until the host is off."""
    receiver = listen()
    flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
    files = {
        name: os.open(LOG_DIR_IN_HOST / name, flags, 0o640) for name in ("mail.log", "syslog.log")
    }
    while True:
        datagram = receiver.recv(_DATAGRAM_BYTES)
        os.write(files[file_of(datagram)], line_of(datagram, time.time()))


if __name__ == "__main__":
    main()
