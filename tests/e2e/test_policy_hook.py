"""The policy hook between real clients and real Postfix: edits, failover, both doors."""

from __future__ import annotations

import signal
import uuid
from typing import Any

import pytest

from tests.e2e.accounting import Load, account
from tests.e2e.driver import Lab, until
from tests.e2e.judging import (
    POLICY,
    SENDER,
    apply,
    ask_http,
    delivered,
    heard,
    is_taken,
    open_http,
    speak,
    wait_for_policy,
)

pytestmark = pytest.mark.e2e


def test_edits_hold_within_seconds_and_no_session_notices(judged: Lab) -> None:
    """A sender is blocked and let in again while others send: they are not disturbed."""
    api = judged.api()
    assert is_taken(speak(judged))
    with Load(judged, rate=20) as load:
        load.go_on_for(1)
        entry = api.call("POST", f"{POLICY}/blocklist", {"value": SENDER, "reason": "a test"})
        wait_for_policy(judged)
        said = speak(judged)
        assert "<** 550 5.7.1" in said
        api.call("DELETE", f"{POLICY}/blocklist/{entry['id']}")
        wait_for_policy(judged)
        assert is_taken(speak(judged))
        load.go_on_for(1)
    report = account(judged, load)
    report.assert_all_delivered()
    report.assert_doubled_at_most(0)


def test_quarantined_mail_is_held_shown_and_released(judged: Lab) -> None:
    """It got its 250, so it is in the hold queue; released, it is delivered once."""
    api = judged.api()
    api.call("POST", f"{POLICY}/badwords", {"pattern": "cheap pills", "severity": "medium"})
    wait_for_policy(judged)
    identity = uuid.uuid4().hex
    header = ("--header", f"X-Relay-Test-Id: {identity}")
    assert is_taken(speak(judged, *header, "--body", "Buy CHEAP  pills today"))

    def held() -> list[dict[str, Any]]:
        return list(api.call("GET", f"{POLICY}/quarantine")["messages"])

    until(lambda: len(held()) == 1, "the quarantine shows the mail", 60)
    assert delivered(identity) == []
    api.call("POST", f"{POLICY}/quarantine/actions", {"verb": "release", "filter": {}})
    until(lambda: len(delivered(identity)) == 1, "the released mail is delivered", 60)
    until(lambda: held() == [], "the quarantine is empty", 60)


def test_without_the_hook_mail_waits_at_its_sender(judged: Lab) -> None:
    """`tempfail` is the default; as soon as the hook is back, mail flows."""
    active = judged.active()
    judged.end_for_good(active, "policy")
    said = speak(judged)
    assert "<** 451" in said, said
    judged.enable(active, "policy")
    until(lambda: is_taken(speak(judged)), "mail is taken again", 60)


def test_a_hook_that_is_killed_is_back_by_itself(judged: Lab) -> None:
    """Its policy is on the disk: no control plane is needed for it."""
    active = judged.active()
    judged.pause("cp")
    judged.signal(active, "policy", signal.SIGKILL)
    until(lambda: is_taken(speak(judged)), "mail is taken again", 60)
    judged.resume("cp")


def test_rates_are_counted_over_the_whole_cluster(judged: Lab) -> None:
    """A switchover resets no count, and what was refused counts as well."""
    api = judged.api()
    rule = {"subject": "sender", "window": "day", "limit": 4, "verdict": "tempfail"}
    api.call("POST", f"{POLICY}/rates", rule)
    wait_for_policy(judged)
    sender = f"{uuid.uuid4().hex}@allowed-domain.tld"
    source, destination = judged.active(), judged.standby()
    before = heard(judged, destination)
    assert [is_taken(speak(judged, sender=sender)) for _ in range(3)] == [True] * 3
    until(lambda: heard(judged, destination) > before, "the other node knows of the counts", 60)
    api.call("POST", "switchover", {"source": source, "destination": destination})
    judged.wait(f"active={destination}")
    judged.wait("ready")
    wait_for_policy(judged)
    taken = [is_taken(speak(judged, sender=sender)) for _ in range(3)]
    assert taken == [True, False, False]


