"""Metrics: well named, only of what is known, and readable by Prometheus' own parser."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from controlplane.core.attention import RULES
from controlplane.core.situation import Adoption, KnownDisk, KnownFlow, KnownMirror, Situation
from controlplane.metrics import METRICS, ClusterMetrics, MetricRow, make_process_metrics
from tests.core.situations import COUNTS, NOW_S, VIP, healthy, with_node, with_report

Shown = dict[tuple[str, tuple[tuple[str, str], ...]], float]


def show(situation: Situation) -> Shown:
    """Return all samples of the text format, by name and labels."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(ClusterMetrics(situation))
    text = generate_latest(registry).decode()
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def of(shown: Shown, name: str, **labels: str) -> float | None:
    """Return one sample, None when there is none."""
    return shown.get((name, tuple(sorted(labels.items()))))


def full() -> Situation:
    """Return a situation in which every metric has a sample."""
    flow = KnownFlow(accepted=10, delivered=9, deferrals=3, bounced=1, rejected=7)
    mirror = KnownMirror(queue="node-a", generation=3, sequence=9, messages=42)
    disk = KnownDisk(5_000, 100_000, 70, 90)
    situation = with_report(healthy(), "node-a", flow=flow, clock_offset_s=-1.5, disk=disk)
    situation = with_report(situation, "node-b", mirrors=(mirror,))
    adoption = Adoption("node-a", "node-b", 4, 40, NOW_S - 2)
    return replace(situation, adoptions=(adoption,), traced=(("node-b", NOW_S - 5),))


def test_a_scrape_says_what_is_known() -> None:
    """One sample of each kind, with its labels."""
    shown = show(full())
    assert of(shown, "relay_node_up", node="node-a") == 1
    assert of(shown, "relay_vip_holders", vip=VIP) == 1
    assert of(shown, "relay_node_holds_vip", node="node-b", vip=VIP) == 0
    assert of(shown, "relay_node_role", node="node-a", role="ACTIVE") == 1
    assert of(shown, "relay_node_role", node="node-a", role="FENCED") == 0
    assert of(shown, "relay_queue_messages", node="node-a", place="deferred") == 41
    assert of(shown, "relay_push_snapshot_timestamp_seconds", node="node-a", peer="node-b") == (
        NOW_S - 4
    )
    assert of(shown, "relay_push_freeze_seconds", node="node-a", peer="node-b") == 0.0035
    assert of(shown, "relay_mail_accepted_messages_total", node="node-a") == 10
    assert of(shown, "relay_mail_rejections_total", node="node-a") == 7
    assert of(shown, "relay_trace_received_timestamp_seconds", node="node-b") == NOW_S - 5
    assert of(shown, "relay_mail_accepted_messages_total", node="node-b") is None
    assert of(shown, "relay_node_clock_offset_seconds", node="node-a") == -1.5
    assert of(shown, "relay_node_clock_offset_seconds", node="node-b") is None
    disk = "relay_node_queue_filesystem"
    for name, value in (
        ("avail_bytes", 5_000),
        ("size_bytes", 100_000),
        ("files_free", 70),
        ("files", 90),
    ):
        assert of(shown, f"{disk}_{name}", node="node-a") == value
        assert of(shown, f"{disk}_{name}", node="node-b") is None
    assert of(shown, "relay_lease_held", queue="node-a", holder="node-a") == 1
    assert of(shown, "relay_attention", rule="silent", severity="bad") == 0


@pytest.mark.parametrize("row", METRICS, ids=lambda row: row.name)
def test_every_metric_has_a_sample_somewhere(row: MetricRow) -> None:
    """With as many values as labels, and a name and text as Prometheus wants them."""
    samples = list(row.samples(full()))
    assert samples
    assert {len(labels) for labels, _ in samples} == {len(row.labels)}
    assert len({labels for labels, _ in samples}) == len(samples)
    assert re.fullmatch(r"relay_[a-z_]+", row.name)
    assert row.text.endswith(".")


def test_of_a_silent_node_only_its_silence_is_shown() -> None:
    """A dashboard that drew its last words on would lie."""
    shown = show(with_node(full(), "node-a", is_fresh=False, seen_at_s=NOW_S - 90))
    found = {name for (name, labels) in shown if ("node", "node-a") in labels}
    assert found == {
        "relay_node_up",
        "relay_node_last_seen_timestamp_seconds",
        "relay_node_maintenance",
        "relay_node_config_assigned_version",
    }
    assert of(shown, "relay_node_up", node="node-a") == 0
    assert of(shown, "relay_attention", rule="silent", severity="bad") == 1


def test_what_could_not_be_read_is_missing_and_not_zero() -> None:
    """Zero would be a claim."""
    queue = COUNTS.model_copy(update={"hold": None})
    situation = with_report(full(), "node-a", queue=queue, holds_vips=None, postfix_running=None)
    shown = show(replace(situation, certificate_ends_at_s=None))
    assert of(shown, "relay_queue_messages", node="node-a", place="hold") is None
    assert of(shown, "relay_node_holds_vip", node="node-a", vip=VIP) is None
    assert of(shown, "relay_node_postfix_running", node="node-a") is None
    assert of(shown, "relay_certificate_not_after_timestamp_seconds") is None


def test_every_rule_of_attention_has_a_series() -> None:
    """An alert on a rule that never held must not find nothing."""
    shown = show(healthy())
    rules = {dict(labels)["rule"] for (name, labels) in shown if name == "relay_attention"}
    assert rules == {rule.name for rule in RULES}


def test_a_label_cannot_break_the_format() -> None:
    """A node's words stay one label."""
    odd = 'x"} 1\nrelay_node_up{node="forged'
    shown = show(with_report(full(), "node-a", agent_version=odd))
    assert of(shown, "relay_node_info", node="node-a", version=odd, freezer="cgroup-v2") == 1
    assert of(shown, "relay_node_up", node="forged") is None


def test_the_process_shows_its_own_cost() -> None:
    """CPU time and memory, as every exporter does."""
    text = generate_latest(make_process_metrics()).decode()
    assert "process_cpu_seconds_total" in text
    assert "process_resident_memory_bytes" in text
