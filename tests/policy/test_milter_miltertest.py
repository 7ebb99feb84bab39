"""The milter door and Debian's `miltertest`, an MTA's side of the protocol by other hands."""

from __future__ import annotations

import subprocess
from ipaddress import ip_address
from pathlib import Path

import pytest

from nodeagent.policy.model import (
    ACCEPT,
    AddHeader,
    AddRecipient,
    ChangeHeader,
    Decision,
    DeleteRecipient,
    Fired,
    Reply,
    RuleKind,
    Stage,
    Verdict,
)
from tests.fakes.milter_door import DoorThread, Question, ScriptedPolicy
from tests.fakes.milter_postfix import wait_for

SCRIPTS = Path(__file__).parent / "miltertest"
FIRED = Fired(RuleKind.BADWORD, "badword:17", "a bad word", Verdict.QUARANTINE)
CHANGES = (
    AddHeader("X-Relay-Policy", "ok"),
    ChangeHeader("Subject", 1, "new"),
    ChangeHeader("X-Old", 1, ""),
    AddRecipient("c@y.example"),
    DeleteRecipient("b@y.example"),
)
DECISIONS = {
    "reject": Decision(Verdict.REJECT, Reply(550, "5.7.1", "no, 100% sure"), CHANGES),
    "tempfail": Decision(Verdict.TEMPFAIL, Reply(451, "4.7.1", "later")),
    "discard": Decision(Verdict.DISCARD),
    "quarantine": Decision(Verdict.QUARANTINE, fired=(FIRED,)),
    "change": Decision(changes=CHANGES),
}


def by_sender(asked: Question) -> Decision:
    """Decide at the end of a message as its sender says."""
    sender = (asked.envelope.sender or "").partition("@")[0]
    return DECISIONS.get(sender, ACCEPT) if asked.stage is Stage.DATA else ACCEPT


def run(door: DoorThread, script: str) -> None:
    """Run a script against the door."""
    where = f"unix:{door.path}"
    command = ["miltertest", "-v", "-D", f"socket={where}", "-s", str(SCRIPTS / script)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


@pytest.mark.parametrize("script", sorted(path.name for path in SCRIPTS.glob("*.lua")))
def test_a_script_of_miltertest_finds_nothing_wrong(tmp_path: Path, script: str) -> None:
    """Each script checks what the door negotiates and answers."""
    with DoorThread(tmp_path / "m", ScriptedPolicy(by_sender)) as door:
        run(door, script)
        assert door.errors == []


def test_what_miltertest_says_is_what_is_judged(tmp_path: Path) -> None:
    """Client, login, encryption, recipients and content arrive as the script has them."""
    with DoorThread(tmp_path / "m") as door:
        run(door, "session.lua")
        first, second = door.policy.asked(Stage.DATA)
        wait_for(lambda: door.policy.ended)
    assert first.session.client.ip == ip_address("192.0.2.7")
    assert (first.session.helo, first.session.login) == ("client.example", "jane")
    assert first.session.is_encrypted
    assert first.envelope.recipients == ("b@y.example", "c@y.example")
    assert first.message is not None
    assert first.message.body == b"body\r\n"
    assert second.message is not None
    assert second.message.headers[0].value == " message 3"
    assert door.policy.ended[0][1] == 2


def test_miltertest_can_find_something_wrong(tmp_path: Path) -> None:
    """A door that refuses everything fails the script: the scripts do look."""
    policy = ScriptedPolicy(lambda _asked: DECISIONS["reject"])
    with (
        DoorThread(tmp_path / "m", policy) as door,
        pytest.raises(AssertionError, match="was not continued"),
    ):
        run(door, "session.lua")
