"""The built-in threat rules: what each looks for, whether it counts and how much."""

from __future__ import annotations

from typing import Final

from fastapi import Response

from controlplane.api.mail_security.threat_rules import RuleKey
from controlplane.core.policy_drafts import ThreatDraft
from controlplane.errors import ControlPlaneError
from controlplane.gui.forms import Field, FilledForm, Form, Posted, Widget
from controlplane.gui.language import N_
from controlplane.gui.policy_words import WORDS
from controlplane.gui.shell import AdminShell, ReadShell, Shell, page_router
from controlplane.store.engine import DatabaseDep, ReadSession
from controlplane.store.policy_threats import ThreatState, change_threat, read_threat, read_threats

router = page_router()

PAGE: Final = "/policy/threat-rules"
FORM: Final = Form(
    (
        Field("is_enabled", N_("Switched on"), widget=Widget.CHECKBOX),
        Field(
            "score",
            N_("Score"),
            hint=N_("Empty: the rule's own."),
            widget=Widget.NUMBER,
            attributes={"min": "0", "max": "1000", "step": "any"},
        ),
    )
)


@router.get("/policy/threat-rules")
def rules_page(shell: ReadShell, session: ReadSession) -> Response:
    """Show all rules."""
    return shell.page("policy_threat_rules.html", rules=read_threats(session), **WORDS)


@router.get("/policy/threat-rules/{rule}")
def rule_page(rule: RuleKey, shell: ReadShell, session: ReadSession) -> Response:
    """Show one rule."""
    state = read_threat(session, rule)
    score = state.score if state.score != state.rule.score else None
    return _page(shell, state, FORM.filled({"is_enabled": state.is_enabled, "score": score}))


def _page(shell: Shell, state: ThreatState, form: FilledForm, *, status: int = 200) -> Response:
    return shell.page("policy_threat_rule.html", status=status, state=state, form=form, **WORDS)


@router.post("/policy/threat-rules/{rule}")
def change_by_form(
    rule: RuleKey, shell: AdminShell, posted: Posted, database: DatabaseDep
) -> Response:
    """Switch a rule, or give it another score."""
    form = FORM.posted(posted)
    try:
        change_threat(database, rule, form.build(ThreatDraft), shell.signed_in.actor)
    except ControlPlaneError as error:
        with database.read() as session:
            state = read_threat(session, rule)
        return _page(shell, state, form.refused(error), status=error.status)
    return shell.done(PAGE, shell.text(N_("The rule is saved.")))


@router.post("/policy/threat-rules/{rule}/reset")
def reset_by_form(rule: RuleKey, shell: AdminShell, database: DatabaseDep) -> Response:
    """Make a rule as it was built."""
    change_threat(database, rule, None, shell.signed_in.actor)
    return shell.done(PAGE, shell.text(N_("The rule is as it was built.")))
