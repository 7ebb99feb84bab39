"""The SSH files that let peers in and let this node reach them; nobody copies a key by hand."""

from __future__ import annotations

import os
import shutil
import signal
from pathlib import Path
from typing import Final

import structlog

from nodeagent.core.contract import PeerView

log = structlog.get_logger()

SSHD_PID_FILE: Final = Path("/run/sshd.pid")
SSHD_SNIPPET: Final = Path("/etc/ssh/sshd_config.d/mail-relay.conf")


def _authorized_keys(peers: tuple[PeerView, ...], receiver: str) -> str:
    """One forced command a peer: it may run our receiver and nothing else (sshd(8))."""
    return "".join(
        f'command="{receiver} {peer.name}",from="{peer.address}",restrict {key}\n'
        for peer in peers
        for key in (peer.ssh_public_key, peer.ssh_next_public_key)
        if key
    )


def _known_hosts(peers: tuple[PeerView, ...]) -> str:
    return "".join(f"{_host_pattern(peer)} {key}\n" for peer in peers for key in peer.ssh_host_keys)


def _host_pattern(peer: PeerView) -> str:
    return peer.address if peer.ssh_port == 22 else f"[{peer.address}]:{peer.ssh_port}"  # noqa: PLR2004


class SshFiles:
    """authorized_keys and known_hosts below `/etc/relay`."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._receiver = shutil.which("relay-receive") or "/usr/bin/relay-receive"

    @property
    def known_hosts(self) -> Path:
        """The host keys of the peers; the only ones a push accepts."""
        return self._directory / "known_hosts"

    def _wanted(self, peers: tuple[PeerView, ...]) -> dict[Path, str]:
        return {
            self._directory / "authorized_keys": _authorized_keys(peers, self._receiver),
            self.known_hosts: _known_hosts(peers),
        }

    def is_current(self, peers: tuple[PeerView, ...]) -> bool:
        """Tell whether the files say what the view says."""
        return all(
            path.exists() and path.read_text() == text for path, text in self._wanted(peers).items()
        )

    def write(self, peers: tuple[PeerView, ...]) -> None:
        """Write both files whole."""
        self._directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        for path, text in self._wanted(peers).items():
            temporary = path.with_name(path.name + ".new")
            temporary.write_text(text)
            temporary.chmod(0o600)
            temporary.rename(path)


def install_sshd_snippet(
    directory: Path, snippet: Path = SSHD_SNIPPET, pid_file: Path = SSHD_PID_FILE
) -> None:
    """Have sshd(8) read our authorized_keys; it is told once, when the snippet changes."""
    text = sshd_snippet(directory)
    if not snippet.parent.is_dir() or (snippet.exists() and snippet.read_text() == text):
        return
    snippet.write_text(text)
    try:
        os.kill(int(pid_file.read_text()), signal.SIGHUP)
    except (OSError, ValueError):
        log.warning("sshd does not run: it will read our authorized_keys at its start")


def sshd_snippet(directory: Path) -> str:
    """Return the lines sshd_config(5) needs to read our authorized_keys beside the usual ones."""
    return f"AuthorizedKeysFile .ssh/authorized_keys {directory / 'authorized_keys'}\n"
