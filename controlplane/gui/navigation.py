"""The pages in the order of the sidebar; a page that is not built yet is not shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from controlplane.core.permissions import Permission
from controlplane.gui.language import N_


@dataclass(frozen=True)
class NavigationItem:
    """One line of the sidebar."""

    path: str
    label: str
    icon: str
    permission: Permission = Permission.READ

    def is_at(self, path: str) -> bool:
        """Tell whether `path` is this page or one below it."""
        return path == self.path or (self.path != "/" and path.startswith(f"{self.path}/"))


NAVIGATION: Final = (
    NavigationItem("/", N_("Overview"), "gauge"),
    NavigationItem("/nodes", N_("Nodes"), "server-2"),
    NavigationItem("/cluster", N_("Cluster"), "topology-star-3"),
    NavigationItem("/ssh", N_("SSH"), "key"),
    NavigationItem("/mail", N_("Mail"), "mail-cog"),
    NavigationItem("/policy", N_("Mail policy"), "shield-check"),
    NavigationItem("/configuration", N_("Configuration"), "git-compare"),
    NavigationItem("/queue", N_("Queue"), "inbox"),
    NavigationItem("/trace", N_("Trace"), "route"),
    NavigationItem("/events", N_("Events"), "activity"),
    NavigationItem("/alerts", N_("Alerts"), "bell"),
    NavigationItem("/tls", N_("Certificate"), "certificate"),
    NavigationItem("/audit", N_("Audit"), "history"),
    NavigationItem("/users", N_("Users"), "users", Permission.USERS),
    NavigationItem("/system", N_("System"), "heart-rate-monitor"),
)
