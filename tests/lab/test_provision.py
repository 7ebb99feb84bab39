"""What `relay-lab up` says to the control plane, said to the real one without any host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from fastapi.testclient import TestClient

from controlplane import settings as controlplane_settings
from controlplane.api.agent_auth import RefusalLog
from controlplane.app import create_app
from controlplane.store.cluster import ClusterStore
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.passwords import PasswordCost
from controlplane.store.user_sessions import LoginRules
from controlplane.store.users import ensure_first_admin
from lab import provision
from lab.errors import LabError
from lab.layout import HOSTS, NODES, VIP
from lab.settings import Settings


@pytest.fixture
def plane(sqlite_database: Database, tmp_path: Path) -> Iterator[provision.ControlPlane]:
    """Give a session with a control plane as its first start leaves it."""
    settings = controlplane_settings.Settings(
        state_dir=tmp_path, argon2_rounds=1, argon2_memory_kib=8, argon2_parallelism=1
    )
    rules = LoginRules(cost=PasswordCost(rounds=1, memory_kib=8, parallelism=1))
    ensure_first_admin(sqlite_database, rules)
    app = create_app(settings, sqlite_database)
    app.state.settings, app.state.database = settings, sqlite_database
    app.state.secret_box = SecretBox(Fernet.generate_key())
    ClusterStore(sqlite_database, app.state.secret_box).ensure_certificate()
    app.state.refusals = RefusalLog()
    made = provision.ControlPlane()
    with TestClient(app, base_url="https://relay.test") as client:
        made._http = client
        yield made


@pytest.fixture
def described(plane: provision.ControlPlane) -> tuple[provision.ControlPlane, Settings]:
    """Give the control plane as `up` leaves it, with what `up` keeps."""
    settings = provision.first_login(plane, Settings(push_interval_s=0.5, advert_interval_s=0.2))
    provision.describe_cluster(plane, settings)
    return plane, settings


Described = tuple[provision.ControlPlane, Settings]


def rendered(plane: provision.ControlPlane, node: str) -> dict[str, str]:
    """Give the files of the newest version, by path."""
    preview: dict[str, Any] = plane.call("GET", "config/preview")
    files = next(one["files"] for one in preview["nodes"] if one["node"] == node)
    return {file["path"]: file["content"] or "" for file in files}


def test_the_first_password_is_replaced_by_one_that_nobody_knows(described: Described) -> None:
    """The documented one opens nothing any more, the one that `status` shows does."""
    plane, settings = described
    assert settings.admin_password != Settings().admin_password
    with pytest.raises(LabError, match="refused POST session"):
        plane.log_in("admin", Settings().admin_password)
    plane.log_in(settings.admin_user, settings.admin_password)
    assert plane.call("GET", "cluster")["settings"]["name"] == "lab"


def test_one_version_is_applied_and_nothing_is_left_to_apply(described: Described) -> None:
    """The nodes get what was described, at once and whole."""
    plane, _ = described
    assert [one["number"] for one in plane.call("GET", "config/versions")] == [1]
    assert plane.call("GET", "config/diff")["files"] == []
    assert {view["node"]["name"] for view in plane.call("GET", "nodes")} == set(NODES)


def test_what_up_was_asked_for_is_what_the_cluster_does(described: Described) -> None:
    """Push interval and advert_int arrive where they have their effect."""
    plane, _ = described
    assert plane.call("GET", "cluster")["settings"]["timings"]["push_interval_s"] == 0.5
    keepalived = rendered(plane, "node-b")["/etc/keepalived/keepalived.conf"]
    assert "advert_int 0.20" in keepalived
    assert f"{VIP}/24" in keepalived


def test_the_lab_relays_what_its_contract_says(described: Described) -> None:
    """Recipient domain, sender route, blocked sender, trusted client, STARTTLS."""
    plane, _ = described
    files = rendered(plane, "node-a")
    sink = f"relay:[{HOSTS['sink'].address}]:25"
    tables = "/etc/postfix/relay/"
    assert f"example.com {sink}" in files[f"{tables}transport.map"]
    assert f"@allowed-domain.tld {sink}" in files[f"{tables}sender_routes.map"]
    assert "blocked-domain.tld 550 " in files[f"{tables}sender_policy.map"]
    trusted = files[f"{tables}trusted_networks.cidr"]
    assert f"{HOSTS['client'].address}/32" in trusted
    assert HOSTS["sink"].address not in trusted
    assert f"{tables}tls.pem" in files


def test_a_refusal_is_one_sentence_with_the_reason(plane: provision.ControlPlane) -> None:
    """An API that has changed is seen at the first word it does not take."""
    provision.first_login(plane, Settings())
    with pytest.raises(LabError, match=r"refused PUT vips/198\.51\.100\.100: .*virtual_router_id"):
        plane.call("PUT", f"vips/{VIP}", {"router": 51})


def test_intervals_that_the_cluster_cannot_keep_are_refused(plane: provision.ControlPlane) -> None:
    """`up --advert-int` is bounded as the API is."""
    settings = provision.first_login(plane, Settings(advert_interval_s=60.0))
    with pytest.raises(LabError, match=r"refused PATCH cluster: .*advert_int_s"):
        provision.describe_cluster(plane, settings)
