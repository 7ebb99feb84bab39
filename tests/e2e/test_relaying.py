"""What the pair relays, what it refuses, and how it says so: an administrator's smoke tests."""

from __future__ import annotations

import pytest

from lab.layout import NODES, VIP
from tests.e2e.accounting import Load, account
from tests.e2e.driver import Failed, Lab, until
from tests.e2e.scenes import repeat_if_the_vip_moves, reported

pytestmark = pytest.mark.e2e


def swaks(lab: Lab, sender: str, recipient: str, *more: str, host: str = "client") -> str:
    """Send one mail with swaks through the VIP; a refusal raises with the dialogue."""
    words = ("--server", VIP, "--from", sender, "--to", recipient, *more)
    return lab.execute(host, "sh", "-c", 'swaks "$@" 2>&1', "swaks", *words)


def test_mail_of_an_allowed_domain_reaches_its_destination(lab: Lab):
    """The main job, once, by hand."""
    said = swaks(lab, "a@allowed-domain.tld", "b@elsewhere.example")
    assert "250 2.0.0 Ok: queued as" in said


def test_a_blocked_sender_domain_is_refused_with_its_text(lab: Lab):
    """Even for a trusted network."""
    with pytest.raises(Failed):
        swaks(lab, "a@blocked-domain.tld", "b@example.com")
    said = lab.execute(
        "client",
        "sh",
        "-c",
        f"swaks --server {VIP} --from a@blocked-domain.tld --to b@example.com 2>&1; true",
    )
    assert "<** 550 5.7.1" in said


def test_strangers_may_send_to_recipient_domains_only(lab: Lab):
    """No open relay: the sink host is not in a trusted network."""
    said = swaks(lab, "a@anywhere.example", "b@example.com", host="sink")
    assert "queued as" in said
    with pytest.raises(Failed):
        swaks(lab, "a@allowed-domain.tld", "b@elsewhere.example", host="sink")


def test_starttls_is_offered_and_not_demanded(lab: Lab):
    """With it and without it the mail is taken."""
    said = swaks(lab, "a@allowed-domain.tld", "b@example.com", "--tls")
    assert "TLS started" in said
    assert "queued as" in swaks(lab, "a@allowed-domain.tld", "b@example.com")


@repeat_if_the_vip_moves()
def test_every_acknowledged_message_is_delivered_once(lab: Lab):
    """Without any fault: acknowledged = delivered, nothing twice, nobody disturbed by pushes."""
    with Load(lab, rate=100) as load:
        load.go_on_for(6)
    report = account(lab, load)
    report.assert_all_delivered()
    report.assert_doubled_at_most(0)
    report.assert_no_session_suffered()
    assert report.acknowledged


def test_a_config_that_a_daemon_refuses_stays_off_that_node(lab: Lab):
    """P6: the API accepts an interface that the node does not have; keepalived does not."""
    api = lab.api()
    before = lab.agent_status("node-b")["config_version"]
    node = {**api.call("GET", "nodes/node-b")["node"]}
    name = node.pop("name")
    api.call("PUT", f"nodes/{name}", {**node, "interface": "eth7"})
    try:
        version = api.call("POST", "config/apply", {"reason": "a wrong interface"})["number"]
        until(
            lambda: reported(api, name)["config_failed_version"] == version,
            "node-b refuses the version",
            90,
        )
        assert "eth7" in reported(api, name)["config_error"]
        assert lab.agent_status(name)["config_version"] == before
        assert "queued as" in swaks(lab, "a@allowed-domain.tld", "b@example.com")
    finally:
        api.call("PUT", f"nodes/{name}", node)
        version = api.call("POST", "config/apply", {"reason": "put right"})["number"]
    for each in NODES:
        until(
            lambda each=each: lab.agent_status(each)["config_version"] == version,
            f"{each} runs the repaired version",
            90,
        )
