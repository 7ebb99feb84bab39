"""What holds for every command of `relayctl`: --json, and its exit codes without a server."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from typer.main import get_command

from controlplane.relayctl.cli import app
from controlplane.relayctl.profile import Profile, save_profile
from tests.cli.conftest import Operator

TEXT_ONLY = {
    *("lists export", "trace export", "config export", "ssh known-hosts"),
    "policy export",
}
"""What they print is a file."""
FILE = "FILE"
ARGUMENTS = {
    "adopt": ["--confirm-dead", "node-a", "--yes"],
    "certificate put": [FILE, FILE],
    "config import": [FILE],
    "config rollback": ["1"],
    "domains import": [FILE],
    "lists export": ["routes"],
    "lists import": ["routes", FILE],
    "nodes add": ["node-a", "--address", "198.51.100.11"],
    "nodes set": ["node-a", "--ssh-port", "22"],
    "policy badword add": ["word"],
    "policy category add": ["news@a.tld"],
    "policy export": ["badwords"],
    "policy import": ["badwords", FILE],
    "policy quarantine show": ["node-a", "ABCDEF123"],
    "policy rate add": ["login", "hour", "100"],
    "policy rate remove": ["login", "hour"],
    "policy rate set": ["login", "hour", "--off"],
    "policy secret make": ["bearer"],
    "policy secret withdraw": ["bearer"],
    "policy settings set": ["privacy=full"],
    "policy show": ["1"],
    "policy subscription add": ["news@a.tld", "ann@b.tld"],
    "policy subscription import": [FILE],
    "policy subscription remove": ["news@a.tld", "ann@b.tld"],
    "policy threat-rule score": ["sql-union", "2"],
    "policy try": [FILE, "--to", "ann@b.tld"],
    **{f"policy quarantine {verb}": ["--all"] for verb in ("release", "delete")},
    **{f"policy {verb}": ["a.tld"] for verb in ("block", "unblock", "allow", "disallow")},
    "queue cancel": ["1"],
    "queue show": ["node-a", "ABCDEF123"],
    "routes add": ["@a.tld", "--next-hop", "mx.tld"],
    "routes try": ["@a.tld", "b@b.tld"],
    "sessions revoke": ["--others"],
    "settings set": ["domain=a.tld"],
    "ssh pin": [FILE],
    "ssh setup-cancel": ["1"],
    "ssh test": ["node-a", "node-b"],
    "ssh use-key": ["node-a", FILE],
    "users add": ["olga", "--role", "Operator"],
    "users role": ["olga", "Operator"],
    "vips add": ["198.51.100.100", "--router-id", "51"],
    **{f"queue {verb}": ["--all"] for verb in ("hold", "release", "requeue", "flush", "delete")},
}
"""What commands need beside one name."""


def all_commands(group: Any, words: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Give every command with its words; a group that does something by itself is one."""
    if group.params and words and group.invoke_without_command:
        yield words, group
    for name, command in sorted(group.commands.items()):
        if hasattr(command, "commands"):
            yield from all_commands(command, (*words, name))
        else:
            yield (*words, name), command


COMMANDS = dict(all_commands(get_command(app)))
NAMED = pytest.mark.parametrize("words", COMMANDS, ids=" ".join)


@pytest.fixture
def alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Any
) -> Operator:
    """Give an operator without any control plane."""
    return Operator(monkeypatch, capsys, tmp_path / "home" / "profile.json")


@pytest.fixture
def wired(alone: Operator) -> Operator:
    """Give an operator who is logged in to a control plane that is away."""
    profile = Profile(url="https://127.0.0.1:1", token="t", fingerprint="ab" * 32)
    save_profile({"RELAYCTL_CONFIG": str(alone.config)}, profile)
    alone.set(RELAYCTL_PASSWORD="x", RELAYCTL_NEW_PASSWORD="y", RELAYCTL_CODE="123456")
    return alone


def line_of(words: tuple[str, ...], file: str) -> list[str]:
    """Return the shortest command line that makes sense."""
    needs_name = any(one.required for one in COMMANDS[words].params)
    given = ARGUMENTS.get(" ".join(words), ["node-a"] if needs_name else [])
    return [*words, *(file if one == FILE else one for one in given)]


def test_every_command_prints_json() -> None:
    """All but those whose answer is a file: the first page of the help promises it."""
    without = {
        " ".join(words)
        for words, command in COMMANDS.items()
        if "--json" not in {option for one in command.params for option in one.opts}
    }
    assert without == TEXT_ONLY


@NAMED
def test_a_control_plane_that_is_away_is_exit_code_4(
    wired: Operator, words: tuple[str, ...], tmp_path: Any
) -> None:
    """One sentence on stderr that names the URL, nothing on stdout, whatever was asked for."""
    (tmp_path / "file.json").write_text("{}")
    outcome = wired(*line_of(words, str(tmp_path / "file.json")))
    assert (outcome.code, outcome.out) == (4, ""), outcome
    assert "https://127.0.0.1:1 does not answer" in outcome.err
    assert len(outcome.err.splitlines()) == 1


@NAMED
def test_who_is_not_logged_in_is_told_so(
    alone: Operator, words: tuple[str, ...], tmp_path: Any
) -> None:
    """Exit code 3 and the next step, before anything is read or asked for."""
    (tmp_path / "file.json").write_text("{}")
    alone.set(RELAYCTL_PASSWORD="x", RELAYCTL_NEW_PASSWORD="y", RELAYCTL_CODE="123456")
    outcome = alone(*line_of(words, str(tmp_path / "file.json")))
    assert (outcome.code, outcome.out) == (3, ""), outcome
    assert "relayctl login" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("settings", "set", "vrrp.advert_int_s=NaN"), "not finite"),
        (("settings", "set", "vrrp.advert_int_s=-Infinity"), "not finite"),
        (("settings", "set", "vrrp=1", "vrrp.advert_int_s=1"), "vrrp is a section or a value"),
        (("settings", "set", "vrrp.advert_int_s=1", "vrrp=1"), "vrrp is a section or a value"),
        (("settings", "set", "=1"), "does not read NAME=VALUE"),
        (("settings", "set", "domain"), "does not read NAME=VALUE"),
        (("domains", "add", "\udcff.tld"), "no UTF-8"),
        (("users", "remove", "\udcff"), "no UTF-8"),
        (("trace", "list", "--sender", "\udcff"), "no UTF-8"),
    ],
)
def test_what_cannot_be_sent_is_wrong_usage(
    paired: Operator, arguments: tuple[str, ...], words: str
) -> None:
    """One sentence, exit code 2, and the cluster is as it was."""
    before = paired.json("settings", "show")
    refused = paired(*arguments)
    assert refused.code == 2, refused
    assert words in refused.err
    assert paired.json("settings", "show") == before


def test_a_state_file_of_brackets_is_no_json(paired: Operator, tmp_path: Any) -> None:
    """No parser runs out of stack; a number that is none is not sent."""
    file = tmp_path / "state.json"
    for content, words in (("[" * 100_000, "is no JSON"), ('{"version": NaN}', "not finite")):
        file.write_text(content)
        refused = paired("config", "import", str(file))
        assert (refused.code, words in refused.err) == (2, True), refused
