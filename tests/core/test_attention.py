"""The table of what needs attention: each rule holds where it should, and nowhere else."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from controlplane.api.agent_auth import LEEWAY_S
from controlplane.core.attention import RULES, Severity, find_attention
from controlplane.core.attention_finders import CLOCK_BAD_S, CLOCK_WARN_S
from controlplane.core.situation import Happening, KnownDisk, KnownLease, KnownRotation, Situation
from tests.core.situations import (
    COUNTS,
    NOW_S,
    VIP,
    active_report,
    healthy,
    known_node,
    known_push,
    known_report,
    with_node,
    with_report,
)

DOCS = Path(__file__).parents[2] / "docs"
DAY_S = 86_400
SILENT = {"is_fresh": False, "seen_at_s": NOW_S - 90}
HALF = healthy()


def counts(**values: int | None) -> dict[str, Any]:
    """Return a report's queue with other counts."""
    return {"queue": COUNTS.model_copy(update=values)}


def lease(**values: Any) -> tuple[KnownLease, ...]:
    """Return the pair's leases with node-a's changed."""
    first, second = HALF.leases
    return (replace(first, **values), second)


def happened(kind: str) -> Situation:
    """Return a situation in which an event came from node-b an hour ago."""
    return healthy(happenings=(Happening(kind, "node-b", 2, NOW_S - 3600),))


def grown(deferred: int | None, before: int = 100) -> Situation:
    """Return a situation of node-a now, with one message active, and half an hour ago."""
    situation = with_report(HALF, "node-a", **counts(deferred=deferred))
    return replace(situation, waited_before=(("node-a", before),))


def rotating(**values: Any) -> Situation:
    """Return the pair just asked to replace node-a's SSH key."""
    rotation = replace(KnownRotation(NOW_S - 299, "node-b lets nobody in."), **values)
    return with_node(HALF, "node-a", rotation=rotation)


NOBODY = with_report(HALF, "node-a", holds_vips=())
LOST = replace(with_node(HALF, "node-a", **SILENT), leases=lease(is_held=False))
ALONE = healthy(nodes=(known_node("node-a", active_report()),))
GONE = with_node(
    with_report(HALF, "node-b", is_proven=False, postfix_running=False),
    "node-b",
    is_struck_off=True,
)
NEW = known_node("node-c", None, is_enrolled=False, seen_at_s=None)
MUTE = known_node("node-c", None, seen_at_s=None)
LEFT_OUT = "Bad word 3 is left out: it is no regular expression."
REFUSED = {"config_version": 6, "config_failed_version": 7, "config_error": "postfix check: no."}

