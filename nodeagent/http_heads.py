"""Uvicorn's HTTP/1.1, with an end to what may come beside a request's body.

Theory of operation. Uvicorn takes headers of any length, from anybody. Here they are counted twice:
field by field as they are read, so that a request with too many never reaches the application,
however it was cut into pieces; and by the bytes that belong to no body, so that a header without an
end, trailers, and the sizes of chunks are not gathered either.
"""

from __future__ import annotations

from typing import Final

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MOST_HEADER_BYTES: Final = 64 * 1024
_FIELD_BYTES: Final = 4
"""A colon, a blank and the end of the line."""


class _TooLong(Exception):
    """The parser need not go on."""


class LimitedHttp(HttpToolsProtocol):
    """One connection; it is cut off without an answer when more came than anybody needs."""

    _head_bytes = 0
    """Of the request that is being read: its address, headers and trailers."""
    _beside_bodies = 0
    _is_refused = False

    def data_received(self, data: bytes) -> None:
        """Take what came, as long as it is not more than anybody needs."""
        if self._is_refused:
            return
        self._beside_bodies += len(data)
        super().data_received(data)
        if self._beside_bodies > MOST_HEADER_BYTES and not self._is_refused:
            self._refuse()

    def send_400_response(self, msg: str) -> None:
        """Answer what the parser could not read, or need not."""
        if self._head_bytes > MOST_HEADER_BYTES:
            self._refuse()
        else:
            super().send_400_response(msg)

    def on_message_begin(self) -> None:
        """Count anew."""
        self._head_bytes = 0
        super().on_message_begin()

    def on_url(self, url: bytes) -> None:
        """Count a part of the address."""
        self._count(len(url))
        super().on_url(url)

    def on_header(self, name: bytes, value: bytes) -> None:
        """Count a header, or a trailer."""
        self._count(len(name) + len(value) + _FIELD_BYTES)
        super().on_header(name, value)

    def on_body(self, body: bytes) -> None:
        """Take a part of a body, which pays for as much beside it: no trailer is saved up for."""
        self._beside_bodies = max(0, self._beside_bodies - 2 * len(body))
        super().on_body(body)

    def on_message_complete(self) -> None:
        """Begin to count anew."""
        self._beside_bodies = 0
        super().on_message_complete()

    def refuse(self) -> None:
        """End the connection; with an answer, in a server that has one for this."""
        self.transport.abort()

    def _count(self, size_bytes: int) -> None:
        self._head_bytes += size_bytes
        if self._head_bytes > MOST_HEADER_BYTES:
            raise _TooLong

    def _refuse(self) -> None:
        self._is_refused = True
        self.refuse()
