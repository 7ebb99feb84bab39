"""Answers that were given already: the same request id with the same body gets the same one.

An MTA that lost our answer asks again with the same id; judging twice would count twice and hold
or send the mail twice. The book is bounded, and forgets the oldest answers first.
"""

from __future__ import annotations

import asyncio
import hashlib
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final

from nodeagent.policy.doors.http_answer import Answer, problem

MOST_ANSWERS: Final = 4096
MOST_ID_BYTES: Final = 200


@dataclass
class _Given:
    digest: bytes
    answer: asyncio.Future[Answer]


class Replays:
    """Keeps the last answers by their request ids; used on one event loop only."""

    def __init__(self, most: int = MOST_ANSWERS) -> None:
        self._most = most
        self._given: OrderedDict[tuple[str, bytes], _Given] = OrderedDict()

    def __len__(self) -> int:
        return len(self._given)

    async def answer(
        self, key: tuple[str, bytes], body: bytes, judge: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        """Return the answer to this request; who asks meanwhile waits for the first one's.

        An answer that may be better the next time (`is_final` is false) is not kept.
        """
        if len(key[1]) > MOST_ID_BYTES:
            return problem(400, f"a request id has at most {MOST_ID_BYTES} bytes")
        digest = hashlib.sha256(body).digest()
        given = self._given.get(key)
        if given is not None:
            if given.digest != digest:
                return problem(409, "this request id came with another body before")
            self._given.move_to_end(key)
            return await asyncio.shield(given.answer)
        return await self._first(key, _Given(digest, asyncio.Future()), judge)

    async def _first(
        self, key: tuple[str, bytes], given: _Given, judge: Callable[[], Awaitable[Answer]]
    ) -> Answer:
        self._given[key] = given
        while len(self._given) > self._most:
            self._given.popitem(last=False)
        answer: Answer | None = None
        try:
            answer = await judge()
        finally:
            given.answer.set_result(answer or problem(503, "the first request was given up"))
            if (answer is None or not answer.is_final) and self._given.get(key) is given:
                del self._given[key]
        return answer
