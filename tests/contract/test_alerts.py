"""Alerts on both databases: measured, judged once, sent to real receivers, tried again."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import select, text, update
from sqlmodel import col

from controlplane.core.alert_rules import RULES, Subject, Threshold
from controlplane.core.alert_state import MOST_CHANNELS
from controlplane.core.spec import NodeSpec
from controlplane.errors import Conflict, Invalid, NotFound
from controlplane.integrations.notifications import LATE, TAKEN, Notifier, describe
from controlplane.jobs.alerts import look_and_send, send_due
from controlplane.store import alert_channels, alert_settings
from controlplane.store.alert_messages import (
    MOST_ATTEMPTS,
    NOT_TAKEN_EVENT,
    SILENCE_S,
    Sent,
    claim_deliveries,
    judge_readings,
    list_sent,
    note_delivery,
    prune_messages,
)
from controlplane.store.alert_tables import (
    AlertChannelRow,
    AlertDeliveryRow,
    AlertMessageRow,
    AlertSettingsRow,
)
from controlplane.store.alert_values import READERS, measure
from controlplane.store.audit import SYSTEM, AuditFilter, list_entries
from controlplane.store.clock import read_clock_s
from controlplane.store.cluster import ClusterStore
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import Database
from controlplane.store.nouns import NODES
from controlplane.store.ownership_tables import EventRow
from controlplane.store.queue_tables import QueueListRow, QueueMessageRow
from controlplane.store.reports import add_event
from nodeagent.core.contract import NodeReport, PushReport, QueueCounts, Role
from tests.fakes.receivers import MailServer, WebHook
from tests.fakes.reports import store_report

BOX = SecretBox(Fernet.generate_key())
MANY = {"queue-size": (Subject("node-a", 2000.0, "node-a: 2000 messages wait."),)}


@pytest.fixture
def cluster(database: Database) -> Database:
    """Give a database with a node of which nothing bad is known, but that it is alone."""
    node = NodeSpec(
        name="node-a", address="198.51.100.11", cluster_mode="master", vrrp_priority=100
    )
    ClusterStore(database, BOX).put_item(NODES, node, SYSTEM)
    return database


def add_channel(database: Database, name: str, url: str, *, is_enabled: bool = True) -> None:
    """Add a channel as the API does."""
    with database.write() as session:
        alert_channels.put_channel(
            session, BOX, name, (url, describe(url)), is_enabled=is_enabled, actor=SYSTEM
        )


def judged(database: Database, readings: Any = None) -> int | None:
    """Judge as if the last look had been long ago."""
    with database.write() as session:
        session.execute(update(AlertSettingsRow).values(judged_at=0.0))
        return judge_readings(session, readings or MANY)


def sent(database: Database) -> list[Sent]:
    """Return all messages, the newest first."""
    with database.read() as session:
        return list_sent(session, 100)


def make_due(database: Database) -> None:
    """Let the time until the next attempt pass."""
    with database.write() as session:
        due = update(AlertDeliveryRow).where(col(AlertDeliveryRow.due_at).is_not(None))
        session.execute(due.values(due_at=0.0))


def say(database: Database, **values: Any) -> None:
    """Have node-a report."""
    with database.write() as session:
        store_report(session, "node-a", NodeReport(**{"role": Role.ACTIVE, **values}))


def reading(database: Database, rule: str) -> Any:
    """Return what one rule measures."""
    with database.read() as session:
        return measure(session)[rule]


def test_a_full_queue_reaches_mail_and_webhook_once(cluster: Database) -> None:
    """From the node's report to both receivers; further looks say nothing more."""
    say(cluster, queue=QueueCounts(incoming=0, active=0, deferred=5300, hold=0, pending=0))
    with WebHook().serve() as hook, MailServer().serve() as server:
        add_channel(cluster, "hook", hook.url)
        add_channel(cluster, "mail", server.url)
        add_channel(cluster, "off", hook.url, is_enabled=False)
        for _ in range(3):
            look_and_send(cluster, BOX, Notifier())
    assert len(hook.got) == len(server.got) == 1
    assert "node-a: 5300 messages wait." in hook.got[0]["message"]
    (one,) = sent(cluster)
    assert {"rule": "queue-size", "kind": "begun"} in one.row.rules
    found = [(row.channel, row.is_ok, row.text, row.due_at) for row in one.deliveries]
    assert found == [("hook", True, TAKEN, None), ("mail", True, TAKEN, None)]


