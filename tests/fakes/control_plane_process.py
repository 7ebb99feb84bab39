"""A control plane as a process of its own, over HTTPS on a free port of 127.0.0.1."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from pathlib import Path

import httpx2

from controlplane.tls import ca_pem
from nodeagent.core.agent_api import TLS_SERVER_NAME
from tests.fakes.postfix_instance import free_port

COMMAND = [sys.executable, "-c", "from controlplane.cli import main; main()"]
START_S = 240.0


class ControlPlaneProcess:
    """One control plane process with an environment of its own."""

    def __init__(self, state_dir: Path, database_url: str = "") -> None:
        self.state_dir = state_dir
        self.port = free_port()
        self.environment = os.environ | {
            "RELAY_STATE_DIR": str(state_dir),
            "RELAY_LISTEN": f"127.0.0.1:{self.port}",
            "RELAY_DATABASE_URL": database_url or f"sqlite:///{state_dir}/relay.db",
            "RELAY_ARGON2_ROUNDS": "1",
            "RELAY_ARGON2_MEMORY_KIB": "8",
            "RELAY_ARGON2_PARALLELISM": "1",
        }
        self.server: subprocess.Popen[bytes] | None = None

    def run(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run one command to its end."""
        return subprocess.run(
            [*COMMAND, *arguments],
            env=self.environment,
            check=False,
            capture_output=True,
            text=True,
            timeout=60,
        )

    def start(self) -> None:
        """Start serving without waiting."""
        log = self.state_dir.with_name(f"serve-{self.port}.log").open("wb")
        self.server = subprocess.Popen(
            [*COMMAND, "serve"], env=self.environment, stdout=log, stderr=log
        )
        log.close()

    def get(self, path: str) -> httpx2.Response:
        """Ask as a node does, once the server is there: our CA and our server name."""
        end_s = time.monotonic() + START_S
        while True:
            try:
                return self._get(path)
            except (httpx2.ConnectError, httpx2.TimeoutException):
                has_ended = self.server is not None and self.server.poll() is not None
                log = self.state_dir.with_name(f"serve-{self.port}.log").read_text()
                assert not has_ended, log
                assert time.monotonic() < end_s, log
                time.sleep(0.2)

    def _get(self, path: str) -> httpx2.Response:
        trusted = ssl.create_default_context(cadata=ca_pem(self.state_dir))
        with httpx2.Client(verify=trusted, trust_env=False, timeout=START_S) as client:
            return client.get(
                f"https://127.0.0.1:{self.port}{path}",
                extensions={"sni_hostname": TLS_SERVER_NAME},
            )

    @property
    def origin(self) -> str:
        """Where browsers find it."""
        return f"https://127.0.0.1:{self.port}"

    def raw(self, request: bytes) -> bytes:
        """Send bytes that need not be a whole request; return the answer, if there is one."""
        context = ssl.create_default_context(cadata=ca_pem(self.state_dir))
        with (
            socket.create_connection(("127.0.0.1", self.port), timeout=60) as plain,
            context.wrap_socket(plain, server_hostname=TLS_SERVER_NAME) as connection,
        ):
            connection.sendall(request)
            answer = more = connection.recv(65536)
            while more and (b"\r\n\r\n" not in answer or answer.endswith(b"\r\n\r\n")):
                more = connection.recv(65536)
                answer += more
            return answer

    def shown_certificate(self) -> bytes:
        """Return what a browser is shown."""
        return ssl.get_server_certificate(("127.0.0.1", self.port)).encode()

    def kill(self) -> None:
        """End the server at once, if it runs."""
        if self.server is not None and self.server.poll() is None:
            self.server.kill()
            self.server.wait()

    def stop(self) -> int:
        """Stop as systemd does; return the exit code."""
        assert self.server is not None
        self.server.send_signal(signal.SIGTERM)
        return self.server.wait(timeout=60)
