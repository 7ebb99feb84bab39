"""The built-in threat rules: what each looks for, and whether and how much it counts."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Path
from pydantic import BaseModel, Field

from controlplane.api.cluster_access import NOT_FOUND
from controlplane.api.mail_security.views import PREFIX
from controlplane.api.permissions import READ, AdminCaller
from controlplane.core.policy_drafts import ThreatDraft
from controlplane.store import policy_threats
from controlplane.store.engine import DatabaseDep, ReadSession
from controlplane.store.policy_threats import ThreatState
from nodeagent.policy.model import Severity

router = APIRouter(prefix=f"{PREFIX}/threat-rules", tags=["mail-security"])

RuleKey = Annotated[
    str,
    Path(pattern=r"^[a-z0-9-]{1,60}$", description="The rule's name.", examples=["sql-union"]),
]


class ThreatRuleView(BaseModel):
    """One rule."""

    rule: str
    description: str
    severity: Severity
    where: list[str] = Field(description="Which parts of a mail it reads.")
    is_enabled: bool
    score: float = Field(description="What it adds; the settings say from which sum on it acts.")
    own_score: float = Field(description="As it was built.")
    is_changed: bool = Field(description="An administrator switched or scored it.")


@router.get("", dependencies=[READ])
def list_threat_rules(session: ReadSession) -> list[ThreatRuleView]:
    """List all built-in rules."""
    return [_view(state) for state in policy_threats.read_threats(session)]


@router.get("/{rule}", responses=NOT_FOUND, dependencies=[READ])
def read_threat_rule(rule: RuleKey, session: ReadSession) -> ThreatRuleView:
    """Show one rule."""
    return _view(policy_threats.read_threat(session, rule))


@router.put("/{rule}", responses=NOT_FOUND)
def change_threat_rule(
    rule: RuleKey, body: ThreatDraft, caller: AdminCaller, database: DatabaseDep
) -> ThreatRuleView:
    """Switch a rule on or off, or give it another score."""
    return _view(policy_threats.change_threat(database, rule, body, caller.actor))


@router.delete("/{rule}", responses=NOT_FOUND)
def reset_threat_rule(rule: RuleKey, caller: AdminCaller, database: DatabaseDep) -> ThreatRuleView:
    """Make a rule as it was built."""
    return _view(policy_threats.change_threat(database, rule, None, caller.actor))


def _view(state: ThreatState) -> ThreatRuleView:
    return ThreatRuleView(
        rule=state.rule.name,
        description=state.rule.description,
        severity=state.rule.severity,
        where=[one.value for one in state.rule.where],
        is_enabled=state.is_enabled,
        score=state.score,
        own_score=state.rule.score,
        is_changed=state.is_changed,
    )
