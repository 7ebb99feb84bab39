"""From an edit of the policy to its effect at every node's Postfix, beside how often nodes ask."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from lab.layout import HOSTS, NODES
from nodeagent.policy.courier import EVERY_S
from tests.bench.figures import show
from tests.e2e.driver import Lab
from tests.e2e.judging import POLICY

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

EDITS = 20
LIMIT_S = 60.0
PROBE_S = 0.01
PROBES_A_SESSION = 50


def seconds_until_refused(address: str, sender: str, has_begun: threading.Event) -> float:
    """Return when (monotonic) a node's Postfix first refuses this sender at MAIL."""
    deadline_s = time.monotonic() + LIMIT_S
    while time.monotonic() < deadline_s:
        with socket.create_connection((address, 25), LIMIT_S) as session:
            reader = session.makefile("rb")
            reader.readline()
            for _ in range(PROBES_A_SESSION):
                session.sendall(b"HELO client\r\n")
                reader.readline()
                session.sendall(f"MAIL FROM:<{sender}>\r\n".encode())
                if reader.readline().startswith(b"550"):
                    return time.monotonic()
                has_begun.set()
                time.sleep(PROBE_S)
    raise AssertionError(f"{address} takes mail from {sender} after {LIMIT_S:g} s")


def test_time_from_an_edit_to_its_effect(judged: Lab):
    """Block a sender, ask both nodes until they refuse it; from the request on."""
    api = judged.api()
    answered: list[float] = []
    everywhere: list[float] = []
    with ThreadPoolExecutor(len(NODES)) as pool:
        for number in range(EDITS):
            sender = f"edit-{number}@blocked.example"
            begun = [threading.Event() for _ in NODES]
            probes = [
                pool.submit(seconds_until_refused, HOSTS[node].address, sender, event)
                for node, event in zip(NODES, begun, strict=True)
            ]
            assert all(event.wait(LIMIT_S) for event in begun)
            time.sleep(EVERY_S * number / EDITS)  # each at another moment of their turns
            began_s = time.monotonic()
            api.call("POST", f"{POLICY}/blocklist", {"value": sender})
            answered.append(time.monotonic() - began_s)
            everywhere.append(max(probe.result() for probe in probes) - began_s)
    assert len(everywhere) == EDITS
    show("a policy edit is answered", spread(answered))
    show("a policy edit is in force on every node", spread(everywhere))
    show("beside: a node asks every", f"{EVERY_S:g} s, when its last question was answered")


def spread(values: list[float]) -> str:
    """Sum up lengths of time as median and maximum."""
    return f"{len(values)} edits: p50 {statistics.median(values):.2f}, max {max(values):.2f} s"
