"""The alerts in the state file, on both databases: out and in, and never a URL."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pydantic import ValidationError

from controlplane.core.alert_rules import RULE_NAMES, Subject, Threshold
from controlplane.core.alert_state import MOST_CHANNELS
from controlplane.errors import Conflict, Invalid
from controlplane.integrations.notifications import describe
from controlplane.store import alert_channels, alert_settings
from controlplane.store.alert_messages import claim_deliveries, judge_readings, list_sent
from controlplane.store.alert_tables import AlertRuleRow
from controlplane.store.audit import Actor, AuditFilter, list_entries
from controlplane.store.cluster import ClusterStore
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.policy_settings import ensure_policy
from controlplane.store.state_files import (
    StateFile,
    StateImport,
    export_state,
    import_state,
    plan_state,
)

OLGA = Actor("olga", "198.51.100.40")
URL = "jsons://ops:hunter2@hooks.example.com/x"
OFFICE = "mailto://mail.example.com?from=relay@example.com&to=ops@example.com"
HINT = "The channel {} has no URL here, so it is switched off; give it one."
MANY = {"queue-size": (Subject("node-a", 2000.0, "node-a: 2000 messages wait."),)}


def put_channel(store: ClusterStore, name: str, url: str | None = URL, *, on: bool = True) -> None:
    """Add or change a channel, as the API does."""
    given_url = None if url is None else (url, describe(url))
    with store.database.write() as session:
        alert_channels.put_channel(session, store.box, name, given_url, is_enabled=on, actor=OLGA)


def set_rule(store: ClusterStore, name: str, value: float, *, on: bool = True) -> None:
    """Set a threshold, as the API does."""
    with store.database.write() as session:
        alert_settings.set_rule(session, name, Threshold(on, value), OLGA)


@pytest.fixture
def store(database: Database) -> ClusterStore:
    """Give a cluster with two channels, a threshold and a pace of its own."""
    made = ClusterStore(database, SecretBox(Fernet.generate_key()))
    ensure_policy(database, made.box)
    put_channel(made, "on-call")
    put_channel(made, "office", OFFICE, on=False)
    set_rule(made, "queue-size", 250.5)
    with made.database.write() as session:
        alert_settings.set_pace(session, 5, OLGA, tells_end=False)
    return made


def changed(file: StateFile, **alerts: Any) -> StateFile:
    """Return a file with other alerts, as somebody edits it by hand; None: that part is gone."""
    content = file.model_dump(mode="json")
    content["alerts"] |= alerts
    return StateFile.model_validate(content)


def bring_in(store: ClusterStore, file: StateFile) -> StateImport:
    """Import a file as it is."""
    planned = plan_state(store, file)
    import_state(store, planned, OLGA)
    return planned


def urls(store: ClusterStore) -> dict[str, str]:
    """Return where the channels lead; empty: nowhere yet."""
    with store.database.read() as session:
        return {
            row.name: store.box.open(row.url_sealed) if row.url_sealed else ""
            for row in alert_channels.list_channels(session)
        }


def alerts_of(store: ClusterStore) -> dict[str, Any]:
    """Return the alerts' part of an export."""
    found = export_state(store).alerts
    assert found is not None
    content: dict[str, Any] = found.model_dump(mode="json")
    return content


