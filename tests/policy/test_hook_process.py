"""The hook as its service runs it: its doors, its policy on the disk, its end and its beginning."""

from __future__ import annotations

import json
import os
import signal
import socket
import tempfile
import urllib.error
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from nodeagent.errors import Refused
from nodeagent.policy.codecs import milter_packets as wire
from nodeagent.policy.codecs.milter import Packet
from nodeagent.policy.document import Badword, HttpDoor, RateRule, RateSubject, RateWindow
from nodeagent.policy.log_wire import LogEntry
from nodeagent.policy.log_writer import LOG_FILE, LogSpool
from nodeagent.policy.model import Severity, Verdict
from tests.fakes.hook_process import HookProcess, running_hook
from tests.fakes.milter_client import MilterClient
from tests.fakes.milter_dialogue import CLIENT, POSTFIX_OFFERS, envelope
from tests.fakes.milter_postfix import wait_for
from tests.fakes.postfix_instance import free_port
from tests.policy.policies import blocked, manifest_of

SENDER = "eve@bad.example"
PILLS = Badword(id=7, pattern="cheap pills", severity=Severity.CRITICAL)
MIB = 1024 * 1024
TOKEN_SHA256 = "2c26b46b68ffc68ff99b453c1d30413413422d706483bfa0f98a5e886266e7ae"
"""Of "foo"."""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Path]:
    """Give a directory whose name is short enough for a socket's."""
    del tmp_path
    with tempfile.TemporaryDirectory(prefix="relay") as name:
        yield Path(name)


@pytest.fixture
def hook(tmp_path: Path, run: Path) -> Iterator[HookProcess]:
    """Give a hook that has no policy yet."""
    with running_hook(tmp_path, run) as running:
        yield running


def refusal_at_mail(hook: HookProcess, sender: str = SENDER) -> str | None:
    """Ask at MAIL as Postfix does; return the reply, None when it may go on."""
    with MilterClient(hook.milter) as client:
        client.ask(POSTFIX_OFFERS)
        client.ask(CLIENT)
        client.send(wire.Helo("client.example"))
        answer = client.ask(wire.Mail((f"<{sender}>",)))
    return None if isinstance(answer, wire.Continue) else _text(answer)


def judge_mail(hook: HookProcess, body: bytes) -> Packet | None:
    """Ask at all stages; return the last reply, which is the message's."""
    with MilterClient(hook.milter) as client:
        client.ask(POSTFIX_OFFERS)
        client.ask(CLIENT)
        client.send(wire.Helo("client.example"))
        for packet in envelope():
            client.ask(packet)
        client.send(wire.HeaderField("Subject", " hello"), wire.Body(body))
        answer = client.ask(wire.EndOfMessage(b""))
        while isinstance(answer, wire.AddHeader | wire.InsertHeader | wire.ChangeHeader):
            answer = client.receive()
    return answer


def _text(answer: Packet | None) -> str:
    assert isinstance(answer, wire.ReplyCode), answer
    return answer.text if isinstance(answer.text, str) else answer.text.decode()


def lines(hook: HookProcess) -> list[LogEntry]:
    """Read its log as the courier does."""
    batch = LogSpool(hook.directory / LOG_FILE, MIB).read()
    return [] if batch is None else [one.entry for one in batch.entries]


def test_without_a_policy_its_doors_are_closed(hook: HookProcess) -> None:
    """Postfix does what the administrator chose for that, and nobody is let through."""
    assert not hook.milter.exists()
    assert hook.ask("report")["sync"]["revision"] is None


def test_with_a_policy_they_open(hook: HookProcess) -> None:
    """At once, and the policy holds from the first question on."""
    assert hook.put(blocked("*@bad.example")) == ""
    said = refusal_at_mail(hook)
    assert said is not None
    assert said.startswith("550 5.7.1 ")
    assert refusal_at_mail(hook, "alice@good.example") is None


def test_an_edit_holds_at_once_and_open_sessions_go_on(hook: HookProcess) -> None:
    """A connection that was open before the edit is answered."""
    hook.put()
    with MilterClient(hook.milter) as client:
        client.ask(POSTFIX_OFFERS)
        client.ask(CLIENT)
        client.send(wire.Helo("client.example"))
        hook.put(blocked("*@bad.example"), revision=2)
        assert isinstance(client.ask(wire.Mail((f"<{SENDER}>",))), wire.ReplyCode)
    assert hook.ask("report")["sync"]["revision"] == 2