def test_what_is_due_is_judged_by_one_instance_only(cluster: Database) -> None:
    """Two jobs at the same moment make one message."""
    with cluster.write() as session:
        assert judge_readings(session, MANY) is not None
    with cluster.write() as session:
        assert judge_readings(session, {**MANY, "push-age": MANY["queue-size"]}) is None
    assert len(sent(cluster)) == 1


def test_states_are_kept_between_looks(cluster: Database) -> None:
    """Whom the last notice named, and since when it is calm: the end comes by itself."""
    assert judged(cluster) == 1
    assert judged(cluster) is None
    calm = {"queue-size": ()}
    assert judged(cluster, calm) is None
    with cluster.write() as session:
        session.execute(text("UPDATE alert_states SET calm_since = calm_since - 200"))
    assert judged(cluster, calm) == 2
    assert sent(cluster)[0].row.title.endswith("Ended: Much mail waits")
    assert judged(cluster, calm) is None


def test_without_a_channel_the_message_is_listed_all_the_same(cluster: Database) -> None:
    """The page shows what nobody was told."""
    judged(cluster)
    (one,) = sent(cluster)
    assert one.deliveries == ()
    assert one.row.title.endswith("Much mail waits")


def test_what_a_channel_does_not_take_is_tried_again(cluster: Database) -> None:
    """Some times, each later than the one before; then it is over, and the channel says why."""
    with WebHook(status=500).serve() as hook:
        add_channel(cluster, "hook", hook.url)
        judged(cluster)
        for _ in range(MOST_ATTEMPTS + 2):
            send_due(cluster, BOX, Notifier())
            send_due(cluster, BOX, Notifier())  # not due yet
            make_due(cluster)
    assert len(hook.got) == MOST_ATTEMPTS
    ((row,),) = [one.deliveries for one in sent(cluster)]
    assert (row.attempts, row.is_ok, row.due_at) == (MOST_ATTEMPTS, False, None)
    with cluster.read() as session:
        channel = alert_channels.read_channel(session, "hook")
    assert (channel.last_is_ok, channel.last_text) == (False, "It answered with the status 500.")


def test_a_channel_that_comes_back_gets_what_waits(cluster: Database) -> None:
    """Once."""
    with WebHook(status=500).serve() as hook:
        add_channel(cluster, "hook", hook.url)
        judged(cluster)
        send_due(cluster, BOX, Notifier())
        hook.status = 200
        for _ in range(2):
            make_due(cluster)
            send_due(cluster, BOX, Notifier())
    assert len(hook.got) == 2
    assert [row.is_ok for row in sent(cluster)[0].deliveries] == [True]


def not_taken(database: Database) -> list[str]:
    """Return what the events say of channels, in the order in which it came."""
    texts = select(col(EventRow.text)).where(col(EventRow.kind) == NOT_TAKEN_EVENT)
    with database.read() as session:
        return list(session.execute(texts.order_by(col(EventRow.number))).scalars())


def test_a_channel_that_takes_nothing_is_an_event_and_no_storm(cluster: Database) -> None:
    """One each, whatever they refuse and however often; the URL is no part of it."""
    with WebHook(status=500).serve() as hook, WebHook(status=403).serve() as other:
        add_channel(cluster, "hook", hook.url)
        add_channel(cluster, "Hook", other.url)
        for number in range(3):
            node = Subject(f"node-{number}", 2000.0, "2000 messages wait.")
            judged(cluster, {"queue-size": (node,)})
            for _ in range(MOST_ATTEMPTS):
                send_due(cluster, BOX, Notifier())
                make_due(cluster)
        assert len(hook.got) >= MOST_ATTEMPTS
    assert sorted(not_taken(cluster)) == [
        "Hook did not take an alert: It answered with the status 403.",
        "hook did not take an alert: It answered with the status 500.",
    ]


def test_a_channel_that_still_takes_nothing_is_said_again_after_a_while(cluster: Database) -> None:
    """An hour later; one that was quick to fail is not forgotten."""
    with WebHook(status=500).serve() as hook:
        add_channel(cluster, "hook", hook.url)
        judged(cluster)
        send_due(cluster, BOX, Notifier())
        for age_s, events in ((SILENCE_S - 60, 1), (SILENCE_S + 60, 2)):
            with cluster.write() as session:
                past = read_clock_s(session) - age_s
                session.execute(update(EventRow).values(received_at=past))
            make_due(cluster)
            send_due(cluster, BOX, Notifier())
            assert len(not_taken(cluster)) == events


