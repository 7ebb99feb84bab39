"""The OpenAPI document as a product: complete, true about who may call, without secrets."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient

from controlplane.store.users import FIRST_PASSWORD

METHODS = {"get", "put", "post", "patch", "delete"}
WITHOUT_SESSION = {("post", "/api/v1/session"), ("get", "/healthz")}
WITH_FIRST_PASSWORD = {*WITHOUT_SESSION, ("put", "/api/v1/session/password")}
WRITE_ONLY = {
    "password",
    "private_key",
    "passphrase",
    "key_pem",
    "current_password",
    "new_password",
    "token",
} | {
    "code",
    "secret",
    "one_time_password",
    "recovery_codes",
}
SHOWN_ONCE = {"EnrolmentToken", "SessionOpened", "EnrolRequest", "TokenCreated"} | {
    "EnrolmentView",
    "RecoveryCodes",
    "OneTimePassword",
    "IssuedSecret",
}


def _operations(app: FastAPI) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in app.openapi()["paths"].items():
        for method, operation in methods.items():
            if method in METHODS and not path.startswith("/api/v1/agent"):
                yield method, path, operation


def _url(path: str) -> str:
    for name, value in (("{version}", "1"), ("{address}", "198.51.100.100")):
        path = path.replace(name, value)
    return path.replace("{name}", "node-a").replace("{", "").replace("}", "")


def _answers(app: FastAPI, client: TestClient, token: str | None) -> dict[tuple[str, str], int]:
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    return {
        (method, path): client.request(method, _url(path), headers=headers).status_code
        for method, path, _ in _operations(app)
    }


def test_every_operation_is_described(app: FastAPI) -> None:
    """A summary, a description that is a sentence, a known tag, and its refusals."""
    tags = {tag["name"] for tag in app.openapi()["tags"]}
    for method, path, operation in _operations(app):
        where = f"{method} {path}"
        assert operation["summary"], where
        assert operation["description"].endswith("."), where
        assert set(operation["tags"]) <= tags, where
        assert {"401", "403", "422"} <= set(operation["responses"]), where


def test_what_has_a_key_says_what_happens_without_it(app: FastAPI) -> None:
    """Every read or removal by key documents 404; of a word from a list the others are invalid."""
    for method, path, operation in _operations(app):
        keys = [one for one in operation.get("parameters", ()) if one["in"] == "path"]
        is_listed = all("$ref" in one["schema"] or "enum" in one["schema"] for one in keys)
        if keys and not is_listed and method in {"get", "delete", "post"}:
            assert "404" in operation["responses"], f"{method} {path}"


def test_every_field_of_a_body_of_ours_has_a_type(app: FastAPI) -> None:
    """No schema is an unexplained object."""
    for name, schema in app.openapi()["components"]["schemas"].items():
        if schema.get("type") == "object":
            assert "properties" in schema, name
            assert schema.get("description"), name


def test_no_answer_has_room_for_a_secret(app: FastAPI) -> None:
    """Write-only fields appear in request bodies only; a token is in the answer that makes it."""
    schemas = app.openapi()["components"]["schemas"]
    answered: set[str] = set()
    found = {
        name for *_, operation in _operations(app) for name in _named_in(operation["responses"])
    }
    while found - answered:
        answered |= found
        found = {inner for name in answered for inner in _named_in(schemas[name])}
    for name in answered - SHOWN_ONCE:
        assert not WRITE_ONLY & set(schemas[name].get("properties", {})), name


def _named_in(part: object) -> set[str]:
    """Return the names of all schemas that this part of the document refers to."""
    return set(re.findall(r'"#/components/schemas/([^"]+)"', json.dumps(part)))


def test_nothing_answers_without_a_session(app: FastAPI, anonymous: TestClient) -> None:
    """Each operation of the document is tried: only the login and the liveness check answer."""
    answers = _answers(app, anonymous, None)
    open_ones = {key for key, status in answers.items() if status != 401}
    assert open_ones == WITHOUT_SESSION
    assert len(answers) > 40


def test_the_first_password_opens_nothing_but_its_change(
    app: FastAPI, anonymous: TestClient
) -> None:
    """Each operation of the document is tried with the first admin's session."""
    first = {"user": "admin", "password": FIRST_PASSWORD}
    token = anonymous.post("/api/v1/session", json=first).json()["token"]
    anonymous.cookies.clear()
    answers = _answers(app, anonymous, token)
    assert {key for key, status in answers.items() if status != 403} == WITH_FIRST_PASSWORD


@pytest.mark.parametrize("path", ["/api/v1/nothing", "/api/v1/vips/1.2.3.4/more"])
def test_an_unknown_path_is_a_refusal_too(client: TestClient, path: str) -> None:
    """One body for every refusal."""
    answer = client.get(path)
    assert answer.status_code == 404
    assert set(answer.json()) == {"detail", "fields"}


def test_the_mail_policy_has_no_two_shapes_of_one_name(app: FastAPI) -> None:
    """Whoever makes a client of the document gets names that say which is which."""
    schemas = app.openapi()["components"]["schemas"]
    assert {"FiredView", "ThreatView", "ThreatRuleView", "PolicyNodeView"} <= schemas.keys()
    assert [name for name in schemas if "__mail_security__" in name] == []
