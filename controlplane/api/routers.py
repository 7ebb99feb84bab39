"""The list of all routers, in the order in which the OpenAPI document shows them."""

from __future__ import annotations

from fastapi import APIRouter

from controlplane.api import (
    audit,
    cluster,
    config,
    domains,
    events,
    health,
    leases,
    networks,
    nodes,
    policies,
    queue,
    routes,
    session,
    switchover,
    tls,
    vips,
)
from controlplane.gui import pages

ROUTERS: tuple[APIRouter, ...] = (
    session.router,
    cluster.router,
    nodes.router,
    vips.router,
    domains.router,
    policies.router,
    routes.router,
    networks.router,
    tls.router,
    config.router,
    leases.router,
    queue.router,
    switchover.router,
    events.router,
    audit.router,
    health.router,
    pages.router,
)
