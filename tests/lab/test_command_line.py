"""What `relay-lab` says where no host is needed to answer: wrong words, no lab, a damaged one."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import threading
from pathlib import Path

import pytest

from lab import cli, cluster, command, layout, lock, network, preflight, settings
from lab.cluster import NodeState
from lab.errors import LabError, NotUp
from lab.layout import HOSTS
from lab.progress import step
from lab.settings import Settings

NOT_UP = "The lab is not up: start it with `relay-lab up`."
VERBS = (
    "status",
    "kill client",
    "boot client",
    "reboot client",
    "pause client",
    "resume client",
    "cut client",
    "cut client sink",
    "heal",
    "wait ready",
    "exec client -- true",
)


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a place for a lab's state where there is none yet."""
    monkeypatch.setattr(layout, "STATE_DIR", tmp_path / "state")
    monkeypatch.setattr(settings, "STATE_DIR", tmp_path / "state")
    monkeypatch.setattr(settings, "_FILE", tmp_path / "state/lab.json")
    return tmp_path / "state"


@pytest.fixture
def relay_lab(monkeypatch: pytest.MonkeyPatch) -> object:
    """Give the command, in this process; the answer is its exit code."""

    def run(words: str) -> int:
        monkeypatch.setattr(sys, "argv", ["relay-lab", *words.split()])
        with pytest.raises(SystemExit) as end:
            cli.main()
        return int(end.value.code or 0)

    return run


@pytest.fixture
def _root() -> None:
    if os.geteuid() != 0:
        pytest.skip("without root every verb says only that")


@pytest.mark.usefixtures("_root")
@pytest.mark.parametrize("words", VERBS)
def test_every_verb_says_that_there_is_no_lab(
    relay_lab, capsys: pytest.CaptureFixture[str], words: str
) -> None:
    """One sentence that says what to do, and code 1."""
    assert relay_lab(words) == 1
    assert capsys.readouterr().err == f"relay-lab: {NOT_UP}\n"


@pytest.mark.usefixtures("_root")
@pytest.mark.parametrize("content", ["", "{", "[]", '{"push_every": 1}'])
def test_a_damaged_or_foreign_state_is_no_traceback(
    relay_lab, capsys: pytest.CaptureFixture[str], state: Path, content: str
) -> None:
    """An `up` that was killed, or one of another version."""
    state.mkdir()
    (state / "lab.json").write_text(content)
    assert relay_lab("status") == 1
    said = capsys.readouterr().err
    assert said.endswith("lab.json is of another version: `relay-lab up` starts afresh.\n")
    assert said.count("\n") == 1


@pytest.mark.usefixtures("_root")
@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (
            "exec moon -- true",
            "There is no host 'moon'; there are cp, node-a, node-b, sink, client.",
        ),
        ("exec client --", "Say what to run: relay-lab exec HOST -- COMMAND..."),
        ("exec client -- true", "client is off; `relay-lab boot client` starts it."),
        ("wait never", "Cannot wait for 'never': say ready, active=node-a or active=node-b."),
        ("wait active=", "Cannot wait for 'active=': say ready, active=node-a or active=node-b."),
        ("wait ready --timeout 0", "Not so within 0 s: cp is off."),
    ],
)
def test_what_cannot_be_is_one_sentence(
    relay_lab, capsys: pytest.CaptureFixture[str], words: str, sentence: str
) -> None:
    """With a lab whose hosts are all off."""
    Settings().save()
    assert relay_lab(words) == 1
    assert capsys.readouterr().err == f"relay-lab: {sentence}\n"


@pytest.mark.parametrize(
    "words",
    ["up --db oracle", "up --push-interval 0", "up --advert-int 41", "kill", "exec client", "frob"],
)
def test_wrong_usage_is_code_2(relay_lab, words: str) -> None:
    """As with every other command; nothing was begun."""
    assert relay_lab(words) == 2


