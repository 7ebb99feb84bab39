"""The control plane's HTTP/1.1: who sends too long headers is told so."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final

from nodeagent.core.contract import Refusal
from nodeagent.http_heads import LimitedHttp

SENTENCE: Final = "The headers of the request are longer than 64 KiB; nothing was changed."


class ControlPlaneHttp(LimitedHttp):
    """One connection."""

    def refuse(self) -> None:
        """Answer and close; without an answer where another one is under way."""
        if self.cycle is not None and not self.cycle.response_complete:
            self.transport.abort()
            return
        status = HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE
        body = Refusal(detail=SENTENCE).model_dump_json(exclude_none=True)
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}",
            "content-type: application/json",
            f"content-length: {len(body)}",
            "connection: close",
        )
        self.transport.write("\r\n".join((*head, "", body)).encode())
        self.transport.close()
