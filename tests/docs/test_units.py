"""The systemd units load, start in the right order, and run commands that exist."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from docs.generate import REPOSITORY
from nodeagent.settings import AgentSettings
from tests.fakes.units import UNITS, values_of

DEBIAN_UNITS = ("postfix.service", "postfix@.service", "keepalived.service", "ssh.service")
OURS = (
    "relay-guard.service",
    "relay-agent.service",
    "relay-policy.service",
    "relay-controlplane.service",
    "relay-keepalived.path",
)
HANDS_ON_STOPS = ("Requires", "Requisite", "BindsTo", "PartOf", "StopPropagatedFrom")


def make_root(root: Path) -> None:
    """Lay out what `systemd-analyze verify` looks at: Debian's units, ours, and the programs."""
    shutil.copytree(UNITS, root / "etc/systemd/system")
    system = root / "usr/lib/systemd/system"
    system.mkdir(parents=True)
    (root / "lib").symlink_to("usr/lib")
    installed = Path("/lib/systemd/system")
    for path in [*installed.glob("*.target"), *(installed / name for name in DEBIAN_UNITS)]:
        if path.exists():
            shutil.copy(path, system / path.name, follow_symlinks=True)
    for unit in [*(root / "etc/systemd/system").rglob("*.*"), *system.glob("*.service")]:
        if unit.is_file():
            for program in re.findall(r"^Exec\w+=[-!+:@]*(/\S+)", unit.read_text(), re.MULTILINE):
                target = root / program.lstrip("/")
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_text("#!/bin/sh\n")
                target.chmod(0o755)


def test_systemd_takes_every_unit_without_a_word(tmp_path: Path) -> None:
    """`systemd-analyze verify` finds nothing, with Debian's Postfix and keepalived beside ours."""
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze(1) is not installed")
    missing = [name for name in DEBIAN_UNITS if not Path("/lib/systemd/system", name).exists()]
    if missing:
        pytest.skip(f"Debian's own units are not installed: {', '.join(missing)}")
    root = tmp_path / "root"
    make_root(root)
    command = ["systemd-analyze", "verify", "--man=no", f"--root={root}"]
    done = subprocess.run(
        [*command, *OURS, "postfix@-.service", "keepalived.service"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout + done.stderr) == (0, "")


def test_postfix_starts_after_the_guard_and_not_without_it() -> None:
    """The start is ordered, and tried until the guard's socket is there, without a limit."""
    drop_in = UNITS / "postfix@-.service.d/relay.conf"
    assert values_of(drop_in, "Wants") == ["relay-guard.service"]
    assert values_of(drop_in, "After") == ["relay-guard.service"]
    assert "postfix@-.service" in values_of(UNITS / "relay-guard.service", "Before")
    socket = AgentSettings().run_directory / "guard.sock"
    assert values_of(drop_in, "ExecStartPre") == ["/usr/bin/test", "-S", str(socket)]
    assert values_of(drop_in, "StartLimitIntervalSec") == ["0"]


def test_a_guard_that_restarts_stops_nothing() -> None:
    """No unit has a dependency on it through which systemd.unit(5) hands on stops or restarts."""
    for path in UNITS.rglob("*.*"):
        if path.is_file():
            for key in HANDS_ON_STOPS:
                assert "relay-guard.service" not in values_of(path, key), (path.name, key)
    for key in ("PropagatesStopTo", "Conflicts"):
        assert values_of(UNITS / "relay-guard.service", key) == []


def test_nobody_stops_the_guard_and_leaves_postfix_without_it() -> None:
    """`systemctl stop` is refused; a killed guard comes back."""
    assert values_of(UNITS / "relay-guard.service", "RefuseManualStop") == ["yes"]


@pytest.mark.parametrize(
    "name",
    [name for name in OURS if name.endswith(".service")],
)
def test_our_services_come_back_whenever_they_end(name: str) -> None:
    """They are restarted for ever; no limit leaves one down."""
    assert values_of(UNITS / name, "Restart") == ["always"]
    assert values_of(UNITS / name, "StartLimitIntervalSec") == ["0"]


def test_keepalived_and_postfix_come_back_too() -> None:
    """A dead keepalived leaves the VIP behind; a dead Postfix takes no mail."""
    for name in ("keepalived.service.d", "postfix@-.service.d"):
        assert values_of(UNITS / name / "relay.conf", "Restart") == ["always"]


def test_a_restart_of_guard_or_agent_keeps_the_proof_of_this_boot() -> None:
    """/run/relay is not emptied when either stops."""
    for name in ("relay-guard.service", "relay-agent.service"):
        assert values_of(UNITS / name, "RuntimeDirectory") == ["relay"]
        assert values_of(UNITS / name, "RuntimeDirectoryPreserve") == ["yes"]


def test_the_guard_can_freeze_another_control_group() -> None:
    """It has a control group of its own, and no sandbox keeps it from the others."""
    text = (UNITS / "relay-guard.service").read_text()
    assert not re.search(
        r"^(Slice|Delegate|ProtectControlGroups|ProtectSystem)=", text, re.MULTILINE
    )


def test_units_start_commands_that_pyproject_installs() -> None:
    """A renamed command would leave a unit that cannot start."""
    text = (REPOSITORY / "pyproject.toml").read_text()
    for unit in UNITS.glob("*.service"):
        for program in values_of(unit, "ExecStart"):
            if program.startswith("/opt/mail-relay/bin/"):
                assert f"\n{Path(program).name} = " in text


def test_the_install_guide_names_every_file() -> None:
    """Nothing in compose/systemd is left for the reader to find."""
    guide = (REPOSITORY / "docs/howto/install-on-two-hosts.md").read_text()
    for path in UNITS.rglob("*"):
        if path.is_file():
            assert str(path.relative_to(UNITS)) in guide
