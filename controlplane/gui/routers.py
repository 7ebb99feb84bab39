"""The routers of all pages; one line here puts a page's line into the sidebar."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from fastapi.routing import APIRoute

from controlplane.gui import (
    alerts,
    audit,
    cluster_settings,
    configuration,
    events,
    mail,
    mail_imports,
    mail_settings,
    manuals,
    node_keys,
    node_setups,
    nodes,
    overview,
    policy,
    policy_categories,
    policy_imports,
    policy_items,
    policy_log,
    policy_quarantine,
    policy_settings,
    policy_threat_rules,
    policy_try,
    profile,
    queue,
    route_tests,
    second_factor,
    sign_in,
    ssh,
    state_pages,
    static_files,
    switchover,
    system,
    tls,
    trace,
    users,
    vips,
)

PAGE_ROUTERS: Final[tuple[APIRouter, ...]] = (
    static_files.router,
    sign_in.router,
    overview.router,
    nodes.router,
    node_keys.router,
    switchover.router,
    cluster_settings.router,
    vips.router,
    tls.router,
    queue.router,
    trace.router,
    policy_categories.router,
    policy_log.router,
    policy_quarantine.router,
    policy_settings.router,
    policy_threat_rules.router,
    policy_try.router,
    events.router,
    alerts.router,
    audit.router,
    node_setups.router,
    ssh.router,
    mail_settings.router,
    route_tests.router,
    mail_imports.router,
    mail.router,
    policy.router,
    policy_imports.router,
    policy_items.router,
    configuration.router,
    state_pages.router,
    users.router,
    system.router,
    manuals.router,
    profile.router,
    second_factor.router,
)


def page_paths() -> frozenset[str]:
    """Return the paths of all pages."""
    return frozenset(
        route.path
        for router in PAGE_ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and "GET" in (route.methods or ())
    )
