"""Agents enrolled without a person: each with its key, over the same test client."""

from __future__ import annotations

from fastapi.testclient import TestClient

from controlplane.store import agents
from controlplane.store.engine import Database
from tests.fakes.enrolled_agent import EnrolledAgent


def enrol_agents(client: TestClient, database: Database, *names: str) -> dict[str, EnrolledAgent]:
    """Return the agents of these nodes, enrolled; the client needs no login."""
    made = {}
    for name in names:
        agent = EnrolledAgent(client, name)
        with database.write() as session:
            token = agents.issue_token(session, name, "fingerprint").text
        answer = agent.enrol(token)
        assert answer.status_code == 200, answer.text
        made[name] = agent
    return made
