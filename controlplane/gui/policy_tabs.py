"""The pages of the mail policy, in the order of their tabs; one that is not built is not shown."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from controlplane.core.permissions import Permission
from controlplane.gui.language import N_

HOME: Final = "/policy"


@dataclass(frozen=True)
class PolicyTab:
    """One tab."""

    path: str
    label: str
    permission: Permission = Permission.READ

    def is_at(self, path: str) -> bool:
        """Tell whether `path` is this page, or one below it; all are below the first."""
        return path == self.path or (self.path != HOME and path.startswith(f"{self.path}/"))


POLICY_TABS: Final = (
    PolicyTab(HOME, N_("At a glance")),
    PolicyTab("/policy/log", N_("Decisions")),
    PolicyTab("/policy/threats", N_("Threats")),
    PolicyTab("/policy/connections", N_("Connections")),
    PolicyTab("/policy/quarantine", N_("Quarantine")),
    PolicyTab("/policy/lists", N_("Block and allow")),
    PolicyTab("/policy/words", N_("Bad words")),
    PolicyTab("/policy/rates", N_("Rate limits")),
    PolicyTab("/policy/threat-rules", N_("Threat rules")),
    PolicyTab("/policy/categories", N_("Categories")),
    PolicyTab("/policy/try", N_("Try a mail"), Permission.OPERATE),
    PolicyTab("/policy/settings", N_("Settings")),
)
