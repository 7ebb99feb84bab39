"""The list of all routers, in the order in which the OpenAPI document shows them."""

from __future__ import annotations

from fastapi import APIRouter

from controlplane.api import health, session

ROUTERS: tuple[APIRouter, ...] = (
    session.router,
    health.router,
)
