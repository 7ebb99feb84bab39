"""What becomes of mail when the policy hook, its policy or its control plane fails."""

from __future__ import annotations

import base64
import io
import json
import signal
import smtplib
import uuid
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from lab.layout import COMMANDS, NODES, VIP
from lab.network import vip_holders
from tests.e2e.accounting import Load, Shape, account
from tests.e2e.driver import Lab, until
from tests.e2e.judging import (
    POLICY,
    RECIPIENT,
    SENDER,
    apply,
    ask_http,
    heard,
    is_taken,
    open_http,
    post_http,
    speak,
    wait_for_policy,
)

pytestmark = pytest.mark.e2e

TRIES = 3
BLOCKED = "anybody@blocked.example"
KILLS = 3
MOST_MEMORY_MIB = 800
FIFTY_MIB = 50 * 1024 * 1024
ZEROS = 300 * 1024 * 1024
PARTS = 10_000
PLUGIN = """
import pathlib, time
from nodeagent.policy.engine.plugins import hookimpl

@hookimpl
def before_engine(stage, envelope):
    while stage == "mail" and envelope.sender.startswith("slow@"):
        time.sleep(1)
"""
PLUGIN_FILES = {
    "slow-1.0.dist-info/METADATA": "Metadata-Version: 2.1\nName: slow\nVersion: 1.0\n",
    "slow-1.0.dist-info/entry_points.txt": "[mail_relay_policy]\nslow = slow_plugin\n",
    "slow_plugin.py": PLUGIN,
}
INSTALL = 'mkdir -p "$(dirname "$1")" && printf %s "$2" > "$1"'
TEAR = """
import sqlalchemy
from controlplane.settings import Settings
from controlplane.store.engine import Database
with Database(Settings().database_url).write() as session:
    for statement in (
        "UPDATE policy_sections SET body = sha256, sha256 = '%s' WHERE kind = 'list'" % ("ab" * 32),
        "UPDATE policy_revision SET revision = revision + 1",
    ):
        session.execute(sqlalchemy.text(statement))
"""


def part_of(content: bytes, head: bytes = b"Content-Type: text/plain\r\n") -> bytes:
    """Give one part of a mail whose boundary is x."""
    return b"--x\r\n" + head + b"\r\n" + content + b"\r\n"


def zip_bomb(name: str) -> bytes:
    """Give a part that unpacks to a thousand times as much, as a file of this name."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr(name, bytes(ZEROS))
    head = b"Content-Type: application/zip; name=a.zip\r\nContent-Transfer-Encoding: base64\r\n"
    return part_of(base64.encodebytes(packed.getvalue()).replace(b"\n", b"\r\n"), head)


NESTED = b"Content-Type: multipart/mixed; boundary=x\r\n"
PILLS = b"cheap pills"
MANY = part_of(b"a") * (PARTS - 1)
HOSTILE = {
    "a word in the first of many parts": (lambda: part_of(PILLS) + MANY, "550 5.7.1"),
    "a word in the last of many parts": (lambda: MANY + part_of(PILLS), "250 2.0.0"),
    "nested parts": (lambda: part_of(b"", NESTED) * PARTS, "250 2.0.0"),
    "NUL bytes": (lambda: part_of(b"\0" * 900 + PILLS + b"\0" * 900), "550 5.7.1"),
    "zip bomb": (lambda: zip_bomb("a.txt"), "250 2.0.0"),
    "program in a zip bomb": (lambda: zip_bomb("a.exe"), "550 5.7.1"),
}
"""Bodies, and what Postfix says to them where a bad word refuses mail."""
TOO_MUCH = 2


def pid_of_hook(lab: Lab, node: str) -> int:
    """Give the hook's process as this machine numbers it."""
    (pid,) = lab.pids(node, "policy")
    return pid


def block(lab: Lab, value: str) -> None:
    """Put something on the blocklist."""
    lab.api().call("POST", f"{POLICY}/blocklist", {"value": value})


def is_blocked(lab: Lab, sender: str = BLOCKED) -> bool:
    """Tell whether the hook refuses this sender; any other refusal is none of the hook's."""
    return "<** 550 5.7.1" in speak(lab, sender=sender)


def kill_hook(lab: Lab, node: str) -> None:
    """Kill it, and wait until its unit has started another one that judges."""
    before = pid_of_hook(lab, node)
    lab.signal(node, "policy", signal.SIGKILL)
    until(lambda: lab.pids(node, "policy") not in ([], [before]), "another hook runs", 60)


def test_mail_flows_over_a_hook_that_is_killed_again_and_again(judged: Lab) -> None:
    """None is lost or passes unseen: what comes meanwhile is put off, and nothing else happens."""
    block(judged, "*@blocked.example")
    wait_for_policy(judged)
    active = judged.active()
    with Load(judged, rate=20) as load, Load(judged, rate=10, shape=Shape(sender=BLOCKED)) as bad:
        for _ in range(KILLS):
            kill_hook(judged, active)
            taken = len(load.acknowledged)
            until(lambda known=taken: len(load.acknowledged) > known, "mail is taken again", 60)
    assert bad.acknowledged == {}
    report = account(judged, load)
    report.assert_all_delivered()
    report.assert_doubled_at_most(0)
    assert {attempt.reply[:9] for attempt in report.refused} <= {"451 4.7.1"}
    assert is_blocked(judged)


