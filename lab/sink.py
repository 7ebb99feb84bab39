"""The lab's mail destination: takes mail over SMTP and writes one line a message into a journal.

A line is JSON: `at` (seconds since 1970), `id` (X-Relay-Test-Id, else Message-ID), `from`, `to`,
`bytes`, `peer`. It is written before the 250 is sent, so that a message whose 250 got lost counts
as delivered here, as it would anywhere. /var/log/relay-lab/sink.mode says how to answer: `accept`
(also when absent), `defer` (451 to each recipient), `refuse` (550), or `slow` (a second a message).
"""

from __future__ import annotations

import asyncio
import json
import re
import time
from pathlib import Path
from typing import Final

from lab.layout import LOG_DIR_IN_HOST

JOURNAL: Final = LOG_DIR_IN_HOST / "sink.jsonl"
MODE_FILE: Final = LOG_DIR_IN_HOST / "sink.mode"
_END: Final = b"\r\n.\r\n"
_GREETING: Final = b"".join(
    (b"250-sink\r\n250-PIPELINING\r\n", b"250-8BITMIME\r\n250-ENHANCEDSTATUSCODES\r\n250 SIZE\r\n")
)
_LINE_LIMIT_BYTES: Final = 8192
_SLOW_S: Final = 1.0
_TEST_ID: Final = re.compile(rb"^X-Relay-Test-Id:[ \t]*(\S+)", re.IGNORECASE | re.MULTILINE)
_MESSAGE_ID: Final = re.compile(rb"^Message-ID:\s*(\S+)", re.IGNORECASE | re.MULTILINE)
_PATH: Final = re.compile(rb"<([^>]*)>")
_RECIPIENT_ANSWERS: Final = {
    "defer": b"451 4.3.0 deferred by the lab's sink\r\n",
    "refuse": b"550 5.7.1 refused by the lab's sink\r\n",
}


def identify(header: bytes) -> str:
    """Give the id by which a test finds its message again; empty where it bears none."""
    match = _TEST_ID.search(header) or _MESSAGE_ID.search(header)
    return match[1].decode("ascii", "replace").strip("<>") if match else ""


class Journal:
    """Appends one JSON line a message, each in one write to the kernel."""

    def __init__(self, path: Path) -> None:
        self._file = path.open("ab", buffering=0)

    def add(self, entry: dict[str, object]) -> None:
        """Append one message."""
        self._file.write(json.dumps(entry).encode() + b"\n")


class Session(asyncio.Protocol):
    """One SMTP session: commands by line, then DATA up to the lone dot."""

    def __init__(self, journal: Journal, mode_file: Path) -> None:
        self._journal = journal
        self._mode_file = mode_file
        self._buffer = bytearray()
        self._is_in_data = False
        self._is_waiting = False
        self._searched = 0
        self._reset()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        assert isinstance(transport, asyncio.Transport)  # noqa: S101 - a TCP server gives no other
        self._transport = transport
        peer = transport.get_extra_info("peername")
        self._peer = peer[0] if peer else ""
        transport.write(b"220 sink ESMTP\r\n")

    def data_received(self, data: bytes) -> None:
        """Take what came and answer as far as it is complete."""
        self._buffer += data
        self._advance()

    def _advance(self) -> None:
        while not self._is_waiting and (
            self._take_message() if self._is_in_data else self._take_line()
        ):
            pass

    def _take_line(self) -> bool:
        line, found, rest = self._buffer.partition(b"\r\n")
        if not found:
            if len(line) > _LINE_LIMIT_BYTES:
                self._transport.close()
            return False
        self._buffer = rest
        answer = self._answer(bytes(line))
        self._transport.write(answer)
        return True

    def _answer(self, line: bytes) -> bytes:
        verb = line[:4].upper()
        if verb == b"EHLO":
            return _GREETING
        if verb == b"MAIL":
            self._reset()
            self._sender = _path_of(line)
            return b"250 2.1.0 ok\r\n"
        if verb == b"RCPT":
            return self._take_recipient(line)
        if verb == b"DATA":
            self._is_in_data = bool(self._recipients)
            return b"354 go on\r\n" if self._is_in_data else b"503 5.5.1 no recipient\r\n"
        if verb == b"QUIT":
            self._transport.write(b"221 2.0.0 bye\r\n")
            self._transport.close()
            return b""
        if verb == b"RSET":
            self._reset()
        return b"250 2.0.0 ok\r\n"

    def _take_recipient(self, line: bytes) -> bytes:
        refusal = _RECIPIENT_ANSWERS.get(self._mode())
        if refusal is not None:
            return refusal
        self._recipients.append(_path_of(line))
        return b"250 2.1.5 ok\r\n"

    def _take_message(self) -> bool:
        start = max(0, self._searched - len(_END))
        end, rest = self._buffer.find(_END, start), len(_END)
        if self._buffer.startswith(_END[2:]):
            end, rest = 0, len(_END) - 2
        if end < 0:
            self._searched = len(self._buffer)
            return False
        message = bytes(self._buffer[:end])
        del self._buffer[: end + rest]
        self._is_in_data = False
        self._searched = 0
        if self._mode() == "slow":
            self._is_waiting = True
            asyncio.get_running_loop().call_later(_SLOW_S, self._accept, message)
        else:
            self._accept(message)
        return True

    def _accept(self, message: bytes) -> None:
        header = message.partition(b"\r\n\r\n")[0]
        self._journal.add(
            {
                "at": time.time(),
                "id": identify(header),
                "from": self._sender,
                "to": self._recipients,
                "bytes": len(message),
                "peer": self._peer,
            }
        )
        self._transport.write(b"250 2.0.0 taken\r\n")
        if self._is_waiting:
            self._is_waiting = False
            self._advance()

    def _mode(self) -> str:
        try:
            return self._mode_file.read_text(encoding="ascii").strip()
        except OSError:
            return "accept"

    def _reset(self) -> None:
        self._sender = ""
        self._recipients: list[str] = []


def _path_of(line: bytes) -> str:
    match = _PATH.search(line)
    return match[1].decode("utf-8", "replace") if match else ""


async def serve(host: str, port: int, journal: Path, mode_file: Path) -> asyncio.Server:
    """Listen for mail; the server runs until it is closed."""
    book = Journal(journal)
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: Session(book, mode_file), host, port, backlog=512)


async def _run() -> None:
    server = await serve("0.0.0.0", 25, JOURNAL, MODE_FILE)  # noqa: S104 - the lab's bridge only
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_run())
