"""Every command of `relayctl` against a real control plane: for people and as JSON."""

from __future__ import annotations

import time
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from controlplane.store.engine import Database
from controlplane.store.leases import acquire, ensure_lease
from controlplane.store.ownership_tables import AgentRow
from controlplane.store.reports import add_event
from controlplane.store.switchovers import current_switchover, finish_switchover
from nodeagent.core.contract import NodeReport, PushReport, QueueCounts, Role, SwitchoverResult
from tests.cli.conftest import Operator
from tests.fakes.reports import store_report

VIP = "198.51.100.100"


@pytest.fixture
def live(paired: Operator, sqlite_database: Database) -> Operator:
    """Give an operator of a pair whose agents have reported: node-a is active."""
    push = PushReport(
        peer="node-b", generation=1, sequence=4, age_s=2.0, messages=7, sent=1, freeze_ms=3.0
    )
    active = NodeReport(
        role=Role.ACTIVE,
        holds_vips=(VIP,),
        pushes=(push,),
        queue=QueueCounts(deferred=5),
        rule="push: the peer's copy is old",
    )
    with sqlite_database.write() as session:
        for node in ("node-a", "node-b"):
            session.add(AgentRow(name=node, public_key_pem="k", ssh_host_keys=[], enrolled_at=1.0))
            ensure_lease(session, node)
            acquire(session, node, node, 15.0)
        store_report(session, "node-a", active)
        store_report(session, "node-b", NodeReport(role=Role.STANDBY, holds_vips=()))
    return paired


def test_nodes_are_added_changed_listed_and_removed(paired: Operator) -> None:
    """The list shows them; `set` leaves what it does not name."""
    assert "node-a" in paired("nodes", "list").out
    paired.json("nodes", "set", "node-b", "--ssh-port", "2222", "--maintenance")
    node = paired.json("nodes", "show", "node-b")["node"]
    assert (node["ssh_port"], node["is_maintenance"]) == (2222, True)
    assert (node["vrrp_priority"], node["address"]) == (100, "198.51.100.12")
    assert "198.51.100.12" in paired("nodes", "show", "node-b").out
    assert paired.json("nodes", "remove", "node-b") == {"removed": "node-b"}
    assert len(paired.json("nodes", "list")) == 1


def test_a_node_with_mail_is_removed_only_when_its_queue_is_given_up(live: Operator) -> None:
    """Nobody would adopt what waits on it."""
    refused = live("nodes", "remove", "node-a")
    assert refused.code == 1
    assert "no peer adopts it after the removal" in refused.err
    assert len(live.json("nodes", "list")) == 2
    assert live.json("nodes", "remove", "node-a", "--abandon-queue") == {"removed": "node-a"}


def test_a_node_is_not_added_twice(paired: Operator) -> None:
    """`add` never overwrites."""
    refused = paired("nodes", "add", "node-a", "--address", "198.51.100.13")
    assert (refused.code, "nodes set" in refused.err) == (2, True)


def test_a_refusal_names_each_field(paired: Operator) -> None:
    """Exit code 1, one sentence, and one line for each field."""
    refused = paired("nodes", "set", "node-b", "--priority", "150", "--ssh-port", "70000")
    assert refused.code == 1
    assert "  vrrp_priority: " in refused.err
    assert "  ssh_port: ssh_port 70000 is not between 1 and 65535." in refused.err


def test_a_token_is_made_and_a_key_revoked(live: Operator) -> None:
    """The token's second part is the CA's fingerprint; a revoked node shows as such."""
    token = live.json("nodes", "token", "node-b")["token"]
    assert len(token.partition(".")[2]) == 64
    assert live("nodes", "revoke", "node-b").code == 0
    assert live.json("nodes", "show", "node-b")["status"]["is_revoked"] is True
    assert live("nodes", "strike", "node-b").code == 0
    assert live("nodes", "token", "node-z").code == 1


def test_vips_are_listed_and_removed(paired: Operator) -> None:
    """By their address."""
    assert paired.json("vips", "list")[0]["virtual_router_id"] == 51
    assert VIP in paired("vips", "list").out
    assert paired("vips", "remove", VIP).code == 0
    assert paired("vips", "list").out == "There is no VIP yet.\n"


def test_domains_one_by_one(relayctl: Operator) -> None:
    """Added, listed, searched, removed."""
    relayctl("domains", "add", "example.com", "--next-hop", "mail.example.com", "--port", "2525")
    relayctl("domains", "add", "example.org")
    assert [one["name"] for one in relayctl.json("domains", "list", "--search", "org")] == [
        "example.org"
    ]
    assert "mail.example.com" in relayctl("domains", "list").out
    assert relayctl("domains", "remove", "example.org").code == 0
    assert relayctl("domains", "remove", "example.org").code == 1


