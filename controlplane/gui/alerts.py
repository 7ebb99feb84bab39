"""The pages of alerts: channels with their test, thresholds, how often and what is said."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import Response
from pydantic import Field as ModelField
from pydantic import SecretStr
from sqlmodel import Session
from starlette.concurrency import run_in_threadpool

from controlplane.api.alerts import (
    ChannelBody,
    ChannelKey,
    NotifierDep,
    PaceBody,
    RuleBody,
    RuleKey,
    channel_view,
    rule_view,
    save_channel,
    sent_view,
    try_channel,
)
from controlplane.api.cluster_access import StoreDep
from controlplane.core.alert_rules import RULES, NoticeKind, Threshold, Unit
from controlplane.core.alert_state import CHANNEL_PATTERN
from controlplane.errors import Conflict, ControlPlaneError, NotFound
from controlplane.gui.forms import Field, FilledForm, Form, Posted, Widget
from controlplane.gui.language import N_
from controlplane.gui.shell import AdminShell, ReadShell, Shell, page_router
from controlplane.store import alert_channels
from controlplane.store.alert_messages import list_sent
from controlplane.store.alert_settings import list_rules, set_pace, set_rule, settings_row
from controlplane.store.alert_tables import AlertChannelRow
from controlplane.store.cluster import ClusterStore
from controlplane.store.engine import DatabaseDep, ReadSession

router = page_router()

PAGE: Final = "/alerts"
SHOWN: Final = 50
UNITS: Final = {
    Unit.MESSAGES: N_("messages"),
    Unit.MINUTES: N_("minutes"),
    Unit.SECONDS: N_("seconds"),
    Unit.EVENTS: N_("events"),
    Unit.FINDINGS: N_("findings"),
    Unit.NODES: N_("nodes"),
}
KINDS: Final = {
    NoticeKind.BEGUN: N_("begun"),
    NoticeKind.STILL: N_("still"),
    NoticeKind.ENDED: N_("over"),
}
TITLES: Final = {rule.name: rule.title for rule in RULES}
ENABLED: Final = Field("is_enabled", N_("Switched on"), widget=Widget.CHECKBOX)
URL_HINT: Final = N_(
    "An Apprise URL: mailtos://user:password@example.com?to=admin@example.com, "
    "jsons://example.com/hook, slack://, ntfys:// and more. It is stored sealed and never shown."
)
URL: Final = {"autocomplete": "off", "maxlength": "2000", "spellcheck": "false"}
NEW: Final = Form(
    (
        Field(
            "name",
            N_("Name"),
            hint=N_("Letters, digits, spaces and . _ -, at most 63."),
            is_required=True,
            attributes={"autocomplete": "off", "maxlength": "63"},
        ),
        Field("url", N_("URL"), URL_HINT, is_required=True, is_secret=True, attributes=URL),
        ENABLED,
    ),
    submit=N_("Add the channel"),
)
CHANGE: Final = Form(
    (
        Field(
            "url",
            N_("New URL"),
            N_("Empty: the present one stays."),
            is_secret=True,
            attributes=URL,
        ),
        ENABLED,
    )
)
RULE: Final = Form(
    (
        ENABLED,
        Field(
            "threshold",
            N_("Threshold"),
            hint=N_("From this value on something is said."),
            widget=Widget.NUMBER,
            is_required=True,
            attributes={"min": "0", "step": "any"},
        ),
    )
)
PACE: Final = Form(
    (
        Field(
            "cool_down_minutes",
            N_("Cool-down in minutes"),
            hint=N_("A rule says something new at most once in this time."),
            widget=Widget.NUMBER,
            is_required=True,
            attributes={"min": "1", "max": "1440"},
        ),
        Field("tells_end", N_("Say when something holds no longer"), widget=Widget.CHECKBOX),
    )
)


class NewChannel(ChannelBody):
    """What the form of a new channel sends."""

    name: Annotated[str, ModelField(pattern=CHANNEL_PATTERN)]


@router.get("/alerts")
def alerts_page(shell: ReadShell, session: ReadSession) -> Response:
    """Show channels, rules and what was sent."""
    row = settings_row(session)
    pace = {"cool_down_minutes": row.cool_down_minutes, "tells_end": row.tells_end}
    return _page(shell, session, PACE.filled(pace))


@router.post("/alerts/settings")
def save_pace(shell: AdminShell, posted: Posted, database: DatabaseDep) -> Response:
    """Set how often anything is said."""
    form = PACE.posted(posted)
    try:
        wanted = form.build(PaceBody)
        with database.write() as session:
            actor = shell.signed_in.actor
            set_pace(session, wanted.cool_down_minutes, actor, tells_end=wanted.tells_end)
    except ControlPlaneError as error:
        with database.read() as session:
            return _page(shell, session, form.refused(error), status=error.status)
    return shell.done(PAGE, shell.text(N_("The settings are saved.")))


@router.get("/alerts/rules/{name}")
def rule_page(name: RuleKey, shell: AdminShell, session: ReadSession) -> Response:
    """Show the form of one rule; raises NotFound."""
    rule = next((rule_view(one) for one in list_rules(session) if one.rule.name == name), None)
    if rule is None:
        raise NotFound(f"There is no alert rule {name}.")
    return _rule_page(shell, name, RULE.filled(rule))


@router.post("/alerts/rules/{name}")
def save_rule(name: RuleKey, shell: AdminShell, posted: Posted, database: DatabaseDep) -> Response:
    """Set a rule's threshold; raises NotFound."""
    form = RULE.posted(posted)
    try:
        form.required("threshold")
        body = form.build(RuleBody)
        wanted = Threshold(body.is_enabled, body.threshold)
        with database.write() as session:
            set_rule(session, name, wanted, shell.signed_in.actor)
    except NotFound:
        raise
    except ControlPlaneError as error:
        return _rule_page(shell, name, form.refused(error), status=error.status)
    return shell.done(PAGE, shell.text(N_("The threshold is saved.")))


