"""The inside of a host without a lab: its disk in namespaces of its own, and a script to look."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from lab.layout import REPOSITORY

STATE_DIR = Path(f"/var/lib/relay-lab-unit-{os.getpid()}")
PROGRAM = """
import json, os, sys
from pathlib import Path
from lab import identity, rootfs, storage
from lab.layout import HOSTS
host = HOSTS["client"]
storage.prepare()
storage.prepare_disk(host)
rootfs.enter(host)
found = {}
exec(sys.argv[1])
print(json.dumps(found))
"""


def inside(script: str) -> dict[str, Any]:
    """Build the host's disk around a script and give what it found; the machine sees nothing."""
    kinds = ("--mount", "--net", "--pid", "--uts", "--ipc")
    python = (sys.executable, "-c", PROGRAM)
    done = subprocess.run(
        ["unshare", *kinds, "--fork", "--propagation", "private", *python, script],
        env={**os.environ, "RELAY_LAB_STATE_DIR": str(STATE_DIR)},
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found
