"""A real Postfix as a node has it for the policy hook: the ports behind it, and the lists' LMTP."""

from __future__ import annotations

import re
import subprocess
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from tests.fakes.postfix_instance import PostfixInstance, free_port

SERVICES = """\
127.0.0.1:SEND inet n - n - - smtpd
    -o syslog_name=postfix/send
    -o smtpd_milters=
    -o smtpd_client_restrictions=permit_mynetworks,reject
    -o smtpd_relay_restrictions=permit_mynetworks,reject
    -o smtpd_recipient_limit=100000
127.0.0.1:KEEP inet n - n - - smtpd
    -o syslog_name=postfix/hold
    -o smtpd_milters=
    -o smtpd_client_restrictions=permit_mynetworks,reject
    -o { smtpd_recipient_restrictions = check_recipient_access $test_access, permit }
    -o smtpd_relay_restrictions=permit_mynetworks,reject
    -o smtpd_end_of_data_restrictions=check_client_access,static:HOLD
lmtp unix - - n - - lmtp
"""
REFUSED = "refused@deliver.test"


@dataclass(frozen=True)
class Stored:
    """One message as postcat(1) shows it."""

    sender: str
    recipients: tuple[str, ...]
    header: str
    body: str

    def values(self, name: str) -> list[str]:
        """Return the unfolded values of the headers of this name."""
        text = re.sub(r"\n[ \t]+", " ", self.header)
        return re.findall(rf"(?mi)^{re.escape(name)}: ?(.*)$", text)


@dataclass
class PolicyPostfix(PostfixInstance):
    """The instance with its ports; mail to list.relay.invalid goes to `lists_socket`."""

    send_port: int = field(default_factory=free_port)
    hold_port: int = field(default_factory=free_port)

    @property
    def lists_socket(self) -> Path:
        """Return where the lists' server has to listen; short, as socket paths have to be."""
        return self.root / "lists.sock"

    def write_config(self) -> None:
        """Add the services and the transport."""
        super().write_config()
        services = SERVICES.replace("SEND", str(self.send_port)).replace(
            "KEEP", str(self.hold_port)
        )
        with (self.config / "master.cf").open("a") as master:
            master.write(services)
        with (self.config / "main.cf").open("a") as main:
            to_lists = f"lmtp:unix:{self.lists_socket}"
            main.write(f"transport_maps = inline:{{ {{list.relay.invalid={to_lists}}} }}\n")
            main.write(f"test_access = inline:{{ {{{REFUSED} = REJECT}} }}\n")
            main.write("smtputf8_enable = yes\nmessage_size_limit = 30000000\n")

    def stored(self, queue_id: str) -> Stored:
        """Return one message of the queue."""
        envelope = self._postcat("-e", queue_id)
        sender = re.search(r"(?m)^sender: ?(.*)$", envelope)
        assert sender is not None, envelope
        recipients = re.findall(r"(?m)^recipient: (.*)$", envelope)
        header, body = self._postcat("-h", queue_id), self._postcat("-b", queue_id)
        return Stored(sender[1], tuple(recipients), header, body)

    def _postcat(self, part: str, queue_id: str) -> str:
        command = ["postcat", "-c", str(self.config), part, "-q", queue_id]
        done = subprocess.run(command, capture_output=True, check=True)
        return done.stdout.decode("utf-8", "surrogateescape")

    def wait_until(self, is_true: Callable[[], bool], limit_s: float = 60) -> None:
        """Wait until something is true of it."""
        until_s = time.monotonic() + limit_s
        while not is_true():
            assert time.monotonic() < until_s, (self.root / "mail.log").read_text()[-3000:]
            time.sleep(0.05)

    def log_lines(self, text: str) -> list[str]:
        """Return the lines of its log that have this text."""
        return [line for line in (self.root / "mail.log").read_text().splitlines() if text in line]

    def retry(self) -> None:
        """Try everything that is deferred now."""
        subprocess.run(["postqueue", "-c", str(self.config), "-f"], check=True)
