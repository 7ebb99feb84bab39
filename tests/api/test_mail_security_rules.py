"""Bad words, rates, threat rules and the nodes' state over REST."""

from __future__ import annotations

import pytest
from fastapi.testclient import TestClient

from controlplane.store.engine import Database
from nodeagent.policy.document import SectionKind
from nodeagent.policy.engine.threats import THREAT_RULES
from nodeagent.policy.sync_wire import PolicySync
from tests.fakes.enrolled_agent import EnrolledAgent
from tests.fakes.people import audited
from tests.fakes.published_policy import published

API = "/api/v1/mail-security"
RULE = THREAT_RULES[0]


@pytest.mark.parametrize("pattern", ["(a", "a*", r"(a)\1", "(?=a)b", "((a{100}){100}){100}"])
def test_a_pattern_that_re2_does_not_take_is_refused_with_the_reason(
    client: TestClient, pattern: str
) -> None:
    """It never reaches a node."""
    answer = client.post(f"{API}/badwords", json={"pattern": pattern, "is_regex": True})
    assert answer.status_code == 422
    (sentence,) = answer.json()["fields"].values()
    assert sentence.startswith("The regular expression"), sentence
    assert client.get(f"{API}/badwords").json()["total"] == 0


def test_the_same_letters_as_a_word_are_taken(
    client: TestClient, sqlite_database: Database
) -> None:
    """A word is no pattern."""
    for pattern in ("(a", "C++", "100 % free"):
        answer = client.post(f"{API}/badwords", json={"pattern": pattern})
        assert answer.status_code == 201, answer.text
    words = published(client, sqlite_database, SectionKind.BADWORDS)
    assert [one.pattern for one in words] == ["(a", "C++", "100 % free"]  # type: ignore[union-attr]


def test_bad_words_go_in_and_out_as_csv(client: TestClient) -> None:
    """With all that is set, and a reason for each line that cannot be used."""
    lines = [
        "pattern,is_regex,severity,category,is_enabled",
        "casino,false,high,spam,true",
        "(lottery|jackpot),true,low,custom,false",
    ]
    headers = {"Content-Type": "text/csv"}
    path = f"{API}/badwords/import"
    assert client.post(path, content="\n".join(lines), headers=headers).json()["added"] == 2
    exported = client.get(f"{API}/badwords/export").text.split("\r\n")
    assert exported == [*lines, ""]
    lines += ["(oops,true,low,spam,true", "word,false,worst,spam,true"]
    fields = client.post(path, content="\n".join(lines), headers=headers).json()["fields"]
    assert list(fields) == ["line 4", "line 5"]
    assert fields["line 4"].startswith("The regular expression cannot be used")
    assert fields["line 5"] == "severity has to be one of low, medium, high or critical."


def test_a_word_is_changed_and_switched_off_by_its_id(
    client: TestClient, sqlite_database: Database
) -> None:
    """The audit log has both states."""
    made = client.post(f"{API}/badwords", json={"pattern": "casino"}).json()
    changed = client.put(
        f"{API}/badwords/{made['id']}", json={"pattern": "casino", "is_enabled": False}
    )
    assert changed.json()["is_enabled"] is False
    (word,) = published(client, sqlite_database, SectionKind.BADWORDS)
    assert not word.is_enabled  # type: ignore[union-attr]
    (entry,) = client.get("/api/v1/audit", params={"action": "badword.update"}).json()
    assert (entry["before"]["is_enabled"], entry["after"]["is_enabled"]) == (True, False)
    assert "digest" not in entry["after"]


def test_one_limit_for_each_subject_and_window(
    client: TestClient, sqlite_database: Database
) -> None:
    """A second one would never be reached, or make the first useless."""
    rate = {"subject": "login", "window": "hour", "limit": 100}
    assert client.post(f"{API}/rates", json=rate).status_code == 201
    assert client.post(f"{API}/rates", json=rate | {"limit": 200}).status_code == 409
    assert client.put(f"{API}/rates", json=rate | {"limit": 200}).json()["limit"] == 200
    assert client.post(f"{API}/rates", json=rate | {"window": "day"}).status_code == 201
    refused = client.post(f"{API}/rates", json=rate | {"window": "minute", "verdict": "discard"})
    assert refused.json()["fields"] == {
        "body": "A rate can put mail off or reject it, nothing else."
    }
    found = published(client, sqlite_database, SectionKind.RATES)
    assert [one.limit for one in found] == [200, 100]  # type: ignore[union-attr]


def test_threat_rules_are_as_they_were_built_until_somebody_changes_one(
    client: TestClient, sqlite_database: Database
) -> None:
    """And again when it is reset; only what was changed travels."""
    rules = client.get(f"{API}/threat-rules").json()
    assert [one["rule"] for one in rules] == [rule.name for rule in THREAT_RULES]
    assert not any(one["is_changed"] for one in rules)
    path = f"{API}/threat-rules/{RULE.name}"
    off = client.put(path, json={"is_enabled": False, "score": 9.5}).json()
    assert (off["is_enabled"], off["score"], off["own_score"]) == (False, 9.5, RULE.score)
    (setting,) = published(client, sqlite_database, SectionKind.THREATS)
    assert (setting.rule, setting.is_enabled, setting.score) == (RULE.name, False, 9.5)  # type: ignore[union-attr]
    assert client.get(path).json() == off
    assert client.delete(path).json() == rules[0]
    assert published(client, sqlite_database, SectionKind.THREATS) == []
    client.delete(path)
    actions = [row for row in audited(sqlite_database) if row[1] == "threat-rule.update"]
    assert actions == [("admin", "threat-rule.update", RULE.name)] * 2


def test_a_threat_rule_that_is_not_there_cannot_be_switched(client: TestClient) -> None:
    """Its name is said."""
    answer = client.put(f"{API}/threat-rules/no-such-rule", json={})
    assert answer.status_code == 404
    assert answer.json()["detail"] == 'There is no threat rule "no-such-rule".'


def test_which_node_has_which_policy(agents: dict[str, EnrolledAgent], pair: TestClient) -> None:
    """A node that never asked is unknown, one that is behind says why."""
    revision = pair.get(f"{API}/settings").json()["revision"]
    said = PolicySync(source="1" * 32, revision=revision)
    agents["node-a"].post("policy", said)
    found = pair.get(f"{API}/nodes").json()
    assert found["revision"] == revision
    a, b = found["nodes"]
    assert (a["node"], a["revision"], a["is_current"], a["problem"]) == (
        "node-a",
        revision,
        True,
        "",
    )
    assert (b["node"], b["revision"], b["is_current"], b["seen_s"]) == ("node-b", None, False, None)
    pair.post(f"{API}/blocklist", json={"value": "example.com"})
    behind = said.model_copy(update={"problem": "section list/0 is torn"})
    agents["node-a"].post("policy", behind)
    a = pair.get(f"{API}/nodes").json()["nodes"][0]
    assert (a["is_current"], a["problem"]) == (False, "section list/0 is torn")
    nodes, status = pair.get(f"{API}/nodes").json(), pair.get(f"{API}/status").json()
    assert status["revision"] == nodes["revision"]
    for one, other in zip(status["nodes"], nodes["nodes"], strict=True):
        assert {**one, "seen_s": None} == {**other, "seen_s": None}
