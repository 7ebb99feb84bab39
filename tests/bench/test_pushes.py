"""What pushing costs the clients, beside no pushing and beside a copy of a stopped Postfix."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest

from lab import hosts
from lab.errors import LabError
from lab.layout import HOSTS
from tests.bench.figures import cluster_set, freezes_ms, show, spread_ms
from tests.e2e.accounting import Load, Report, Shape, account
from tests.e2e.driver import Lab, until

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1200)]

LOAD_S: Final = 25
COPY_PAUSE_S: Final = 1.0
NO_PUSHES_S: Final = 3600.0
COPY: Final = "postfix stop; rsync -a --delete /var/spool/postfix/ /var/spool/copy-of-postfix/"
START: Final = ("postfix", "start")
START_AGAIN_S: Final = 0.2


def suffered(report: Report) -> str:
    """Sum up what the clients of a load saw."""
    tried = len(report.acknowledged) + len(report.refused) + len(report.broken)
    bad = len(report.refused) + len(report.broken)
    return f"{bad} of {tried} refused or broken, longest stall {report.longest_stall_s:.2f} s"


def start(node: str) -> None:
    """Start Postfix; its check of the queue fails where a process of before still ends."""
    try:
        hosts.run_inside(HOSTS[node], START)
    except LabError:
        time.sleep(START_AGAIN_S)
        hosts.run_inside(HOSTS[node], START)


@contextmanager
def copying_stopped_postfix(lab: Lab, node: str) -> Iterator[list[int]]:
    """Stop, copy and start a node's Postfix once a second for a while; gives the rounds done."""
    rounds: list[int] = []
    ending = threading.Event()

    def work() -> None:
        while not ending.wait(COPY_PAUSE_S) and len(rounds) < LOAD_S:
            hosts.run_inside(HOSTS[node], ("sh", "-c", COPY))
            start(node)
            rounds.append(len(rounds))

    lab.disable(node, "postfix")
    lab.execute(node, "postfix", "stop")
    until(lambda: not lab.pids(node, "postfix"), "the supervised Postfix has ended")
    lab.execute(node, "postfix", "start")
    worker = threading.Thread(target=work, name="copying", daemon=True)
    worker.start()
    try:
        yield rounds
    finally:
        ending.set()
        worker.join(60)
        lab.execute(node, "postfix", "stop")
        lab.execute(node, "rm", "-rf", "/var/spool/copy-of-postfix")
        lab.enable(node, "postfix")


def test_pushes_beside_copies_of_a_stopped_postfix(lab: Lab):
    """100 messages a second to the VIP with a push a second; then the same to a standby Postfix."""
    active, standby = lab.active(), lab.standby()
    before = len(freezes_ms(lab, active))
    with Load(lab, rate=100) as load:
        load.go_on_for(LOAD_S)
    pushed = account(lab, load)
    pushed.assert_all_delivered()
    freezes = freezes_ms(lab, active)[before:]
    show(f"freeze of {len(freezes)} pushes at 100 messages/s", spread_ms(freezes))
    show("100 messages/s under these pushes", suffered(pushed))

    with copying_stopped_postfix(lab, standby) as rounds:
        direct = Shape(address=HOSTS[standby].address)
        with Load(lab, rate=100, shape=direct) as load:
            load.go_on_for(LOAD_S)
    lab.wait("ready")
    copied = account(lab, load)
    show(f"the same under {len(rounds)} x `postfix stop; rsync; postfix start`", suffered(copied))
    assert freezes
    assert rounds


def throughput(lab: Lab) -> float:
    """Give the messages a second that 20 clients hand over without a pause, 10 in a session."""
    with Load(lab, rate=0, concurrency=20, shape=Shape(per_session=10)) as load:
        load.go_on_for(LOAD_S)
    account(lab, load, settle_s=120).assert_all_delivered()
    times = sorted(load.acknowledged.values())
    return len(times) / (times[-1] - times[0])


def test_throughput_with_and_without_pushes(lab: Lab):
    """The same relay pair, as fast as it takes mail: no push, a push a second, no push again."""
    timings = lab.api().call("GET", "cluster")["settings"]["timings"]
    with cluster_set(lab, timings={**timings, "push_interval_s": NO_PUSHES_S}):
        first = throughput(lab)
    pushing = throughput(lab)
    with cluster_set(lab, timings={**timings, "push_interval_s": NO_PUSHES_S}):
        last = throughput(lab)
    bare = (first + last) / 2
    show("messages/s without pushes, before and after", f"{first:.0f}, {last:.0f}")
    show("messages/s with a push a second, ratio", f"{pushing:.0f}, {pushing / bare:.2f}")
