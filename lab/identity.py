"""What makes a host itself: its names, its resolver, its SSH host key, and a disk without history.

Runs inside the host as its PID 1, at every boot; each step may find its work done already.
"""

from __future__ import annotations

import shutil
import socket
from contextlib import suppress
from pathlib import Path
from typing import Final

from lab.command import run
from lab.layout import HOSTS, RUN_DIR_IN_HOST, Host

_MARKER: Final = Path("/etc/relay-lab-host")
_FOREIGN: Final = (
    "/etc/keepalived/keepalived.conf",
    "/etc/relay",
    "/etc/ssh/sshd_config.d/mail-relay.conf",
    "/root/.bash_profile",
    "/root/.bashrc",  # bash(1) reads it in every SSH session, and whatever it starts may wait
    "/root/.profile",
    "/root/.ssh",
    "/var/lib/relay",
    "/var/lib/relay-controlplane",
)
_HOST_KEY: Final = Path("/etc/ssh/ssh_host_ed25519_key")
_RESOLVER: Final = "# No name server: what is not in /etc/hosts does not exist.\n"
_NSSWITCH: Final = "".join(
    f"{name}: files\n"
    for name in ("passwd", "group", "shadow", "hosts", "networks", "protocols", "services")
)
_SYSCTLS: Final = {
    "net/ipv4/ip_local_port_range": "10000 65535",
    "net/ipv4/tcp_tw_reuse": "1",
}


def establish(host: Host) -> None:
    """Make this namespace look like the host, and clean its disk at the very first boot."""
    socket.sethostname(host.name)
    if not _MARKER.exists():
        _forget_the_machine()
    _write_names(host)
    for name, value in _SYSCTLS.items():
        with suppress(OSError):
            Path("/proc/sys", name).write_text(value, encoding="ascii")
    for directory in (RUN_DIR_IN_HOST, Path("/run/sshd"), Path("/run/lock")):
        directory.mkdir(parents=True, exist_ok=True)
    if not _HOST_KEY.exists():
        run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", host.name, "-f", str(_HOST_KEY)])
    _MARKER.write_text(f"{host.name}\n", encoding="ascii")


def _forget_the_machine() -> None:
    """Remove this machine's own keys and settings, which show through the overlay."""
    for name in _FOREIGN:
        path = Path(name)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)
    for key in Path("/etc/ssh").glob("ssh_host_*"):
        key.unlink()


def _write_names(host: Host) -> None:
    lines = ["127.0.0.1 localhost", "::1 localhost"]
    lines += [f"{other.address} {other.name}" for other in HOSTS.values()]
    _replace(Path("/etc/hosts"), "\n".join(lines) + "\n")
    _replace(Path("/etc/hostname"), f"{host.name}\n")
    _replace(Path("/etc/resolv.conf"), _RESOLVER)
    _replace(Path("/etc/nsswitch.conf"), _NSSWITCH)


def _replace(path: Path, text: str) -> None:
    """Write a file anew, also where a symbolic link leads out of the host."""
    if path.is_symlink():
        path.unlink()
    path.write_text(text, encoding="utf-8")
    path.chmod(0o644)