@pytest.mark.parametrize("action", ["tempfail", "accept"])
def test_a_hook_that_stands_still_is_answered_for_as_was_chosen(judged: Lab, action: str) -> None:
    """For longer than a lease lasts: the VIP stays where it is, and so does the mail's owner."""
    if action != "tempfail":
        judged.api().call("PATCH", "cluster", {"milters": {"default_action": action}})
        apply(judged, f"{action} what nobody judges")
    block(judged, "*@blocked.example")
    wait_for_policy(judged)
    for _ in range(TRIES):
        takeovers = judged.takeovers()
        said = while_it_stands_still(judged)
        if judged.takeovers() == takeovers:
            break
        judged.repair()  # a busy machine moves the VIP now and then, by itself
    else:
        pytest.fail("the VIP moved each time")
    assert is_taken(said) == (action == "accept"), said
    assert ("<** 451 4.7.1" in said) == (action == "tempfail"), said
    until(lambda: is_blocked(judged), "mail is judged again", 60)


def while_it_stands_still(lab: Lab) -> str:
    """Stop the active node's hook, see that the node stays what it is; give what a client heard."""
    active = lab.active()
    before = lab.agent_status(active)
    lab.signal(active, "policy", signal.SIGSTOP)
    try:
        said = speak(lab, sender=BLOCKED)
        after = lab.agent_status(active)
        if vip_holders() == (active,):
            assert (after["role"], after["is_proven"]) == ("ACTIVE", True)
            assert after["generation"] == before["generation"]
    finally:
        lab.signal(active, "policy", signal.SIGCONT)
    return said


def test_a_check_that_waits_is_put_off_by_the_hook_itself(judged: Lab) -> None:
    """By `decision_timeout_s`, and whatever Postfix would do without a hook; others go on."""
    judged.api().call("PATCH", f"{POLICY}/settings", {"decision_timeout_s": 2})
    wait_for_policy(judged)
    active = judged.active()
    for path, content in PLUGIN_FILES.items():
        judged.execute(active, "sh", "-c", INSTALL, "sh", f"/opt/slow/{path}", content)
    judged.end_for_good(active, "policy")
    start = "PYTHONPATH=/opt/slow setsid relay-policy run >/dev/null 2>&1 </dev/null & echo $!"
    pid = judged.execute(active, "sh", "-c", start).strip()
    try:
        until(lambda: is_taken(speak(judged)), "mail is judged", 60)
        with ThreadPoolExecutor(1) as pool:
            slow = pool.submit(speak, judged, sender="slow@allowed-domain.tld")
            assert is_taken(speak(judged))
            assert "<** 451 4.3.0" in slow.result(), slow.result()
        assert is_taken(speak(judged))
    finally:
        judged.execute(active, "kill", "-KILL", pid)
        judged.enable(active, "policy")


def test_edits_wait_for_nodes_that_do_not_reach_the_control_plane(judged: Lab) -> None:
    """Judging goes on by the policy on the disk, over a kill too; the log comes later, once."""
    judged.api().call("PATCH", f"{POLICY}/settings", {"privacy": "full"})
    block(judged, "*@blocked.example")
    wait_for_policy(judged)
    active, mark = judged.active(), uuid.uuid4().hex
    for node in NODES:
        judged.cut("cp", node)
    block(judged, "*@late.example")
    assert is_blocked(judged, f"{mark}-1@blocked.example")
    until(lambda: _lines_of(judged, active, mark) == 1, "the line is on the node's disk")
    kill_hook(judged, active)
    until(lambda: is_taken(speak(judged)), "mail is judged again", 60)
    assert is_blocked(judged, f"{mark}-2@blocked.example")
    assert is_taken(speak(judged, sender="anybody@late.example"))
    judged.heal()
    wait_for_policy(judged)
    until(lambda: is_blocked(judged, "anybody@late.example"), "the edit is in force", 60)
    for number in (1, 2):
        query = f"{POLICY}/log?sender={mark}-{number}@blocked.example"
        until(lambda q=query: judged.api().call("GET", q)["entries"] != [], "it is logged", 60)
        assert len(judged.api().call("GET", query)["entries"]) == 1
    until(lambda: _lines_of(judged, active, mark) == 0, "the node has forgotten it", 60)


def _lines_of(lab: Lab, node: str, mark: str) -> int:
    """Count the lines that wait on a node's disk and contain this."""
    script = (
        "import sqlite3, sys\n"
        "log = sqlite3.connect('file:/var/lib/relay-policy/log/log.db?mode=ro', uri=True)\n"
        "print(sum(sys.argv[1] in repr(row) for row in log.execute('SELECT * FROM entries')))\n"
    )
    return int(lab.execute(node, str(COMMANDS / "python"), "-c", script, mark))


