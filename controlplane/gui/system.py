"""System health and about: how the control plane is, and what it is made of."""

from __future__ import annotations

from typing import Final

from fastapi import Request, Response

from controlplane import __version__
from controlplane.api.system import CertificateDays, HostView, system_view
from controlplane.api.user_auth import SettingsDep
from controlplane.core.attention_finders import (
    CERTIFICATE_BAD_DAYS,
    CERTIFICATE_WARN_DAYS,
    CLOCK_BAD_S,
    CLOCK_WARN_S,
    DISK_BAD_SHARE,
    DISK_WARN_SHARE,
)
from controlplane.gui.language import N_
from controlplane.gui.shell import ReadShell, page_router
from controlplane.gui.shipped import browser_packages, python_packages
from controlplane.store.engine import ReadSession

router = page_router()

CERTIFICATES: Final = {
    "smtp": N_("SMTP"),
    "gui": N_("This page"),
    "agents": N_("What agents connect to"),
    "ca": N_("The CA that agents trust"),
}
GUIDES: Final = (
    ("README.md", N_("All manuals: how to install, operate, monitor, upgrade, restore")),
    ("tutorial.md", N_("Tutorial: a whole cluster on your machine")),
    ("explanation/failure-modes.md", N_("What is promised, and what is not")),
    ("reference/cli.md", N_("Commands")),
)


@router.get("/system")
def system_page(
    request: Request, shell: ReadShell, session: ReadSession, settings: SettingsDep
) -> Response:
    """Show the health of database, jobs, certificates and hosts."""
    return shell.page(
        "system.html",
        system=system_view(request, session, settings.state_dir),
        certificate_names=CERTIFICATES,
        certificate_tone=certificate_tone,
        clock_tone=clock_tone,
        disk_tone=disk_tone,
    )


@router.get("/about")
def about_page(shell: ReadShell) -> Response:
    """Show the version, what is shipped under which licence, and where the manuals are."""
    return shell.page(
        "about.html",
        version=__version__,
        browser_packages=browser_packages(),
        python_packages=python_packages(),
        guides=GUIDES,
    )


def certificate_tone(one: CertificateDays) -> str:
    """Return the tone of the days that a certificate has left."""
    if one.days_left <= CERTIFICATE_BAD_DAYS:
        return "bad"
    return "warn" if one.days_left <= CERTIFICATE_WARN_DAYS else "good"


def clock_tone(host: HostView) -> str:
    """Return the tone of a node's clock."""
    if host.clock_offset_s is None:
        return "unknown"
    offset_s = abs(host.clock_offset_s)
    if offset_s >= CLOCK_BAD_S:
        return "bad"
    return "warn" if offset_s >= CLOCK_WARN_S else "good"


def disk_tone(free: int | None, size: int | None) -> str:
    """Return the tone of what is free of a disk, of its space or of its inodes."""
    if free is None or not size:
        return "unknown"
    if free / size < DISK_BAD_SHARE:
        return "bad"
    return "warn" if free / size < DISK_WARN_SHARE else "good"
