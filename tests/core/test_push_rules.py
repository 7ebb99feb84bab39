"""Every combination of what a receiver knows and a sender offers, against the promises."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeagent.core.push_rules import (
    RULES,
    MirrorState,
    PushOffer,
    PushRefusal,
    ReceiverState,
    after_adoption,
    after_push,
    judge_push,
)

VIP = "198.51.100.100"
MIRROR = MirrorState("node-a", 5, 0, 10, "agent-1", 3)
STATE = ReceiverState(MIRROR, "node-a", frozenset({"198.51.100.12"}))
OFFER = PushOffer("node-a", 5, "agent-1", frozenset({VIP}), sequence=11, base=10)


def refusal(state: ReceiverState = STATE, offer: PushOffer = OFFER) -> PushRefusal | None:
    """Return why a push is dropped."""
    return judge_push(state, offer).refusal


def test_a_push_that_fits_is_taken():
    """Own queue, own VIP, same generation and process, next number: nothing objects."""
    assert judge_push(STATE, OFFER).is_accepted


@pytest.mark.parametrize("sequence", [11, 12, 100])
def test_any_newer_number_is_taken(sequence):
    """Numbers may be skipped; they only rise."""
    assert refusal(offer=replace(OFFER, sequence=sequence)) is None


@pytest.mark.parametrize("sequence", [1, 9, 10])
def test_an_old_number_is_dropped(sequence):
    """Trace 11: an orphan push of the same generation does not overwrite a newer one."""
    assert refusal(offer=replace(OFFER, sequence=sequence)) is PushRefusal.SEQUENCE


@pytest.mark.parametrize("base", [0, 9, 11])
def test_a_push_computed_against_another_state_is_dropped(base):
    """What the sender left out is only right on the state that it compared with."""
    assert refusal(offer=replace(OFFER, base=base)) is PushRefusal.BASE
    assert refusal(offer=replace(OFFER, base=base, is_full=True)) is PushRefusal.BASE


@pytest.mark.parametrize("generation", [0, 1, 4])
def test_an_old_generation_is_dropped(generation):
    """A node whose lease went elsewhere pushes into the void."""
    assert refusal(offer=replace(OFFER, generation=generation)) is PushRefusal.GENERATION


def test_a_generation_below_an_adoption_is_dropped():
    """Trace 9: the mirror's own adoption raises what it takes, without any push."""
    adopted = replace(STATE, mirror=replace(MIRROR, lowest_generation=7))
    assert refusal(adopted, replace(OFFER, generation=6, is_full=True)) is PushRefusal.GENERATION
    assert refusal(adopted, replace(OFFER, generation=8, is_full=True)) is None


def test_generation_zero_is_never_taken():
    """Without a lease there is nothing to push, not even into an empty mirror."""
    empty = replace(STATE, mirror=MirrorState("node-a"))
    offer = replace(OFFER, generation=0, sequence=1, base=0, is_full=True)
    assert refusal(empty, offer) is PushRefusal.GENERATION


@pytest.mark.parametrize("change", [{"generation": 6}, {"agent": "agent-2"}])
def test_the_first_push_of_a_generation_or_process_must_be_full(change):
    """Only a full comparison may follow a change of generation or of the agent process."""
    assert refusal(offer=replace(OFFER, **change)) is PushRefusal.NOT_FULL
    assert refusal(offer=replace(OFFER, is_full=True, **change)) is None


def test_nothing_is_taken_under_an_unfinished_receipt():
    """Trace 7: a push must not clear what a committed receipt gives this node."""
    assert refusal(replace(STATE, has_receipt=True)) is PushRefusal.RECEIPT


@pytest.mark.parametrize(
    ("peer", "queue"), [("node-b", "node-a"), ("node-a", "node-c"), ("node-c", "node-c")]
)
def test_a_stranger_is_dropped(peer, queue):
    """A key opens its own node's queue and no other."""
    state = replace(STATE, peer=peer)
    assert refusal(state, replace(OFFER, queue=queue)) is PushRefusal.STRANGER


