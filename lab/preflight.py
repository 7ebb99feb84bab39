"""Looks whether this machine can carry a lab at all, and says in one sentence what is missing."""

from __future__ import annotations

import os
import shutil
from typing import Final

from lab.command import run
from lab.errors import LabError
from lab.layout import POSTGRES_BIN, SEARCH_PATH
from lab.settings import Settings

_PROGRAMS: Final = {
    "ip": "iproute2",
    "nft": "nftables",
    "unshare": "util-linux",
    "nsenter": "util-linux",
    "setpriv": "util-linux",
    "postfix": "postfix",
    "keepalived": "keepalived",
    "sshd": "openssh-server",
    "ssh-keygen": "openssh-client",
    "rsync": "rsync",
    "swaks": "swaks",
}


def require_root() -> None:
    """Refuse to go on without root."""
    if os.geteuid() != 0:
        raise LabError("The lab makes namespaces and needs root: run it with sudo.")


def check(settings: Settings) -> None:
    """Refuse to go on where a program or a kernel feature is missing."""
    require_root()
    missing = {
        package
        for program, package in _PROGRAMS.items()
        if shutil.which(program, path=SEARCH_PATH) is None
    }
    if settings.database == "postgres" and not (POSTGRES_BIN / "initdb").exists():
        missing.add("postgresql-15")
    if missing:
        raise LabError(
            f"Debian packages are missing: {', '.join(sorted(missing))}; run `make install`."
        )
    try:
        run(["unshare", "--mount", "--net", "--pid", "--uts", "--ipc", "--fork", "true"])
    except LabError as error:
        raise LabError(
            "This machine does not allow new namespaces: use a machine or virtual machine of your"
            " own, or a privileged container."
        ) from error
