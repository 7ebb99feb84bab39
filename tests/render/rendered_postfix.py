"""A real Postfix that runs rendered files, on a loopback port, with directories of its own."""

from __future__ import annotations

import json
import smtplib
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, AuthResult, Envelope, LoginPassword, Session

from controlplane.core.render import render
from controlplane.core.spec import ClusterSpec
from controlplane.core.validation import validate
from nodeagent.core.config_plan import indexed_tables
from tests.fakes.postfix_instance import PostfixInstance, free_port
from tests.render.specs import write_below

TRUSTED_CLIENT = "127.0.0.1"
STRANGER = "127.0.0.9"
WRONG = ("warning:", "error:", "fatal:", "panic:")
CLOCK = ("file system clock is 1 seconds ahead", "resetting file time stamps")
OVERRIDES = """
queue_directory = {root}/spool/postfix
data_directory = {root}/data
maillog_file = {root}/mail.log
maillog_file_prefixes = {root}
inet_interfaces = 127.0.0.1
smtp_host_lookup = native
"""


@dataclass
class RenderedPostfix(PostfixInstance):
    """The first node of a spec; of the loopback network only TRUSTED_CLIENT stays trusted."""

    spec: ClusterSpec | None = None

    def write_config(self) -> None:
        """Write the rendered files; change only where it listens and keeps its data."""
        super().write_config()
        assert self.spec is not None
        assert validate(self.spec) == ()
        files = render(self.spec, self.spec.nodes[0].name)
        write_below(self.root, files)
        main_cf, master_cf = self.config / "main.cf", self.config / "master.cf"
        overrides = OVERRIDES.format(root=self.root)
        names = {line.partition(" =")[0] for line in overrides.splitlines()}
        kept = [
            line
            for line in main_cf.read_text().splitlines()
            if line.partition(" =")[0] not in names
        ]
        main_cf.write_text("\n".join(kept) + overrides)
        services = master_cf.read_text()
        assert "\nsmtp       inet" in services
        listen = services.replace("\nsmtp       inet", f"\n127.0.0.1:{self.port} inet")
        master_cf.write_text(listen)
        trusted = self.config / "relay/trusted_networks.cidr"
        trusted.write_text(trusted.read_text().replace("127.0.0.0/8", f"{TRUSTED_CLIENT}/32"))
        for table in indexed_tables(files):
            source = f"{table.type}:{self.root}{table.path}"
            subprocess.run(["postmap", "-c", str(self.config), source], check=True)

    def connect(self, source: str = TRUSTED_CLIENT) -> smtplib.SMTP:
        """Open a session from one of the loopback addresses."""
        return smtplib.SMTP("127.0.0.1", self.port, timeout=60, source_address=(source, 0))

    def reply(self, sender: str, recipient: str, source: str = TRUSTED_CLIENT) -> tuple[int, str]:
        """Return what RCPT TO is answered with."""
        with self.connect(source) as client:
            client.helo("client.example")
            code, text = client.mail(sender)
            if code == 250:
                code, text = client.rcpt(recipient)
            return code, text.decode()

    def submit(self, sender: str, recipient: str) -> None:
        """Have it take one message."""
        message = EmailMessage()
        message["From"], message["To"], message["Subject"] = sender, recipient, "test"
        message.set_content("text\n")
        with self.connect() as client:
            client.send_message(message, sender, [recipient])

    def deferred_senders(self) -> set[str]:
        """Return whose mail is deferred, as postqueue(1) says."""
        command = ["postqueue", "-c", str(self.config), "-j"]
        told = subprocess.run(command, check=True, capture_output=True, text=True).stdout
        mails = [json.loads(line) for line in told.splitlines()]
        return {mail["sender"] for mail in mails if mail["queue_name"] == "deferred"}


@dataclass(frozen=True)
class Delivery:
    """One message as a next hop got it."""

    sender: str
    recipients: tuple[str, ...]
    login: str | None
    is_tls: bool


class NextHop:
    """A real SMTP server that offers AUTH without TLS, and notes who logged in for what."""

    def __init__(self) -> None:
        self.port = free_port()
        self.deliveries: list[Delivery] = []
        self.logins: list[tuple[str, str]] = []
        self._controller = Controller(
            self,
            hostname="127.0.0.1",
            port=self.port,
            authenticator=self._authenticate,
            auth_require_tls=False,
        )

    def start(self) -> None:
        """Listen."""
        self._controller.start()

    def stop(self) -> None:
        """Stop listening."""
        self._controller.stop()

    def _authenticate(
        self, _server: SMTP, session: Session, _envelope: Envelope, _mechanism: str, data: object
    ) -> AuthResult:
        assert isinstance(data, LoginPassword)
        login = (data.login.decode(), data.password.decode())
        self.logins.append(login)
        session.auth_data = login[0]
        return AuthResult(success=True, auth_data=login[0])

    async def handle_DATA(self, _server: SMTP, session: Session, envelope: Envelope) -> str:  # noqa: N802
        """Note one message."""
        self.deliveries.append(
            Delivery(
                envelope.mail_from or "",
                tuple(envelope.rcpt_tos),
                session.auth_data if session.authenticated else None,
                session.ssl is not None,
            )
        )
        return "250 2.0.0 taken"


def log_of(postfix: RenderedPostfix) -> str:
    """Return what the instance logged."""
    return Path(postfix.root / "mail.log").read_text()


def complaints_of(postfix: RenderedPostfix, *but: str) -> list[str]:
    """Return what it found wrong, without lines that have one of `but` in them.

    Since Linux 6.13 a file's time may be finer than the clock that cleanup(8) compares it with, so
    now and then the file system is "1 seconds ahead": that says nothing of our files.
    """
    expected = (*but, *CLOCK)
    return [
        line
        for line in log_of(postfix).splitlines()
        if any(word in line for word in WRONG) and not any(one in line for one in expected)
    ]


def wait_for(condition: Callable[[], bool], what: Callable[[], str]) -> None:
    """Wait for something that Postfix does in its own time."""
    until_s = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < until_s, what()
        time.sleep(0.05)
