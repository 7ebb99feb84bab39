"""The disk of a host as its PID 1 mounts it: an overlay of this machine's root, the rest fresh.

Runs inside the host's new mount and PID namespaces. Kept over a loss of power: what the host wrote
(the overlay's upper layer), /var/spool and the logs. Fresh at each boot: /run, /tmp, /dev, /proc.
"""

from __future__ import annotations

import os
import stat
import sys
import uuid
from pathlib import Path
from typing import Final

from lab import kernel
from lab.layout import LOG_DIR_IN_HOST, REPOSITORY, STATE_DIR, Host

_MASKED: Final = ("/dev", "/proc", "/run", "/sys", "/tmp", "/var/spool")  # noqa: S108
_DEVICES: Final = ("full", "null", "random", "tty", "urandom", "zero")
_MAIL_LOG: Final = Path("/var/log/mail.log")


def mount_overlay(host: Host, root: Path) -> None:
    """Lay the host's own layer over this machine's root."""
    upper, work = host.disk / "upper", host.disk / "work"
    layers = f"lowerdir=/,upperdir={upper},workdir={work}"
    try:
        kernel.mount("overlay", root, "overlay", data=f"{layers},index=off,redirect_dir=on")
    except OSError:  # a kernel that does not rename directories of a lower layer
        kernel.mount("overlay", root, "overlay", data=f"{layers},index=off")


def enter(host: Host) -> None:
    """Build the host's file tree and make it the root of this mount namespace."""
    root = host.disk / "root"
    kernel.mount("none", "/", flags=kernel.MS_REC | kernel.MS_PRIVATE)
    mount_overlay(host, root)
    kernel.bind(host.spool, root / "var/spool")
    kernel.bind(host.logs, _inside(root, LOG_DIR_IN_HOST))
    _show_mail_log(host, root)
    _mount_fresh(root)
    for path in _needed_from_machine():
        kernel.bind(path, _inside(root, path))
        _open_the_way(root, path)
    kernel.make_root(root)


def _show_mail_log(host: Host, root: Path) -> None:
    """Have Postfix's log, whose place its configuration names, lie among the others."""
    shown, log = root / _MAIL_LOG.relative_to("/"), host.logs / _MAIL_LOG.name
    for path in (log, shown):
        if not path.exists():
            path.touch(mode=0o640)
    kernel.bind(log, shown)


def _mount_fresh(root: Path) -> None:
    kernel.mount("tmpfs", root / "run", "tmpfs", kernel.MS_NOSUID, "mode=755")
    kernel.mount("tmpfs", root / "tmp", "tmpfs", kernel.MS_NOSUID, "mode=1777")
    kernel.mount("tmpfs", _inside(root, STATE_DIR), "tmpfs", kernel.MS_RDONLY, "size=4k")
    kernel.mount("proc", root / "proc", "proc")
    kernel.mount("sysfs", root / "sys", "sysfs")
    kernel.bind("/sys/fs/cgroup", root / "sys/fs/cgroup")
    _mount_devices(root / "dev")
    boot_id = root / "run/boot_id"
    boot_id.write_text(f"{uuid.uuid4()}\n", encoding="ascii")
    kernel.bind(boot_id, root / "proc/sys/kernel/random/boot_id")


def _mount_devices(dev: Path) -> None:
    kernel.mount("tmpfs", dev, "tmpfs", kernel.MS_NOSUID, "mode=755")
    for name in _DEVICES:
        (dev / name).touch()
        kernel.bind(Path("/dev", name), dev / name)
    (dev / "pts").mkdir()
    kernel.mount("devpts", dev / "pts", "devpts", data="newinstance,ptmxmode=0666,mode=620,gid=5")
    (dev / "ptmx").symlink_to("pts/ptmx")
    (dev / "shm").mkdir()
    kernel.mount("tmpfs", dev / "shm", "tmpfs", kernel.MS_NOSUID | kernel.MS_NODEV, "mode=1777")
    (dev / "fd").symlink_to("/proc/self/fd")
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        (dev / name).symlink_to(f"/proc/self/fd/{number}")


def _needed_from_machine() -> list[Path]:
    """Find what the commands run from but the overlay does not show, the repository in any case.

    The repository is bound so that the host sees an edited file at once: what an overlay shows of a
    lower layer that changes is undefined.
    """
    interpreter = Path(os.path.realpath(sys.executable)).parents[1]
    found = [REPOSITORY]
    for path in (Path(sys.prefix), Path(sys.base_prefix), interpreter):
        if not any(path.is_relative_to(known) for known in found) and not _is_in_overlay(path):
            found.append(path)
    return found


def _open_the_way(root: Path, path: Path) -> None:
    """Let users other than root come to the commands, wherever the repository lies.

    A program on a real host lies where everybody reads; this changes the host's layer alone.
    """
    for parent in path.relative_to("/").parents:
        place = root / parent
        mode = place.stat().st_mode
        if not mode & stat.S_IXOTH:
            place.chmod(stat.S_IMODE(mode) | stat.S_IXOTH)


def _is_in_overlay(path: Path) -> bool:
    is_masked = any(path.is_relative_to(masked) for masked in (*_MASKED, str(STATE_DIR)))
    return not is_masked and path.stat().st_dev == Path("/").stat().st_dev


def _inside(root: Path, path: Path) -> Path:
    """Give the place of `path` below `root`, made if it is not there."""
    target = root / path.relative_to("/")
    target.mkdir(parents=True, exist_ok=True)
    return target
