"""The user that the hook becomes, on a host whose /etc is its own."""

from __future__ import annotations

import os
import pwd
import subprocess
import sys
from pathlib import Path

import pytest

from nodeagent.adapters.system_user import SystemUser, become, ensure_user, group_id
from nodeagent.errors import ToolFailed

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="becoming another user takes root")
IN_OWN_ETC = (
    "mount -t overlay overlay -o lowerdir=/etc,upperdir=$1/upper,workdir=$1/work /etc && shift &&"
    ' exec "$@"'
)


def in_own_etc(home: Path, script: str) -> subprocess.CompletedProcess[str]:
    """Run Python where /etc can be written and nobody else sees it."""
    for name in ("upper", "work"):
        (home / name).mkdir(exist_ok=True)
    command = ["unshare", "--mount", "--propagation", "private", "sh", "-ec", IN_OWN_ETC, "sh"]
    return subprocess.run(
        [*command, str(home), sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).parents[2],
    )


@ROOT_ONLY
def test_a_user_that_is_missing_is_made_once(tmp_path: Path) -> None:
    """A second start finds the first one's; nobody can log in as it."""
    script = (
        "import pwd\n"
        "from nodeagent.adapters.system_user import ensure_user\n"
        "first, second = ensure_user('relay-test'), ensure_user('relay-test')\n"
        "assert first == second and first.uid != 0\n"
        "print(pwd.getpwnam('relay-test').pw_shell)\n"
    )
    done = in_own_etc(tmp_path, script)
    if "mount:" in done.stderr:
        pytest.skip(f"this kernel lays no overlay here: {done.stderr.strip()}")
    assert (done.returncode, done.stdout) == (0, "/usr/sbin/nologin\n"), done.stderr


def test_a_user_that_is_there_is_taken() -> None:
    """Whoever made it."""
    entry = pwd.getpwnam("nobody")
    assert ensure_user("nobody") == SystemUser(entry.pw_uid, entry.pw_gid)


def test_a_user_that_cannot_be_made_is_told_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With what useradd says."""
    useradd = tmp_path / "useradd"
    useradd.write_text("#!/bin/sh\necho 'useradd: cannot lock /etc/passwd' >&2\nexit 1\n")
    useradd.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolFailed, match="relay-none cannot be made: useradd: cannot lock"):
        ensure_user("relay-none")


@ROOT_ONLY
def test_there_is_no_way_back_to_root() -> None:
    """Neither the ids nor a group of root's are left."""
    child = os.fork()
    if child == 0:
        nobody = pwd.getpwnam("nobody")
        become(SystemUser(nobody.pw_uid, nobody.pw_gid), (nobody.pw_gid,))
        try:
            os.setuid(0)
        except PermissionError:
            os._exit(0 if os.getgroups() == [nobody.pw_gid] else 2)
        os._exit(1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_groups_are_found_by_name() -> None:
    """None for one that is not there."""
    assert group_id("root") == 0
    assert group_id("no-such-group-here") is None