def test_a_channel_that_takes_everything_is_no_event(cluster: Database) -> None:
    """Nor is one that is only tried out, by whoever looks at the answer."""
    with WebHook().serve() as hook:
        add_channel(cluster, "hook", hook.url)
        judged(cluster)
        send_due(cluster, BOX, Notifier())
    with cluster.write() as session:
        alert_channels.note_outcome(session, "hook", LATE)
    assert not_taken(cluster) == []


def test_an_instance_that_dies_while_it_sends_is_followed(cluster: Database) -> None:
    """What it claimed is another's after a while, not before."""
    add_channel(cluster, "hook", "json://127.0.0.1:1/")
    judged(cluster)
    with cluster.write() as session:
        assert len(claim_deliveries(session, BOX)) == 1
    with cluster.write() as session:
        assert claim_deliveries(session, BOX) == []
    make_due(cluster)
    with cluster.write() as session:
        (claimed,) = claim_deliveries(session, BOX)
        note_delivery(session, claimed, LATE)
    assert sent(cluster)[0].deliveries[0].text == LATE.text


def test_a_channel_that_is_removed_takes_what_waits_along(cluster: Database) -> None:
    """And what is under way at that moment fails nothing."""
    add_channel(cluster, "hook", "json://127.0.0.1:1/")
    judged(cluster)
    with cluster.write() as session:
        (claimed,) = claim_deliveries(session, BOX)
        alert_channels.delete_channel(session, "hook", SYSTEM)
        note_delivery(session, claimed, LATE)
    make_due(cluster)
    send_due(cluster, BOX, Notifier())
    assert sent(cluster)[0].deliveries == ()


def test_a_url_is_sealed_and_stands_in_no_audit(cluster: Database) -> None:
    """Neither database nor log gives it away; a change without a URL keeps it."""
    url = "mailtos://u:hunter2@example.com?to=a@b.test"
    add_channel(cluster, "mail", url)
    with cluster.write() as session:
        row, is_new = alert_channels.put_channel(
            session, BOX, "mail", None, is_enabled=False, actor=SYSTEM
        )
        assert (is_new, row.is_enabled, BOX.open(row.url_sealed)) == (False, False, url)
        assert (row.service, row.host) == ("E-Mail", "example.com")
        assert "hunter2" not in str(row.model_dump())
        entries = list_entries(session, AuditFilter(target="mail"))
        said = [(one.action, one.before, one.after) for one in entries]
    assert [action for action, _, _ in said] == ["alert-channel.update", "alert-channel.create"]
    assert "hunter2" not in str(said)


def test_channels_have_a_url_and_a_limit(cluster: Database) -> None:
    """One sentence each; what is not there cannot be removed."""
    with cluster.write() as session, pytest.raises(Invalid, match="needs a URL"):
        alert_channels.put_channel(session, BOX, "x", None, is_enabled=True, actor=SYSTEM)
    with cluster.write() as session, pytest.raises(NotFound, match="no alert channel x"):
        alert_channels.delete_channel(session, "x", SYSTEM)
    for number in range(MOST_CHANNELS):
        add_channel(cluster, f"c{number:02}", "json://127.0.0.1:1/")
    with pytest.raises(Conflict, match="20 alert channels already"):
        add_channel(cluster, "more", "json://127.0.0.1:1/")
    with cluster.read() as session:
        assert len(alert_channels.list_channels(session)) == MOST_CHANNELS


def test_thresholds_are_the_programs_until_somebody_sets_them(cluster: Database) -> None:
    """A change is audited, the same again is not."""
    wanted = Threshold(is_enabled=False, value=7.5)
    with cluster.write() as session:
        before = alert_settings.read_thresholds(session)
        assert before == {rule.name: rule.default for rule in RULES}
        for _ in range(2):
            alert_settings.set_rule(session, "queue-size", wanted, SYSTEM)
        with pytest.raises(NotFound, match="no alert rule moon"):
            alert_settings.set_rule(session, "moon", wanted, SYSTEM)
    with cluster.read() as session:
        assert alert_settings.read_thresholds(session) == {**before, "queue-size": wanted}
        assert len(list_entries(session, AuditFilter(action="alert-rule.update"))) == 1
    assert judged(cluster) is None


def test_the_pace_is_one_row(cluster: Database) -> None:
    """Set before and after the first look."""
    with cluster.write() as session:
        alert_settings.set_pace(session, 5, SYSTEM, tells_end=False)
    judged(cluster)
    with cluster.write() as session:
        alert_settings.set_pace(session, 5, SYSTEM, tells_end=False)
        alert_settings.set_pace(session, 10, SYSTEM, tells_end=True)
        pace = alert_settings.pace_of(alert_settings.settings_row(session))
        assert (pace.cool_down_s, pace.tells_end) == (600.0, True)
        assert len(list_entries(session, AuditFilter(action="alerts.update"))) == 2


