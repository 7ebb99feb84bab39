"""What the sentences of attention say: who, how many, and since when."""

from __future__ import annotations

import pytest

from controlplane.core.attention import find_attention
from controlplane.core.situation import Happening, Situation
from tests.core.situations import NOW_S, VIP, healthy, known_push, with_node, with_report
from tests.core.test_attention import (
    DAY_S,
    HALF,
    LEFT_OUT,
    LOST,
    REFUSED,
    counts,
    grown,
    happened,
    lease,
)

SENTENCES: list[tuple[str, Situation, str, float | None]] = [
    (
        "vip-twice",
        with_report(HALF, "node-b", holds_vips=(VIP,)),
        f"{VIP} is on several nodes at the same time: node-a, node-b.",
        None,
    ),
    (
        "policy-problem",
        with_node(HALF, "node-b", policy_problem=LEFT_OUT),
        f"The policy hook of node-b has a problem: {LEFT_OUT}",
        None,
    ),
    (
        "recovering",
        healthy(is_recovering=True, awaited=("node-a", "node-b")),
        "Restored from a backup: no lease is granted until these have reported: node-a, node-b.",
        None,
    ),
    (
        "recovering",
        healthy(is_recovering=True),
        "Restored from a backup: no lease is granted until these have reported: -.",
        None,
    ),
    (
        "older-database",
        healthy(leases=lease(seen_generation=4)),
        "This database is older than the cluster: node-a has seen generation 4, it knows 3.",
        None,
    ),
    (
        "config-refused",
        with_report(HALF, "node-b", **REFUSED),
        "node-b refused configuration 7: postfix check: no.",
        None,
    ),
    (
        "lease-lost",
        LOST,
        "Nobody holds the lease of node-a's queue, and no peer has adopted it: its mail waits.",
        NOW_S + 9,
    ),
    (
        "copy-old",
        with_report(
            HALF,
            "node-a",
            pushes=(known_push(at_s=NOW_S - 50), known_push(peer="node-c", at_s=NOW_S - 40.5)),
        ),
        "The newest copy of node-a's queue, on node-c, is old.",
        NOW_S - 41,
    ),
    (
        "queue-growing",
        grown(299),
        "The queue on node-a has grown from 100 to 300 within half an hour.",
        None,
    ),
    (
        "fence-failed",
        happened("fence-failed"),
        "node-b could not set its queue aside within the last day: Postfix stood still.",
        NOW_S - 3600,
    ),
    (
        "certificate-ends-soon",
        healthy(certificate_ends_at_s=NOW_S + 29.9 * DAY_S),
        "The certificate expires in 29 days.",
        None,
    ),
    (
        "certificate-ends-now",
        healthy(certificate_ends_at_s=NOW_S + 1),
        "The certificate expires in 0 days.",
        None,
    ),
    (
        "certificate-ended",
        healthy(certificate_ends_at_s=NOW_S - DAY_S),
        "The certificate has expired: mail servers and browsers may refuse to connect.",
        NOW_S - DAY_S,
    ),
    (
        "config-behind",
        with_report(HALF, "node-b", config_version=6),
        "node-b does not run configuration 7 yet.",
        None,
    ),
    (
        "versions-differ",
        with_report(HALF, "node-b", agent_version="0.9"),
        "The nodes run different versions of the agent: 0.9, 1.0.",
        None,
    ),
    (
        "pending",
        with_report(HALF, "node-b", **counts(pending=2)),
        "On node-b messages are set aside though its lease is proved: 2.",
        None,
    ),
]


@pytest.mark.parametrize(
    ("rule", "situation", "text", "since_s"), SENTENCES, ids=[case[0] for case in SENTENCES]
)
def test_a_sentence_says_who_and_since_when(
    rule: str, situation: Situation, text: str, since_s: float | None
) -> None:
    """The node, the peer, the numbers and the moment are those of the situation."""
    (found,) = [one for one in find_attention(situation) if one.rule == rule]
    assert (found.text, found.since_s) == (text, since_s)


def test_an_event_of_no_node_is_nobodys_attention() -> None:
    """The control plane's own events are read on their page."""
    nobody = healthy(happenings=(Happening("fence-failed", "", 1, NOW_S),))
    assert find_attention(nobody) == ()


def test_every_node_that_is_concerned_is_named() -> None:
    """A rule that stops at its first finding hides the second broken host."""
    both = with_report(HALF, "node-a", postfix_running=False)
    both = with_report(both, "node-b", postfix_running=False)
    found = [one for one in find_attention(both) if one.rule == "postfix-down"]
    assert [one.values["node"] for one in found] == ["node-a", "node-b"]


def test_mail_set_aside_by_a_fenced_node_is_told_once() -> None:
    """That it is fenced says where its mail is; pending mail is news only with a proof."""
    fenced = with_report(HALF, "node-b", is_proven=False, **counts(pending=7))
    assert [one.rule for one in find_attention(fenced)] == ["fenced"]
