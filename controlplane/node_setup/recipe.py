"""What is done on a host to make it a relay node: docs/howto/install-on-two-hosts.md as data."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

PACKAGES: Final = (
    "postfix",
    "postfix-lmdb",
    "keepalived",
    "openssh-server",
    "rsync",
    "libsasl2-modules",
    "ca-certificates",
    "python3-venv",
)
POSTFIX_ANSWERS: Final = b"postfix postfix/main_mailer_type select Local only\n"
"""Postfix must be configured enough to start: the node's first configuration reloads it."""
SUPPORTED: Final = ("debian", "12")


class SetupStep(StrEnum):
    """The steps in their order."""

    CONNECT = "connect"
    LOGIN = "login"
    SYSTEM = "system"
    PACKAGES = "packages"
    PROGRAM = "program"
    SPOOL = "spool"
    UNITS = "units"
    ENROL = "enrol"
    START = "start"
    REPORT = "report"


def _shipped_units() -> Path:
    """Return the systemd units of an installed package, or of a source tree."""
    package = Path(__file__).resolve().parents[1]
    installed = package / "systemd"
    return installed if installed.is_dir() else package.parent / "compose/systemd"


@dataclass(frozen=True)
class Recipe:
    """Where things go on the host, and where they come from here."""

    prefix: str = "/opt/mail-relay"
    unit_directory: str = "/etc/systemd/system"
    spool: str = "/var/spool/relay"
    queue: str = "/var/spool/postfix"
    wheel: Path | None = None
    units: Path = field(default_factory=_shipped_units)

    @property
    def agent(self) -> str:
        """Return the path of `relay-agent` on the host."""
        return f"{self.prefix}/bin/relay-agent"

    def unit_files(self) -> dict[str, bytes]:
        """Return the units of a node by their place below the unit directory."""
        names = (
            *("relay-guard.service", "relay-agent.service", "relay-policy.service"),
            "relay-keepalived.path",
        )
        drop_ins = ("postfix@-.service.d/relay.conf", "keepalived.service.d/relay.conf")
        return {name: (self.units / name).read_bytes() for name in (*names, *drop_ins)}

    def wheel_files(self) -> dict[str, bytes]:
        """Return the program and, where it lies beside it, the versions that it was tested with."""
        if self.wheel is None:
            return {}
        constraints = self.wheel.with_name("constraints.txt")
        files = {self.wheel.name: self.wheel.read_bytes()}
        return files | (
            {constraints.name: constraints.read_bytes()} if constraints.exists() else {}
        )


def read_os_release(text: str) -> tuple[str, str]:
    """Return ID and VERSION_ID of os-release(5); empty where they are not said."""
    values = dict(line.split("=", 1) for line in text.splitlines() if "=" in line)
    return values.get("ID", "").strip("\"' \r"), values.get("VERSION_ID", "").strip("\"' \r")


def missing_packages(shown: str) -> list[str]:
    """Return the packages that `dpkg-query` did not show as installed."""
    states = dict(line.split(" ", 1) for line in shown.splitlines() if " " in line)
    return [name for name in PACKAGES if states.get(name, "").strip() != "installed"]
