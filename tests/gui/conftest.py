"""The pages are tested over the same application as the REST API."""

from __future__ import annotations

from tests.api.conftest import (
    anonymous,
    app,
    client,
    pair,
    settings,
    shared_app,
)

__all__ = ["anonymous", "app", "client", "pair", "settings", "shared_app"]
