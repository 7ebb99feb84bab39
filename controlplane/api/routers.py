"""The list of all routers, in the order in which the OpenAPI document shows them."""

from __future__ import annotations

from fastapi import APIRouter

from controlplane.api import (
    agent,
    audit,
    cluster,
    config,
    domains,
    events,
    health,
    leases,
    networks,
    node_actions,
    nodes,
    policies,
    profile,
    queue,
    routes,
    second_factor,
    session,
    sessions,
    switchover,
    tls,
    tokens,
    users,
    vips,
)
from controlplane.gui.routers import PAGE_ROUTERS

ROUTERS: tuple[APIRouter, ...] = (
    session.router,
    profile.router,
    second_factor.router,
    sessions.own,
    tokens.own,
    users.router,
    sessions.router,
    tokens.router,
    cluster.router,
    nodes.router,
    node_actions.router,
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
    agent.router,
    health.router,
    *PAGE_ROUTERS,
)
