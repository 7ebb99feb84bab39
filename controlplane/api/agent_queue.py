"""Where node agents bring their queues' lists and fetch what operators want done with them."""

from __future__ import annotations

from fastapi import APIRouter

from controlplane.api.agent_auth import NodeDep
from controlplane.store import queue_actions, queue_headers
from controlplane.store.crypto import SecretBoxDep
from controlplane.store.engine import DatabaseDep
from controlplane.store.instance import ensure_instance
from controlplane.store.queue_lists import store_batch
from nodeagent.core.agent_api import AGENT_API
from nodeagent.core.queue_contract import QueueAnswer, QueueReport

router = APIRouter(tags=["agent"])


@router.post(AGENT_API["queue"])
def report_queue(
    body: QueueReport, node: NodeDep, database: DatabaseDep, box: SecretBoxDep
) -> QueueAnswer:
    """Take in one batch of the node's list and its results; answer with what is to be done next.

    Results are taken in also when batches are missing: they stand for themselves.
    """
    with database.write(is_urgent=False) as session:
        queue_actions.take_results(session, node, body.results)
        queue_headers.take_headers(session, node, body.headers, box)
        is_expected = store_batch(session, node, body)
        if ensure_instance(session).is_recovering:
            return QueueAnswer(is_expected=is_expected)
        return QueueAnswer(
            is_expected=is_expected,
            commands=queue_actions.commands_for(session, node),
            headers=queue_headers.wishes_for(session, node),
        )