def test_a_policy_that_is_torn_leaves_the_old_one_in_force(hook: HookProcess) -> None:
    """The report says why, and the next good one is taken."""
    hook.put(blocked("*@bad.example"))
    offer_torn(hook)
    assert refusal_at_mail(hook) is not None
    report = hook.ask("report")["sync"]
    assert (report["revision"], "list/0" in report["problem"]) == (1, True)
    assert hook.put(revision=3) == ""
    assert hook.ask("report")["sync"]["problem"] == ""
    assert refusal_at_mail(hook) is None


def offer_torn(hook: HookProcess) -> None:
    """Offer a second policy, one of whose sections is not there; it is refused."""
    manifest = hook.stored.manifest()
    assert manifest is not None
    lost = manifest.sections[0].model_copy(update={"sha256": "0" * 64})
    hook.stored.offer(manifest.model_copy(update={"revision": 2, "sections": (lost,)}))
    with pytest.raises(Refused, match="list/0"):
        hook.ask("load")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_policy_that_is_torn_is_not_all_that_a_restart_finds(
    hook: HookProcess, how: signal.Signals
) -> None:
    """The one before it is in force again, at an open door, and the report says why."""
    hook.put(blocked("*@bad.example"))
    offer_torn(hook)
    hook.end(how)
    hook.start()
    assert refusal_at_mail(hook) is not None
    assert refusal_at_mail(hook, "alice@good.example") is None
    report = hook.ask("report")["sync"]
    assert (report["revision"], "list/0" in report["problem"]) == (1, True)


def test_an_offer_that_cannot_be_read_leaves_the_policy_in_force(hook: HookProcess) -> None:
    """At its start as well."""
    hook.put(blocked("*@bad.example"))
    (hook.directory / "policy/offer.json").write_text("{")
    with pytest.raises(Refused, match=r"offer\.json cannot be read"):
        hook.ask("load")
    hook.end(signal.SIGKILL)
    hook.start()
    assert refusal_at_mail(hook) is not None
    assert hook.put(revision=2) == ""
    assert refusal_at_mail(hook) is None


def test_an_offer_that_was_loaded_when_its_courier_died_is_in_force(hook: HookProcess) -> None:
    """Nobody has written down yet that it was taken; at the next start it is tried first."""
    hook.put()
    manifest, bodies = manifest_of([blocked("*@bad.example")], 2)
    for name, body in bodies.items():
        hook.stored.keep_section(name, body)
    hook.stored.offer(manifest)
    hook.ask("load")
    hook.end(signal.SIGKILL)
    hook.start()
    assert hook.ask("report")["sync"]["revision"] == 2
    assert refusal_at_mail(hook) is not None


def test_it_starts_by_the_policy_on_its_disk(hook: HookProcess) -> None:
    """Killed, it comes back without anybody's help."""
    hook.put(blocked("*@bad.example"))
    hook.end(signal.SIGKILL)
    hook.start()
    assert refusal_at_mail(hook) is not None


def test_a_manifest_that_cannot_be_read_is_no_reason_to_accept(hook: HookProcess) -> None:
    """Its doors stay closed, and it says so."""
    hook.put()
    hook.end()
    (hook.directory / "policy/manifest.json").write_text("{")
    hook.start()
    assert not hook.milter.exists()
    assert "manifest.json cannot be read" in hook.ask("report")["sync"]["problem"]


def test_what_it_decided_is_in_its_log_when_it_ends(hook: HookProcess) -> None:
    """SIGTERM writes what waits."""
    hook.put(PILLS)
    assert isinstance(judge_mail(hook, b"CHEAP  pills today\r\n"), wire.ReplyCode)
    assert hook.end() == 0
    verdicts = [line.verdict for line in lines(hook) if line.fired]
    assert verdicts == [Verdict.REJECT]
    assert not hook.milter.exists()


def test_a_mail_of_many_parts_is_judged_and_the_hook_lives(hook: HookProcess) -> None:
    """Ten thousand of them, and none ever ends."""
    hook.put(PILLS)
    part = b"--x\r\nContent-Type: multipart/mixed; boundary=x\r\n\r\n"
    answer = judge_mail(hook, (part * 10_000)[:60_000])
    assert not isinstance(answer, wire.ReplyCode)
    assert refusal_at_mail(hook, "alice@good.example") is None


SLOW_PLUGIN = """
import pathlib, time
from nodeagent.policy.engine.plugins import hookimpl

@hookimpl
def before_engine(stage, envelope, message):
    is_mail = message is not None and b"slow" in message.body
    if is_mail or (stage == "mail" and envelope.sender.startswith("slow@")):
        while not pathlib.Path({gate!r}).exists():
            time.sleep(0.05)
"""


