"""Promises and decisions to adopt exclude each other, whatever happens in between."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core import promise_rules as rules
from nodeagent.core.promise_rules import PromiseState

BOOT = "boot-1"
STARTED = rules.on_start(PromiseState(), BOOT, 100.0, 15.0)


def promise(state, now_s=120.0, asked_s=10.0, boot=BOOT):
    """Ask for a promise for node-a."""
    return rules.promise(state, boot, now_s, "node-a", asked_s)


def decide(state, now_s=120.0, boot=BOOT, *, skip=False):
    """Decide to adopt node-a."""
    return rules.decide(state, boot, now_s, "node-a", skip_waiting=skip)


def test_a_promise_is_given_for_what_was_asked():
    """The holder learns for how long it may go on."""
    state, given_promise = promise(STARTED)
    assert (given_promise.for_s, given_promise.until_s) == (10.0, 130.0)
    assert rules.promised_s(state, BOOT, 121.0, "node-a") == 9.0


def test_a_promise_is_never_longer_than_the_promise_length():
    """What a start waits for must cover every promise."""
    assert promise(STARTED, asked_s=1_000.0)[1].for_s == 15.0


def test_a_shorter_promise_does_not_shorten_a_longer_one():
    """The first answer still binds."""
    state, _ = promise(STARTED, asked_s=15.0)
    state, again = promise(state, asked_s=1.0)
    assert again.until_s == 135.0


@pytest.mark.parametrize("asked_s", [0.0, -1.0, float("nan")])
def test_a_promise_of_no_length_is_refused(asked_s):
    """Zero, negative and no number at all."""
    state, answer = promise(STARTED, asked_s=asked_s)
    assert answer.refusal
    assert answer.for_s == 0.0
    assert state == STARTED


def test_no_decision_while_a_promise_is_open():
    """Trace 13, one half."""
    state, _ = promise(STARTED)
    after, refusal = decide(state)
    assert "promised" in refusal
    assert after == state
    assert decide(state, now_s=130.0)[1] == ""


def test_no_promise_after_the_decision():
    """Trace 13, the other half: until the adoption has ended."""
    state, refusal = decide(STARTED)
    assert refusal == ""
    assert promise(state)[1].refusal
    assert promise(rules.end(state, "node-a"))[1].refusal == ""


def test_a_decision_is_for_one_queue():
    """With three nodes the third may still be promised."""
    state, _ = decide(STARTED)
    assert rules.promise(state, BOOT, 120.0, "node-c", 5.0)[1].refusal == ""


def test_nothing_is_adopted_for_one_promise_length_after_a_start():
    """Trace 12: a promise that a reboot forgot still holds."""
    assert "after the start" in decide(STARTED, now_s=114.9)[1]
    assert decide(STARTED, now_s=115.0)[1] == ""


def test_after_a_boot_nothing_is_decided_before_the_agent_has_started():
    """The file of another boot says nothing about time."""
    assert decide(STARTED, boot="boot-2")[1]
    assert promise(STARTED, boot="boot-2")[1].refusal
    assert rules.grace_s(STARTED, "boot-2", 3.0) == 15.0


def test_a_boot_forgets_promises_and_waits_instead():
    """Times of another boot mean nothing; the waiting covers them."""
    state, _ = promise(STARTED)
    booted = rules.on_start(state, "boot-2", 5.0, 15.0)
    assert rules.promised_s(booted, "boot-2", 5.0, "node-a") == 0.0
    assert rules.grace_s(booted, "boot-2", 5.0) == 15.0


def test_a_restart_of_the_agent_keeps_promises():
    """In the same boot the ledger still counts."""
    state, _ = promise(STARTED)
    again = rules.on_start(state, BOOT, 121.0, 15.0)
    assert rules.promised_s(again, BOOT, 121.0, "node-a") == 9.0


def test_a_shorter_length_waits_for_the_longer_one_before_it():
    """Promises of the old length may be open."""
    assert rules.on_start(STARTED, "boot-2", 5.0, 3.0).quiet_until_s == 20.0


def test_a_promise_given_before_the_length_was_cut_outlasts_a_boot():
    """An operator shortens promises while a holder lives on a long one, and this host reboots."""
    state, _ = promise(STARTED, asked_s=15.0)
    booted = rules.on_start(rules.on_length(state, 3.0), "boot-2", 5.0, 3.0)
    assert rules.grace_s(booted, "boot-2", 5.0) == 15.0
    assert "after the start" in decide(booted, now_s=19.9, boot="boot-2")[1]
    assert decide(booted, now_s=20.0, boot="boot-2")[1] == ""


def test_a_second_boot_does_not_forget_what_the_first_one_waited_for():
    """Two reboots in a row: the promise of old may still be open at the end of the second."""
    state, _ = promise(STARTED, asked_s=15.0)
    first = rules.on_start(state, "boot-2", 5.0, 3.0)
    second = rules.on_start(first, "boot-3", 1.0, 3.0)
    assert rules.grace_s(second, "boot-3", 1.0) == 15.0


def test_a_time_of_another_boot_ends_no_waiting():
    """A host that has run for long since its boot may have promised in the boot before."""
    state, _ = promise(STARTED, asked_s=15.0)
    booted = rules.on_start(rules.on_length(state, 3.0), "boot-2", 9_000.0, 3.0)
    assert rules.grace_s(booted, "boot-2", 9_000.0) == 15.0


def test_what_was_waited_for_once_is_over():
    """After one whole waiting the shorter length counts alone."""
    state, _ = promise(STARTED, asked_s=15.0)
    booted = rules.on_start(state, "boot-2", 5.0, 3.0)
    again = rules.on_start(booted, "boot-2", 20.0, 3.0)
    assert rules.grace_s(again, "boot-2", 20.0) == 3.0
    assert rules.grace_s(rules.on_start(again, "boot-3", 0.0, 3.0), "boot-3", 0.0) == 3.0


def test_a_new_length_counts_for_promises_from_now_on():
    """Longer ones are cut to it; the one that is open keeps its end."""
    state, _ = promise(STARTED, asked_s=15.0)
    shorter = rules.on_length(state, 3.0)
    assert rules.promised_s(shorter, BOOT, 120.0, "node-a") == 15.0
    _, given_promise = rules.promise(shorter, BOOT, 120.0, "node-c", 15.0)
    assert given_promise.for_s == 3.0


def test_an_agent_that_never_started_here_neither_promises_nor_adopts():
    """Without a length nothing says for how long a promise of before may bind."""
    assert promise(PromiseState())[1].refusal
    assert decide(PromiseState())[1]
    assert decide(PromiseState(), skip=True)[1] == ""


def test_every_decision_but_that_of_the_adoption_under_way_ends():
    """A kill between ledger and promises left it behind; its owner would be refused for ever."""
    state, _ = decide(STARTED)
    state, _ = rules.decide(state, BOOT, 120.0, "node-c")
    assert rules.end_others(state, "node-c").adopting == {"node-c"}
    assert rules.end_others(state, None).adopting == frozenset()
    assert rules.end_others(state, "node-d").adopting == frozenset()
    assert rules.end(state, "node-c").adopting == {"node-a"}


def test_deciding_twice_is_deciding_once():
    """A tick that is repeated changes nothing, whatever has been promised to others."""
    state, _ = decide(STARTED)
    assert decide(state) == (state, "")


def test_a_decision_survives_any_start():
    """An adoption under way is finished or dropped, and promises stay refused."""
    state, _ = decide(STARTED)
    booted = rules.on_start(state, "boot-2", 5.0, 15.0)
    assert decide(booted, now_s=6.0, boot="boot-2")[1] == ""
    assert promise(booted, now_s=6.0, boot="boot-2")[1].refusal


def test_an_operator_may_skip_the_waiting():
    """With --confirm-dead nothing is waited for after a start."""
    assert decide(STARTED, now_s=101.0, skip=True)[1] == ""


def test_an_open_promise_binds_whoever_skips_the_waiting():
    """The word of an operator may be old: the node may be back and rely on the promise."""
    state, _ = promise(STARTED, now_s=101.0)
    assert "promised" in decide(state, now_s=102.0, skip=True)[1]
    assert decide(state, now_s=111.0, skip=True)[1] == ""


steps = st.lists(
    st.tuples(st.sampled_from(["promise", "decide", "end", "start"]), st.floats(0.1, 20.0)),
    max_size=30,
)


@given(steps)
def test_no_order_of_events_adopts_under_a_promise(history):
    """At no decision is any promise ever given still running, restarts included."""
    state, now_s, open_until_s = STARTED, 100.0, 0.0
    for name, value in history:
        now_s += value / 4
        if name == "promise":
            state, answer = promise(state, now_s, value)
            assert not (answer.for_s and "node-a" in state.adopting)
            open_until_s = max(open_until_s, answer.until_s)
        elif name == "decide":
            was_adopting = "node-a" in state.adopting
            state, refusal = decide(state, now_s)
            assert refusal or was_adopting or now_s >= open_until_s
        elif name == "end":
            state = rules.end(state, "node-a")
        else:
            state = rules.on_start(state, BOOT, now_s, 15.0)


class Host:
    """One host in the real time of the world, whose boot time begins anew with each boot."""

    def __init__(self):
        self.now_s, self.booted_s, self.boots, self.length_s = 0.0, 0.0, 0, 15.0
        self.state = PromiseState()
        self.start()

    @property
    def clock(self):
        """The boot's id and its time."""
        return f"boot-{self.boots}", self.now_s - self.booted_s

    def start(self):
        """Start the agent."""
        self.state = rules.on_start(self.state, *self.clock, self.length_s)

    def boot(self):
        """Cut the power and start again."""
        self.boots, self.booted_s = self.boots + 1, self.now_s
        self.start()

    def set_length(self, length_s):
        """Change the cluster's promise length."""
        self.length_s = length_s
        self.state = rules.on_length(self.state, length_s)


EVENTS = ("promise", "shorter", "longer", "boot", "start")


@pytest.mark.parametrize("passes_s", [1.0, 4.0, 8.0])
def test_no_boot_and_no_new_length_adopts_under_a_promise(passes_s):
    """Five events in every order: while a holder relies on a promise, its giver adopts nothing."""
    for history in product(EVENTS, repeat=5):
        host, open_until_s = Host(), 0.0
        host.now_s = 100.0
        for event in history:
            if event == "promise":
                host.state, answer = rules.promise(host.state, *host.clock, "node-a", 15.0)
                open_until_s = max(open_until_s, host.now_s + answer.for_s)
            elif event == "boot":
                host.boot()
            elif event == "start":
                host.start()
            else:
                host.set_length(3.0 if event == "shorter" else 15.0)
            host.now_s += passes_s
            refusal = rules.decide(host.state, *host.clock, "node-a")[1]
            assert refusal or host.now_s >= open_until_s, history