channels = st.lists(
    st.fixed_dictionaries(
        {
            "name": st.from_regex(r"[A-Za-z0-9][A-Za-z0-9 ._-]{0,6}", fullmatch=True)
            | st.sampled_from(["on-call", "office"]),
            "is_enabled": st.booleans(),
        }
    ),
    unique_by=lambda one: one["name"],
    max_size=MOST_CHANNELS,
)
thresholds = st.floats(0, 1e12, exclude_min=True, allow_subnormal=False)
rules = st.lists(
    st.fixed_dictionaries(
        {
            "rule": st.sampled_from(RULE_NAMES),
            "is_enabled": st.booleans(),
            "threshold": thresholds,
        }
    ),
    unique_by=lambda one: one["rule"],
)
paces = st.fixed_dictionaries(
    {"cool_down_minutes": st.integers(1, 1440), "tells_end": st.booleans()}
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(wanted=st.fixed_dictionaries({"settings": paces, "rules": rules, "channels": channels}))
def test_any_alerts_replace_any_others_and_come_back(
    store: ClusterStore, wanted: dict[str, Any]
) -> None:
    """Each example meets the alerts of the one before; only what leads somewhere is switched on."""
    led = {name for name, url in urls(store).items() if url}
    planned = bring_in(store, changed(export_state(store), **wanted))
    after = alerts_of(store)
    assert after["settings"] == wanted["settings"]
    assert {one["rule"]: one for one in after["rules"]} == {
        one["rule"]: one for one in wanted["rules"]
    }
    kept = {one["name"]: one["is_enabled"] and one["name"] in led for one in wanted["channels"]}
    assert {one["name"]: one["is_enabled"] for one in after["channels"]} == kept
    assert {name for name, url in urls(store).items() if url} == led & kept.keys()
    assert planned.alerts is not None
    assert set(planned.alerts.notes) == {HINT.format(name) for name in kept.keys() - led}
    again = plan_state(store, changed(export_state(store), **wanted))
    assert (again.is_empty, again.problems) == (True, {})
    assert plan_state(store, export_state(store)).is_empty


def test_no_url_is_in_the_file_and_all_stay(store: ClusterStore) -> None:
    """Nor the service, the host, or what is sealed; an import keeps them by name."""
    file = export_state(store)
    text = file.model_dump_json()
    with store.database.read() as session:
        sealed = [row.url_sealed for row in alert_channels.list_channels(session)]
    for secret in ("hunter2", "hooks.example.com", "mail.example.com", "JSON", *sealed):
        assert secret not in text
    before = urls(store)
    assert before["on-call"] == URL
    put_channel(store, "on-call", None, on=False)
    planned = bring_in(store, file)
    assert list(planned.changed_lists) == ["alerts.channels"]
    assert list(planned.changed_lists["alerts.channels"].changed) == ["on-call"]
    assert (urls(store), planned.alerts and planned.alerts.notes) == (before, ())
    assert alerts_of(store)["channels"][1] == {"name": "on-call", "is_enabled": True}


def test_a_channel_that_is_not_there_waits_for_its_url(
    store: ClusterStore, sqlite_database: Database, postgres_database: Database
) -> None:
    """In another control plane: named, switched off, sent nothing, and on once it has its URL."""
    is_other = sqlite_database if store.database is postgres_database else postgres_database
    fresh = ClusterStore(is_other, SecretBox(Fernet.generate_key()))
    ensure_policy(is_other, fresh.box)
    planned = bring_in(fresh, StateFile.model_validate_json(export_state(store).model_dump_json()))
    assert planned.alerts is not None
    assert planned.alerts.notes == (HINT.format("office"), HINT.format("on-call"))
    assert urls(fresh) == {"office": "", "on-call": ""}
    after = alerts_of(fresh)
    assert not any(one["is_enabled"] for one in after["channels"])
    assert {**after, "channels": []} == {**alerts_of(store), "channels": []}
    with pytest.raises(Invalid, match="has no URL yet"):
        put_channel(fresh, "on-call", None)
    put_channel(fresh, "on-call", None, on=False)
    with fresh.database.read() as session, pytest.raises(Conflict, match="has no URL yet"):
        alert_channels.open_url(alert_channels.read_channel(session, "on-call"), fresh.box)
    with fresh.database.write() as session:
        assert judge_readings(session, MANY) is not None
        assert claim_deliveries(session, fresh.box) == []
    put_channel(fresh, "on-call")
    assert urls(fresh) == {"office": "", "on-call": URL}
    again = bring_in(fresh, export_state(store))
    assert again.alerts is not None
    assert again.alerts.notes == (HINT.format("office"),)


def test_a_channel_that_a_file_does_not_name_goes(store: ClusterStore) -> None:
    """With what still waits for it, as when it is removed by hand."""
    with store.database.write() as session:
        judge_readings(session, MANY)
    planned = bring_in(store, changed(export_state(store), channels=[]))
    assert planned.changed_lists["alerts.channels"].removed == ("office", "on-call")
    assert urls(store) == {}
    with store.database.write() as session:
        assert claim_deliveries(session, store.box) == []
        assert list_sent(session, 5)[0].deliveries == ()


def test_a_rule_that_a_file_does_not_name_is_as_it_was(store: ClusterStore) -> None:
    """One of a later version, which this program does not know, is left alone."""
    with store.database.write() as session:
        session.add(AlertRuleRow(rule="of-tomorrow", is_enabled=True, threshold=1.0))
    file = export_state(store)
    assert [one["rule"] for one in alerts_of(store)["rules"]] == ["queue-size"]
    bring_in(store, changed(file, rules=[]))
    with store.database.read() as session:
        found = alert_settings.read_thresholds(session)["queue-size"]
        assert session.get(AlertRuleRow, "of-tomorrow") is not None
    assert found == Threshold(is_enabled=True, value=1000.0)


@pytest.mark.parametrize("part", ["settings", "rules", "channels"])
def test_what_a_file_does_not_name_stays(store: ClusterStore, part: str) -> None:
    """All other parts are replaced."""
    before = alerts_of(store)
    empty: dict[str, Any] = {"settings": {}, "rules": [], "channels": []}
    planned = plan_state(store, changed(export_state(store), **{**empty, part: None}))
    assert planned.untouched == (f"alerts.{part}",)
    import_state(store, planned, OLGA)
    default = {"cool_down_minutes": 30, "tells_end": True}
    wanted = {**empty, "settings": default, part: before[part]}
    assert alerts_of(store) == wanted


def test_a_file_from_before_leaves_the_alerts_alone(store: ClusterStore) -> None:
    """It has none, and is no wish for none."""
    before = alerts_of(store)
    content = export_state(store).model_dump(mode="json")
    del content["alerts"]
    content["settings"]["name"] = "other"
    planned = bring_in(store, StateFile.model_validate(content))
    assert (planned.alerts, planned.untouched) == (None, ("alerts",))
    assert alerts_of(store) == before


@pytest.mark.parametrize(
    ("alerts", "field", "sentence"),
    [
        ({"rules": [{"rule": "moon", "threshold": 1}]}, "alerts.rules moon", "no alert rule moon"),
        (
            {"rules": [{"rule": "threats", "threshold": 1}, {"rule": "threats", "threshold": 2}]},
            "alerts.rules entry 2",
            '"threats" is there already.',
        ),
        ({"channels": [{"name": "x"}] * 2}, "alerts.channels entry 2", '"x" is there already.'),
        (
            {"channels": [{"name": f"c{one}"} for one in range(MOST_CHANNELS + 1)]},
            "alerts.channels",
            "It has 21 channels, more than the 20 that there can be.",
        ),
    ],
)
def test_one_wrong_entry_refuses_the_whole_file(
    store: ClusterStore, alerts: dict[str, Any], field: str, sentence: str
) -> None:
    """By a sentence beside its place; what is right in it is not written either."""
    before = export_state(store)
    planned = plan_state(store, changed(before, settings={"cool_down_minutes": 77}, **alerts))
    assert list(planned.problems) == [field]
    assert sentence in planned.problems[field]
    with pytest.raises(Invalid, match="nothing was changed"):
        import_state(store, planned, OLGA)
    assert export_state(store).alerts == before.alerts


@pytest.mark.parametrize(
    "alerts",
    [
        {"channels": [{"name": "a/b"}]},
        {"channels": [{"name": ""}]},
        {"channels": [{"name": "x", "url": URL}]},
        {"channels": [{"name": "x\n"}]},
        {"rules": [{"rule": "threats", "threshold": 0}]},
        {"rules": [{"rule": "threats", "threshold": 1.1e12}]},
        {"rules": [{"rule": "threats", "threshold": "nan"}]},
        {"rules": [{"rule": "threats"}]},
        {"settings": {"cool_down_minutes": 0}},
        {"settings": {"cool_down_minutes": 1441}},
        {"settings": {"pace": 1}},
        {"more": []},
    ],
)
def test_what_is_no_alert_is_no_file(store: ClusterStore, alerts: dict[str, Any]) -> None:
    """A URL that somebody wrote into it is refused too, and not repeated."""
    with pytest.raises(ValidationError):
        changed(export_state(store), **alerts)


def test_alerts_that_were_changed_meanwhile_are_not_replaced(store: ClusterStore) -> None:
    """Nothing of the file is written, not its settings either; also by what its author had seen."""
    content = export_state(store).model_dump(mode="json")
    content["settings"]["name"] = "other"
    content["alerts"]["rules"] = []
    file = StateFile.model_validate(content)
    planned = plan_state(store, file)
    assert planned.alerts is not None
    set_rule(store, "threats", 7)
    before = export_state(store)
    with pytest.raises(Conflict, match="changed the alerts meanwhile"):
        import_state(store, planned, OLGA)
    fresh = plan_state(store, file)
    with pytest.raises(Conflict, match="alerts were changed since you looked"):
        import_state(store, fresh, OLGA, expected_alerts=planned.alerts.digest)
    after = export_state(store)
    assert (after.alerts, after.settings) == (before.alerts, before.settings)
    assert fresh.alerts is not None
    import_state(store, fresh, OLGA, expected_alerts=fresh.alerts.digest)
    assert alerts_of(store)["rules"] == []


def test_an_import_of_alerts_is_one_line_of_the_audit_log(store: ClusterStore) -> None:
    """With what was set before and after, and the names of channels."""
    bring_in(store, changed(export_state(store), settings={}, channels=[{"name": "new"}]))
    with store.database.read() as session:
        (entry,) = list_entries(session, AuditFilter(action="cluster.import"))
    assert entry.before["settings"] == {
        "alerts.settings.cool_down_minutes": 5,
        "alerts.settings.tells_end": False,
    }
    lists = entry.after["lists"]["alerts.channels"]
    assert lists["counts"] == {"added": 1, "changed": 0, "removed": 2, "total": 1}
    named = [name for names in lists["names"].values() for name in names]
    assert sorted(named) == ["new", "office", "on-call"]