@pytest.fixture
def gate(tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Install a plugin that waits, at MAIL and at mails that are called slow, for this file."""
    gate, installed = run / "gate", tmp_path / "site"
    about = installed / "slow-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: slow\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text("[mail_relay_policy]\nslow = slow_plugin\n")
    (installed / "slow_plugin.py").write_text(SLOW_PLUGIN.format(gate=str(gate)))
    monkeypatch.setenv("PYTHONPATH", str(installed), prepend=os.pathsep)
    yield gate
    gate.touch()


@pytest.mark.parametrize("stage", ["mail", "data"])
def test_a_plugin_that_waits_has_its_mail_put_off_and_nobody_else_s(
    gate: Path, hook: HookProcess, stage: str
) -> None:
    """451 after `decision_timeout_s`; other clients and the courier are answered meanwhile."""
    hook.put(blocked("*@bad.example"), decision_timeout_s=5)
    with ThreadPoolExecutor(1) as pool:
        if stage == "mail":
            waiting = pool.submit(refusal_at_mail, hook, "slow@good.example")
        else:
            waiting = pool.submit(lambda: _text(judge_mail(hook, b"slow\r\n")))
        assert refusal_at_mail(hook, "alice@good.example") is None
        assert refusal_at_mail(hook) is not None
        assert hook.ask("report")["sync"]["revision"] == 1
        said = waiting.result(60)
    assert said is not None
    assert said.startswith("451 4.3.0 ")
    gate.touch()
    assert refusal_at_mail(hook, "slow@good.example") is None


def test_rubbish_at_its_doors_disturbs_nobody(hook: HookProcess) -> None:
    """The connection is closed, and the next client is served."""
    hook.put(blocked("*@bad.example"))
    for sent in (b"\xff\xff\xff\xff", b"\x00\x00\x00\x00", b"GET / HTTP/1.1\r\n\r\n"):
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(60)
            client.connect(str(hook.milter))
            client.sendall(sent)
            assert client.recv(1) == b""
    assert refusal_at_mail(hook) is not None


def test_counts_are_reported_and_taken_in(hook: HookProcess) -> None:
    """Over the socket that the courier asks at."""
    rule = RateRule(id=1, subject=RateSubject.SENDER, window=RateWindow.DAY, limit=2)
    hook.put(rule)
    assert refusal_at_mail(hook) is None
    sync = hook.ask("report")["sync"]
    (count,) = sync["counts"]
    others = {**count, "source": "e" * 32, "count": 5}
    hook.ask("told", answer={"revision": 1, "counts": [others], "seen": 3})
    said = refusal_at_mail(hook)
    assert said is not None
    assert said.startswith("45")
    assert hook.ask("report")["sync"]["seen"] == 3


def test_the_http_door_follows_the_policy(hook: HookProcess) -> None:
    """It opens, judges as the milter does, and closes again."""
    port = free_port()
    http = HttpDoor(is_enabled=True, port=port, token_sha256=TOKEN_SHA256)
    hook.put(blocked("*@bad.example"), http=http)
    assert _ask_over_http(port)["action"] == "reject"
    assert _ask_over_http(port, "alice@good.example")["action"] == "accept"
    hook.put(revision=2)
    with pytest.raises(urllib.error.URLError):
        _ask_over_http(port)


def _ask_over_http(port: int, sender: str = SENDER) -> dict[str, object]:
    question = {
        "context": {"stage": "mail", "client": {"ip": "192.0.2.7", "port": 1}},
        "envelope": {"from": {"address": sender}, "to": []},
    }
    request = urllib.request.Request(
        f"http://127.0.0.1:{port}/mta-hook",
        json.dumps(question).encode(),
        {"Content-Type": "application/json", "Authorization": "Bearer foo"},
    )
    with urllib.request.urlopen(request, timeout=60) as answer:
        found: dict[str, object] = json.load(answer)
    return found


def test_a_door_that_cannot_open_is_told(hook: HookProcess) -> None:
    """The policy is in force all the same, at the other door; it opens once it can."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        http = HttpDoor(is_enabled=True, port=port, token_sha256=TOKEN_SHA256)
        hook.put(blocked("*@bad.example"), http=http)
        assert f"port {port}" in hook.ask("report")["sync"]["problem"]
    assert refusal_at_mail(hook) is not None
    wait_for(lambda: not hook.ask("report")["sync"]["problem"])
    assert _ask_over_http(port)["action"] == "reject"