def test_the_log_outlives_a_control_plane_that_is_away(judged: Lab) -> None:
    """Decisions made meanwhile are in the log afterwards, each once."""
    api = judged.api()
    api.call("PATCH", f"{POLICY}/settings", {"privacy": "full"})
    api.call("POST", f"{POLICY}/blocklist", {"value": "*@blocked.example"})
    wait_for_policy(judged)
    sender = f"{uuid.uuid4().hex}@blocked.example"
    judged.pause("cp")
    for _ in range(3):
        assert not is_taken(speak(judged, sender=sender))
    judged.resume("cp")

    def logged() -> int:
        found = judged.api().call("GET", f"{POLICY}/log?sender={sender}")
        return len(found["entries"])

    until(lambda: logged() >= 3, "the decisions are in the log", 60)
    assert logged() == 3


def test_a_category_reaches_every_subscriber_once(judged: Lab) -> None:
    """One who is also named directly gets one mail; who may not post is refused."""
    api = judged.api()
    category = {"address": "news@example.com", "name": "News", "posting": "subscribers"}
    api.call("POST", f"{POLICY}/categories", category)
    subscribers = [SENDER, "one@example.com", "two@example.com"]
    for address in subscribers:
        wanted = {"category": category["address"], "address": address}
        api.call("POST", f"{POLICY}/subscriptions", wanted)
    wait_for_policy(judged)
    identity = uuid.uuid4().hex
    header = ("--header", f"X-Relay-Test-Id: {identity}")
    assert is_taken(speak(judged, *header, to="news@example.com,one@example.com"))
    until(lambda: len(delivered(identity)) >= 3, "all subscribers have it", 60)
    assert sorted(to for line in delivered(identity) for to in line["to"]) == sorted(subscribers)
    said = speak(judged, sender="stranger@elsewhere.example", to="news@example.com")
    assert not is_taken(said)
    assert not is_taken(speak(judged, to="nonews@list.relay.invalid"))


def test_strangers_reach_a_category_in_a_domain_of_its_own(judged: Lab) -> None:
    """From the next apply on; of its other addresses the hook says that there are none."""
    api = judged.api()
    news = "news@lists.example.net"
    api.call("POST", f"{POLICY}/categories", {"address": news, "posting": "anybody"})
    api.call("PUT", f"{POLICY}/categories/{news}/subscriptions/one@example.com", {})
    wait_for_policy(judged)
    assert "Relay access denied" in speak(judged, to=news, host="sink")
    apply(judged, "take mail for the domain of a category")
    identity = uuid.uuid4().hex
    header = ("--header", f"X-Relay-Test-Id: {identity}")
    assert is_taken(speak(judged, *header, to=news, host="sink"))
    until(lambda: len(delivered(identity)) == 1, "the subscriber has it", 60)
    assert "<** 550 5.1.1" in speak(judged, to="nobody@lists.example.net", host="sink")
    assert "Relay access denied" in speak(judged, to="a@elsewhere.example", host="sink")


def test_the_http_door_judges_as_the_milter_does(judged: Lab) -> None:
    """On the VIP, so that a failover of the relay is one of its hook."""
    api = judged.api()
    api.call("POST", f"{POLICY}/blocklist", {"value": "*@blocked.example"})
    token = open_http(judged)
    wait_for_policy(judged)
    assert ask_http(token, "a@blocked.example")["action"] == "reject"
    assert ask_http(token, SENDER)["action"] == "accept"


def test_judged_mail_survives_the_loss_of_the_active_host(judged: Lab) -> None:
    """The other host judges by the same policy at once, and adopts what was acknowledged."""
    active, standby = judged.active(), judged.standby()
    with Load(judged, rate=50) as load:
        load.go_on_for(3)
        judged.kill(active)
        load.go_on_for(5)
    assert judged.active() == standby
    judged.boot(active)
    report = account(judged, load)
    report.assert_nothing_lost()
