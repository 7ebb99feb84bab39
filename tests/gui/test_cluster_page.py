"""The cluster's page: VIPs, settings and timings, all of a form or nothing."""

from __future__ import annotations

from html import escape, unescape
from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.core.permissions import UserRole
from controlplane.gui.cluster_settings import FORM
from controlplane.gui.mail_settings import SETTINGS as MAIL_SETTINGS
from controlplane.store.cluster_settings import ClusterSettings
from controlplane.store.engine import Database
from tests.gui.conftest import open_as, post

SETTINGS = {
    "name": "mail",
    "domain": "example.net",
    "agent_url": "https://relay.example.net:8443",
    "inet_protocols": "all",
    "replication_mode": "interval",
    "timings.push_interval_s": "2.5",
    "vrrp.advert_int_s": "0.5",
    "timings.lease_duration_s": "20",
    "timings.lease_margin_s": "4",
    "timings.lease_renew_deadline_s": "6",
    "timings.lease_retry_s": "2",
    "timings.promise_s": "20",
    "timings.retired_keep_days": "7",
    "milters.policy": "on",
    "milters.rspamd_address": "inet:127.0.0.1:11332",
    "milters.clamav_address": "unix:/run/clamav.sock",
    "milters.default_action": "reject",
}
VIP = {"address": "198.51.100.101", "virtual_router_id": "52", "prefix_len": "", "interface": ""}
HOSTILE = "<script>alert(1)</script>"


def _settings(client: TestClient) -> Any:
    return client.get("/api/v1/cluster").json()["settings"]


def _beside(text: str, field: str) -> str:
    return unescape(text.partition(f'id="f-{field}-error">')[2].partition("</p>")[0])


def test_every_setting_has_a_place_on_a_page() -> None:
    """Here or among the limits of mail; none is left to the API alone."""
    places = {one.name for one in (*FORM.fields, *MAIL_SETTINGS.fields)}
    wanted: set[str] = set()
    for name, value in ClusterSettings().model_dump().items():
        wanted |= {f"{name}.{inner}" for inner in value} if isinstance(value, dict) else {name}
    assert places == wanted


def test_settings_are_changed_together(watched: TestClient) -> None:
    """What the page shows is what holds, and what was typed is what the API says."""
    assert 'name="timings.lease_duration_s"' in watched.get("/cluster").text
    assert post(watched, "/cluster", **SETTINGS).status_code == 303
    stored = _settings(watched)
    for name, value in SETTINGS.items():
        section, _, inner = name.partition(".")
        found = stored[section][inner] if inner else stored[section]
        assert str(found) in {value, f"{value}.0"} or found is (value == "on"), name
    page = watched.get("/cluster").text
    assert "Timings reach the agents within seconds" in page
    assert 'value="https://relay.example.net:8443"' in page
    assert stored["message_size_limit_bytes"] == 52_428_800
    assert post(watched, "/cluster", **{**SETTINGS, "agent_url": ""}).status_code == 303
    assert _settings(watched)["agent_url"] is None


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("name", HOSTILE, "is not a name of plain letters and digits"),
        ("domain", "two words", "contains a space"),
        ("agent_url", "http://relay.example.net", "https://HOST:PORT"),
        ("agent_url", HOSTILE, "https://HOST:PORT"),
        ("inet_protocols", "ipv5", "auto"),
        ("replication_mode", "magic", "interval"),
        ("timings.push_interval_s", "soon", "valid number"),
        ("timings.push_interval_s", "", "valid number"),
        ("timings.lease_retry_s", "6", "must be smaller"),
        ("timings.lease_renew_deadline_s", "17", "must be smaller"),
        ("timings.promise_s", "5", "must be greater"),
        ("timings.retired_keep_days", "0", "greater than or equal to 1"),
        ("vrrp.advert_int_s", "41", "not between"),
    ],
)
def test_one_wrong_setting_changes_none(
    watched: TestClient, field: str, value: str, words: str
) -> None:
    """The sentence stands beside it, everything typed is still there."""
    before = _settings(watched)
    answer = post(watched, "/cluster", **{**SETTINGS, field: value})
    assert answer.status_code == 422
    assert words in _beside(answer.text, field)
    assert 'value="example.net"' in answer.text or field == "domain"
    assert "<script>alert" not in answer.text
    assert _settings(watched) == before


