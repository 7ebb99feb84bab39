"""CSV, the state file and the tried route on the command line, against a real control plane."""

from __future__ import annotations

import json
import time
from pathlib import Path
from threading import Thread

from controlplane.store.alert_channels import list_channels
from controlplane.store.alert_settings import read_thresholds
from controlplane.store.engine import Database
from controlplane.store.node_tests import waiting
from controlplane.store.ownership_tables import AgentRow, RouteTestRow
from controlplane.store.route_tests import finish
from nodeagent.core.contract import NodeReport, Role
from nodeagent.core.route_wire import RouteTestLine, RouteTestResult, Speaker
from tests.cli.conftest import Operator, Outcome
from tests.fakes.reports import store_report


def test_a_list_goes_out_and_comes_in(paired: Operator, tmp_path: Path) -> None:
    """The file that was written is the file that is read."""
    file = tmp_path / "domains.csv"
    file.write_text("name,next_hop\na.tld,\nb.tld,mx.b.tld\n")
    tried = paired("lists", "import", "recipient-domains", str(file), "--dry-run")
    assert (tried.code, "added: 2" in tried.out) == (0, True)
    assert paired.json("domains", "list") == []
    added = paired.json("lists", "import", "recipient-domains", str(file))
    assert added["added"] == ["a.tld", "b.tld"]
    assert paired("lists", "export", "recipient-domains", str(file)).code == 0
    exported = "name,next_hop,port,tls_mode\r\na.tld,,25,may\r\nb.tld,mx.b.tld,25,may\r\n"
    assert file.read_bytes().decode() == exported
    assert "b.tld,mx.b.tld" in paired("lists", "export", "recipient-domains").out


def test_a_wrong_line_is_named(paired: Operator, tmp_path: Path) -> None:
    """The sentence stands under its line's number; nothing was stored."""
    file = tmp_path / "networks.csv"
    file.write_text("network\n198.51.100.0/24\nhome\n")
    refused = paired("lists", "import", "trusted-networks", str(file))
    assert refused.code == 1
    assert 'line 3: "home" is not a network such as 192.0.2.0/24.' in refused.err
    assert paired.json("networks", "list") == []


def test_the_state_goes_out_and_comes_in(paired: Operator, tmp_path: Path) -> None:
    """Without --yes it is only shown; with it, everything is as the file says."""
    file = tmp_path / "state.json"
    assert paired("domains", "add", "a.tld").code == 0
    assert paired("config", "export", str(file)).code == 0
    assert json.loads(paired("config", "export").out)["format"] == "mail-relay-ha-state"
    paired("domains", "add", "z.tld")
    paired("settings", "set", "message_size_limit_bytes=1000000")
    shown = paired("config", "import", str(file))
    assert shown.code == 0
    assert "message_size_limit_bytes: 1000000 -> 52428800" in shown.out
    assert "recipient_domains: 0 added, 0 changed, 1 removed" in shown.out
    assert "node-a /etc/postfix/main.cf (changed)" in shown.out
    assert "Nothing was changed" in shown.err
    assert len(paired.json("domains", "list")) == 2
    assert paired("config", "import", str(file), "--yes").code == 0
    assert [one["name"] for one in paired.json("domains", "list")] == ["a.tld"]
    assert "Nothing differs." in paired("config", "import", str(file)).out


def test_the_policy_goes_out_and_comes_in_with_the_state(paired: Operator, tmp_path: Path) -> None:
    """Who is named in the file is said, and so is what an import leaves alone."""
    file = tmp_path / "state.json"
    news, reader = "news@lists.example.com", "reader@example.net"
    assert paired("policy", "category", "add", news).code == 0
    assert paired("policy", "subscription", "add", news, reader).code == 0
    assert paired("policy", "badword", "add", "viagra").code == 0
    named = paired("config", "export", str(file))
    assert "It names who is subscribed to what" in named.err
    paired("policy", "badword", "add", "casino")
    paired("policy", "subscription", "remove", news, reader)
    shown = paired("config", "import", str(file), "--yes")
    assert "policy.badwords: 0 added, 0 changed, 1 removed" in shown.out
    assert "policy.subscriptions: 1 added, 0 changed, 0 removed" in shown.out
    assert paired.json("policy", "subscription", "list")[0]["address"] == reader
    bare = paired("config", "export", "--no-subscriptions", str(file))
    assert "1 subscriptions are not in it: relayctl policy export subscriptions FILE" in bare.err
    assert reader not in file.read_text()
    again = paired("config", "import", str(file))
    assert "Nothing differs." in again.out
    assert "policy.subscriptions is not in the file and stays as it is." in again.err


