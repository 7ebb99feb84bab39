"""The shared settings: changed in parts, refused as a whole."""

from __future__ import annotations

from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.core.spec import ClusterSpec
from controlplane.store.cluster_settings import NOT_RENDERED, ClusterSettings
from controlplane.store.nouns import ALL_NOUNS

CLUSTER = "/api/v1/cluster"


def test_the_settings_and_the_lists_make_up_the_whole_spec() -> None:
    """No field can be forgotten: each is a setting, a list, the certificate, or the policy's."""
    settings = set(ClusterSettings.model_fields) - NOT_RENDERED
    lists = {noun.field for noun in ALL_NOUNS}
    assert settings | lists | {"tls", "category_domains"} == set(ClusterSpec.model_fields)


def test_a_part_can_be_changed_alone(client: TestClient) -> None:
    """What is left out stays, also within a section."""
    client.patch(CLUSTER, json={"timings": {"push_interval_s": 1.5}, "name": "mail"})
    client.patch(CLUSTER, json={"timings": {"promise_s": 20}})
    settings = client.get(CLUSTER).json()["settings"]
    assert settings["name"] == "mail"
    assert settings["timings"]["push_interval_s"] == 1.5
    assert settings["timings"]["promise_s"] == 20
    assert settings["timings"]["lease_duration_s"] == 15


def test_each_change_raises_the_revision_and_is_audited(client: TestClient) -> None:
    """The log holds the settings before and after."""
    before = client.get(CLUSTER).json()["revision"]
    client.patch(CLUSTER, json={"message_size_limit_bytes": 10_000_000})
    assert client.get(CLUSTER).json()["revision"] == before + 1
    entry = client.get("/api/v1/audit", params={"action": "cluster.update"}).json()[0]
    assert entry["before"]["message_size_limit_bytes"] == 52_428_800
    assert entry["after"]["message_size_limit_bytes"] == 10_000_000


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"timings": {"lease_retry_s": 10}}, "timings.lease_retry_s", "must be smaller"),
        (
            {"timings": {"lease_renew_deadline_s": 12}},
            "timings.lease_renew_deadline_s",
            "lease_duration_s - lease_margin_s",
        ),
        ({"timings": {"promise_s": 4}}, "timings.promise_s", "must be greater"),
        ({"timings": {"lease_margin_s": -1}}, "timings.lease_margin_s", "greater than 0"),
        ({"timings": {"push_interval_s": "soon"}}, "timings.push_interval_s", "number"),
        ({"vrrp": {"advert_int_s": 41}}, "vrrp.advert_int_s", "40.95"),
        ({"vrrp": {"advert_int_s": 0.015}}, "vrrp.advert_int_s", "hundredths"),
        ({"queue": {"minimal_backoff_s": 9000}}, "queue.minimal_backoff_s", "greater than"),
        ({"message_size_limit_bytes": 1}, "message_size_limit_bytes", "between"),
        ({"domain": "two words"}, "domain", "space"),
        ({"name": "a\nb"}, "name", "line breaks"),
        ({"name": None}, "name", "string"),
        ({"postmaster": "nobody"}, "postmaster", "@"),
        ({"replication_mode": "magic"}, "replication_mode", "interval"),
        ({"sender_default": "maybe"}, "sender_default", "allowed"),
        ({"agent_url": "http://relay.example.com"}, "agent_url", "https://HOST:PORT"),
        ({"agent_url": "https://relay.example.com/path"}, "agent_url", "https://HOST:PORT"),
        ({"agent_url": "https://relay.example.com:0"}, "agent_url", "https://HOST:PORT"),
        ({"agent_url": "https://relay.example.com:65536"}, "agent_url", "https://HOST:PORT"),
        ({"agent_url": "https://a;id"}, "agent_url", "https://HOST:PORT"),
        ({"nonsense": 1}, "nonsense", "not permitted"),
        ({"timings": {"nonsense": 1}}, "timings.nonsense", "not permitted"),
    ],
)
def test_a_setting_that_does_not_fit_is_refused(
    client: TestClient, change: dict[str, Any], field: str, words: str
) -> None:
    """One sentence at the field at fault, and nothing changes."""
    before = client.get(CLUSTER).json()
    answer = client.patch(CLUSTER, json=change)
    assert answer.status_code == 422, answer.text
    assert words in answer.json()["fields"][field]
    assert client.get(CLUSTER).json() == before


def test_a_setting_can_be_cleared(client: TestClient) -> None:
    """Null removes what may be absent."""
    client.patch(CLUSTER, json={"postmaster": "ops@example.org"})
    client.patch(CLUSTER, json={"postmaster": None})
    assert client.get(CLUSTER).json()["settings"]["postmaster"] is None