def test_domains_from_a_file(relayctl: Operator, tmp_path: Path) -> None:
    """Comments and empty lines are skipped; --replace removes the others."""
    file = tmp_path / "domains.txt"
    file.write_text("# ours\na.tld\n\nb.tld # theirs\n")
    assert relayctl.json("domains", "import", str(file))["added"] == 2
    file.write_text("b.tld\nc.tld\n")
    said = relayctl("domains", "import", str(file), "--replace").out
    assert said == "1 added, 0 changed, 1 removed, 2 in all.\n"
    assert relayctl("domains", "import", str(tmp_path / "none")).code == 2


def test_routes_keep_their_password_to_themselves(relayctl: Operator) -> None:
    """The password comes from the environment and is never shown."""
    relayctl.set(RELAYCTL_ROUTE_PASSWORD="s3cret-word")
    where = ("--next-hop", "smtp.example.net", "--port", "587", "--username", "me")
    stored = relayctl("routes", "add", "@example.org", *where, "--json")
    assert stored.data["has_password"] is True
    listed = relayctl("routes", "list")
    assert "smtp.example.net" in listed.out
    assert "s3cret-word" not in stored.out + listed.out
    assert relayctl("routes", "remove", "@example.org").code == 0
    assert relayctl("routes", "list").out == "There is no route.\n"


def test_policies_and_networks(relayctl: Operator) -> None:
    """Allowed, blocked with a text, trusted, removed."""
    relayctl("policies", "allow", "allowed-domain.tld")
    relayctl("policies", "block", "blocked-domain.tld", "--reply", "Not here")
    actions = {one["domain"]: one["action"] for one in relayctl.json("policies", "list")}
    assert actions == {"allowed-domain.tld": "allowed", "blocked-domain.tld": "blocked"}
    assert "Not here" in relayctl("policies", "list").out
    assert relayctl("policies", "remove", "allowed-domain.tld").code == 0
    relayctl("networks", "add", "198.51.100.0/24")
    assert relayctl.json("networks", "list") == [{"network": "198.51.100.0/24"}]
    assert relayctl("networks", "remove", "198.51.100.0/24").code == 0
    assert relayctl("networks", "add", "0.0.0.0/0").code == 1


def test_settings_are_set_together_or_not_at_all(relayctl: Operator) -> None:
    """One bad value refuses the whole line."""
    good = relayctl("settings", "set", "vrrp.advert_int_s=0.1", "name=mail")
    assert good.code == 0
    bad = relayctl("settings", "set", "name=other", "timings.lease_retry_s=99")
    assert (bad.code, "must be smaller" in bad.err) == (1, True)
    shown = relayctl.json("settings", "show")
    assert (shown["name"], shown["vrrp"]["advert_int_s"]) == ("mail", 0.1)
    assert "vrrp.advert_int_s" in relayctl("settings", "show").out
    assert relayctl("settings", "set", "nonsense").code == 2


def test_a_config_is_previewed_compared_applied_and_rolled_back(paired: Operator) -> None:
    """The whole path of one change."""
    assert "/etc/postfix/main.cf" in paired("config", "preview").out
    shown = paired("config", "preview", "--node", "node-a", "--path", "/etc/postfix/main.cf")
    assert "enable_long_queue_ids" in shown.out
    assert paired("config", "preview", "--path", "/nowhere").code == 2
    assert paired.json("config", "apply", "-m", "first")["number"] == 1
    assert paired("config", "diff").out == "Nothing differs.\n"
    paired("domains", "add", "example.com")
    assert "+example.com" in paired("config", "diff").out
    assert "Version 2" in paired("config", "apply").out
    assert paired.json("config", "diff", "--from", "1", "--to", "2")["files"]
    assert paired.json("config", "rollback", "1", "-m", "back")["restored_from"] == 1
    assert [one["number"] for one in paired.json("config", "versions")] == [3, 2, 1]
    assert "first" in paired("config", "versions").out


def test_a_config_without_nodes_is_refused(relayctl: Operator) -> None:
    """Exit code 1 and why."""
    assert relayctl("config", "versions").out.startswith("There is no version yet")
    assert relayctl("config", "apply").code == 1


def test_a_certificate_is_shown_before_one_is_uploaded(relayctl: Operator) -> None:
    """The control plane's own, and that it is."""
    assert relayctl.json("certificate", "show")["is_own"] is True


def test_status_shows_the_cluster_on_one_screen(live: Operator) -> None:
    """Who is active, who holds what, how old the copy is."""
    said = live("status").out
    for words in ("ACTIVE", "STANDBY", VIP, "node-b 2.0 s old", "GENERATION"):
        assert words in said, words
    shown = live.json("status")
    assert set(shown) == {"cluster", "nodes", "leases", "queue", "switchover"}


def test_leases_and_queue(live: Operator) -> None:
    """Each in a table and as JSON."""
    assert live.json("lease")[0]["queue"] == "node-a"
    assert "node-b" in live("lease").out
    assert live.json("queue")["total"] == 5
    assert "5 messages in all" in live("queue").out