def test_a_sender_without_vip_is_dropped():
    """P4: mail flows from the active node only."""
    assert refusal(offer=replace(OFFER, holds_vips=frozenset())) is PushRefusal.DIRECTION


def test_a_vip_that_is_here_too_drops_the_push():
    """P4: whatever the sender believes, this host owns the VIP it claims."""
    both = replace(STATE, addresses=frozenset({VIP, "198.51.100.12"}))
    assert refusal(both) is PushRefusal.DIRECTION


def test_another_vip_here_is_no_obstacle():
    """Two VIPs with both hosts active: each pushes to the other."""
    other = replace(STATE, addresses=frozenset({"198.51.100.101"}))
    assert refusal(other) is None


def test_unknown_addresses_are_no_permission():
    """Unknown is never permission."""
    assert refusal(replace(STATE, addresses=None)) is PushRefusal.DIRECTION


def test_a_question_is_judged_without_numbers():
    """At the start of a session there is no push yet; the rest is looked at."""
    question = replace(OFFER, sequence=0, base=0, agent="agent-2")
    assert question.is_question
    assert refusal(offer=question) is None
    assert refusal(offer=replace(question, generation=4)) is PushRefusal.GENERATION
    assert refusal(replace(STATE, has_receipt=True), question) is PushRefusal.RECEIPT


def test_every_reason_has_one_rule_and_a_sentence():
    """The table names each refusal once, and each says something to people."""
    assert [reason for reason, _rule in RULES] == list(PushRefusal)
    assert judge_push(STATE, replace(OFFER, generation=4)).text.endswith(".")


@pytest.mark.parametrize("has_receipt", [False, True])
@pytest.mark.parametrize("is_full", [False, True])
def test_what_is_taken_is_exactly_what_the_design_says(is_full, has_receipt):
    """Enumerated: accepted if and only if every condition of section 4.2 holds."""
    numbers = product(range(4), range(4), range(4), range(3), range(3))
    worlds = product(numbers, ("agent-1", "agent-2"), (frozenset(), frozenset({VIP})))
    for (highest, lowest, generation, sequence, base), agent, addresses in worlds:
        mirror = MirrorState("node-a", highest, lowest, 1, "agent-1")
        state = ReceiverState(mirror, "node-a", addresses, has_receipt)
        offer = PushOffer(
            "node-a", generation, agent, frozenset({VIP}), sequence + 1, base, is_full
        )
        may = (
            not has_receipt
            and VIP not in addresses
            and generation >= max(highest, lowest, 1)
            and offer.sequence > 1
            and base == 1
            and (is_full or (generation == highest and agent == "agent-1"))
        )
        assert judge_push(state, offer).is_accepted is may, (state, offer)


def test_a_push_in_place_moves_the_state():
    """Afterwards the same push is old, and the next one builds on it."""
    state = after_push(MIRROR, replace(OFFER, generation=6, agent="agent-2"), 8)
    assert state == MirrorState("node-a", 6, 0, 11, "agent-2", 8)
    assert refusal(replace(STATE, mirror=state)) is PushRefusal.GENERATION


def test_an_adoption_makes_every_computed_push_worthless():
    """After an adoption neither the generation nor the base of a late push fits."""
    state = after_adoption(MIRROR, 7, 0)
    assert (state.floor_generation, state.sequence, state.agent) == (7, 11, "")
    late = replace(OFFER, generation=8, sequence=12, base=10, is_full=True)
    assert refusal(replace(STATE, mirror=state), late) is PushRefusal.BASE


def test_an_adoption_never_lowers_a_generation():
    """The lowest generation only rises."""
    state = after_adoption(replace(MIRROR, lowest_generation=9), 7, 0)
    assert state.lowest_generation == 9


