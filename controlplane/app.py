"""The application factory: routers, error answers and the OpenAPI document in one place."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI

from controlplane import __version__
from controlplane.api.agent_auth import Proofs, RefusalLog
from controlplane.api.body_limit import CONTENT_TOO_LARGE, MIB, BodyLimit, larger_limits
from controlplane.api.error_handlers import install_error_handlers
from controlplane.api.permissions import declare_permissions
from controlplane.api.routers import ROUTERS
from controlplane.api.strangers import refuse_strangers
from controlplane.core.permissions import MEANINGS
from controlplane.gui.charts import ChartCache
from controlplane.gui.error_pages import respond
from controlplane.gui.live import Live
from controlplane.gui.routers import page_paths
from controlplane.gui.unsubscribe import Misses
from controlplane.integrations.notifications import Notifier
from controlplane.job_log import JobLog
from controlplane.node_setup.recipe import Recipe
from controlplane.settings import Settings
from controlplane.store.engine import Database
from controlplane.store.heartbeats import gather_heartbeats
from controlplane.store.policy_manifests import ManifestCache
from controlplane.store.policy_trial import PolicyTrial
from nodeagent.core.contract import Refusal

DESCRIPTION = """
The control plane of a Mail-Relay HA cluster: it holds the cluster's state, renders every Postfix
and keepalived file from it, and keeps the lease on each node's queue.

Every refusal has the same body: `detail` is one sentence, `fields` has one per field at fault, and
`reason`, where there is one, is a word for programs. Lease times count by the database's clock.
Calls under `/api/v1/agent` are for node agents only.

A body may have 256 KiB; a certificate with its key 512 KiB; a heartbeat 4 MiB; a packed batch
of the message trace 2 MiB, of the policy log 8 MiB; lists of domains and what names the messages
of a queue as much as `RELAY_MAX_LIST_MIB` says. More than 256 KiB is read of nobody who has not
proved who they are.

Each call needs one permission, its `x-permission`:

"""

TAGS = [
    {"name": "session", "description": "Log in, log out, change the own password."},
    {"name": "profile", "description": "The own preferences, second factor, sessions, tokens."},
    {"name": "users", "description": "Who may log in, with which role."},
    {"name": "sessions", "description": "Everybody's open sessions."},
    {"name": "tokens", "description": "Everybody's API tokens."},
    {"name": "cluster", "description": "Settings and timings that all nodes share."},
    {"name": "nodes", "description": "The relay hosts, their enrolment and their reports."},
    {
        "name": "ssh",
        "description": "Keys of SSH between the nodes, their rotation, tests of peers.",
    },
    {"name": "vips", "description": "The virtual addresses on which mail is accepted."},
    {"name": "domains", "description": "Which domains mail is relayed to."},
    {"name": "policies", "description": "Which sender domains are allowed or blocked."},
    {"name": "routes", "description": "Next hops by sender, with their TLS and credentials."},
    {"name": "networks", "description": "Clients that may relay to any domain."},
    {"name": "lists", "description": "The mail lists as CSV."},
    {"name": "state", "description": "Everything that was set, as one file without secrets."},
    {"name": "tls", "description": "The certificate of the GUI and of SMTP."},
    {
        "name": "configs",
        "description": "Numbered versions: preview, diff, apply, roll back.",
    },
    {"name": "leases", "description": "Who holds the lock on which node's queue."},
    {"name": "queue", "description": "The messages on all nodes, in one list."},
    {"name": "trace", "description": "What happened to a message, from the nodes' mail logs."},
    {"name": "mail-security", "description": "What the policy hook does, and has done, with mail."},
    {"name": "mail-security-lists", "description": "Blocklist, allowlist, bad words."},
    {"name": "mail-security-categories", "description": "Addresses that stand for subscribers."},
    {"name": "switchover", "description": "Hand over on purpose: nothing lost, nothing doubled."},
    {"name": "events", "description": "What happened on the nodes."},
    {"name": "audit", "description": "Who changed what."},
    {"name": "overview", "description": "What needs attention, and queues over time."},
    {"name": "alerts", "description": "Notifications: where to, from which thresholds on."},
    {"name": "system", "description": "Database, jobs, certificates, hosts."},
    {"name": "metrics", "description": "For Prometheus."},
    {"name": "agent", "description": "What node agents call; authenticated by the node's key."},
    {"name": "health", "description": "Liveness."},
]

REFUSALS: dict[int | str, dict[str, Any]] = {
    status: {"model": Refusal, "description": text}
    for status, text in {
        401: "Who is asking could not be proved.",
        403: "Not permitted.",
        409: "Does not fit the present state.",
        CONTENT_TOO_LARGE: "The body is larger than the call takes; nothing was changed.",
        422: "Values that cannot be used.",
        503: "The database does not answer, or the control plane is recovering.",
    }.items()
}


def create_app(settings: Settings, database: Database) -> FastAPI:
    """Return the application over an open, migrated database."""
    app = FastAPI(
        title="Mail-Relay HA control plane",
        description=DESCRIPTION.lstrip() + _permissions(),
        version=__version__,
        openapi_tags=TAGS,
        docs_url=None,  # its scripts come from elsewhere and would run beside our session cookie
        redoc_url=None,
        responses=REFUSALS,
    )
    app.state.settings = settings
    app.state.database = database
    app.state.refusals = RefusalLog()
    app.state.proofs = Proofs()
    app.state.heartbeats = gather_heartbeats(database)
    app.state.live = Live()
    app.state.charts = ChartCache()
    app.state.job_log = JobLog()
    app.state.policy_trial = PolicyTrial()
    app.state.policy_manifests = ManifestCache()
    app.state.notifier = Notifier()
    app.state.misses = Misses()
    app.state.on_report = app.state.live.wake
    app.state.recipe = Recipe(wheel=settings.node_wheel)
    app.state.page_paths = page_paths()
    app.add_middleware(
        BodyLimit,
        larger=larger_limits(settings.max_list_mib * MIB),
        authenticate=refuse_strangers,
        respond=respond,
    )
    install_error_handlers(app, respond)
    declare_permissions(ROUTERS)
    for router in ROUTERS:
        app.include_router(router)
    return app


def _permissions() -> str:
    return "\n".join(f"* `{one}`: {text}" for one, text in MEANINGS.items())
