"""What the HTTP door answers: a status, a JSON body, headers."""

from __future__ import annotations

import json
from dataclasses import dataclass

RawHeaders = tuple[tuple[bytes, bytes], ...]


@dataclass(frozen=True)
class Answer:
    """One HTTP response; `is_final`: the same request would get the same answer again."""

    status: int
    body: bytes
    headers: RawHeaders = ()
    is_final: bool = True


def problem(status: int, sentence: str, *headers: tuple[bytes, bytes]) -> Answer:
    """Return an answer that is no decision: one sentence on what is wrong."""
    body = json.dumps({"error": sentence}).encode()
    return Answer(status, body, headers, is_final=False)
