"""Trying a mail out over REST: the decisions of all stages, by which rules, and why."""

from __future__ import annotations

import base64
from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.store import policy_trial
from nodeagent.policy.engine.policy import compile_policy

API = "/api/v1/mail-security"
MAIL = {"sender": "a@example.net", "recipients": ["b@example.org"], "raw": "Subject: hi\n\nhello\n"}


def try_mail(caller: TestClient, **others: Any) -> dict[str, Any]:
    """Return what would be decided."""
    answer = caller.post(f"{API}/try", json={**MAIL, **others})
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def stage(result: dict[str, Any], name: str) -> dict[str, Any]:
    """Return the first decision of a stage."""
    return dict(next(one for one in result["stages"] if one["stage"] == name))


@pytest.fixture
def policy(client: TestClient) -> TestClient:
    """Give the client of a policy with a bit of everything, which is not active."""
    for path, body in (
        ("blocklist", {"value": "192.0.2.0/24"}),
        ("blocklist", {"value": "*@spam.test", "reason": "asked for"}),
        ("allowlist", {"value": "good@spam.test"}),
        ("badwords", {"pattern": "casino", "severity": "high"}),
        ("categories", {"address": "news@example.com"}),
    ):
        assert client.post(f"{API}/{path}", json=body).status_code == 201
    return client


def test_an_innocent_mail_passes_every_stage(policy: TestClient) -> None:
    """Stages of which nothing is given are left out."""
    result = try_mail(policy, client="198.51.100.7", helo="mail.example.net")
    assert result["verdict"] == "accept"
    assert [one["stage"] for one in result["stages"]] == ["connect", "ehlo", "mail", "rcpt", "data"]
    assert result["problems"] == []
    assert result["revision"] == policy.get(f"{API}/settings").json()["revision"]


def test_a_blocked_client_is_refused_when_it_connects_and_the_rest_is_told_too(
    policy: TestClient,
) -> None:
    """An administrator sees all the reasons at once."""
    result = try_mail(policy, client="192.0.2.77", raw="Subject: your casino\n\nhello\n")
    assert result["verdict"] == "reject"
    first = stage(result, "connect")
    assert (first["verdict"], first["fired"][0]["type"]) == ("reject", "blocklist")
    assert first["reply"].startswith("5")
    kinds = {one["type"] for one in stage(result, "data")["fired"]}
    assert "badword" in kinds


def test_the_reason_names_rule_and_match(policy: TestClient) -> None:
    """What was matched is shown to who asks here; a log line might not have it."""
    result = try_mail(policy, raw="Subject: x\n\nWelcome to the CASINO.\n")
    (fired,) = [one for one in stage(result, "data")["fired"] if one["type"] == "badword"]
    assert (fired["rule"], fired["severity"], fired["verdict"]) == ("badword:1", "high", "reject")
    assert "casino" in str(fired["matched"]).lower()
    assert any("badword:1" in one for one in stage(result, "data")["sentences"])


def test_a_mail_in_parts_is_judged_as_one_in_whole(policy: TestClient) -> None:
    """Text, HTML and names of attachments."""
    mail = {"raw": None}
    assert try_mail(policy, **mail, parts={"html": "<p>cas<b></b>ino</p>"})["verdict"] == "reject"
    assert try_mail(policy, **mail, parts={"text": "fine"})["verdict"] == "accept"
    named = try_mail(policy, **mail, parts={"text": "see", "attachments": ["réport.exe"]})
    assert {one["type"] for one in stage(named, "data")["fired"]} == {"attachment"}
    whole = base64.b64encode(b"Subject: =?utf-8?b?Y2FzaW5v?=\r\n\r\nx\r\n").decode()
    assert try_mail(policy, **mail, raw_base64=whole)["verdict"] == "reject"


def test_the_allowlist_overrules_the_blocklist(policy: TestClient) -> None:
    """Which is why both are looked at."""
    assert try_mail(policy, sender="bad@spam.test")["verdict"] == "reject"
    assert try_mail(policy, sender="good@spam.test")["verdict"] == "accept"


def test_one_of_two_recipients_that_is_refused_leaves_the_other(policy: TestClient) -> None:
    """An address of a category's domain that is no category is refused; a stranger's is not."""
    both = try_mail(policy, recipients=["nobody@example.com", "b@example.org"])
    rcpt = [one for one in both["stages"] if one["stage"] == "rcpt"]
    assert [(one["recipient"], one["verdict"]) for one in rcpt] == [
        ("nobody@example.com", "reject"),
        ("b@example.org", "accept"),
    ]
    assert both["verdict"] == "accept"
    assert try_mail(policy, recipients=["nobody@example.com"])["verdict"] == "reject"