@router.get("/alerts/channels/_new")
def new_channel_page(shell: AdminShell) -> Response:
    """Show the empty form of a channel."""
    return _channel_page(shell, NEW.filled({"is_enabled": True}))


@router.post("/alerts/channels/_new")
def add_channel(shell: AdminShell, posted: Posted, store: StoreDep) -> Response:
    """Add a channel; one that is there already is not overwritten."""
    form = NEW.posted(posted)
    try:
        for one in ("name", "url"):
            form.required(one)
        new = form.build(NewChannel)
        with store.database.read() as session:
            taken = {row.name for row in alert_channels.list_channels(session)}
        if new.name in taken:
            sentence = "There is one of this name already; open it to change it."
            raise Conflict(sentence, {"name": sentence})
        save_channel(store, new.name, new, shell.signed_in.actor)
    except ControlPlaneError as error:
        return _channel_page(shell, form.refused(error), status=error.status)
    notice = N_("%(name)s is added; send a test to see whether it works.")
    return shell.done(f"/alerts/channels/{new.name}", shell.text(notice, name=new.name))


@router.get("/alerts/channels/{name}")
def channel_page(name: ChannelKey, shell: AdminShell, session: ReadSession) -> Response:
    """Show one channel; raises NotFound."""
    row = alert_channels.read_channel(session, name)
    return _channel_page(shell, CHANGE.filled({"is_enabled": row.is_enabled}), channel=row)


@router.post("/alerts/channels/{name}")
def save_changed_channel(
    name: ChannelKey, shell: AdminShell, posted: Posted, store: StoreDep
) -> Response:
    """Change one channel; raises NotFound."""
    form = CHANGE.posted(posted)
    with store.database.read() as session:
        row = alert_channels.read_channel(session, name)
    try:
        text = form.text("url").strip()
        body = form.build(ChannelBody, url=SecretStr(text) if text else None)
        save_channel(store, name, body, shell.signed_in.actor)
    except ControlPlaneError as error:
        return _channel_page(shell, form.refused(error), channel=row, status=error.status)
    return shell.done(PAGE, shell.text(N_("%(name)s is saved."), name=name))


@router.post("/alerts/channels/{name}/delete")
def delete_channel(name: ChannelKey, shell: AdminShell, store: StoreDep) -> Response:
    """Remove one channel; raises NotFound."""
    with store.database.write() as session:
        alert_channels.delete_channel(session, name, shell.signed_in.actor)
    return shell.done(PAGE, shell.text(N_("%(name)s is removed."), name=name))


@router.post("/alerts/channels/{name}/test")
async def test_channel(
    name: ChannelKey, shell: AdminShell, store: StoreDep, notifier: NotifierDep
) -> Response:
    """Send a test and show how it went; raises NotFound."""
    await try_channel(store, notifier, name, shell.signed_in.actor)
    return await run_in_threadpool(_tested_page, shell, store, name)


def _tested_page(shell: Shell, store: ClusterStore, name: str) -> Response:
    """Return the page of a channel, whose last outcome is now that of the test."""
    with store.database.read() as session:
        row = alert_channels.read_channel(session, name)
    return _channel_page(shell, CHANGE.filled({"is_enabled": row.is_enabled}), channel=row)


def _page(shell: Shell, session: Session, pace: FilledForm, *, status: int = 200) -> Response:
    channels = alert_channels.list_channels(session) if shell.may("admin") else []
    return shell.page(
        "alerts.html",
        status=status,
        channels=[channel_view(row) for row in channels],
        rules=[rule_view(one) for one in list_rules(session)],
        sent=[sent_view(one) for one in list_sent(session, SHOWN)],
        pace=pace,
        units=UNITS,
        kinds=KINDS,
        titles=TITLES,
    )


def _rule_page(shell: Shell, name: str, form: FilledForm, *, status: int = 200) -> Response:
    rule = next((one for one in RULES if one.name == name), None)
    return shell.page("alert_rule.html", status=status, rule=rule, form=form, units=UNITS)


def _channel_page(
    shell: Shell,
    form: FilledForm,
    *,
    channel: AlertChannelRow | None = None,
    status: int = 200,
) -> Response:
    shown = None if channel is None else channel_view(channel)
    return shell.page("alert_channel.html", status=status, form=form, channel=shown)
