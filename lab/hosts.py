"""One host from outside: boot, loss of power, clean shutdown, standing still, running a command."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Final, NoReturn

from lab import network, storage
from lab.cgroups import HostGroup
from lab.errors import LabError
from lab.layout import HOSTS, Host
from lab.services import environment
from lab.settings import Settings, load

_BOOT_LIMIT_S: Final = 30.0
_ANSWER_BYTES: Final = 4096
_SHUTDOWN_LIMIT_S: Final = 40.0
_NAMESPACES: Final = ("--mount", "--pid", "--uts", "--ipc")
_KEPT_VARIABLES: Final = ("TERM", "COLUMNS", "LINES", "NO_COLOR")


def named(name: str) -> Host:
    """Give the host of that name."""
    try:
        return HOSTS[name]
    except KeyError as error:
        raise LabError(f"There is no host {name!r}; there are {', '.join(HOSTS)}.") from error


def pid_of(host: Host) -> int | None:
    """Give the host's PID 1 as this machine numbers it, None when the host is off."""
    try:
        pid = int(host.pid_file.read_text(encoding="ascii"))
    except (OSError, ValueError):
        return None
    return pid if HostGroup(host.name).holds(pid) else None


def boot(host: Host) -> int:
    """Start the host from its disk and give the PID of its init."""
    load()
    if pid_of(host) is not None:
        raise LabError(f"{host.name} is on already.")
    storage.prepare_disk(host)
    group = HostGroup(host.name)
    group.kill()
    group.create()
    network.plug(host)
    pid = _start_init(host)
    host.pid_file.write_text(f"{pid}\n", encoding="ascii")
    return pid


def _start_init(host: Host) -> int:
    answer, ours = os.pipe()
    argv = [
        *("nsenter", f"--net=/run/netns/{host.netns}", "--"),
        *("unshare", *_NAMESPACES, "--fork", "--propagation", "private", "--"),
        *(sys.executable, "-m", "lab.init", host.name, str(ours)),
    ]
    with (host.logs / "init.log").open("ab") as log:
        try:
            subprocess.Popen(
                argv,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(ours,),
                start_new_session=True,
                cwd="/",
            )
        except FileNotFoundError as error:
            raise LabError("nsenter is missing: install the package util-linux.") from error
        finally:
            os.close(ours)
    text = _read_answer(answer)
    word, _, pid = text.partition(" ")
    if word != "ok":
        raise LabError(text or f"{host.name} does not boot; see {host.logs / 'init.log'}.")
    return int(pid)


def _read_answer(answer: int) -> str:
    """One message; the end of the file is no sign, as `unshare` keeps the other end open."""
    try:
        readable, _, _ = select.select([answer], [], [], _BOOT_LIMIT_S)
        return os.read(answer, _ANSWER_BYTES).decode() if readable else ""
    finally:
        os.close(answer)


def kill(host: Host) -> None:
    """Cut the power: link down, every process killed at once, addresses gone; the disk stays."""
    _must_be_on(host)
    _clear_away(host)


def reboot(host: Host) -> None:
    """Shut the host down cleanly, service by service, and boot it again."""
    pid = _must_be_on(host)
    if HostGroup(host.name).is_frozen:
        raise LabError(f"{host.name} stands still; resume it first.")
    os.kill(pid, signal.SIGTERM)
    deadline = time.monotonic() + _SHUTDOWN_LIMIT_S
    while pid_of(host) is not None and time.monotonic() < deadline:
        time.sleep(0.02)
    _clear_away(host)
    boot(host)


def _clear_away(host: Host) -> None:
    """Leave nothing of the host running or connected; the link goes first."""
    network.pull(host)
    HostGroup(host.name).kill()
    host.pid_file.unlink(missing_ok=True)
    network.unplug(host)


def pause(host: Host) -> None:
    """Make the whole host stand still."""
    _must_be_on(host)
    HostGroup(host.name).freeze()


def resume(host: Host) -> None:
    """Let a host that stands still go on."""
    _must_be_on(host)
    HostGroup(host.name).thaw()


def _must_be_on(host: Host) -> int:
    load()
    pid = pid_of(host)
    if pid is None:
        raise LabError(f"{host.name} is off; `relay-lab boot {host.name}` starts it.")
    return pid


def entry_command(host: Host, command: Sequence[str]) -> list[str]:
    """Give the command line that runs `command` inside the host; it dies with who started it."""
    pid = _must_be_on(host)
    if HostGroup(host.name).is_frozen:
        raise LabError(f"{host.name} stands still; `relay-lab resume {host.name}` lets it go on.")
    return [
        *("nsenter", f"--target={pid}", *_NAMESPACES, "--net", "--root", "--wd", "--"),
        *("setpriv", "--pdeathsig", "KILL", "--", *command),
    ]


def entry_environment(settings: Settings) -> dict[str, str]:
    """Give what a command run inside a host finds in its environment."""
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    return kept | environment(settings)


def become(host: Host, command: Sequence[str]) -> NoReturn:
    """Turn this process into `command` inside the host: exit code, signals and output are its."""
    argv = entry_command(host, command)
    variables = entry_environment(load())
    HostGroup(host.name).join("exec")
    os.execvpe(argv[0], argv, variables)  # noqa: S606 - no shell is the point


def run_inside(host: Host, command: Sequence[str], *, timeout_s: float = 30) -> str:
    """Run a command inside the host and give its output; LabError when it failed."""
    argv = entry_command(host, command)
    group = HostGroup(host.name)
    try:
        done = subprocess.run(
            argv,
            env=entry_environment(load()),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            preexec_fn=lambda: group.join("exec"),
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise LabError(f"{command[0]} on {host.name} took longer than {timeout_s:g} s.") from error
    if done.returncode != 0:
        lines = done.stderr.strip().splitlines() or [f"exit status {done.returncode}"]
        raise LabError(f"{command[0]} on {host.name} failed: {lines[-1]}")
    return done.stdout
