"""The lease guard as a process of its own over a real, running Postfix."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import TypeVar

import pytest

from nodeagent.adapters.clock import boot_time_s
from nodeagent.adapters.guard_client import GuardConnection
from nodeagent.adapters.postfix import Postfix
from nodeagent.core.guard_state import ProofKind
from nodeagent.errors import Refused
from nodeagent.guard import FREEZE_LIMIT_S
from tests.fakes.guard_process import GuardProcess
from tests.fakes.postfix_instance import PostfixInstance

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="Postfix and its freezer need root")
SOON_S = 30.0
"""Within it Postfix greets once it goes on; smtpd(8) may have to be started first."""
TRIES = 5
_Outcome = TypeVar("_Outcome")


@pytest.fixture
def guard(postfix: PostfixInstance, tmp_path: Path) -> Iterator[GuardProcess]:
    """Run a guard, proven, with an empty queue."""
    postfix.empty()
    process = GuardProcess(postfix, tmp_path)
    process.start()
    process.prove()
    yield process
    process.kill()


def answers(postfix: PostfixInstance, within_s: float) -> bool:
    """Tell whether Postfix says 220 within this time."""
    try:
        with socket.create_connection(("127.0.0.1", postfix.port), timeout=within_s) as probe:
            probe.settimeout(within_s)
            return probe.recv(100).startswith(b"220")
    except OSError:
        return False


def unless_overlong(freeze: Callable[[], _Outcome]) -> _Outcome:
    """Return what a freeze shows; one that the guard ended because we were slow is made anew."""
    for _ in range(TRIES - 1):
        with suppress(Refused):
            return freeze()
    return freeze()


def answers_while_frozen(guard: GuardProcess, postfix: PostfixInstance) -> bool:
    """Freeze Postfix for a look, and tell whether it says 220."""
    with guard.client.frozen():
        return answers(postfix, 0.1)


def wait_until(condition, limit_s: float = 60.0) -> None:
    """Wait for a condition, fail after `limit_s`."""
    until_s = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < until_s, "it did not happen"
        time.sleep(0.01)


def test_a_passed_deadline_sets_the_queue_aside_and_new_mail_flows(guard, postfix):
    """Section 4.5: no agent is needed for the fence, and Postfix goes on with an empty queue."""
    postfix.send(3)
    postfix.wait_until_deferred(3)
    old = postfix.ids()
    guard.prove(0.3, kind=ProofKind.RENEWED)
    guard.client.set_aside("test")
    assert postfix.ids() == set()
    assert set(guard.client.pending_ids()) == old
    postfix.send(2)
    postfix.wait_until_deferred(2)
    assert not guard.client.status()[0].is_proven


def test_the_fence_comes_by_itself_at_the_deadline(guard, postfix):
    """Nobody asks for it."""
    postfix.send(2)
    postfix.wait_until_deferred(2)
    guard.client.set_aside("begin anew")
    guard.prove(5.0)
    guard.take_back()
    assert len(postfix.ids()) == 2
    wait_until(lambda: postfix.ids() == set(), 30)
    assert len(guard.client.pending_ids()) == 2


def test_take_back_returns_own_mail_and_retires_what_a_receipt_gave_away(guard, postfix):
    """The answer that came with the lease decides, file by file, logs included."""
    postfix.send(3)
    postfix.wait_until_deferred(3)
    gone, *kept = sorted(postfix.ids())
    guard.client.set_aside("test")
    guard.prove(retired={gone: 7})
    guard.take_back()
    assert postfix.ids() == set(kept)
    assert {path.name for path in (guard.relay / "retired/7").rglob("*") if path.is_file()} == {
        gone
    }
    assert (guard.relay / "retired/7/defer" / gone).exists()
    assert guard.client.pending_ids() == ()
    assert not guard.client.status()[0].has_pending


def test_retired_mail_is_shown_with_its_age_and_removed_when_it_is_old(guard, postfix):
    """The guard looks at the age itself, whatever the agent names; a restart changes nothing."""
    postfix.send(3)
    postfix.wait_until_deferred(3)
    gone, *kept = sorted(postfix.ids())
    guard.client.set_aside("test")
    guard.prove(retired={gone: 7})
    guard.take_back()
    (shown,) = guard.client.status()[0].retired
    assert shown.receipt == 7
    assert 0 <= shown.age_s < 60
    assert guard.client.remove_retired_some((7,), 3600.0)
    assert (guard.relay / "retired/7/defer" / gone).exists()
    hour_ago_s = time.time() - 3601
    os.utime(guard.relay / "retired/7", (hour_ago_s, hour_ago_s))
    guard.kill()
    guard.start()
    assert guard.client.status()[0].retired[0].age_s > 3600
    assert guard.client.remove_retired_some((7,), 3600.0)
    assert not (guard.relay / "retired/7").exists()
    assert guard.client.status()[0].retired == ()
    assert postfix.ids() == set(kept)


def test_mail_taken_back_is_tried_again_by_the_queue_manager(guard, postfix):
    """The queue manager was killed by the fence; the next one finds the mail where it belongs."""
    postfix.send(2)
    postfix.wait_until_deferred(2)
    guard.client.set_aside("test")
    guard.prove()
    guard.take_back()
    log = postfix.root / "mail.log"
    before = log.read_text().count("status=deferred")
    subprocess.run(["postqueue", "-c", str(postfix.config), "-f"], check=True)
    wait_until(lambda: log.read_text().count("status=deferred") >= before + 2)


def test_nothing_comes_back_without_a_fresh_proof(guard, postfix):
    """A renewal, an old answer or a restarted guard's memory are not enough."""
    postfix.send(1)
    postfix.wait_until_deferred(1)
    guard.client.set_aside("test")
    with pytest.raises(Refused, match="fresh proof"):
        guard.take_back()
    with pytest.raises(Refused, match="acquired"):
        guard.prove(kind=ProofKind.RENEWED)
    guard.prove()
    guard.kill()
    guard.start()
    assert guard.client.status()[0].is_proven
    with pytest.raises(Refused, match="fresh proof"):
        guard.take_back()


