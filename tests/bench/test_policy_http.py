"""How many decisions a second the HTTP door gives on one core, and how long each takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.bench.figures import quantile, show, spread_ms
from tests.bench.http_load import MakeDesk, accept_all, engine, load, served
from tests.fakes.hook_requests import encoded, request

pytestmark = pytest.mark.bench
CONNECTIONS = 16
COUNT = 20_000
WANTED_PER_SECOND = 1500
WANTED_P99_MS = 20


def mail(size_bytes: int) -> bytes:
    """Return a question about a mail with a body of this size."""
    asked = request("data")
    line = "The quick brown fox jumps over the lazy dog, and nobody minds it at all.\r\n"
    asked["message"]["contents"] = line * (size_bytes // len(line))
    return encoded(asked)


BODIES = {
    "rcpt": [encoded(request("rcpt"))],
    "a mail of 5 kB": [mail(5000)],
    "one whole session with a mail of 5 kB": [
        *(encoded(request(stage)) for stage in ("connect", "ehlo", "mail", "rcpt")),
        mail(5000),
    ],
    "a mail of 50 kB": [mail(50_000)],
}

SHOWN = {"a mail of 50 kB"}  # ten times the mail that the figure is about


@pytest.mark.parametrize("kind", BODIES)
@pytest.mark.parametrize("desk", [accept_all, engine])
def test_decisions_per_second(kind: str, desk: MakeDesk, tmp_path: Path) -> None:
    """At least 1,500 a second on one core, p99 at most 20 ms.

    CPU time is shown as well: unlike the rest it does not depend on what else the machine does.
    """
    with served(desk, tmp_path) as door:
        load(door, BODIES[kind], count=2000, connections=CONNECTIONS)
        got = load(door, BODIES[kind], count=COUNT, connections=CONNECTIONS)
    figure = f"{got.per_second:,.0f} decisions/s, {spread_ms(got.latencies_ms)}"
    figure += f"; {got.cpu_us:.0f} us of CPU each"
    show(f"HTTP hook, {desk.__name__.replace('_', '-')}, {kind}", figure)
    if kind in SHOWN:
        return
    assert got.per_second >= WANTED_PER_SECOND
    assert quantile(got.latencies_ms, 0.99) <= WANTED_P99_MS