def test_attention_names_the_next_step(live: Operator) -> None:
    """In a table and as JSON."""
    assert "versions-differ" not in {one["rule"] for one in live.json("attention")}
    assert all(one["step"] in live("attention").out for one in live.json("attention"))
    assert live.json("attention")


def test_events_come_oldest_first(live: Operator, sqlite_database: Database) -> None:
    """As a log is read; filtered by node and kind."""
    with sqlite_database.write() as session:
        for number in (1, 2, 3):
            add_event(session, "role", f"event {number}", node="node-a")
    assert [one["text"] for one in live.json("events", "--limit", "2")] == ["event 2", "event 3"]
    lines = live("events", "--kind", "role").out.splitlines()
    assert [line.rpartition(": ")[2] for line in lines] == ["event 1", "event 2", "event 3"]
    assert live("events", "--node", "node-b").out == ""
    assert len(live.json("events", "--severity", "info", "--text", "EVENT 2")) == 1
    assert live.json("events", "--severity", "bad") == []


def test_the_audit_log_says_who(paired: Operator) -> None:
    """Newest first, filtered by action."""
    entries = paired.json("audit", "--action", "node.create")
    assert [one["target"] for one in entries] == ["node-b", "node-a"]
    assert "node.create" in paired("audit").out
    assert len(paired.json("audit", "--action", "node.*", "--target", "node-b")) == 1


def test_the_system_is_shown(paired: Operator) -> None:
    """Database, certificates, jobs and hosts, as tables and as JSON."""
    found = paired.json("system")
    assert found["database"]["kind"] == "SQLite"
    shown = paired("system").out
    for words in ("schema", "smtp", "node-a", "That process runs no jobs."):
        assert words in shown


def _finish(database: Database, values: dict[str, Any]) -> None:
    """Report the end of the next switchover as soon as somebody has asked for it."""
    for _ in range(600):
        with database.write() as session:
            wish = current_switchover(session)
            if wish is not None:
                result = SwitchoverResult(id=wish.id, **values)
                finish_switchover(session, wish.source, result)
                return
        time.sleep(0.05)


def test_a_switchover_is_asked_for(live: Operator) -> None:
    """Without --wait the command returns at once; a second one is refused."""
    assert "node-a was asked to hand over to node-b" in live("switchover", "node-b").out
    refused = live("switchover", "node-b")
    assert (refused.code, "under way" in refused.err) == (1, True)
    assert "is under way" in live("status").out


def test_waiting_for_a_switchover_that_nobody_does(live: Operator) -> None:
    """Exit code 5 after the time given."""
    waited = live("switchover", "node-b", "--wait", "--timeout", "0.2")
    assert (waited.code, "not finished within" in waited.err) == (5, True)
    assert waited.err.splitlines()[0] == "asked."


def test_explain_shows_the_rule_that_was_followed(live: Operator) -> None:
    """As reported, with its age; the full one is on the node."""
    said = live("explain", "node-a")
    assert "Rule: push: the peer's copy is old" in said.out
    assert "relay-agent explain" in said.err
    assert live.json("explain", "node-a")["leases"][0]["holder"] == "node-a"
    assert live("explain", "node-z").code == 1


def test_adopting_asks_whether_the_host_is_off(live: Operator) -> None:
    """Where nobody can be asked, --yes must say so; then the lease is free at once."""
    asked = live("adopt", "--confirm-dead", "node-a")
    assert asked.code == 2
    assert "safe exactly when the host node-a is really off" in asked.err
    done = live.json("adopt", "--confirm-dead", "node-a", "--yes")
    assert done["confirmed_dead"] is True
    assert done["remaining_s"] <= 0
    kinds = [one["kind"] for one in live.json("events")]
    assert "confirmed-dead" in kinds


def test_adopting_from_a_node_that_never_enrolled(paired: Operator) -> None:
    """There is no queue to adopt."""
    refused = paired("adopt", "--confirm-dead", "node-a", "--yes")
    assert (refused.code, "never enrolled" in refused.err) == (1, True)


def test_a_failed_switchover_is_exit_code_5(live: Operator, sqlite_database: Database) -> None:
    """The source's own reason is told; a finished one shows its figures."""
    failed = {"ok": False, "text": "node-b cannot be reached."}
    Thread(target=_finish, args=(sqlite_database, failed)).start()
    waited = live("switchover", "node-b", "--wait")
    assert (waited.code, "node-b cannot be reached." in waited.err) == (5, True)
    done = {"ok": True, "stall_ms": 412.0, "messages": 9}
    Thread(target=_finish, args=(sqlite_database, done)).start()
    waited = live("switchover", "node-b", "--wait")
    assert waited.code == 0
    assert "(9 messages, SMTP stood still for 412 ms)" in waited.out
    assert waited.err.splitlines()[-1] == "moved."
