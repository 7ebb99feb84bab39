"""The API under fire: every call of its own OpenAPI document, with bodies made from its schemas.

Whatever is sent, no answer is a 500, and each has a status, a media type and a body that the
document names; and who may only read changes nothing. The cluster that is shot at has a bit of
everything, so that half of the names sent are names of something, and many bodies differ from a
good one in a field or two. What is generated is the same at each run.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable
from typing import Any

import pytest
import requests
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.core.failures import FailureGroup
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from sqlmodel import SQLModel

from controlplane.api.permissions import EXTENSION
from controlplane.app import TAGS
from controlplane.core.permissions import Permission
from controlplane.store.engine import Database
from nodeagent.core.agent_api import AGENT_API
from tests.api.conftest import CHEAP, PASSWORD
from tests.fakes.people import open_session
from tests.fakes.populated import GOOD, KNOWN, populate

EXAMPLES = 14
READER_EXAMPLES = 2
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]
ENDS_THE_TEST = {("delete", "/api/v1/session"), ("put", "/api/v1/session/password")}
"""They end the session that the test calls with."""
NOTES_CALLS = {"audit", "user_sessions"}
"""Refusals are audited, and a session notes when it was used last."""
Draw = Callable[[st.SearchStrategy[Any]], Any]


@schemathesis.serializer("application/gzip")
def pack_bytes(context: Any, value: Any) -> bytes:
    """Pack what was made for the call that takes packed bodies, so that it is unpacked too."""
    del context
    return gzip.compress(value if isinstance(value, bytes) else str(value).encode(), mtime=0)


def cases(operation: Any) -> st.SearchStrategy[Any]:
    """Return what can be sent: what the document permits, and where it permits little, the rest."""
    fitting = operation.as_strategy(generation_mode=GenerationMode.POSITIVE)
    if not operation.body and not any(True for _ in operation.iter_parameters()):
        return fitting  # there is nothing to get wrong
    return fitting | operation.as_strategy(generation_mode=GenerationMode.NEGATIVE)


def name_known(value: Any, known: dict[str, list[Any]], draw: Draw) -> None:
    """Put names of what there is into a path or a body, wherever they belong."""
    if isinstance(value, dict):
        for key in known.keys() & value.keys():
            value[key] = draw(st.just(value[key]) | st.sampled_from(known[key]))
    if isinstance(value, dict | list):
        for one in value.values() if isinstance(value, dict) else value:
            name_known(one, known, draw)


def nearly_good(good: dict[str, Any], made: Any, draw: Draw) -> Any:
    """Return what was made, or a good body with some fields of it."""
    if not draw(st.booleans()):
        return made
    fields = sorted(made) if isinstance(made, dict) else []
    taken = draw(st.sets(st.sampled_from(fields), max_size=2)) if fields else set()
    return good | {name: made[name] for name in taken}


class Gun:
    """Calls operations with what is made for them, and collects what is wrong with the answers."""

    def __init__(
        self, client: TestClient, known: dict[str, list[Any]], examples: int = EXAMPLES
    ) -> None:
        self.client = client
        self.known = known
        self.examples = examples
        self.answered = 0
        self.wrong: list[str] = []

    def shoot(self, operation: Any, token: Callable[[], str]) -> None:
        """Make the calls of one operation."""

        @settings(
            max_examples=self.examples,
            derandomize=True,
            database=None,
            deadline=None,
            phases=[Phase.generate],  # each call changes the cluster, so none can be repeated
            suppress_health_check=list(HealthCheck),
        )
        @given(st.data())
        def call_once(data: st.DataObject) -> None:
            case = data.draw(cases(operation))
            good = GOOD.get((operation.method, operation.path))
            if good is not None:
                case.body = nearly_good(good, case.body, data.draw)
                case.media_type = "application/json"
            name_known(case.path_parameters, self.known, data.draw)
            name_known(case.body, self.known, data.draw)
            self.check(case, token())

        call_once()

    def check(self, case: Any, token: str) -> None:
        """Send one case and note what is wrong with the answer."""
        sent = requests.Request(**case.as_transport_kwargs(str(self.client.base_url))).prepare()
        headers = dict(sent.headers) | {"Authorization": f"Bearer {token}"}
        answer = self.client.request(sent.method, sent.url, content=sent.body, headers=headers)
        self.answered += answer.is_success
        try:
            case.validate_response(answer, checks=CHECKS)
        except FailureGroup as failed:
            what = f"{case.method} {case.formatted_path} -> {answer.status_code} {answer.text}"
            self.wrong += [f"{one}\n{what}\n{case!r}"[:2000] for one in failed.exceptions]


def operations(app: FastAPI) -> list[Any]:
    """Return every call of the document; removals come last."""
    config = schemathesis.Config.from_dict({"generation": {"with-security-parameters": False}})
    document = schemathesis.openapi.from_dict(app.openapi(), config=config)
    found = [one.ok() for one in document.get_all_operations()]
    return sorted(found, key=lambda one: one.method == "delete")


def content(database: Database) -> dict[str, list[Any]]:
    """Return the rows of all tables, but of those that note who calls."""
    with database.read() as session:
        return {
            table.name: sorted(map(repr, session.execute(table.select())))
            for table in SQLModel.metadata.sorted_tables
            if table.name not in NOTES_CALLS
        }


@pytest.mark.timeout(900)  # as long as it takes on a machine that does other things too
def test_who_may_only_read_changes_nothing(
    app: FastAPI, pair: TestClient, sqlite_database: Database
) -> None:
    """As a ReadOnly: what only reads is answered, all else refused, and every row is as it was."""
    populate(pair, sqlite_database, CHEAP)
    token = open_session(sqlite_database, "rita", CHEAP)
    reads = Gun(pair, KNOWN | {"id": [1]}, READER_EXAMPLES)
    refused = Gun(pair, KNOWN | {"id": [1]}, READER_EXAMPLES)
    before = content(sqlite_database)
    for operation in operations(app):
        needed = operation.definition.raw[EXTENSION]
        if needed == Permission.READ:
            reads.shoot(operation, lambda: token)
        elif needed in {Permission.OPERATE, Permission.ADMIN, Permission.USERS}:
            refused.shoot(operation, lambda: token)
    assert reads.wrong + refused.wrong == []
    assert reads.answered > 0
    assert refused.answered == 0
    assert content(sqlite_database) == before


@pytest.mark.parametrize("tag", [one["name"] for one in TAGS])
@pytest.mark.timeout(900)  # as long as it takes on a machine that does other things too
def test_every_answer_is_one_of_the_document(
    app: FastAPI, pair: TestClient, sqlite_database: Database, tag: str
) -> None:
    """As an Admin, and as a node agent what only they may call."""
    agent = populate(pair, sqlite_database, CHEAP)
    admin = pair.headers["Authorization"].removeprefix("Bearer ")
    others = [one["id"] for one in pair.get("/api/v1/sessions").json() if not one["is_current"]]
    gun = Gun(pair, KNOWN | {"id": [1, *others], "current_password": [PASSWORD]})
    for operation in operations(app):
        if tag not in operation.definition.raw["tags"]:
            continue
        if (operation.method, operation.path) not in ENDS_THE_TEST:
            is_agents = operation.path in AGENT_API.values()
            gun.shoot(operation, agent.token if is_agents else lambda: admin)
    assert gun.wrong == []
    assert gun.answered > 0
    assert pair.get("/api/v1/session").status_code == 200, "all of this was called as an Admin"
