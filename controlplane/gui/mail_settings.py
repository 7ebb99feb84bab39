"""The limits and retry parameters that all nodes share, as one form."""

from __future__ import annotations

from typing import Any, Final

from fastapi import Response

from controlplane.api.cluster import merged
from controlplane.api.cluster_access import StoreDep
from controlplane.core.permissions import Permission
from controlplane.core.rendered_lines import settings_lines
from controlplane.errors import ControlPlaneError
from controlplane.gui.forms import Field, FilledForm, Form, Option, Posted, Widget
from controlplane.gui.language import N_
from controlplane.gui.shell import AdminShell, ReadShell, Shell, page_router
from controlplane.store.cluster import ClusterStore, read_settings
from controlplane.store.cluster_settings import NOT_RENDERED, ClusterSettings

router = page_router()

PAGE: Final = "/mail/settings"


def _seconds(name: str, label: str, hint: str) -> Field:
    return Field(
        f"queue.{name}", label, hint, Widget.NUMBER, is_required=True, attributes={"min": "0"}
    )


SETTINGS: Final = Form(
    (
        Field(
            "message_size_limit_bytes",
            N_("Largest message in bytes"),
            hint=N_("A larger one is refused; 52428800 are 50 MiB."),
            widget=Widget.NUMBER,
            is_required=True,
            attributes={"min": "65536", "max": "2147483647"},
        ),
        _seconds(
            "maximal_queue_lifetime_s",
            N_("Lifetime of a message in seconds"),
            N_("How long mail is tried before it goes back to its sender; 432000 are five days."),
        ),
        _seconds(
            "bounce_queue_lifetime_s",
            N_("Lifetime of a bounce in seconds"),
            N_("How long a notice to a sender is tried; 0: once."),
        ),
        _seconds(
            "minimal_backoff_s",
            N_("Shortest wait between tries in seconds"),
            N_("After a first failure."),
        ),
        _seconds(
            "maximal_backoff_s",
            N_("Longest wait between tries in seconds"),
            N_("The wait doubles up to this."),
        ),
        _seconds(
            "queue_run_delay_s",
            N_("Time between queue runs in seconds"),
            N_("How often the queue is looked through for mail that is due."),
        ),
        Field(
            "sender_default",
            N_("Senders without a policy"),
            hint=N_("What happens to mail of a sender domain that no policy names."),
            widget=Widget.SELECT,
            options=(Option("allowed", N_("allowed")), Option("blocked", N_("blocked"))),
        ),
        Field(
            "sender_default_reply_text",
            N_("Reply text for them"),
            hint=N_('What a blocked sender is told after "550 5.7.1"; empty: a default text.'),
            attributes={"maxlength": "400"},
        ),
        Field(
            "postmaster",
            N_("Postmaster"),
            hint=N_("Who gets the nodes' own mail; empty: nobody."),
            attributes={"maxlength": "320", "autocomplete": "off"},
        ),
    )
)


@router.get("/mail/settings")
def settings_page(shell: ReadShell, store: StoreDep) -> Response:
    """Show the settings; who may not change them sees them without a button."""
    with store.database.read() as session:
        settings = read_settings(session)
    return _page(shell, SETTINGS.filled(settings))


@router.post("/mail/settings")
def save_settings(shell: AdminShell, posted: Posted, store: StoreDep) -> Response:
    """Change the settings, all of them or none."""
    form = SETTINGS.posted(posted)
    wanted = _wanted(form)
    try:
        store.change_settings(lambda settings: merged(settings, wanted), shell.signed_in.actor)
    except ControlPlaneError as error:
        return _page(shell, form.refused(error), status=error.status)
    notice = N_("The settings are saved; they reach the nodes with the next apply.")
    return shell.done("/mail", shell.text(notice))


@router.post("/mail/settings/lines")
def show_lines(shell: AdminShell, posted: Posted, store: StoreDep) -> Response:
    """Show what Postfix will get of a form that is being filled in."""
    try:
        settings = merged(_present(store), _wanted(SETTINGS.posted(posted)))
        shared = settings.model_dump(exclude={*NOT_RENDERED, "vrrp", "timings"})
        lines = settings_lines(shared)
    except ControlPlaneError:
        lines = ()
    return shell.fragment("mail_item.html", "lines", lines=lines)


def _present(store: ClusterStore) -> ClusterSettings:
    with store.database.read() as session:
        return read_settings(session)


def _wanted(form: FilledForm) -> dict[str, Any]:
    """Return the changes that were typed; an empty reply text is a text, not nothing."""
    data = form.data()
    data["sender_default_reply_text"] = data["sender_default_reply_text"] or ""
    return data


def _page(shell: Shell, form: FilledForm, *, status: int = 200) -> Response:
    may_change = shell.may(Permission.ADMIN)
    return shell.page("mail_settings.html", status=status, form=form, may_change=may_change)
