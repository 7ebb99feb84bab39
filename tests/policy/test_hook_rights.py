"""What the hook's user may do in the hook's directories, and what nobody else may."""

from __future__ import annotations

import grp
import json
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from nodeagent.policy.log_writer import LOG_FILE
from nodeagent.policy.stored_policy import OFFER, StoredPolicy
from tests.policy.policies import blocked, manifest_of

REPOSITORY = Path(__file__).parents[2]
USER, STRANGER = "nobody", "daemon"
PREPARE = """
import json, sys
from pathlib import Path
from nodeagent.policy.hook import prepare
from nodeagent.settings import load_settings

home, run = Path(sys.argv[1]), Path(sys.argv[2])
prepare(load_settings(), run)


def may(act):
    try:
        act()
    except OSError:
        return False
    return True


print(json.dumps({
    "swap": may(lambda: (home / "policy").rename(home / "old")),
    "add": may(lambda: (home / "new").mkdir()),
    "plant": may(lambda: (home / "policy/offer.json.new").symlink_to("/etc/hostname")),
    "log": may(lambda: (home / "log/log.db").write_bytes(b"")),
    "listen": may(lambda: (run / "milter.sock").write_bytes(b"")),
}))
"""
READ = "import sys; print(len(open(sys.argv[1], 'rb').read()))"

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root, to give rights up")


@pytest.fixture
def home() -> Iterator[Path]:
    """Give a directory that any user can reach."""
    directory = Path(tempfile.mkdtemp(prefix="relay-hook-"))
    directory.chmod(0o755)
    yield directory / "home"
    shutil.rmtree(directory)


def prepared(home: Path) -> dict[str, bool]:
    """Prepare the directories as `relay-policy run` does; tell what its user may do then."""
    words = (str(home), str(home.parent / "run"))
    names = {"RELAY_AGENT_POLICY_DIRECTORY": str(home), "RELAY_AGENT_POLICY_USER": USER}
    command = [sys.executable, "-c", PREPARE, *words]
    told = subprocess.run(
        command, check=True, capture_output=True, env=os.environ | names, cwd=REPOSITORY
    )
    found: dict[str, bool] = json.loads(told.stdout)
    return found


def reads(user: str, path: Path) -> bool:
    """Tell whether a user can read a file."""
    command = ["/usr/bin/python3", "-c", READ, str(path)]
    done = subprocess.run(
        command, capture_output=True, user=user, group=_group_of(user), extra_groups=[], check=False
    )
    return done.returncode == 0


def _group_of(user: str) -> str:
    return grp.getgrgid(pwd.getpwnam(user).pw_gid).gr_name


def test_the_hooks_user_has_its_log_and_no_name_that_root_writes_to(home: Path) -> None:
    """At the first start and at later ones."""
    for _ in range(2):
        allowed = {name for name, may in prepared(home).items() if may}
        assert allowed == {"log", "listen"}
    assert (home / LOG_FILE).exists()


def test_the_policy_is_read_by_the_hook_and_by_nobody_else(home: Path) -> None:
    """It has the keys of pseudonyms, and the addresses of subscribers with their tokens."""
    prepared(home)
    manifest, bodies = manifest_of([blocked("a.example")])
    stored = StoredPolicy(home / "policy")
    for name, body in bodies.items():
        stored.keep_section(name, body)
    stored.offer(manifest)
    files = sorted((home / "policy").iterdir())
    assert len(files) == len(bodies) + 1
    assert [reads(USER, one) for one in files] == [True] * len(files)
    assert [reads(STRANGER, one) for one in files] == [False] * len(files)
    assert not reads(STRANGER, home / LOG_FILE)


def test_root_writes_through_no_link(home: Path) -> None:
    """Whoever managed to put one there."""
    (home / "policy").mkdir(parents=True)
    target = home / "target"
    target.write_text("as it was")
    (home / "policy" / f"{OFFER}.new").symlink_to(target)
    with pytest.raises(OSError, match="symbolic links"):
        StoredPolicy(home / "policy").offer(manifest_of([])[0])
    assert target.read_text() == "as it was"
