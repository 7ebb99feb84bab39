"""PID 1 of a host: mounts its disk, reaps what dies, keeps its services running, stops cleanly.

Started by `lab.hosts` in new namespaces. It says "ok PID" (as the machine numbers it) or one
sentence on the descriptor it was given, then lives until SIGTERM (a clean shutdown) or SIGKILL (a
loss of power). A service is not started while /run/relay-lab/disabled/NAME exists: for tests that
need one gone for good.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NoReturn

from lab import identity, rootfs, settings
from lab.cgroups import HostGroup
from lab.errors import LabError
from lab.layout import HOSTS, RUN_DIR_IN_HOST
from lab.services import Service, environment, log_file, services_of

_TICK_S: Final = 0.1
_AFTER_LIMIT_S: Final = 10.0
_QUICK_S: Final = 1.0
_MAX_DOUBLINGS: Final = 4
_STOP_LIMIT_S: Final = 10.0
_STOPPING: Final = (signal.SIGTERM, signal.SIGINT)
_AWAITED: Final = (signal.SIGCHLD, *_STOPPING)
_SHARE: Final = Path("/proc/self/autogroup")
_DISABLED: Final = RUN_DIR_IN_HOST / "disabled"


@dataclass
class Unit:
    """A service and the process that runs it now, if one does."""

    service: Service
    pid: int | None = None
    started: float = 0.0
    not_before: float = 0.0
    quick_ends: int = 0
    first_look: float = field(default_factory=time.monotonic)

    def is_due(self, now: float) -> bool:
        """Tell whether the service is to be started now."""
        if self.pid is not None or now < self.not_before:
            return False
        if (_DISABLED / self.service.name).exists():
            return False
        if self.service.needs and not Path(self.service.needs).exists():
            return False
        is_waiting = self.service.after and not Path(self.service.after).exists()
        return not is_waiting or now - self.first_look > _AFTER_LIMIT_S


class Supervisor:
    """Starts services in their order, and again when they end."""

    def __init__(self, host: str, chosen: settings.Settings) -> None:
        self._group = HostGroup(host)
        self._environment = environment(chosen)
        self._units = [Unit(service) for service in services_of(host, chosen)]

    def run(self) -> None:
        """Supervise until told to stop, then stop everything in reverse order."""
        while True:
            now = time.monotonic()
            for unit in self._units:
                if unit.is_due(now):
                    unit.started = now
                    unit.pid = self._spawn(unit.service)
            caught = signal.sigtimedwait(_AWAITED, _TICK_S)
            self._reap()
            if caught is not None and caught.si_signo in _STOPPING:
                break
        for unit in reversed(self._units):
            self._stop(unit)

    def _reap(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            for unit in self._units:
                if unit.pid == pid:
                    self._note_end(unit, os.waitstatus_to_exitcode(status))

    def _note_end(self, unit: Unit, code: int) -> None:
        now = time.monotonic()
        unit.pid = None
        unit.first_look = now
        unit.quick_ends = unit.quick_ends + 1 if now - unit.started < _QUICK_S else 0
        delay_s = unit.service.restart_delay_s * 2 ** min(unit.quick_ends, _MAX_DOUBLINGS)
        unit.not_before = now + delay_s
        how = f"signal {-code}" if code < 0 else f"status {code}"
        _log_line(unit.service.name, f"ended with {how}")

    def _stop(self, unit: Unit) -> None:
        if unit.pid is None:
            return
        if unit.service.stop:
            stopper = self._spawn(Service(unit.service.name, unit.service.stop))
            self._reap_until(lambda: not Path(f"/proc/{stopper}").exists())
        else:
            os.kill(unit.pid, signal.SIGTERM)
        self._reap_until(lambda: unit.pid is None)

    def _reap_until(self, condition: Callable[[], bool]) -> None:
        deadline = time.monotonic() + _STOP_LIMIT_S
        while not condition() and time.monotonic() < deadline:
            signal.sigtimedwait(_AWAITED, _TICK_S)
            self._reap()

    def _spawn(self, service: Service) -> int:
        pid = os.fork()
        if pid:
            _log_line(service.name, f"starting {' '.join(service.argv)} as {pid}")
            return pid
        try:
            self._become(service)
        finally:
            os._exit(127)

    def _become(self, service: Service) -> NoReturn:
        os.setsid()
        _set_share(service.nice)
        log = os.open(log_file(service.name), os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o640)
        null = os.open("/dev/null", os.O_RDONLY)
        for target, source in ((0, null), (1, log), (2, log)):
            os.dup2(source, target)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _AWAITED)
        try:
            self._group.join(service.name)
            for argv in service.prepare:
                subprocess.run(argv, env=self._environment, check=True)
            os.execvpe(service.argv[0], service.argv, self._environment)  # noqa: S606 - no shell
        except (LabError, OSError, subprocess.CalledProcessError) as error:
            sys.stderr.write(f"{service.name} cannot start: {error}\n")
            sys.stderr.flush()
            os._exit(127)


def _set_share(nice: int) -> None:
    """Weigh the session of the caller against others, where the kernel groups by session.

    There nice(2) orders the processes of one session only, see sched(7): the priority that
    keepalived gives itself would not let it run before a busy Postfix.
    """
    if _SHARE.exists():
        _SHARE.write_text(str(nice), encoding="ascii")


def _log_line(service: str, text: str) -> None:
    with log_file(service).open("a", encoding="utf-8") as log:
        log.write(f"{time.time():.6f} init: {service} {text}\n")


def main() -> None:
    """Boot the host named in the first argument; the second is the descriptor to answer on."""
    host, answer = HOSTS[sys.argv[1]], int(sys.argv[2])
    signal.pthread_sigmask(signal.SIG_BLOCK, _AWAITED)
    try:
        chosen = settings.load()
        HostGroup(host.name).join("init")
        pid = Path("/proc/self").readlink()
        rootfs.enter(host)
        identity.establish(host)
        supervisor = Supervisor(host.name, chosen)
    except (LabError, OSError) as error:
        os.write(answer, f"{host.name} does not boot: {error}".encode())
        raise SystemExit(1) from error
    os.write(answer, f"ok {pid}".encode())
    os.close(answer)
    supervisor.run()


if __name__ == "__main__":
    main()
