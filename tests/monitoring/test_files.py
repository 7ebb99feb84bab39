"""The files in compose/monitoring fit `/metrics`: no panel and no alert asks for nothing."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client import generate_latest
from prometheus_client.parser import text_string_to_metric_families

from controlplane.core.attention import RULES
from controlplane.core.attention_finders import (
    CLOCK_BAD_S,
    CLOCK_WARN_S,
    DISK_BAD_SHARE,
    DISK_WARN_SHARE,
)
from controlplane.metrics import METRICS, MetricRow, make_process_metrics
from nodeagent.core.agent_api import TLS_SERVER_NAME
from nodeagent.core.contract import QueueCounts, Role

MONITORING = Path(__file__).parents[2] / "compose" / "monitoring"
GUIDE = MONITORING.parents[1] / "docs" / "howto" / "monitor.md"
DURATION = re.compile(r"^[0-9]+(s|m|h|d)$")
SELECTOR = re.compile(r"\b([a-z_]+)\{([^}]*)\}")
MATCHER = re.compile(r'(\w+)(=~|=)"([^"]*)"')
VALUES = {
    "rule": {rule.name for rule in RULES},
    "severity": {rule.severity.value for rule in RULES},
    "place": set(QueueCounts.model_fields),
    "role": {role.value for role in Role},
    "job": {"relay"},
}


def load(name: str) -> Any:
    """Return the content of a YAML file."""
    return yaml.safe_load((MONITORING / name).read_text())


def alerts() -> list[dict[str, Any]]:
    """Return all alert rules."""
    return [rule for group in load("alerts.yml")["groups"] for rule in group["rules"]]


def panels() -> list[dict[str, Any]]:
    """Return the dashboard's panels."""
    found = json.loads((MONITORING / "grafana-dashboard.json").read_text())["panels"]
    assert isinstance(found, list)
    return found


def expressions() -> Iterator[str]:
    """Yield every expression of alerts and panels."""
    for rule in alerts():
        yield rule["expr"]
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"]


def known_labels() -> dict[str, set[str]]:
    """Return the labels of every metric that a scrape has."""
    known = {row.name: set(row.labels) for row in METRICS} | {"up": {"job"}}
    process = generate_latest(make_process_metrics()).decode()
    for family in text_string_to_metric_families(process):
        known |= {sample.name: set(sample.labels) for sample in family.samples}
    return known


@pytest.mark.parametrize("expression", list(expressions()))
def test_every_expression_asks_for_what_there_is(expression: str) -> None:
    """Metrics, labels and their values, each by its name."""
    known = known_labels()
    plain = re.sub(r'"[^"]*"', '""', expression)
    named = set(re.findall(r"\b(?:relay|process)_[a-z_]+|\bup\b", plain))
    assert named, "no metric"
    assert named <= set(known)
    for name, inside in SELECTOR.findall(expression):
        for label, operator, value in MATCHER.findall(inside):
            assert label in known[name]
            values = set(value.split("|")) if operator == "=~" else {value}
            assert values <= VALUES[label]


@pytest.mark.parametrize("rule", alerts(), ids=lambda rule: rule["alert"])
def test_every_alert_says_what_to_do(rule: dict[str, Any]) -> None:
    """A severity, a sentence and a step; labels in the sentence are the metric's."""
    assert set(rule) <= {"alert", "expr", "for", "labels", "annotations"}
    assert DURATION.match(rule.get("for", "0s"))
    assert rule["labels"]["severity"] in {"warning", "critical"}
    assert rule["annotations"]["summary"].endswith(".")
    assert rule["annotations"]["description"].endswith(".")
    known = known_labels()
    labels = set().union(*(known[name] for name in known if name in rule["expr"]))
    shown = set(re.findall(r"\$labels\.(\w+)", rule["annotations"]["summary"]))
    assert shown <= labels


@pytest.mark.parametrize(
    ("alert", "limit"),
    [
        ("RelayClockOff", f">= {CLOCK_WARN_S:g}"),
        ("RelayClockFarOff", f">= {CLOCK_BAD_S:g}"),
        ("RelayDiskFilling", f"< {DISK_WARN_SHARE:g}"),
        ("RelayDiskNearlyFull", f"< {DISK_BAD_SHARE:g}"),
    ],
)
def test_alerts_have_the_limits_of_the_overview(alert: str, limit: str) -> None:
    """Of two answers to the same question one would be wrong."""
    (rule,) = (one for one in alerts() if one["alert"] == alert)
    parts = rule["expr"].split(" or ")
    assert all(part.endswith(limit) for part in parts)


def test_panels_have_names_and_places_of_their_own() -> None:
    """No two lie on each other."""
    taken: set[tuple[int, int]] = set()
    for panel in panels():
        at = panel["gridPos"]
        cells = {(at["x"] + x, at["y"] + y) for x in range(at["w"]) for y in range(at["h"])}
        assert not cells & taken, panel["title"]
        assert max(x for x, _ in cells) < 24
        taken |= cells
    assert len({panel["title"] for panel in panels()}) == len(panels())
    assert len({panel["id"] for panel in panels()}) == len(panels())


def test_prometheus_scrapes_what_we_serve() -> None:
    """By HTTPS, with a token from a file, and the name that our own CA certifies."""
    (job,) = load("prometheus.yml")["scrape_configs"]
    assert (job["scheme"], job["metrics_path"], job["job_name"]) == ("https", "/metrics", "relay")
    assert job["tls_config"]["server_name"] == TLS_SERVER_NAME
    assert set(job["authorization"]) == {"credentials_file"}
    assert load("prometheus.yml")["rule_files"] == ["alerts.yml"]


@pytest.mark.parametrize("row", METRICS, ids=lambda row: row.name)
def test_every_metric_is_in_the_guide(row: MetricRow) -> None:
    """With its labels and its text."""
    labels = ", ".join(f"`{label}`" for label in row.labels)
    assert f"| `{row.name}` | {labels} | {row.text} |" in GUIDE.read_text()