def test_a_vip_is_added_changed_and_removed(watched: TestClient) -> None:
    """From the form to the list and away again."""
    assert watched.get("/cluster/vips/new").status_code == 200
    assert post(watched, "/cluster/vips/new", **VIP).headers["location"] == "/cluster"
    page = watched.get("/cluster").text
    assert "198.51.100.101 is saved; it reaches the nodes with the next apply." in page
    shown = watched.get("/cluster/vips/edit?key=198.51.100.101").text
    assert 'value="52"' in shown
    rest = {name: value for name, value in VIP.items() if name != "address"}
    changed = {**rest, "virtual_router_id": "53", "prefix_len": "24", "interface": "eth0"}
    path = "/cluster/vips/edit?key=198.51.100.101"
    assert post(watched, path, **changed).status_code == 303
    vip = watched.get("/api/v1/vips/198.51.100.101").json()
    assert (vip["virtual_router_id"], vip["prefix_len"], vip["interface"]) == (53, 24, "eth0")
    removed = post(watched, "/cluster/vips/delete?key=198.51.100.101")
    assert removed.status_code == 303
    assert watched.get("/cluster/vips/edit?key=198.51.100.101").status_code == 404


@pytest.mark.parametrize(
    ("change", "field", "words"),
    [
        ({"address": ""}, "address", "Fill in this field."),
        ({"address": HOSTILE}, "address", "is not an IP address"),
        ({"address": "203.0.113.1"}, "address", "is outside the network"),
        ({"address": "198.51.100.11"}, "address", "is already used"),
        ({"address": "198.51.100.100"}, "address", "There is one of this name already"),
        ({"virtual_router_id": ""}, "virtual_router_id", "Fill in this field."),
        ({"virtual_router_id": "51"}, "virtual_router_id", "is already used"),
        ({"virtual_router_id": "256"}, "virtual_router_id", "not between"),
        ({"prefix_len": "99"}, "prefix_len", "not between"),
        ({"interface": "eth 0"}, "interface", "is not an interface name"),
    ],
)
def test_a_wrong_vip_keeps_what_was_typed(
    watched: TestClient, change: dict[str, str], field: str, words: str
) -> None:
    """Nothing is stored."""
    typed = {**VIP, **change}
    answer = post(watched, "/cluster/vips/new", **typed)
    assert answer.status_code == 422
    assert words in _beside(answer.text, field)
    assert "<script>alert" not in answer.text
    for value in typed.values():
        assert escape(value) in answer.text
    assert len(watched.get("/api/v1/vips").json()) == 1


@pytest.mark.parametrize("role", [UserRole.OPERATOR, UserRole.READ_ONLY])
def test_only_administrators_change_it(
    watched: TestClient, sqlite_database: Database, role: UserRole
) -> None:
    """The others see the same values without a form."""
    viewer = open_as(watched, sqlite_database, role)
    page = viewer.get("/cluster").text
    assert "relay.internal" in page
    content = page.partition('id="content"')[2]
    assert "<form" not in content
    assert (
        "<form"
        not in viewer.get("/cluster/vips/edit?key=198.51.100.100").text.partition('id="content"')[2]
    )
    assert viewer.get("/cluster/vips/new").status_code == 403
    for path, fields in (
        ("", SETTINGS),
        ("/vips/new", VIP),
        ("/vips/edit?key=198.51.100.100", VIP),
        ("/vips/delete?key=198.51.100.100", {}),
    ):
        assert post(viewer, f"/cluster{path}", **fields).status_code == 403