def test_old_messages_are_deleted_with_their_deliveries(cluster: Database) -> None:
    """Newer ones stay."""
    add_channel(cluster, "hook", "json://127.0.0.1:1/")
    judged(cluster)
    with cluster.write() as session:
        session.execute(update(AlertMessageRow).values(at=AlertMessageRow.at - 31 * 86_400))
        session.execute(text("DELETE FROM alert_states"))
    judged(cluster)
    with cluster.write() as session:
        assert prune_messages(session, 30) == 1
        assert prune_messages(session, 30) == 0
        left = session.execute(select(col(AlertDeliveryRow.message))).scalars().all()
    assert left == [one.row.number for one in sent(cluster)]
    assert len(left) == 1


def test_every_rule_has_a_reader() -> None:
    """A rule that nothing measures would never say anything."""
    assert list(READERS) == [rule.name for rule in RULES]


def test_of_a_silent_node_nothing_is_measured(cluster: Database) -> None:
    """Its last report is no measurement of now: unknown, not empty."""
    assert reading(cluster, "queue-size") is None
    say(cluster, queue=QueueCounts(incoming=1, active=1, deferred=1, hold=1, pending=1))
    assert [(one.key, one.value) for one in reading(cluster, "queue-size")] == [("node-a", 5.0)]
    with cluster.write() as session:
        session.execute(text("UPDATE node_reports SET seen_at = seen_at - 3600"))
    assert reading(cluster, "queue-size") is None
    assert reading(cluster, "push-age") == ()


def test_the_age_of_a_copy_is_that_of_the_newest_push(cluster: Database) -> None:
    """Of nodes that hold a VIP: a standby pushes nothing."""
    pushes = tuple(
        PushReport(
            peer=peer, generation=1, sequence=1, age_s=age_s, messages=1, sent=1, freeze_ms=1.0
        )
        for peer, age_s in (("node-b", 400.0), ("node-c", 900.0))
    )
    say(cluster, pushes=pushes)
    assert reading(cluster, "push-age") == ()
    say(cluster, pushes=pushes, holds_vips=("198.51.100.100",))
    (one,) = reading(cluster, "push-age")
    assert 400 <= one.value < 460
    assert "on node-b" in one.text


def test_the_oldest_message_in_delivery_counts(cluster: Database) -> None:
    """Held mail waits for somebody, not for a next hop; an old list says nothing."""
    with cluster.write() as session:
        now_s = read_clock_s(session)
        for number, (queue, age_s) in enumerate((("hold", 90_000), ("deferred", 6000))):
            session.add(
                QueueMessageRow(
                    node="node-a",
                    queue_id=f"4fQ1x1Bcdfgz{number}",
                    session="s",
                    queue=queue,
                    arrived_at=now_s - age_s,
                    size_bytes=1,
                    sender="",
                    recipients="",
                    recipient_count=1,
                    domains="",
                    reason="",
                )
            )
        listed = {"session": "s", "sequence": 1, "is_complete": True, "reported_at": now_s}
        session.add(QueueListRow(node="node-a", **listed))
        session.add(QueueListRow(node="node-b", **listed))
    found = {one.key: int(one.value) for one in reading(cluster, "queue-age")}
    assert found == {"node-a": 100, "node-b": 0}
    with cluster.write() as session:
        session.execute(text("UPDATE queue_lists SET reported_at = reported_at - 400"))
    assert reading(cluster, "queue-age") is None


def test_each_change_of_a_role_is_an_event_of_its_own(cluster: Database) -> None:
    """What the last notice told of does not count again; other kinds never do."""
    with cluster.write() as session:
        for kind in ("role", "lease", "role"):
            add_event(session, kind, "the role is ACTIVE.", node="node-a")
    found = reading(cluster, "role-changes")
    assert [one.text for one in found] == ["node-a: the role is ACTIVE."] * 2
    assert judged(cluster, {"role-changes": found}) is not None
    assert reading(cluster, "role-changes") == ()


def test_findings_of_the_worst_kind_are_told_apart_by_what_they_are_about(
    cluster: Database,
) -> None:
    """Numbers in them change and are no news."""
    say(cluster, postfix_running=False)
    found = reading(cluster, "attention")
    assert "postfix-down:node-a" in [one.key for one in found]
    assert "Postfix does not run on node-a." in [one.text for one in found]
    with cluster.write() as session:
        assert session.execute(select(AlertChannelRow)).all() == []
