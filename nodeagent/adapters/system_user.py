"""A user of this host without any rights, for a process that reads what strangers send."""

from __future__ import annotations

import grp
import os
import pwd
import subprocess
from dataclasses import dataclass

from nodeagent.errors import ToolFailed


@dataclass(frozen=True)
class SystemUser:
    """Who a process becomes: numbers as the kernel has them."""

    uid: int
    gid: int


def ensure_user(name: str) -> SystemUser:
    """Return the user, made by useradd(8) where there is none; raises `ToolFailed`."""
    try:
        return _known(name)
    except KeyError:
        command = ["useradd", "--system", "--user-group", "--no-create-home"]
        command += ["--home-dir", "/nonexistent", "--shell", "/usr/sbin/nologin", name]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return _known(name)
    except KeyError as error:
        why = done.stderr.strip() or f"exit status {done.returncode}"
        raise ToolFailed(f"The user {name} cannot be made: {why}.") from error


def _known(name: str) -> SystemUser:
    entry = pwd.getpwnam(name)
    return SystemUser(entry.pw_uid, entry.pw_gid)


def group_id(name: str) -> int | None:
    """Return a group's number, None when there is none of this name."""
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError:
        return None


def become(user: SystemUser, groups: tuple[int, ...] = ()) -> None:
    """Give up root for good: `user`, with no groups but its own and `groups`."""
    os.setgroups(list(groups))
    os.setresgid(user.gid, user.gid, user.gid)
    os.setresuid(user.uid, user.uid, user.uid)
