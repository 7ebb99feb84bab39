"""The cluster's page: its VIPs, and the settings and timings that all nodes share."""

from __future__ import annotations

from typing import Final

from fastapi import Response

from controlplane.api.cluster import merged
from controlplane.api.cluster_access import StoreDep
from controlplane.core.spec import InetProtocols, MilterDefault
from controlplane.errors import ControlPlaneError
from controlplane.gui.forms import Field, FilledForm, Form, Option, Posted, Widget
from controlplane.gui.language import N_
from controlplane.gui.shell import AdminShell, ReadShell, Shell, page_router
from controlplane.store.cluster import ClusterStore, read_settings
from controlplane.store.cluster_settings import ReplicationMode
from controlplane.store.nouns import VIPS

router = page_router()

PAGE: Final = "/cluster"


def _number(name: str, label: str, hint: str) -> Field:
    attributes = {"min": "0", "step": "any"}
    return Field(name, label, hint, Widget.NUMBER, is_required=True, attributes=attributes)


def _milter(name: str, label: str) -> Field:
    hint = N_("inet:HOST:PORT or unix:/PATH, as each node reaches it.")
    return Field(name, label, hint, is_required=True, attributes={"autocomplete": "off"})


MILTER_DEFAULTS: Final = (
    Option(MilterDefault.TEMPFAIL.value, N_("put off: the sender tries again")),
    Option(MilterDefault.REJECT.value, N_("refuse")),
    Option(MilterDefault.QUARANTINE.value, N_("quarantine: hold it")),
    Option(MilterDefault.ACCEPT.value, N_("accept without looking")),
)
FORM: Final = Form(
    (
        Field(
            "name",
            N_("Name"),
            hint=N_("What this cluster is called on these pages."),
            is_required=True,
            attributes={"maxlength": "63"},
        ),
        Field(
            "domain",
            N_("Domain"),
            hint=N_("Postfix's mydomain; a node without a host name is called after it."),
            is_required=True,
            attributes={"maxlength": "255", "autocomplete": "off"},
        ),
        Field(
            "agent_url",
            N_("URL for agents"),
            hint=N_("Where new nodes reach the control plane; empty: as your browser does."),
            attributes={"maxlength": "300", "autocomplete": "off"},
        ),
        Field(
            "inet_protocols",
            N_("IP versions"),
            hint=N_("auto: IPv6 as soon as the cluster has an IPv6 address."),
            widget=Widget.SELECT,
            options=tuple(Option.of(one.value) for one in InetProtocols),
        ),
        Field(
            "replication_mode",
            N_("Replication"),
            hint=N_("How the queue reaches the standby."),
            widget=Widget.SELECT,
            options=tuple(Option.of(one.value) for one in ReplicationMode),
        ),
        _number(
            "timings.push_interval_s",
            N_("Seconds between pushes"),
            N_("How old the standby's copy may become in quiet times."),
        ),
        _number(
            "vrrp.advert_int_s",
            N_("Seconds between VRRP advertisements"),
            N_("The VIP moves after about three of them; 0.01 to 40.95."),
        ),
        _number(
            "timings.lease_duration_s",
            N_("Lease in seconds"),
            N_("How long a silent node owns its queue before a peer may adopt it."),
        ),
        _number(
            "timings.lease_margin_s",
            N_("Margin of a lease in seconds"),
            N_("So much earlier a node stops delivering what it cannot prove to be its own."),
        ),
        _number(
            "timings.lease_renew_deadline_s",
            N_("Deadline for renewing in seconds"),
            N_("How long renewing alone is tried before peers are asked for promises."),
        ),
        _number(
            "timings.lease_retry_s",
            N_("Seconds between renewals"),
            N_("Smaller than the deadline; the deadline smaller than lease minus margin."),
        ),
        _number(
            "timings.promise_s",
            N_("Promise of a peer in seconds"),
            N_("How long a peer promises not to adopt while the control plane is away."),
        ),
        Field(
            "timings.retired_keep_days",
            N_("Days to keep retired mail"),
            hint=N_("Mail that a peer has adopted stays on the disk for so long."),
            widget=Widget.NUMBER,
            is_required=True,
            attributes={"min": "1"},
        ),
        Field(
            "milters.policy",
            N_("Ask the policy hook"),
            hint=N_(
                "Postfix asks it about all mail; what it judges by is on the page Mail policy."
            ),
            widget=Widget.CHECKBOX,
        ),
        Field(
            "milters.rspamd",
            N_("Ask rspamd"),
            hint=N_("A spam filter of its own beside this relay; learning is its own, too."),
            widget=Widget.CHECKBOX,
        ),
        _milter("milters.rspamd_address", N_("Address of rspamd")),
        Field(
            "milters.clamav",
            N_("Ask ClamAV"),
            hint=N_("A virus scanner beside this relay, through clamav-milter."),
            widget=Widget.CHECKBOX,
        ),
        _milter("milters.clamav_address", N_("Address of ClamAV")),
        Field(
            "milters.default_action",
            N_("When a filter does not answer"),
            hint=N_(
                "What Postfix does with mail until it answers again. Mail that is held then is on"
                " the page Queue, not on Quarantine."
            ),
            widget=Widget.SELECT,
            options=MILTER_DEFAULTS,
        ),
    )
)


@router.get("/cluster")
def cluster_page(shell: ReadShell, store: StoreDep) -> Response:
    """Show VIPs and settings."""
    with store.database.read() as session:
        settings = read_settings(session)
    return _page(shell, store, FORM.filled(settings))


@router.post("/cluster")
def save_cluster(shell: AdminShell, posted: Posted, store: StoreDep) -> Response:
    """Change the settings, all of them or none."""
    form = FORM.posted(posted)
    wanted = form.data()
    try:
        store.change_settings(lambda settings: merged(settings, wanted), shell.signed_in.actor)
    except ControlPlaneError as error:
        return _page(shell, store, form.refused(error), status=error.status)
    notice = N_("Saved. Timings reach the agents within seconds, the rest with the next apply.")
    return shell.done(PAGE, shell.text(notice))


def _page(shell: Shell, store: ClusterStore, form: FilledForm, *, status: int = 200) -> Response:
    return shell.page("cluster.html", status=status, form=form, vips=store.items(VIPS))
