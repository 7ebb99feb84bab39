"""A real PostgreSQL for tests: Debian's binaries over a cluster in a temporary directory."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import tempfile
import uuid
from pathlib import Path

import psycopg

from tests.fakes.postfix_instance import free_port

BINARIES = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"))


class PostgresServer:
    """One throw-away server on a free loopback port; `create_database` gives a fresh database."""

    def __init__(self) -> None:
        if not BINARIES:
            raise FileNotFoundError("install postgresql-15: its initdb was not found")
        self._bin = BINARIES[-1].parent
        self._home = Path(tempfile.mkdtemp(prefix="relay-pg-", dir="/tmp"))
        self._data = self._home / "data"
        self.port = free_port()

    def start(self) -> None:
        """Make the cluster and wait until it answers."""
        if os.geteuid() == 0:
            owner = pwd.getpwnam("postgres")
            os.chown(self._home, owner.pw_uid, owner.pw_gid)
        initdb = ["initdb", "-D", str(self._data), "-U", "relay", "-A", "trust", "-N"]
        self._run([*initdb, "-E", "UTF8", "--locale=C"])
        options = (
            f"-c listen_addresses=127.0.0.1 -c port={self.port} -c fsync=off "
            f"-c unix_socket_directories={self._home} -c max_connections=60 -c shared_buffers=16MB"
        )
        log = str(self._home / "log")
        self._run(["pg_ctl", "-D", str(self._data), "-l", log, "-w", "-o", options, "start"])

    def stop(self) -> None:
        """Stop the server and remove every trace."""
        self._run(["pg_ctl", "-D", str(self._data), "-m", "immediate", "-w", "stop"])
        shutil.rmtree(self._home)

    def create_database(self) -> str:
        """Return the URL of a new, empty database."""
        name = f"relay_{uuid.uuid4().hex[:12]}"
        plain = f"postgresql://relay@127.0.0.1:{self.port}/postgres"
        with psycopg.connect(plain, autocommit=True) as connection:
            connection.execute(f"CREATE DATABASE {name}".encode())
        return f"postgresql+psycopg://relay@127.0.0.1:{self.port}/{name}"

    def _run(self, command: list[str]) -> None:
        full = [str(self._bin / command[0]), *command[1:]]
        user = "postgres" if os.geteuid() == 0 else None
        done = subprocess.run(
            full,
            check=False,
            user=user,
            cwd=self._home,
            stdout=subprocess.DEVNULL,
            stderr=(self._home / "errors").open("ab"),
        )
        if done.returncode != 0:
            raise RuntimeError(f"{command[0]} failed: {(self._home / 'errors').read_text()}")