CASES: list[tuple[str, Situation, set[str]]] = [
    ("a healthy pair", HALF, set()),
    ("two holders", with_report(HALF, "node-b", holds_vips=(VIP,)), {"vip-twice", "copy-missing"}),
    (
        "a holder that another has followed",
        with_node(with_report(HALF, "node-b", holds_vips=(VIP,)), "node-a", is_late=True),
        {"copy-missing"},
    ),
    ("a holder that is late, and nobody else", with_node(HALF, "node-a", is_late=True), set()),
    ("nobody has the VIP", NOBODY, {"vip-nowhere"}),
    ("the VIP cannot be read", with_report(HALF, "node-a", holds_vips=None), {"vip-nowhere"}),
    ("a silent standby", with_node(HALF, "node-b", **SILENT), {"silent"}),
    ("a silent active", with_node(HALF, "node-a", **SILENT), {"silent", "vip-nowhere"}),
    ("a lease that ran out", LOST, {"silent", "vip-nowhere", "lease-lost"}),
    (
        "a queue that was adopted",
        replace(LOST, leases=lease(is_held=False, holder="node-b")),
        {"silent", "vip-nowhere"},
    ),
    ("a node struck off", with_node(LOST, "node-a", is_struck_off=True), {"vip-nowhere"}),
    ("a fenced node", with_report(HALF, "node-b", is_proven=False), {"fenced"}),
    ("a node struck off that still speaks", GONE, set()),
    ("after a restore", healthy(is_recovering=True, awaited=("node-b",)), {"recovering"}),
    ("an older database", healthy(leases=lease(seen_generation=4)), {"older-database"}),
    ("Postfix down", with_report(HALF, "node-b", postfix_running=False), {"postfix-down"}),
    ("Postfix unknown", with_report(HALF, "node-b", postfix_running=None), set()),
    ("a configuration refused", with_report(HALF, "node-b", **REFUSED), {"config-refused"}),
    ("a configuration behind", with_report(HALF, "node-b", config_version=6), {"config-behind"}),
    ("no configuration", with_node(HALF, "node-b", assigned_version=None), {"never-applied"}),
    ("no copy", with_report(HALF, "node-a", pushes=()), {"copy-missing"}),
    (
        "an old copy",
        with_report(HALF, "node-a", pushes=(known_push(at_s=NOW_S - 31),)),
        {"copy-old"},
    ),
    (
        "a copy as old as it may be",
        with_report(HALF, "node-a", pushes=(known_push(at_s=NOW_S - 30),)),
        set(),
    ),
    (
        "a copy that is old only for shorter intervals",
        replace(
            with_report(HALF, "node-a", pushes=(known_push(at_s=NOW_S - 100),)), push_interval_s=60
        ),
        set(),
    ),
    ("a node alone", ALONE, {"no-standby"}),
    ("a node alone without a copy", with_report(ALONE, "node-a", pushes=()), {"no-standby"}),
    ("a growing queue", grown(200), {"queue-growing"}),
    ("a queue that has just doubled", grown(199), {"queue-growing"}),
    ("a queue that has not quite doubled", grown(198), set()),
    ("a long queue that grew by little", grown(1_000, before=901), set()),
    ("a short queue that has doubled", grown(97, before=49), set()),
    ("an empty queue that has become a long one", grown(99, before=0), {"queue-growing"}),
    ("a queue that grew a little", grown(180), set()),
    ("a queue that cannot be counted", grown(None), set()),
    ("a queue of whose past nothing is known", replace(grown(90_000), waited_before=()), set()),
    ("a quarantine", with_report(HALF, "node-b", **counts(quarantined=2)), {"quarantined"}),
    ("pending mail", with_report(HALF, "node-b", **counts(pending=2)), {"pending"}),
    ("retired mail", with_report(HALF, "node-b", **counts(retired=2)), {"retired"}),
    ("an expired certificate", healthy(certificate_ends_at_s=NOW_S), {"certificate-ended"}),
    (
        "a certificate's last days",
        healthy(certificate_ends_at_s=NOW_S + 6.9 * DAY_S),
        {"certificate-ends-now"},
    ),
    (
        "a certificate's last weeks",
        healthy(certificate_ends_at_s=NOW_S + 7 * DAY_S),
        {"certificate-ends-soon"},
    ),
    ("a certificate with a month", healthy(certificate_ends_at_s=NOW_S + 30 * DAY_S), set()),
    ("the first password", healthy(has_first_password=True), {"first-password"}),
    ("events dropped", happened("events-dropped"), {"events-dropped"}),
    ("a broken mirror", happened("mirror-broken"), {"mirror-broken"}),
    ("a fence that failed", happened("fence-failed"), {"fence-failed"}),
    ("a freezer that failed", happened("freezer-failed"), {"freezer-failed"}),
    ("another event", happened("adopted"), set()),
    ("no freezer", with_report(HALF, "node-b", freezer="stop-start"), {"slow-freezer"}),
    (
        "a policy left in part",
        with_node(HALF, "node-b", policy_problem=LEFT_OUT),
        {"policy-problem"},
    ),
    (
        "a silent node's policy",
        with_node(HALF, "node-b", policy_problem=LEFT_OUT, **SILENT),
        {"silent"},
    ),
    (
        "the policy of a node struck off",
        with_node(GONE, "node-b", policy_problem=LEFT_OUT),
        set(),
    ),
    ("two versions", with_report(HALF, "node-b", agent_version="2.0"), {"versions-differ"}),
    *(
        (f"a clock {offset_s} s off", with_report(HALF, "node-b", clock_offset_s=offset_s), rules)
        for offset_s, rules in (
            (4.9, set()),
            (-4.9, set()),
            (5.0, {"clock-off"}),
            (-149.0, {"clock-off"}),
            (150.0, {"clock-far-off"}),
            (-86_400.0, {"clock-far-off"}),
        )
    ),
    *(
        (f"a disk with {disk}", with_report(HALF, "node-a", disk=disk), rules)
        for disk, rules in (
            (KnownDisk(10, 100, 10, 100), set()),
            (KnownDisk(9, 100, 90, 100), {"disk-filling"}),
            (KnownDisk(90, 100, 9, 100), {"disk-filling"}),
            (KnownDisk(9, 100, 4, 100), {"disk-nearly-full"}),
            (KnownDisk(0, 100), {"disk-nearly-full"}),
            (KnownDisk(None, None, 0, 100), {"disk-nearly-full"}),
            (KnownDisk(0, 0, 0, 0), set()),
        )
    ),
    ("a rotation", rotating(), set()),
    ("a rotation of five minutes", rotating(asked_at_s=NOW_S - 300), {"rotation-waits"}),
    (
        "a rotation and a silent peer",
        with_node(rotating(), "node-b", **SILENT),
        {"silent", "rotation-needs-peer"},
    ),
    (
        "a rotation of five minutes and a silent peer",
        with_node(rotating(asked_at_s=NOW_S - 300), "node-b", **SILENT),
        {"silent", "rotation-needs-peer"},
    ),
    (
        "a rotation and a peer without a key",
        with_node(rotating(), "node-b", is_enrolled=False, **SILENT),
        {"silent", "not-enrolled", "no-standby"},
    ),
    (
        "a silent node's rotation",
        with_node(rotating(asked_at_s=NOW_S - 300), "node-a", **SILENT),
        {"silent", "vip-nowhere"},
    ),
    ("a node in maintenance", with_node(HALF, "node-b", is_maintenance=True), {"maintenance"}),
    ("no node", healthy(nodes=(), leases=()), {"no-nodes"}),
    ("a node that is not enrolled", healthy(nodes=(*HALF.nodes, NEW)), {"not-enrolled"}),
    ("a node that never spoke", healthy(nodes=(*HALF.nodes, MUTE)), {"never-reported"}),
    (
        "nobody has ever spoken",
        healthy(nodes=(MUTE, NEW)),
        {"never-reported", "not-enrolled", "no-standby"},
    ),
]