def test_a_policy_that_cannot_be_read_leaves_the_one_before_in_force(judged: Lab) -> None:
    """Over a kill of the hook as well; the nodes say what is wrong, until a good one comes."""
    block(judged, "*@blocked.example")
    wait_for_policy(judged)
    judged.execute("cp", str(COMMANDS / "python"), "-c", TEAR)

    def problems() -> list[str]:
        nodes = judged.api().call("GET", f"{POLICY}/nodes")["nodes"]
        return [node["problem"] for node in nodes if not node["is_current"]]

    def is_told() -> bool:
        return len(found := problems()) == len(NODES) and all("list/0" in one for one in found)

    until(is_told, "both nodes tell of the torn section", 60)
    assert is_blocked(judged)
    kill_hook(judged, judged.active())
    until(lambda: is_taken(speak(judged)), "mail is judged again", 60)
    assert is_blocked(judged)
    block(judged, "*@late.example")
    wait_for_policy(judged)
    assert is_blocked(judged)
    assert is_blocked(judged, "anybody@late.example")
    assert problems() == []


def test_hostile_mail_is_answered_and_the_hook_lives(judged: Lab) -> None:
    """Many parts, NUL bytes and archives that unpack to much; its memory stays bounded.

    What has more parts than are looked at is held.
    """
    words = {"pattern": PILLS.decode(), "severity": "critical"}
    judged.api().call("POST", f"{POLICY}/badwords", words)
    wait_for_policy(judged)
    active = judged.active()
    pid = pid_of_hook(judged, active)
    said = {name: answer_to(body()) for name, (body, _) in HOSTILE.items()}
    assert {name: text[:9] for name, text in said.items()} == {
        name: answer for name, (_, answer) in HOSTILE.items()
    }
    assert pid_of_hook(judged, active) == pid
    assert most_memory_mib(pid) < MOST_MEMORY_MIB
    assert is_taken(speak(judged))
    until(lambda: len(held_for_their_structure(judged)) == TOO_MUCH, "two are held", 60)


def held_for_their_structure(lab: Lab) -> list[str]:
    """Give the queue ids of mails that the log calls held because they have too many parts."""
    entries = lab.api().call("GET", f"{POLICY}/log")["entries"]
    held = [entry for entry in entries if entry["verdict"] == "quarantine"]
    return [one["queue_id"] for one in held if "threat:too-much-structure" in one["rules"]]


def answer_to(body: bytes) -> str:
    """Send a mail of this body through the VIP; give Postfix's answer to it."""
    head = b"Subject: x\r\nMIME-Version: 1.0\r\n" + NESTED + b"\r\n"
    with smtplib.SMTP(VIP, 25, "client", timeout=60) as client:
        client.ehlo()
        client.mail(SENDER)
        client.rcpt(RECIPIENT)
        code, text = client.data(head + body + b"--x--\r\n")
    return f"{code} {text.decode()}"


def most_memory_mib(pid: int) -> float:
    """Give the most memory that a process ever had in use."""
    lines = Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines()
    (peak_kib,) = (int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    return peak_kib / 1024


def test_fifty_mib_over_http_are_answered_and_the_hook_lives(judged: Lab) -> None:
    """Rubbish is put off, and mails are judged."""
    block(judged, "*@blocked.example")
    token = open_http(judged)
    wait_for_policy(judged)
    active = judged.active()
    pid = pid_of_hook(judged, active)
    status, answer = post_http(token, b"[" * FIFTY_MIB)
    assert (status, json.loads(answer)["response"]["status"]) == (200, 451)
    contents = ("x" * 78 + "\r\n") * (FIFTY_MIB // 82)
    assert ask_http(token, SENDER, contents)["action"] == "accept"
    assert ask_http(token, BLOCKED, contents)["action"] == "reject"
    assert ask_http(token, BLOCKED)["action"] == "reject"
    assert ask_http(token, SENDER)["action"] == "accept"
    assert pid_of_hook(judged, active) == pid
    assert most_memory_mib(pid) < MOST_MEMORY_MIB


def test_a_limit_that_is_used_up_is_so_after_a_loss_of_power(judged: Lab) -> None:
    """The other node has heard of each count; nobody gets a second helping by a failover."""
    rule = {"subject": "sender", "window": "day", "limit": 2, "verdict": "tempfail"}
    judged.api().call("POST", f"{POLICY}/rates", rule)
    wait_for_policy(judged)
    sender = f"{uuid.uuid4().hex}@allowed-domain.tld"
    active, standby = judged.active(), judged.standby()
    assert [is_taken(speak(judged, sender=sender)) for _ in range(3)] == [True, True, False]
    before = heard(judged, standby)
    assert not is_taken(speak(judged, sender=sender))
    until(lambda: heard(judged, standby) > before, "the other node knows of the counts", 60)
    judged.kill(active)
    judged.wait(f"active={standby}")
    said = speak(judged, sender=sender)
    assert "<** 45" in said, said
    assert is_taken(speak(judged))