def test_a_file_that_is_no_state_is_refused(paired: Operator, tmp_path: Path) -> None:
    """No JSON, or JSON of something else, or a state with a problem."""
    file = tmp_path / "state.json"
    file.write_text("{")
    assert paired("config", "import", str(file)).code == 2
    file.write_text("{}")
    assert paired("config", "import", str(file)).code == 1
    state = json.loads(paired("config", "export").out)
    state["lists"]["trusted_networks"] = ["home"]
    file.write_text(json.dumps(state))
    refused = paired("config", "import", str(file), "--yes")
    assert (refused.code, "trusted_networks.home" in refused.err) == (1, True)
    nowhere = paired("config", "export", str(tmp_path / "none" / "state.json"))
    assert (nowhere.code, "cannot be written" in nowhere.err) == (2, True)


def test_a_route_is_tried_and_its_dialogue_printed(
    paired: Operator, sqlite_database: Database
) -> None:
    """What the node reports is what is shown; a refused recipient is exit code 5."""
    assert paired("routes", "try", "@a.tld", "b@b.tld").code == 1
    assert paired("routes", "add", "@a.tld", "--next-hop", "mx.tld").code == 0
    with sqlite_database.write() as session:
        session.add(AgentRow(name="node-a", public_key_pem="k", ssh_host_keys=[], enrolled_at=1.0))
        store_report(session, "node-a", NodeReport(role=Role.STANDBY))
    for is_ok, code in ((True, 0), (False, 5)):
        outcome = _try(paired, sqlite_database, is_ok=is_ok)
        assert outcome.code == code
        assert "> RCPT TO:<b@b.tld>" in outcome.out
        assert "told" in (outcome.out if is_ok else outcome.err)


def _try(operator: Operator, database: Database, *, is_ok: bool) -> Outcome:
    """Run the command while a thread is the node that reports."""
    reporter = Thread(target=_report, args=(database,), kwargs={"is_ok": is_ok})
    reporter.start()
    outcome = operator("routes", "try", "@a.tld", "b@b.tld")
    reporter.join()
    return outcome


def _report(database: Database, *, is_ok: bool) -> None:
    number = None
    while number is None:
        time.sleep(0.02)
        with database.read() as session:
            number = waiting(session, RouteTestRow, "node-a")
    line = RouteTestLine(speaker=Speaker.CLIENT, text="RCPT TO:<b@b.tld>")
    result = RouteTestResult(id=number, ok=is_ok, text="This was told.", lines=(line,))
    with database.write() as session:
        finish(session, "node-a", result)


def test_the_alerts_go_out_and_come_in_with_the_state(
    paired: Operator, tmp_path: Path, sqlite_database: Database
) -> None:
    """What is left to do by hand is said; what is not in the file as well."""
    file = tmp_path / "state.json"
    assert paired("config", "export", str(file)).code == 0
    state = json.loads(file.read_text())
    state["alerts"]["channels"] = [{"name": "on-call"}]
    state["alerts"]["rules"] = [{"rule": "threats", "threshold": 7}]
    file.write_text(json.dumps(state))
    shown = paired("config", "import", str(file))
    assert "alerts.channels: 1 added, 0 changed, 0 removed" in shown.out
    hint = "The channel on-call has no URL here, so it is switched off; give it one."
    assert hint in shown.err
    assert paired("config", "import", str(file), "--yes").code == 0
    with sqlite_database.read() as session:
        (channel,) = list_channels(session)
        assert read_thresholds(session)["threats"].value == 7
    assert (channel.name, channel.is_enabled, channel.url_sealed) == ("on-call", False, "")
    state["alerts"] = {"rules": [{"rule": "moon", "threshold": 1}]}
    file.write_text(json.dumps(state))
    refused = paired("config", "import", str(file), "--yes")
    assert (refused.code, "There is no alert rule moon." in refused.err) == (1, True)
    del state["alerts"]
    file.write_text(json.dumps(state))
    assert "alerts is not in the file and stays" in paired("config", "import", str(file)).err