@pytest.mark.parametrize(
    ("state", "offer", "text"),
    [
        (
            replace(STATE, peer="node-b"),
            OFFER,
            "node-b is a stranger to the queue 'node-a': it may push its own only.",
        ),
        (
            replace(STATE, addresses=None),
            OFFER,
            "This host's addresses cannot be read, so the direction is unknown.",
        ),
        (
            STATE,
            replace(OFFER, holds_vips=frozenset()),
            "node-a owns no VIP, and mail flows from the active node only.",
        ),
        (
            replace(STATE, addresses=frozenset({VIP, "198.51.100.12", "198.51.100.101"})),
            replace(OFFER, holds_vips=frozenset({"198.51.100.101", VIP, "198.51.100.102"})),
            (
                "198.51.100.100, 198.51.100.101 is on this host too, and mail flows from the "
                "active node only."
            ),
        ),
        (
            replace(STATE, has_receipt=True),
            OFFER,
            "This host is adopting node-a; its receipt is not finished.",
        ),
        (STATE, replace(OFFER, generation=4), "Generation 4 of node-a is old: 5 is known here."),
        (STATE, replace(OFFER, sequence=9), "Push 9 of node-a is old: 10 is in place."),
        (STATE, replace(OFFER, base=8), "The push builds on push 8, but 10 is in place."),
        (
            STATE,
            replace(OFFER, agent="agent-2"),
            "The first push of a generation or of an agent process must compare everything.",
        ),
    ],
)
def test_a_refusal_says_what_is_wrong(state: ReceiverState, offer: PushOffer, text: str) -> None:
    """The sender's operator reads it, who does not see the mirror."""
    assert judge_push(state, offer).text == text


def test_a_session_begins_with_a_question_and_an_empty_mirror() -> None:
    """What was never pushed has no number; the first push of all is number one, on nothing."""
    question = PushOffer("node-a", 1, "agent-1", frozenset({VIP}))
    empty = replace(STATE, mirror=MirrorState("node-a"))
    assert question.is_question
    assert judge_push(empty, question) == judge_push(STATE, OFFER)
    assert refusal(empty, replace(question, sequence=1, is_full=True)) is None
    assert refusal(empty, replace(question, sequence=1)) is PushRefusal.NOT_FULL
    assert MirrorState("node-a") == MirrorState("node-a", 0, 0, 0, "", 0)


SMALL = st.integers(0, 6)
AGENTS = st.sampled_from(("agent-1", "agent-2"))
MIRRORS = st.builds(MirrorState, st.just("node-a"), SMALL, SMALL, SMALL, AGENTS, SMALL)
OFFERS = st.builds(
    PushOffer,
    st.just("node-a"),
    SMALL,
    AGENTS,
    st.just(frozenset({VIP})),
    sequence=SMALL,
    base=SMALL,
    is_full=st.booleans(),
)


@given(MIRRORS, st.lists(OFFERS, max_size=6))
def test_whatever_is_offered_no_push_is_taken_twice(
    mirror: MirrorState, offers: list[PushOffer]
) -> None:
    """Numbers and generations only rise, and what is in place is old from then on."""
    for offer in offers:
        if offer.is_question or not judge_push(replace(STATE, mirror=mirror), offer).is_accepted:
            continue
        after = after_push(mirror, offer, 1)
        assert after.sequence > mirror.sequence
        assert after.floor_generation >= mirror.floor_generation
        assert after.lowest_generation == mirror.lowest_generation
        assert refusal(replace(STATE, mirror=after), offer) is not None
        mirror = after


@given(MIRRORS, OFFERS, SMALL)
def test_nothing_from_before_an_adoption_is_taken_after_it(
    mirror: MirrorState, offer: PushOffer, generation: int
) -> None:
    """A late push of a node that was thought dead changes nothing that a receipt may list."""
    state = replace(STATE, mirror=mirror)
    if judge_push(state, offer).is_accepted and not offer.is_question:
        after = replace(STATE, mirror=after_adoption(mirror, generation, 0))
        assert refusal(after, offer) is not None


@given(MIRRORS, SMALL, SMALL)
def test_two_adoptions_leave_the_same_floor_in_either_order(
    mirror: MirrorState, one: int, other: int
) -> None:
    """The floor is that of the newest generation, whenever it was heard of."""
    both = after_adoption(after_adoption(mirror, one, 0), other, 0)
    assert both == after_adoption(after_adoption(mirror, other, 0), one, 0)
    assert both.floor_generation == max(mirror.floor_generation, one, other)
