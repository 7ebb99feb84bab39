"""A private Postfix that asks a milter, and the next hop where its mail arrives."""

from __future__ import annotations

import email
import email.policy
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.message import EmailMessage
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP, Envelope, Session

from tests.fakes.postfix_instance import PostfixInstance


@dataclass(frozen=True)
class Delivered:
    """One mail as it arrived."""

    sender: str
    recipients: tuple[str, ...]
    raw: bytes

    @property
    def message(self) -> EmailMessage:
        """Return it parsed."""
        return email.message_from_bytes(self.raw, _class=EmailMessage, policy=email.policy.SMTPUTF8)


@dataclass
class Arrivals:
    """A next hop that takes every mail and keeps it."""

    mails: list[Delivered] = field(default_factory=list)

    async def handle_DATA(  # noqa: N802  # aiosmtpd's name
        self, _server: SMTP, _session: Session, envelope: Envelope
    ) -> str:
        """Take a mail."""
        assert isinstance(envelope.content, bytes)
        recipients = tuple(sorted(envelope.rcpt_tos))
        self.mails.append(Delivered(envelope.mail_from or "", recipients, envelope.content))
        return "250 ok"

    def start(self, port: int) -> Controller:
        """Listen."""
        controller = Controller(self, "127.0.0.1", port, enable_SMTPUTF8=True, data_size_limit=0)
        controller.start()
        return controller


@dataclass
class MilterPostfix(PostfixInstance):
    """`settings` are lines of main.cf, `services` of master.cf."""

    settings: tuple[str, ...] = ()
    services: tuple[str, ...] = ()

    def write_config(self) -> None:
        """Write the usual, and what the test adds."""
        super().write_config()
        for name, lines in (("main.cf", self.settings), ("master.cf", self.services)):
            with (self.config / name).open("a") as file:
                file.writelines(f"{line}\n" for line in lines)

    @property
    def log(self) -> str:
        """Return what it logged."""
        return (self.root / "mail.log").read_text(errors="replace")

    def wait_for_log(self, pattern: str, limit_s: float = 60) -> re.Match[str]:
        """Wait until its log has this."""
        return wait_for(lambda: re.search(pattern, self.log), limit_s)


def wait_for(look: Callable[[], Any], limit_s: float = 60) -> Any:
    """Wait until something is there, and return it."""
    until_s = time.monotonic() + limit_s
    while not (found := look()):
        assert time.monotonic() < until_s, "nothing came"
        time.sleep(0.02)
    return found
