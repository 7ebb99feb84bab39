"""The routers of all pages; one line here puts a page's line into the sidebar."""

from __future__ import annotations

from typing import Final

from fastapi import APIRouter
from fastapi.routing import APIRoute

from controlplane.gui import events, overview, sign_in, static_files, trace

PAGE_ROUTERS: Final[tuple[APIRouter, ...]] = (
    static_files.router,
    sign_in.router,
    overview.router,
    trace.router,
    events.router,
)


def page_paths() -> frozenset[str]:
    """Return the paths of all pages."""
    return frozenset(
        route.path
        for router in PAGE_ROUTERS
        for route in router.routes
        if isinstance(route, APIRoute) and "GET" in (route.methods or ())
    )
