"""What the guide for Stalwart tells people to copy is right."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from nodeagent.http_heads import MOST_HEADER_BYTES
from nodeagent.policy.codecs.http_codecs import HTTP_CODECS
from nodeagent.policy.codecs.stalwart import StalwartCodec
from nodeagent.policy.document import HttpDoor, PolicySettings
from nodeagent.policy.doors.http_app import BIG_AT_ONCE, BIG_BYTES, READING_LIMIT_S, body_limit
from nodeagent.policy.doors.replays import MOST_ANSWERS
from nodeagent.policy.model import Stage

ROOT = Path(__file__).parents[2]
GUIDE = (ROOT / "docs/howto/connect-stalwart.md").read_text()
EXPLAINED = (ROOT / "docs/explanation/policy-hook.md").read_text()
MIB = 1024 * 1024


def blocks(kind: str) -> list[str]:
    """Return the guide's blocks of one language."""
    return re.findall(rf"```{kind}\n(.*?)```", GUIDE, re.DOTALL)


def test_the_question_is_one_that_stalwart_asks() -> None:
    """It is read, at RCPT, with a sender and a recipient."""
    (question,) = (one for one in blocks("json") if '"context"' in one)
    found = StalwartCodec().read(question.encode())
    assert found.stage is Stage.RCPT
    assert found.envelope.sender == "sender@example.org"


def urls() -> list[str]:
    """Return each URL of the door in the guide."""
    return re.findall(r'http://127\.0\.0\.1:\d+[^\s"]*', GUIDE)


@pytest.mark.parametrize("url", urls())
def test_each_url_is_one_of_the_door(url: str) -> None:
    """Its port is the default one, its path one that is served."""
    parts = urlsplit(url)
    assert parts.port == HttpDoor().port
    assert parts.path in {*HTTP_CODECS, "/healthz"}


def test_the_configurations_can_be_read() -> None:
    """TOML and JSON, with stages that the door knows and without one that never comes."""
    (toml,) = blocks("toml")
    old = tomllib.loads(toml)["session"]["hook"]["relay"]
    assert old["options"]["tempfail-on-error"] is True
    (jmap,) = (json.loads(one) for one in blocks("json") if "methodCalls" in one)
    ((method, arguments, _),) = jmap["methodCalls"]
    new = arguments["create"]["relay"]
    assert method == "x:MtaHook/set"
    assert new["tempFailOnError"] is True
    for stages in (old["stages"], new["stages"]):
        assert {Stage(stage) for stage in stages} == set(Stage) - {Stage.AUTH}


def test_the_limits_are_those_of_the_code() -> None:
    """Numbers in prose that the program would not follow are lies."""
    assert f"{body_limit(PolicySettings()) // MIB} MiB" in GUIDE
    assert "`inspected_bytes` and 50 MiB" in GUIDE
    assert body_limit(PolicySettings()) - PolicySettings().inspected_bytes == 50 * MIB
    assert f"The last {MOST_ANSWERS:,} answers" in EXPLAINED
    assert f"end at {MOST_HEADER_BYTES // 1024} KiB" in EXPLAINED
    assert f"within {READING_LIMIT_S:.0f} s" in EXPLAINED
    assert (BIG_AT_ONCE, BIG_BYTES) == (4, MIB)
    assert "Four of more than 1 MiB" in EXPLAINED