@pytest.mark.parametrize(
    ("situation", "rules"), [case[1:] for case in CASES], ids=[case[0] for case in CASES]
)
def test_each_situation_needs_exactly_this_attention(situation: Situation, rules: set[str]) -> None:
    """No rule holds where it should not, none is silent where it should speak."""
    assert {one.rule for one in find_attention(situation)} == rules


def test_every_rule_is_tried() -> None:
    """A rule that no case names could say anything."""
    named = set().union(*(rules for _, _, rules in CASES))
    assert named == {rule.name for rule in RULES}
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_of_a_silent_node_nothing_is_known_but_its_silence() -> None:
    """Whatever it said last is not the present."""
    worst = with_report(
        HALF, "node-b", is_proven=False, postfix_running=False, holds_vips=(VIP,), **REFUSED
    )
    found = find_attention(with_node(worst, "node-b", **SILENT))
    assert [one.rule for one in found] == ["silent"]
    assert found[0].since_s == NOW_S - 90


def test_the_worst_comes_first() -> None:
    """Whoever reads only the first line reads what matters most."""
    situation = with_node(healthy(has_first_password=True), "node-b", is_maintenance=True)
    situation = with_report(situation, "node-b", **counts(quarantined=1))
    found = [one.severity for one in find_attention(situation)]
    assert found == [Severity.BAD, Severity.WARN, Severity.INFO]


def test_a_sentence_names_its_values() -> None:
    """With the values filled in, nothing of the pattern is left."""
    for _, situation, _ in CASES:
        for one in find_attention(situation):
            assert "%(" not in one.text
            assert one.text.endswith((".", "?"))


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.name)
def test_each_rule_says_what_to_do(rule: Any) -> None:
    """A sentence, a step that is one too, and a page; a step fills in nothing."""
    assert re.fullmatch(r"[a-z-]+", rule.name)
    assert rule.step.endswith((".", "?"))
    assert "%" not in rule.step
    assert rule.page.startswith("/")
    assert "docs/" not in rule.step
    manual = rule.page.removeprefix("/manuals/")
    assert manual == rule.page or (DOCS / manual).is_file()


def test_an_active_node_alone_and_a_spare_without_report() -> None:
    """A peer that is not enrolled takes no copy, so nobody asks for one."""
    spare = known_node("node-b", known_report(), is_enrolled=False)
    situation = healthy(nodes=(known_node("node-a", active_report(pushes=())), spare))
    assert "copy-missing" not in {one.rule for one in find_attention(situation)}


def test_a_clock_is_bad_before_the_node_is_refused() -> None:
    """The sentence names the limit that agents' tokens really have, and comes well before it."""
    (rule,) = (one for one in RULES if one.name == "clock-far-off")
    assert f"at {LEEWAY_S} its reports are refused" in rule.message
    assert CLOCK_WARN_S < CLOCK_BAD_S <= LEEWAY_S / 2


def test_what_is_scarcer_counts() -> None:
    """A disk with room and without inodes takes no mail; the sentence says how much is left."""
    disk = KnownDisk(99, 100, 4, 100)
    (found,) = find_attention(with_report(HALF, "node-a", disk=disk))
    assert (found.rule, dict(found.values)) == (
        "disk-nearly-full",
        {"node": "node-a", "percent": 4},
    )


def test_a_rotation_names_the_peer_or_the_reason() -> None:
    """And since when it was wished for; a node that said nothing has no reason made up."""
    asked_at_s = NOW_S - 900
    (_, found) = find_attention(with_node(rotating(), "node-b", **SILENT))
    assert dict(found.values) == {"node": "node-a", "peer": "node-b"}
    (found,) = find_attention(rotating(asked_at_s=asked_at_s))
    assert found.text.endswith("that it shall replace: node-b lets nobody in.")
    assert found.since_s == asked_at_s
    (found,) = find_attention(rotating(asked_at_s=asked_at_s, reason=None))
    assert found.values["reason"] == "-"
