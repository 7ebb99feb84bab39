"""The list of calls that nodes make is the list of calls that are served to them."""

from __future__ import annotations

import inspect

import pytest
from fastapi.testclient import TestClient

from nodeagent.core import agent_api
from nodeagent.core.agent_api import AGENT_API

BASE = "/api/v1/agent"
WITHOUT_KEY = {"ca", "enrol"}


def read_by_get() -> set[str]:
    """Return the names whose comment in the list says GET."""
    lines = [line.strip() for line in inspect.getsource(agent_api).splitlines()]
    return {line.split('"')[1] for line in lines if line.startswith('"') and "# GET" in line}


def test_every_call_is_served_and_no_other(anonymous: TestClient) -> None:
    """By the method that the list says."""
    paths = anonymous.get("/openapi.json").json()["paths"]
    served = {(path, one) for path, calls in paths.items() for one in calls if BASE in path}
    assert len(set(AGENT_API.values())) == len(AGENT_API)
    assert served == {
        (path, "get" if name in read_by_get() else "post") for name, path in AGENT_API.items()
    }


def test_only_these_are_read() -> None:
    """All else changes something, or carries a body."""
    assert read_by_get() == {"ca", "config", "policy_manifest"}


@pytest.mark.parametrize("name", sorted(AGENT_API.keys() - WITHOUT_KEY))
@pytest.mark.parametrize("header", [{}, {"Authorization": "Bearer x.y.z"}], ids=["none", "odd"])
def test_a_call_without_a_nodes_key_is_refused(
    anonymous: TestClient, name: str, header: dict[str, str]
) -> None:
    """Before its body is looked at."""
    method = "GET" if name in read_by_get() else "POST"
    answer = anonymous.request(method, AGENT_API[name], content=b"{", headers=header)
    assert answer.status_code == 401