def test_a_restarted_guard_keeps_a_proof_of_this_boot(guard, postfix):
    """Its own crash fences nothing while the deadline has not passed."""
    postfix.send(1)
    postfix.wait_until_deferred(1)
    guard.kill()
    guard.start()
    assert len(postfix.ids()) == 1
    assert guard.client.status()[0].is_proven


def test_a_start_without_a_proof_sets_everything_aside(guard, postfix):
    """/run is empty after a boot."""
    postfix.send(1)
    postfix.wait_until_deferred(1)
    guard.kill()
    (guard.run / "guard.json").unlink()
    guard.start()
    assert postfix.ids() == set()
    assert len(guard.client.pending_ids()) == 1


def test_a_freeze_stops_postfix_and_its_end_lets_it_go_on(guard, postfix):
    """A client that connects meanwhile waits and is served."""
    answered: list[bool] = []

    def connect_while_frozen() -> tuple[list[bool], float]:
        answered.clear()
        thread = threading.Thread(target=lambda: answered.append(answers(postfix, SOON_S)))
        try:
            with guard.client.frozen() as freeze:
                thread.start()
                thread.join(0.1)
                early = answered.copy()
        finally:
            if thread.is_alive():
                thread.join(SOON_S)
        return early, freeze.length_ms

    began_s = boot_time_s()
    early, length_ms = unless_overlong(connect_while_frozen)
    assert (early, answered) == ([], [True])
    assert 100 < length_ms < (boot_time_s() - began_s) * 1000


def test_a_killed_holder_of_a_freeze_thaws_postfix_at_once(guard, postfix):
    """P3: a freeze cannot outlive the agent."""

    def freeze_in_silence() -> GuardConnection:
        connection = GuardConnection(guard.run / "guard.sock")
        connection.call("freeze")
        if answers(postfix, 0.1):
            with closing(connection):
                connection.call("thaw")  # refused where the freeze was overlong
            pytest.fail("a frozen Postfix answers")
        return connection

    unless_overlong(freeze_in_silence).close()
    assert answers(postfix, SOON_S)


def test_an_overlong_freeze_is_ended_and_its_snapshot_worth_nothing(guard, postfix):
    """A hung agent holds a freeze no longer than half a second."""
    assert FREEZE_LIMIT_S == 0.5
    with pytest.raises(Refused, match="before the snapshot"), guard.client.frozen():
        assert answers(postfix, SOON_S)


def test_a_killed_guard_leaves_nothing_frozen_after_its_restart(guard, postfix):
    """Its unit restarts it, and its first act is to thaw."""
    connection = GuardConnection(guard.run / "guard.sock")
    connection.call("freeze")
    guard.kill()
    guard.start()
    assert answers(postfix, SOON_S)
    connection.close()


def test_nothing_is_frozen_for_a_push_without_proof_or_with_pending_mail(guard, postfix):
    """Trace 17 and 18: the guard looks again at the snapshot itself."""
    postfix.send(1)
    postfix.wait_until_deferred(1)
    guard.client.set_aside("test")
    with pytest.raises(Refused), guard.client.frozen():
        pass
    guard.prove()
    with pytest.raises(Refused, match="pending"), guard.client.frozen():
        pass


def test_a_fence_during_a_freeze_spoils_the_snapshot(guard, postfix):
    """The queue that was linked is not the one that is fenced."""
    postfix.send(1)
    postfix.wait_until_deferred(1)
    with pytest.raises(Refused, match="before the snapshot"), guard.client.frozen():
        guard.client.set_aside("meanwhile")
    assert postfix.ids() == set()


