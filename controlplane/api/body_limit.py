"""Refuses request bodies that are larger than their call needs, before they fill the memory.

An endpoint's body is read before its dependencies say who sent it, so who may not make the call may
send no more than `USUAL_BYTES`: what exceeds that on a call with a larger limit, or does not say
its length, is read after `authenticate` has passed its sender. A declared length (`Content-Length`)
is judged before the endpoint is entered; a body without one (chunked) is counted while it comes in.
FastAPI's own `max_body_size` answers in plain text, and only after an endpoint that reads no body
has run.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from starlette.concurrency import run_in_threadpool
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from controlplane.api.error_handlers import Refused, Respond, explain_refusal, respond_json
from controlplane.errors import ControlPlaneError
from nodeagent.core.agent_api import AGENT_API

KIB: Final = 1024
MIB: Final = 1024 * KIB
USUAL_BYTES: Final = 256 * KIB
CERTIFICATE_BYTES: Final = 512 * KIB
HEARTBEAT_BYTES: Final = 4 * MIB
"""A heartbeat carries up to 200 events; refusing one would cost the node its lease."""
TRACE_BYTES: Final = 2 * MIB
"""A batch of the message trace has about 1 MiB before it is compressed."""
POLICY_LOG_BYTES: Final = 8 * MIB
"""What strangers wrote may not compress: as much as a batch may have unpacked."""
QUEUE_BYTES: Final = 16 * MIB
"""A batch of a queue's list: up to 500 messages of up to 20 long recipients."""
LIST_CALLS: Final = (
    "/api/v1/recipient-domains",
    "/api/v1/lists/recipient-domains/csv",
    "/api/v1/lists/recipient-domains/csv/preview",
    "/api/v1/state",
    "/api/v1/state/preview",
    "/mail/recipient-domains/import",
    "/mail/recipient-domains/import/preview",
    "/configuration/import",
    "/configuration/import/preview",
    AGENT_API["reconcile"],
    AGENT_API["receipt"],
    AGENT_API["recovery"],
)
"""Calls whose body names every domain, or every message of a queue."""
POLICY_BYTES: Final = 256 * MIB
"""An import of a list of the mail policy: a million entries with reasons; it waits on the disk."""
POLICY_PAGES: Final = ("lists", "words", "rates")
POLICY_PAGE_FILES: Final = tuple(
    f"/policy/{name}/import/{tail}" for name in POLICY_PAGES for tail in ("file", "file/preview")
)
"""Pages that take a file as it is, with the form's token in a header."""
POLICY_IMPORTS: Final = (
    *(
        f"/api/v1/mail-security/{name}/import{tail}"
        for name in ("blocklist", "allowlist", "badwords", "rates", "categories", "subscriptions")
        for tail in ("", "/preview")
    ),
    *POLICY_PAGE_FILES,
)
TRY_BYTES: Final = 8 * MIB
"""A mail to try out, in JSON."""
SYNC_BYTES: Final = MIB
"""What a policy hook counted: up to 2,000 counts."""
CONTENT_TOO_LARGE: Final = 413


def larger_limits(list_bytes: int) -> dict[str, int]:
    """Return, by path, the limits of the calls that need more than `USUAL_BYTES`."""
    return {
        "/api/v1/tls/certificate": CERTIFICATE_BYTES,
        "/tls": CERTIFICATE_BYTES,
        AGENT_API["heartbeat"]: HEARTBEAT_BYTES,
        AGENT_API["trace"]: TRACE_BYTES,
        AGENT_API["policy_log"]: POLICY_LOG_BYTES,
        AGENT_API["queue"]: QUEUE_BYTES,
        AGENT_API["policy"]: SYNC_BYTES,
        "/api/v1/mail-security/try": TRY_BYTES,
        **dict.fromkeys(POLICY_IMPORTS, POLICY_BYTES),
        **dict.fromkeys(LIST_CALLS, list_bytes),
    }


class BodyLimit:
    """ASGI middleware: answers 413 with one sentence to a body above its path's limit.

    `authenticate` raises `ControlPlaneError` for who may not make the call; that is the answer.
    """

    def __init__(
        self,
        app: ASGIApp,
        larger: Mapping[str, int],
        authenticate: Callable[[Request], None],
        respond: Respond = respond_json,
    ) -> None:
        self._app = app
        self._authenticate = authenticate
        self._respond = respond
        self._larger = larger

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass the request on, its body counted; refuse it at once when it says its length."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        limit_bytes = self._larger.get(scope["path"], USUAL_BYTES)
        declared_bytes = _declared_bytes(Headers(scope=scope))
        refused = None
        if declared_bytes is not None and declared_bytes > limit_bytes:
            refused = Refused(CONTENT_TOO_LARGE, _sentence(limit_bytes))
        elif limit_bytes > USUAL_BYTES and (declared_bytes is None or declared_bytes > USUAL_BYTES):
            refused = await run_in_threadpool(self._refuse_stranger, Request(scope))
        if refused is not None:
            answer = await run_in_threadpool(self._respond, Request(scope), refused)
            await answer(scope, receive, send)
            return
        received_bytes = 0

        async def receive_counted() -> Message:
            nonlocal received_bytes
            message = await receive()
            received_bytes += len(message.get("body", b""))
            if received_bytes > limit_bytes:
                raise HTTPException(CONTENT_TOO_LARGE, _sentence(limit_bytes))
            return message

        await self._app(scope, receive_counted, send)

    def _refuse_stranger(self, request: Request) -> Refused | None:
        try:
            self._authenticate(request)
        except ControlPlaneError as error:
            return explain_refusal(request, error)
        return None


def _declared_bytes(headers: Headers) -> int | None:
    """Return how long the body is; None when only its end will tell (RFC 9112, 6)."""
    if "transfer-encoding" in headers:
        return None
    declared = headers.get("content-length", "0")
    return int(declared) if declared.isdecimal() else None


def _sentence(limit_bytes: int) -> str:
    shown = f"{limit_bytes // MIB} MiB" if limit_bytes >= MIB else f"{limit_bytes // KIB} KiB"
    return f"The request's body is larger than {shown}, the most that this call takes."