@pytest.mark.usefixtures("_root")
def test_the_status_has_the_keys_of_the_contract(
    relay_lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """Programs outside this repository read them."""
    Settings(admin_password="shown").save()
    assert relay_lab("status --json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["vip"] == "198.51.100.100"
    assert found["control_plane_url"] == "https://198.51.100.10:8443"
    assert found["admin"] == {"user": "admin", "password": "shown"}
    assert list(found["hosts"]) == ["cp", "node-a", "node-b", "sink", "client"]
    for host in found["hosts"].values():
        assert {"address", "pid", "role", "vip", "generation", "queue"} <= set(host)
        assert host["pid"] is None


@pytest.mark.usefixtures("_root")
def test_the_status_for_people_is_one_row_a_host(
    relay_lab, capsys: pytest.CaptureFixture[str]
) -> None:
    """With the password, which is of use on this machine only."""
    Settings(admin_password="shown").save()
    assert relay_lab("status") == 0
    said = capsys.readouterr().out
    assert "log in as      admin / shown" in said
    assert len(re.findall(r"198\.51\.100\.\d+ +off", said)) == len(HOSTS)


def test_without_root_every_verb_says_so(
    relay_lab, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """And nothing else was looked at."""
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    for words in (*VERBS, "down"):
        assert relay_lab(words) == 1
        said = capsys.readouterr().err
        assert said == "relay-lab: The lab makes namespaces and needs root: run it with sudo.\n"


@pytest.mark.usefixtures("_root")
def test_a_missing_package_is_named_with_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    """All that is missing at once, as Debian calls it."""
    monkeypatch.setattr(preflight, "SEARCH_PATH", "/nowhere")
    monkeypatch.setattr(preflight, "POSTGRES_BIN", Path("/nowhere"))
    with pytest.raises(LabError) as found:
        preflight.check(Settings(database="postgres"))
    said = str(found.value)
    assert said.startswith("Debian packages are missing: iproute2, keepalived, nftables, openssh-")
    assert "postgresql-15" in said
    assert said.endswith("; run `make install`.")


def test_nothing_is_cut_between_a_host_and_itself() -> None:
    """Rather than a cut that cuts nothing."""
    with pytest.raises(LabError, match="Between client and itself there is nothing to cut"):
        network.cut(HOSTS["client"], HOSTS["client"])


def test_the_choices_are_kept_whole_and_private(state: Path) -> None:
    """A later verb reads what `up` was asked for; nobody but root reads the password."""
    chosen = Settings("postgres", 0.5, 2.0, has_sink=False).with_password("secret")
    Settings().save()
    chosen.save()
    assert settings.load() == chosen
    assert [path.name for path in state.iterdir()] == ["lab.json"]
    assert (state / "lab.json").stat().st_mode & 0o777 == 0o600


def test_no_lab_is_an_error_of_its_own() -> None:
    """The demo asks whether there is one."""
    with pytest.raises(NotUp, match="relay-lab up"):
        settings.load()


HEALTHY = {
    "role": "STANDBY",
    "is_proven": True,
    "has_pending": False,
    "config_version": 3,
    "mirrors": {"node-a": 0},
}


@pytest.mark.parametrize(
    ("change", "missing"),
    [
        ({}, ""),
        ({"role": "FENCED"}, "is FENCED, not STANDBY"),
        ({"role": "ACTIVE"}, "is ACTIVE, not STANDBY"),
        ({"is_proven": False}, "does not hold its lease"),
        ({"has_pending": True}, "has mail set aside"),
        ({"config_version": None}, "has no config yet"),
        ({"config_version": None, "config_error": "Why."}, "refused its config: Why."),
    ],
)
def test_a_node_is_ready_when_nothing_is_missing(change: dict[str, object], missing: str) -> None:
    """`wait ready` names the first thing that is."""
    state = NodeState("node-b", {**HEALTHY, **change}, has_vip=False)
    assert cluster._what_node_lacks(state) == missing


def test_an_agent_that_says_nothing_is_not_ready() -> None:
    """Not even with the VIP."""
    silent = NodeState("node-b", {}, has_vip=True)
    assert silent.role is None
    assert cluster._what_node_lacks(silent) == "has no agent that answers"


def test_a_wait_ends_with_the_last_reason() -> None:
    """Who waited in vain learns why."""
    reasons = iter(["one", "two", ""])
    cluster.wait_until(lambda: next(reasons), 60)
    with pytest.raises(LabError, match=r"^Not so within 0 s: still missing\.$"):
        cluster.wait_until(lambda: "still missing", 0)


@pytest.mark.parametrize(
    ("greeting", "answers"),
    [(b"220 x\r\n", True), (b"220-x\r\n", True), (b"421 x\r\n", False), (b"", False)],
)
def test_a_mail_server_answers_when_it_says_220(greeting: bytes, answers: bool) -> None:
    """A connection alone is no service, and none at all is none either."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]

        def greet() -> None:
            connection, _ = server.accept()
            with connection:
                connection.sendall(greeting)

        greeter = threading.Thread(target=greet)
        greeter.start()
        assert cluster.answers_smtp("127.0.0.1", port) is answers
        greeter.join()
    assert not cluster.answers_smtp("127.0.0.1", port)


def test_only_one_changes_the_lab_at_a_time(capsys: pytest.CaptureFixture[str]) -> None:
    """The others wait and say so; a lock is free when its process is gone or done."""
    name = f"\0relay-lab-unit-{os.getpid()}"
    with (
        lock.exclusive(name=name),
        pytest.raises(LabError, match="Another relay-lab has kept the lab busy"),
        lock.exclusive(0.1, name),
    ):
        pass
    assert capsys.readouterr().err == "  waiting for another relay-lab to finish\n"
    with lock.exclusive(0.1, name):
        pass
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize("error", [LabError("no"), KeyboardInterrupt(), SystemExit(3)])
def test_a_step_that_fails_says_so(
    capsys: pytest.CaptureFixture[str], error: BaseException
) -> None:
    """Whatever ends it, and the error goes on."""
    with pytest.raises(type(error)), step("making it"):
        raise error
    assert capsys.readouterr().err == "  making it ... failed\n"


def test_a_step_that_ends_says_how_long_it_took(capsys: pytest.CaptureFixture[str]) -> None:
    """One line, begun before and ended after."""
    with step("making it"):
        assert capsys.readouterr().err == "  making it ... "
    assert re.fullmatch(r"\d+\.\d s\n", capsys.readouterr().err)


def test_a_program_that_fails_is_quoted_with_its_last_line() -> None:
    """The reason stands at the end of what programs say."""
    with pytest.raises(LabError, match=r"^`sh -c .*` failed: the reason$"):
        command.run(["sh", "-c", "echo first >&2; echo the reason >&2; exit 4"])
    with pytest.raises(LabError, match=r"failed: on stdout$"):
        command.run(["sh", "-c", "echo on stdout; false"])
    with pytest.raises(LabError, match=r"failed: exit status 4$"):
        command.run(["sh", "-c", "exit 4"])


def test_a_program_that_hangs_is_ended() -> None:
    """With its limit in the sentence."""
    with pytest.raises(LabError, match=r"^`sleep 60` did not end within 0.1 s\.$"):
        command.run(["sleep", "60"], timeout_s=0.1)


def test_a_program_reads_what_it_is_given_and_nothing_else() -> None:
    """Not the terminal of whoever waits."""
    assert command.run(["cat"], text="given\n") == "given\n"
    assert command.run(["cat"]) == ""
