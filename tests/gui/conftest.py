"""The pages are tested over the same application as the REST API, with a browser's habits."""

from __future__ import annotations

import re
from typing import Any

import pytest
from fastapi.testclient import TestClient

from controlplane.core.permissions import UserRole
from controlplane.gui.assets.build import build
from controlplane.store.engine import Database
from controlplane.store.users import FIRST_PASSWORD
from tests.api.conftest import (
    CHEAP,
    PASSWORD,
    anonymous,
    app,
    client,
    pair,
    rules,
    settings,
    shared_app,
)
from tests.fakes.people import add_user

__all__ = ["anonymous", "app", "client", "pair", "rules", "settings", "shared_app"]

NEW = "seven-Relays-43"
OWN_PAGE = {"Sec-Fetch-Site": "same-origin"}
HTMX = {**OWN_PAGE, "HX-Request": "true", "HX-Request-Type": "partial"}
HOSTILE = "<script>alert(1)</script>\"'{{7*7}}"
"""A stranger's text, which is shown and never run, by no browser and by no template."""
TOKEN = re.compile(r'name="csrf_token" value="([^"]+)"')


@pytest.fixture(scope="session", autouse=True)
def _assets() -> None:
    """Build what pages load, when it is not there yet."""
    build()


def token_of(client: TestClient) -> str:
    """Return a form token as a page of this browser shows it."""
    for path in ("/password", "/login"):
        found = TOKEN.search(client.get(path).text)
        if found is not None:
            return found[1]
    raise AssertionError("no page shows a form")


def post(client: TestClient, path: str, /, **fields: Any) -> Any:
    """Send a form as a page of ours does; the answer's way is not followed."""
    data = {"csrf_token": token_of(client), **fields}
    return client.post(path, data=data, headers=OWN_PAGE, follow_redirects=False)


def open_as(client: TestClient, database: Database, role: UserRole) -> TestClient:
    """Sign a user of this role in, in the place of whoever was."""
    add_user(database, "rita", role, PASSWORD, CHEAP)
    client.headers.pop("Authorization", None)
    client.cookies.clear()
    assert post(client, "/login", user="rita", password=PASSWORD).status_code == 303
    return client


@pytest.fixture
def browser(anonymous: TestClient) -> TestClient:
    """Give a browser that is logged in by cookie, with a password of its own."""
    assert post(anonymous, "/login", user="admin", password=FIRST_PASSWORD).status_code == 303
    answer = post(
        anonymous, "/password", current_password=FIRST_PASSWORD, new_password=NEW, repeated=NEW
    )
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    return anonymous


@pytest.fixture
def watched(pair: TestClient) -> TestClient:
    """Give the pair's client in the shape of a browser: with a cookie instead of a header."""
    token = pair.headers["Authorization"].removeprefix("Bearer ")
    pair.cookies.set("relay_session", token)
    return pair
