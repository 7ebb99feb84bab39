"""Putting a config version live: staged, validated by the real binaries, swapped in, or not at all.

The bundle's files are written into a staging directory first. For Postfix that directory is a copy
of the live configuration directory with the rendered files laid over it, so that `postfix check`
and `postconf -n` judge exactly what would go live; indexed tables are built there by `postmap`.
Only then each file replaces its live one by rename, tables before `main.cf`, and the daemons
reload; Postfix restarts where a reload would not do. If they do not come back with the new files,
the previous ones are put back. The last version that went live stays below the state directory;
from it a swap that a crash cut off is undone at the next start.
"""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import time
from pathlib import Path
from typing import Final

import structlog

from nodeagent.adapters.identity import write_private
from nodeagent.adapters.postfix import Postfix
from nodeagent.adapters.smtp_probe import wait_for_server
from nodeagent.core.config_plan import files_sha256, indexed_tables, swap_order
from nodeagent.core.contract import ConfigBundle, ConfigFile
from nodeagent.errors import Refused, ToolFailed

log = structlog.get_logger()

POSTFIX: Final = Path("etc/postfix")
KEEPALIVED: Final = Path("etc/keepalived/keepalived.conf")
COMMAND_TIMEOUT_S: Final = 120
COOL_S: Final = 3
"""How much older than now a new `main.cf` looks.

Whatever reads one that changed within the last second sleeps first, lest somebody is still writing;
ours comes whole, by rename, and each of the programs that we call would wait up to two seconds.
"""
FOR_A_RESTART: Final = ("inet_interfaces", "inet_protocols")
"""What postconf(5) wants a stop and a start for, of all that is rendered; else master(8) warns."""


