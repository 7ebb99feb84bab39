"""The first page of the mail policy: is it on, what it did, which node has which revision."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Query, Response
from sqlmodel import Session

from controlplane.api.cluster import merged
from controlplane.api.cluster_access import StoreDep
from controlplane.api.mail_security.log import Span, policy_status, trends
from controlplane.api.mail_security.log_views import PolicyStatusView, TrendsView
from controlplane.api.mail_security.nodes import PolicyNodeView
from controlplane.gui.forms import TICKED, Posted
from controlplane.gui.language import N_
from controlplane.gui.policy_tabs import HOME
from controlplane.gui.policy_words import VERDICTS
from controlplane.gui.shell import AdminShell, ReadShell, Shell, page_router
from controlplane.store.cluster import read_settings
from controlplane.store.engine import DatabaseDep, ReadSession
from controlplane.store.policy_settings import change_settings, read_policy_settings
from controlplane.store.policy_status import QUIET_S

router = page_router()

SPANS: Final = {Span.DAY: N_("24 hours"), Span.MONTH: N_("30 days")}

SpanQuery = Annotated[Span, Query()]


@dataclass(frozen=True)
class PolicyState:
    """Everything that the page shows."""

    status: PolicyStatusView
    trends: TrendsView
    span: Span
    asks_policy: bool
    """Postfix is rendered with the policy hook."""
    has_http_door: bool

    def tone_of(self, node: PolicyNodeView) -> str:
        """Return the tone of a node's revision."""
        if node.revision is None or node.seen_s is None:
            return "unknown"
        return "good" if node.is_current and node.seen_s <= QUIET_S else "warn"


@router.get("/policy")
def policy_page(shell: ReadShell, session: ReadSession, span: SpanQuery = Span.DAY) -> Response:
    """Show how the mail policy stands."""
    return shell.page("policy.html", **_values(shell, session, span))


@router.get("/policy/state")
def policy_state(shell: ReadShell, session: ReadSession, span: SpanQuery = Span.DAY) -> Response:
    """Show the numbers alone, as they are now."""
    return shell.fragment("policy.html", "state", **_values(shell, session, span))


@router.post("/policy/switch")
def switch_policy(shell: AdminShell, posted: Posted, database: DatabaseDep) -> Response:
    """Switch the policy on or off; the nodes have it within two seconds."""
    is_active = _is_on(posted)
    change_settings(database, {"is_active": is_active}, shell.signed_in.actor)
    on, off = N_("The mail policy is on."), N_("The mail policy is off: mail is not judged.")
    return shell.done(HOME, shell.text(on if is_active else off))


@router.post("/policy/milter")
def switch_milter(shell: AdminShell, posted: Posted, store: StoreDep) -> Response:
    """Let Postfix ask the policy hook, or no more; it does so from the next apply on."""
    wanted = {"milters": {"policy": _is_on(posted)}}
    store.change_settings(lambda settings: merged(settings, wanted), shell.signed_in.actor)
    notice = N_("It is saved; Postfix follows with the next apply on the page Configuration.")
    return shell.done(HOME, shell.text(notice))


def _is_on(posted: Posted) -> bool:
    return TICKED in posted.get("on", [])


def _values(shell: Shell, session: Session, span: Span) -> dict[str, Any]:
    settings = read_policy_settings(session)
    state = PolicyState(
        status=policy_status(session),
        trends=trends(session, span),
        span=span,
        asks_policy=read_settings(session).milters.policy,
        has_http_door=settings.http.is_enabled,
    )
    return {"state": state, "spans": SPANS, "chart": _chart(shell, state.trends)}


def _chart(shell: Shell, found: TrendsView) -> dict[str, Any] | None:
    """Return what was decided a step, a line for each verdict; None: nothing was."""
    if not found.verdicts:
        return None
    none = [0] * len(found.at)
    series = [
        {"label": shell.text(words), "tone": tone, "values": found.verdicts.get(one.value, none)}
        for one, (words, tone) in VERDICTS.items()
    ]
    return {"at": [int(at.timestamp()) for at in found.at], "series": series}