def test_a_restart_of_postfix_alone_fences_nothing_and_the_freezer_finds_the_new_master(
    guard, postfix
):
    """A config that needs it restarts Postfix where it was; the proof of this boot goes on."""
    postfix.send(2)
    postfix.wait_until_deferred(2)
    server = Postfix(postfix.queue, postfix.config)
    before, ids = server.master_pid(), postfix.ids()
    postfix.let_postfix_in()
    server.restart()
    assert server.master_pid() not in {None, before}
    assert guard.client.status()[0].is_proven
    assert guard.client.pending_ids() == ()
    assert postfix.ids() == ids
    assert not unless_overlong(lambda: answers_while_frozen(guard, postfix))
    assert answers(postfix, SOON_S)
    assert guard.client.status()[1].startswith("cgroup")


def test_setting_aside_at_the_end_of_a_freeze_leaves_no_gap(guard, postfix):
    """Section 4.6: what was linked is exactly what is pending afterwards."""
    postfix.send(2)
    postfix.wait_until_deferred(2)

    def set_aside_at_end() -> set[str]:
        with guard.client.frozen() as freeze:
            linked = postfix.ids()
            freeze.set_aside_at_end("switchover")
        return linked

    linked = unless_overlong(set_aside_at_end)
    assert postfix.ids() == set()
    assert set(guard.client.pending_ids()) == linked
    assert answers(postfix, SOON_S)


def test_draining_stops_the_queue_manager_and_ends_with_the_connection(guard, postfix):
    """Mail is accepted meanwhile and tried when the drain is over."""
    postfix.send(1)
    postfix.wait_until_deferred(1)
    with guard.client.drained() as connection:
        postfix.send(1)
        time.sleep(0.3)
        assert len(postfix.ids("incoming")) == 1
        assert connection.call("drain")["busy"] == 0
    postfix.wait_until_deferred(2)


def flush(postfix: PostfixInstance) -> None:
    """Have all queued mail tried now."""
    subprocess.run(["postqueue", "-c", str(postfix.config), "-f"], check=True)


def test_adopted_mail_is_placed_only_while_our_own_lease_is_proved(guard, postfix):
    """Section 4.3: and afterwards Postfix tries it."""
    postfix.send(2)
    postfix.wait_until_deferred(2)
    ids = sorted(postfix.ids())
    guard.client.set_aside("now it plays the mirror")
    aside = next((guard.relay / "pending").iterdir())
    mirror = guard.relay / "mirror/node-b"
    (mirror / "mail").mkdir(parents=True)
    (mirror / "defer").mkdir()
    for path in list(aside.rglob("*")):
        if path.is_file():
            kind = "defer" if path.relative_to(aside).parts[0] == "defer" else "mail"
            path.rename(mirror / kind / path.name)
    (mirror / "receipt.json").write_text(json.dumps({"generation": 3, "ids": ids}))
    with pytest.raises(Refused, match="own lease"):
        guard.client.place_some("node-b", 3)
    guard.prove()
    guard.take_back()
    with pytest.raises(Refused, match="another generation"):
        guard.client.place_some("node-b", 2)
    while not guard.client.place_some("node-b", 3):
        pass
    assert postfix.ids() == set(ids)
    flush(postfix)
    postfix.wait_until_deferred(2)
    for queue_id in ids:
        log = next((postfix.queue / "defer").rglob(queue_id))
        shown = subprocess.run(
            ["postqueue", "-c", str(postfix.config), "-p"], capture_output=True, check=True
        )
        assert log.is_file()
        assert queue_id.encode() in shown.stdout


def test_postfix_throws_the_deferral_log_of_incoming_mail_away(guard, postfix):
    """So an adoption need not place it: what it said is written anew by the next attempt."""
    assert guard.client.status()[0].is_proven
    postfix.send(1)
    postfix.wait_until_deferred(1)
    (queue_id,) = postfix.ids()
    log = next((postfix.queue / "defer").rglob(queue_id))
    with log.open("a") as file:
        file.write("this was written on another node\n")
    waiting = next((postfix.queue / "deferred").rglob(queue_id))
    waiting.rename(postfix.queue / "incoming" / queue_id)
    flush(postfix)
    wait_until(lambda: log.exists() and "another node" not in log.read_text())
    postfix.wait_until_deferred(1)


def test_a_stopped_agent_cannot_hold_the_guard_up(guard):
    """A connection that says nothing keeps nobody else waiting."""
    silent = GuardConnection(guard.run / "guard.sock")
    assert guard.client.status()[0].is_proven
    silent.close()
    assert guard.process is not None
    guard.process.send_signal(signal.SIGTERM)
    assert guard.process.wait(30) == 0
