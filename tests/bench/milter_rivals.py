"""What stands before Postfix in the milter benchmark: the hook, rspamd, postfwd, or nothing.

Each is started as itself, on loopback or UNIX sockets, with the rules it can have, and gives the
options that an smtpd(8) needs to ask it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.bench.milter_hook import NETWORKS, network, words
from tests.fakes.postfix_instance import free_port

ROOT: Final = Path(__file__).resolve().parents[2]
LIMIT_S: Final = 240.0
POSTFWD_NETWORKS: Final = 100
"""It compares one by one: 10,000 take a third of a second for each request."""


@dataclass(frozen=True)
class Filter:
    """`options` for an smtpd(8); `pid` of its first process, if there is one."""

    options: str = ""
    pid: int | None = None


@contextmanager
def nothing(_root: Path) -> Iterator[Filter]:
    """Ask nobody."""
    yield Filter()


def hook(kind: str) -> Callable[[Path], Iterator[Filter]]:
    """Return how the hook is started."""

    def start(root: Path) -> Iterator[Filter]:
        socket_file, log_file = root / "hook.sock", root / "log.db"
        command = [sys.executable, "-m", "tests.bench.milter_hook", str(socket_file), kind]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        with subprocess.Popen([*command, str(log_file)], cwd=ROOT, env=environment) as process:
            _until(socket_file.is_socket)
            yield Filter(f"-o smtpd_milters=unix:{socket_file}", process.pid)
            process.kill()

    return start


RSPAMD: Final = """\
options {{
    pidfile = "{root}/rspamd.pid"; tempdir = "{root}"; cache_file = "{root}/symbols.cache";
    control_socket = "{root}/control.sock mode=0600"; hs_cache_dir = "{root}"; filters = "";
    history_file = "{root}/history"; dns {{ nameserver = ["127.0.0.1:1"]; timeout = 0.1s; }}
}}
logging {{ type = "file"; filename = "{root}/rspamd.log"; level = "warning"; }}
lua = "{root}/rules.lua";
modules {{ path = "/usr/share/rspamd/plugins/multimap.lua";
          path = "/usr/share/rspamd/plugins/trie.lua"; }}
metric {{ name = "default"; actions {{ reject = 15; }}
         symbol {{ name = "WORDS"; weight = 20; }} symbol {{ name = "NETS"; weight = 20; }} }}
multimap {{ NETS {{ type = "ip"; map = "file://{root}/networks"; }} }}
trie {{ WORDS {{ file = "{root}/words"; }} }}
worker "rspamd_proxy" {{
    bind_socket = "{root}/rspamd.sock mode=0666"; milter = yes; timeout = 60s; count = 2;
    upstream "local" {{ default = yes; self_scan = yes; }}
}}
"""


def rspamd(root: Path) -> Iterator[Filter]:
    """Debian's, as a milter that scans itself: addresses and words, no network, no Redis."""
    (root / "rspamd.conf").write_text(RSPAMD.format(root=root))
    (root / "rules.lua").write_text('require "global_functions" ()\n')
    (root / "words").write_text("".join(f"{word}\n" for word in words()))
    (root / "networks").write_text("".join(f"{network(one)}\n" for one in range(1, NETWORKS + 1)))
    shutil.chown(root, "_rspamd", "_rspamd")
    user = ["-u", "_rspamd", "-g", "_rspamd"]
    command = ["rspamd", "-c", str(root / "rspamd.conf"), "-f", *user]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:
        _until((root / "rspamd.sock").is_socket)
        yield Filter(f"-o smtpd_milters=unix:{root}/rspamd.sock", process.pid)
        process.terminate()


def postfwd(root: Path) -> Iterator[Filter]:
    """Debian's, over policy delegation: a few addresses and rates; it sees no content."""
    port = free_port()
    (root / "networks").write_text(
        "".join(f"{network(one)}/32\n" for one in range(1, POSTFWD_NETWORKS + 1))
    )
    (root / "rules").write_text(
        f"id=B1; client_address==file:{root}/networks; action=554 5.7.1 blocked\n"
        "id=R1; action=rate(client_address/1000000/3600/450 4.7.1 too much)\n"
        "id=R2; action=rate(sender/1000000/3600/450 4.7.1 too much)\n"
        "id=END; action=DUNNO\n"
    )
    shutil.chown(root, "postfw", "postfw")
    command = ["postfwd2", "-f", str(root / "rules"), "-i", "127.0.0.1", "-p", str(port)]
    command += ["--cache_port", str(free_port()), "-u", "postfw", "-g", "postfw", "-n"]
    pid_file = root / "pid"
    subprocess.run([*command, "--perfmon", "--pidfile", str(pid_file)], check=True)
    _until(pid_file.exists)
    pid = int(pid_file.read_text())
    restrictions = f"check_policy_service inet:127.0.0.1:{port}, permit"
    yield Filter(f"-o {{ smtpd_recipient_restrictions = {restrictions} }}", pid)
    subprocess.run(["postfwd2", "--kill", "--pidfile", str(pid_file)], check=True)


FILTERS: Final = {
    "no milter": nothing,
    "accept-all door": contextmanager(hook("accept-all")),
    "the whole hook": contextmanager(hook("whole")),
    "the hook with lists and words alone": contextmanager(hook("words")),
    "rspamd": contextmanager(rspamd),
    "postfwd": contextmanager(postfwd),
}
PACKAGES: Final = {"rspamd": "rspamd", "postfwd": "postfwd2"}


def missing() -> dict[str, str]:
    """Return which of them cannot be measured here, and why."""
    return {
        name: f"the Debian package {name} is not installed"
        for name, program in PACKAGES.items()
        if shutil.which(program) is None
    }


def _until(look: Callable[[], bool]) -> None:
    until_s = time.monotonic() + LIMIT_S
    while not look():
        assert time.monotonic() < until_s, "it did not start"
        time.sleep(0.1)


def cpu_s(pid: int) -> float:
    """Return the CPU time that a process and all its descendants have taken, ended ones too."""
    ticks, children = 0, _children()
    waiting = [pid]
    while waiting:
        one = waiting.pop()
        waiting += children.get(one, [])
        ticks += sum(int(field) for field in _stat(one)[11:15])
    return ticks / os.sysconf("SC_CLK_TCK")


def _stat(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return ["0"] * 20


def _children() -> dict[int, list[int]]:
    found: dict[int, list[int]] = {}
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            found.setdefault(int(_stat(int(path.name))[1]), []).append(int(path.name))
    return found