def _run(*command: str) -> str:
    """Run a checker; its complaint, on whichever stream, is the refusal."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
        )
    except subprocess.TimeoutExpired as error:
        text = f"`{' '.join(command)}` did not end within {COMMAND_TIMEOUT_S} s."
        raise Refused(text) from error
    output = (done.stderr + done.stdout).strip()
    if done.returncode != 0:
        raise Refused(f"`{' '.join(command)}` says: {output[-600:] or done.returncode}")
    return done.stderr.strip()


class ConfigFiles:
    """Live and previous config version of this host, below `root` (`/` but in tests)."""

    def __init__(
        self, root: Path, state_directory: Path, queue_directory: Path, smtp_port: int = 25
    ) -> None:
        self._root = root
        self._smtp_port = smtp_port
        self._postfix = Postfix(queue_directory, root / POSTFIX)
        self._live_version: int | None = None
        self._state = state_directory / "config"

    def live_version(self) -> int | None:
        """Return the version that went live last, None before the first."""
        if self._live_version is None:
            bundle = self._read("live")
            self._live_version = None if bundle is None else bundle.version
        return self._live_version

    def _read(self, name: str) -> ConfigBundle | None:
        path = self._state / f"{name}.json"
        if not path.exists():
            return None
        return ConfigBundle.model_validate_json(path.read_bytes())

    def recover(self) -> None:
        """Complete or undo a swap that a crash cut off: what is live on record goes live again."""
        swapping, live = self._read("swapping"), self._read("live")
        if swapping is not None and live is not None:
            log.warning("restoring the config after an interrupted swap", version=live.version)
            self._install(live.files)
        (self._state / "swapping.json").unlink(missing_ok=True)

    def apply(self, bundle: ConfigBundle) -> None:
        """Put a bundle live; raises `Refused` with the reason, and then nothing has changed."""
        if files_sha256(bundle.files) != bundle.sha256:
            raise Refused(f"Config version {bundle.version} does not match its own hash.")
        staging = self._state / "staging"
        shutil.rmtree(staging, ignore_errors=True)
        try:
            self._stage(bundle, staging)
            self._validate(staging)
            self._swap(bundle, staging)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    def _stage(self, bundle: ConfigBundle, staging: Path) -> None:
        live = self._root / POSTFIX
        if live.is_dir():
            shutil.copytree(live, staging / POSTFIX, ignore_dangling_symlinks=True)
        for file in bundle.files:
            self._write(staging, file)
        for table in indexed_tables(bundle.files):
            _run("postmap", f"{table.type}:{staging / table.path.lstrip('/')}")

    def _write(self, root: Path, file: ConfigFile) -> Path:
        path = root / file.path.lstrip("/")
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(path.name + ".new")
        temporary.touch(mode=0o600)
        temporary.write_text(file.content, errors="surrogateescape")
        if path.name == "main.cf":
            cool_at_s = time.time() - COOL_S
            os.utime(temporary, (cool_at_s, cool_at_s))
        temporary.rename(path)
        path.chmod(int(file.mode, 8))
        owner = _user(file.owner)
        shutil.chown(path, owner.pw_uid, owner.pw_gid)
        for parent in path.relative_to(root).parents:
            if parent != Path():
                (root / parent).chmod(0o755)
        return path

    def _validate(self, staging: Path) -> None:
        if (staging / POSTFIX / "main.cf").exists():
            warnings = _run("postconf", "-c", str(staging / POSTFIX), "-n")
            warnings += _run("postconf", "-c", str(staging / POSTFIX), "-M")
            if warnings:
                raise Refused(f"`postconf -n` warns: {warnings[-600:]}")
            complaint = _run("postfix", "-c", str(staging / POSTFIX), "check")
            if "warning" in complaint or "fatal" in complaint:
                raise Refused(f"`postfix check` says: {complaint[-600:]}")
        if (staging / KEEPALIVED).exists():
            _run("keepalived", "-t", "-f", str(staging / KEEPALIVED))

    def _swap(self, bundle: ConfigBundle, staging: Path) -> None:
        previous = self._read("live") or self._capture(bundle)
        is_restart = self._needs_restart(staging)
        write_private(self._state / "swapping.json", bundle.model_dump_json().encode())
        try:
            self._install(bundle.files)
            self._activate(staging, is_restart=is_restart)
        except (Refused, ToolFailed, OSError) as error:
            self._install(previous.files)
            self._activate(staging, is_restart=is_restart)
            (self._state / "swapping.json").unlink(missing_ok=True)
            if isinstance(error, OSError):
                raise  # such as a full disk: tried again
            raise Refused(str(error)) from error
        if (self._state / "live.json").exists():
            (self._state / "live.json").rename(self._state / "previous.json")
        (self._state / "swapping.json").rename(self._state / "live.json")
        self._live_version = bundle.version

    def _install(self, files: tuple[ConfigFile, ...]) -> None:
        """Write every file by rename, build the tables beside, `main.cf` and `master.cf` last."""
        tables = {table.path: table.type for table in indexed_tables(files)}
        for file in swap_order(files):
            path = self._write(self._root, file)
            if file.path in tables:
                _run("postmap", f"{tables[file.path]}:{path}")

    def _capture(self, bundle: ConfigBundle) -> ConfigBundle:
        """Return what is live where a bundle would write, for the way back from the first one."""
        files = []
        for file in bundle.files:
            path = self._root / file.path.lstrip("/")
            if path.is_file():
                mode = f"{path.stat().st_mode & 0o7777:04o}"
                content = path.read_text(errors="surrogateescape")
                files.append(ConfigFile(path=file.path, content=content, mode=mode))
        return ConfigBundle(version=0, sha256="", files=tuple(files))

    def _needs_restart(self, staging: Path) -> bool:
        """Tell whether Postfix runs with other values of what it reads at its start only.

        It was started, or restarted by us, with those of the live files.
        """
        live, staged = self._root / POSTFIX, staging / POSTFIX
        if not (live / "main.cf").exists() or not (staged / "main.cf").exists():
            return False
        return _values(live, FOR_A_RESTART) != _values(staged, FOR_A_RESTART)

    def _activate(self, staging: Path, *, is_restart: bool) -> None:
        """Have the daemons take the installed files; returns once Postfix greets with them."""
        if (staging / POSTFIX / "main.cf").exists():
            before = self._postfix.pids()
            if is_restart:
                log.warning("restarting Postfix", changed=FOR_A_RESTART)
                self._postfix.restart()
            else:
                self._postfix.reload()
            wait_for_server(self._smtp_port, before)
        pid_file = self._root / "run/keepalived.pid"
        if (staging / KEEPALIVED).exists() and pid_file.exists():
            _run("kill", "-HUP", pid_file.read_text().strip())


def _user(name: str) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(name)
    except KeyError as error:
        raise Refused(f"This host has no user {name!r} for a file of the config.") from error


def _values(config: Path, names: tuple[str, ...]) -> list[str]:
    """Return what these parameters come to, references resolved (postconf(1))."""
    command = ("postconf", "-c", str(config), "-h", "-x", *names)
    done = subprocess.run(
        command, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
    )
    return done.stdout.split("\n")
