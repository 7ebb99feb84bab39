"""The HTTP door's ASGI application: routes, credentials, limits; the judging is done elsewhere.

    GET  /healthz    200 while the process answers
    POST /mta-hook   a question, in the wire format that belongs to the path

It is a plain ASGI 3 application on purpose: one decision must cost less than a millisecond.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final

from nodeagent.policy.codecs.hook_request import HttpCodec
from nodeagent.policy.codecs.http_codecs import HTTP_CODECS
from nodeagent.policy.document import PolicySettings
from nodeagent.policy.doors.http_answer import Answer, problem
from nodeagent.policy.doors.http_credentials import (
    Headers,
    challenges,
    has_credentials,
    is_allowed,
)
from nodeagent.policy.doors.http_judging import Judging
from nodeagent.policy.doors.replays import Replays
from nodeagent.policy.log_wire import Door
from nodeagent.policy.model import Envelope, Session, Stage, Verdict
from nodeagent.policy.ports import Decides, MailKeeper, Unjudged, unjudged

Scope = dict[str, Any]
Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

ENVELOPE_AND_JSON_BYTES: Final = 50 * 1024 * 1024
BIG_BYTES: Final = 1024 * 1024
BIG_AT_ONCE: Final = 4
"""So many bodies above `BIG_BYTES` are in memory at a time; the others wait for their turn."""
READING_LIMIT_S: Final = 25.0
REQUEST_ID_HEADERS: Final = (b"x-mta-hooks-request-id", b"idempotency-key")
_CLOSE: Final = (b"connection", b"close")
_RETRY: Final = (b"retry-after", b"5")


class _Problem(Exception):
    """The request is answered without being read; `why` is what the log says of it, if anything."""

    def __init__(self, answer: Answer, why: Unjudged | None = None) -> None:
        super().__init__(answer.status)
        self.answer = answer
        self.why = why


class _Turn:
    """One question's turn among the large ones; it ends when the question was answered."""

    def __init__(self, turns: asyncio.Semaphore) -> None:
        self._turns = turns
        self._is_taken = False
        self.is_awaited = False

    async def take(self) -> None:
        """Wait for the turn, if it was not taken yet."""
        if not self._is_taken:
            self.is_awaited = True
            self._is_taken = await self._turns.acquire()
            self.is_awaited = False

    def end(self) -> None:
        """Let the next one have it."""
        if self._is_taken:
            self._turns.release()


class HookApp:
    """The ASGI application; `settings` may be replaced at any time, each request takes one look."""

    def __init__(
        self,
        decides: Decides,
        keeper: MailKeeper,
        codecs: Mapping[str, HttpCodec] = HTTP_CODECS,
    ) -> None:
        self.settings: PolicySettings = decides.settings
        self._decides = decides
        self._codecs = codecs
        self._judging = Judging(decides, keeper)
        self._replays = Replays()
        self._big_turns = asyncio.Semaphore(BIG_AT_ONCE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request (ASGI 3); other kinds of connections are not served."""
        if scope["type"] != "http":
            return
        try:
            answer = await self._answer(scope, receive)
        except _Problem as wrong:
            answer = wrong.answer
            if wrong.why is not None:
                self.note(wrong.why)
        head = [
            (b"content-type", b"application/json"),
            (b"content-length", str(len(answer.body)).encode()),
            *answer.headers,
        ]
        await send({"type": "http.response.start", "status": answer.status, "headers": head})
        body = b"" if scope["method"] == "HEAD" else answer.body
        await send({"type": "http.response.body", "body": body})

    def note(self, why: Unjudged) -> None:
        """Have written down that a question was not read: at most a mail is what it was about."""
        about = (Door.HTTP, Stage.DATA, Session(), Envelope(), None)
        self._decides.note_unjudged(*about, answered=unjudged(why, Verdict.TEMPFAIL))

    async def _answer(self, scope: Scope, receive: Receive) -> Answer:
        path, method = scope["path"], scope["method"]
        if path == "/healthz":
            return _health(method)
        codec = self._codecs.get(path)
        if codec is None:
            return problem(404, "there is nothing at this path", _CLOSE)
        if method != "POST":
            return problem(405, "questions come by POST", (b"allow", b"POST"), _CLOSE)
        settings = self.settings
        headers: Headers = dict(scope["headers"])
        _check(headers, settings)
        turn = _Turn(self._big_turns)
        try:
            body = await _body(headers, receive, body_limit(settings), turn)
            request_id = _request_id(headers)
            if request_id is None:
                return await self._judging.answer(codec, body, settings)
            return await self._replays.answer(
                (path, request_id), body, lambda: self._judging.answer(codec, body, settings)
            )
        finally:
            turn.end()


async def _body(headers: Headers, receive: Receive, most_bytes: int, turn: _Turn) -> bytes:
    """Return the body; raises `_Problem` when it is too big, too slow or torn.

    A big one takes its turn.
    """
    announced = headers.get(b"content-length", b"0")
    if announced.isdigit() and int(announced) > most_bytes:
        raise _too_big(most_bytes)
    try:
        async with asyncio.timeout(READING_LIMIT_S):
            return await _received(receive, most_bytes, turn)
    except TimeoutError as error:
        sentence = f"the body could not be read within {READING_LIMIT_S:g} s"
        why = Unjudged.BUSY if turn.is_awaited else Unjudged.SLOW
        raise _Problem(problem(503, sentence, _RETRY, _CLOSE), why) from error


async def _received(receive: Receive, most_bytes: int, turn: _Turn) -> bytes:
    chunks: list[bytes] = []
    taken, has_more = 0, True
    while has_more:
        event = await receive()
        if event["type"] == "http.disconnect":
            raise _Problem(problem(400, "the client went away before its body ended"))
        chunks.append(event.get("body", b""))
        has_more = event.get("more_body", False)
        taken += len(chunks[-1])
        if taken > most_bytes:
            raise _too_big(most_bytes)
        if taken > BIG_BYTES:
            await turn.take()
    return b"".join(chunks)


def _request_id(headers: Headers) -> bytes | None:
    return next((headers[name] for name in REQUEST_ID_HEADERS if headers.get(name)), None)


def body_limit(settings: PolicySettings) -> int:
    """Return the most bytes of a question: what is inspected, and 50 MiB for all else."""
    return settings.inspected_bytes + ENVELOPE_AND_JSON_BYTES


def _health(method: str) -> Answer:
    if method not in {"GET", "HEAD"}:
        return problem(405, "the health is asked by GET", (b"allow", b"GET, HEAD"), _CLOSE)
    return Answer(200, b'{"status":"ok"}')


def _check(headers: Headers, settings: PolicySettings) -> None:
    """Raise `_Problem` for who may not ask, and for what cannot be read."""
    door = settings.http
    if not has_credentials(door):
        sentence = "no credential is configured for the HTTP hook, so it answers nobody"
        raise _Problem(problem(503, sentence, _CLOSE), Unjudged.DENIED)
    if not is_allowed(headers, door):
        sentence = "the credentials are missing or wrong"
        raise _Problem(problem(401, sentence, *challenges(door), _CLOSE), Unjudged.DENIED)
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise _Problem(problem(415, "the body must not be compressed", _CLOSE))


def _too_big(most_bytes: int) -> _Problem:
    sentence = f"the body has more than {most_bytes} bytes"
    return _Problem(problem(413, sentence, _CLOSE), Unjudged.TOO_LARGE)