def test_an_edit_counts_at_once_and_what_did_not_change_is_not_compiled_again(
    policy: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once a revision, however often one tries."""
    seen: list[bool] = []

    def compile_noted(*args: Any) -> Any:
        seen.append(args[2] is not None)
        return compile_policy(*args)

    monkeypatch.setattr(policy_trial, "compile_policy", compile_noted)
    policy.post(f"{API}/badwords", json={"pattern": "first"})
    try_mail(policy)
    try_mail(policy)
    policy.post(f"{API}/badwords", json={"pattern": "hello", "severity": "critical"})
    assert try_mail(policy)["verdict"] == "reject"
    assert len(seen) == 2
    assert seen[1]


@pytest.mark.parametrize(
    "others",
    [
        {"raw": None},
        {"parts": {"text": "twice"}},
        {"raw": None, "raw_base64": "no base64"},
        {"recipients": []},
        {"client": "localhost"},
        {"sender": "a\r\nX: b"},
    ],
)
def test_a_trial_that_makes_no_sense_is_refused(client: TestClient, others: dict[str, Any]) -> None:
    """With a sentence beside the field."""
    answer = client.post(f"{API}/try", json={**MAIL, **others})
    assert answer.status_code == 422
    assert answer.json()["fields"]


@pytest.mark.parametrize(
    "raw",
    [b"", b"\0" * 100, b"\xff\xfe: \xff\n\n\xff", b"A" * 100_000, b"Content-Type: multipart/x\n\n"],
)
def test_no_mail_makes_it_crash(policy: TestClient, raw: bytes) -> None:
    """Whatever its bytes are; what is shown of them is text."""
    whole = base64.b64encode(raw).decode()
    assert try_mail(policy, raw=None, raw_base64=whole)["stages"]


def switch(client: TestClient, **checks: dict[str, Any]) -> None:
    """Change SPF, DKIM or DMARC."""
    assert client.patch(f"{API}/settings", json=checks).status_code == 200


def test_what_spf_dkim_and_dmarc_would_say_is_assumed(policy: TestClient) -> None:
    """At the end of the message; the header says so, and the replies are those of the checks."""
    for name in ("spf", "dkim", "dmarc"):
        switch(policy, **{name: {"is_enabled": True, "on_fail": "reject"}})
        result = try_mail(policy, client="198.51.100.7", **{name: "fail"})
        last = stage(result, "data")
        assert (result["verdict"], last["fired"][0]["rule"]) == ("reject", f"{name}:fail")
        assert {one["verdict"] for one in result["stages"][:-1]} == {"accept"}
        switch(policy, **{name: {"is_enabled": False}})
    switch(policy, spf={"is_enabled": True})
    passed = stage(try_mail(policy, client="198.51.100.7", spf="pass"), "data")
    assert any("spf=pass smtp.mailfrom=example.net" in one for one in passed["changes"])
    bounced = stage(try_mail(policy, client="198.51.100.7", spf="pass", sender=""), "data")
    assert any("spf=pass" in one and "mailfrom" not in one for one in bounced["changes"])


def test_dmarc_does_no_more_than_the_authors_domain_asks_for(policy: TestClient) -> None:
    """Assumed as well."""
    switch(policy, dmarc={"is_enabled": True, "on_fail": "reject"})
    verdicts = {
        asked: try_mail(policy, client="198.51.100.7", dmarc="fail", dmarc_policy=asked)["verdict"]
        for asked in ("none", "quarantine", "reject", None)
    }
    assert verdicts == {
        "none": "accept",
        "quarantine": "quarantine",
        "reject": "reject",
        None: "reject",
    }


def test_the_notes_say_which_check_was_left_out(policy: TestClient) -> None:
    """One that is on without a result, and a result without a check that is on."""
    assert try_mail(policy, client="198.51.100.7")["notes"] == []
    switch(policy, dkim={"is_enabled": True})
    notes = try_mail(policy, client="198.51.100.7", spf="fail")["notes"]
    assert [one.split()[0] for one in notes] == ["SPF", "DKIM"]
    assert try_mail(policy, client="198.51.100.7", dkim="none")["notes"] == []
    (trusted,) = try_mail(policy, login="ann", dkim="fail")["notes"]
    assert trusted.startswith("A node looks up nothing here")


@pytest.mark.parametrize(
    "wrong", [{"spf": "bad"}, {"dkim": ""}, {"dmarc": 7}, {"dmarc_policy": "burn"}, {"arc": "pass"}]
)
def test_a_result_that_nobody_knows_is_refused(policy: TestClient, wrong: dict[str, Any]) -> None:
    """With the field's name."""
    answer = policy.post(f"{API}/try", json={**MAIL, **wrong})
    assert answer.status_code == 422
    assert set(answer.json()["fields"]) == set(wrong)
