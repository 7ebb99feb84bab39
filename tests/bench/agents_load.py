"""Many agents in one process of their own: each has a connection, reports, and times the answers.

Run with one JSON object on standard input (`Load`); the result (`Result`) goes to standard output.
A program of little more than sockets: what it costs is taken from the server that it measures.
"""

from __future__ import annotations

import asyncio
import json
import random
import ssl
import sys
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import jwt

from nodeagent.core.agent_api import AGENT_API, TLS_SERVER_NAME, TOKEN_AUDIENCE
from nodeagent.core.contract import HeartbeatRequest, NodeReport, QueueCounts, Role

TOKEN_S = 60
ANSWER_S = 30.0


@dataclass(frozen=True)
class Load:
    """What to do: who reports where, how often, for how long.

    Before that all connect and learn their peers for `settle_s`, which is not timed.
    """

    port: int
    ca_pem: str
    keys: dict[str, str]  # by node, PEM
    every_s: float
    length_s: float
    settle_s: float


@dataclass
class Result:
    """What came of it: times of what was taken, and how many were not.

    `missed` are reports whose time passed while an answer was waited for.
    """

    took_ms: list[float] = field(default_factory=list)
    refused: int = 0
    failed: int = 0
    missed: int = 0


class Reporter:
    """One agent: signs a token twice a minute and names the peers it knows, as nodes do."""

    def __init__(self, load: Load, node: str, trust: ssl.SSLContext) -> None:
        self._load, self._node, self._trust = load, node, trust
        self._token, self._signed_at_s, self._known_peers = "", 0.0, ""
        self._connection: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    def _request(self) -> bytes:
        report = NodeReport(
            role=Role.ACTIVE, queue=QueueCounts(incoming=0, active=1, deferred=41, hold=0)
        )
        request = HeartbeatRequest(report=report, renew=True, known_peers=self._known_peers)
        body = request.model_dump_json().encode()
        if time.time() - self._signed_at_s > TOKEN_S / 2:
            now_s = self._signed_at_s = int(time.time())
            claims: dict[str, Any] = {"iss": self._node, "aud": TOKEN_AUDIENCE}
            claims |= {"iat": now_s, "exp": now_s + TOKEN_S, "jti": "1"}
            self._token = jwt.encode(claims, self._load.keys[self._node], algorithm="EdDSA")
        head = (
            f"POST {AGENT_API['heartbeat']} HTTP/1.1\r\nHost: 127.0.0.1:{self._load.port}\r\n"
            f"Authorization: Bearer {self._token}\r\nContent-Type: application/json\r\n"
            f"Content-Length: {len(body)}\r\n\r\n"
        )
        return head.encode() + body

    async def run(self, result: Result, begin_s: float, end_s: float) -> None:
        """Report from `begin_s` to `end_s`, each time a whole period after the last was due."""
        at_s = begin_s + random.uniform(0, self._load.every_s)
        while at_s < end_s:
            await asyncio.sleep(at_s - time.monotonic())
            began_s = time.monotonic()
            try:
                async with asyncio.timeout(ANSWER_S):
                    self._connection = self._connection or await self._connect()
                    is_taken = await self._exchange(*self._connection)
                if is_taken:
                    result.took_ms.append((time.monotonic() - began_s) * 1000)
                result.refused += not is_taken
            except (OSError, EOFError, TimeoutError):
                self._connection = None
                result.failed += 1
            passed = int((time.monotonic() - at_s) // self._load.every_s)
            result.missed += passed
            at_s += self._load.every_s * (passed + 1)

    async def _connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection(
            "127.0.0.1", self._load.port, ssl=self._trust, server_hostname=TLS_SERVER_NAME
        )

    async def _exchange(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        writer.write(self._request())
        head = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(head.split(b"content-length:")[1].split(b"\r\n")[0])
        answer = await reader.readexactly(length)
        is_taken = head.startswith(b"http/1.1 200")
        if is_taken:
            self._known_peers = answer.partition(b'"peers_tag":"')[2].partition(b'"')[0].decode()
        return is_taken


async def run(load: Load) -> Result:
    """Let all agents report at times of their own."""
    trust = ssl.create_default_context(cadata=load.ca_pem)
    agents = [Reporter(load, node, trust) for node in load.keys]
    for length_s in (load.settle_s, load.length_s):
        result, begin_s = Result(), time.monotonic()
        await asyncio.gather(*(one.run(result, begin_s, begin_s + length_s) for one in agents))
    return result


if __name__ == "__main__":
    print(json.dumps(asdict(asyncio.run(run(Load(**json.load(sys.stdin)))))))
