"""Where node agents bring what their policy hook decided."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Body

from controlplane.api.agent_auth import NodeDep
from controlplane.errors import Invalid
from controlplane.store.engine import DatabaseDep
from controlplane.store.policy_log_intake import take_in_parts
from nodeagent.core.agent_api import AGENT_API
from nodeagent.core.stream_wire import PACKED_MEDIA_TYPE, StreamAnswer
from nodeagent.policy.log_wire import unpack

router = APIRouter(tags=["agent"])


@router.post(AGENT_API["policy_log"])
def take_policy_log(
    body: Annotated[bytes, Body(media_type=PACKED_MEDIA_TYPE)], node: NodeDep, database: DatabaseDep
) -> StreamAnswer:
    """Take a batch of what the node's policy hook decided, packed by gzip; each entry once."""
    try:
        batch = unpack(body)
    except ValueError as error:
        raise Invalid("The body is no batch of the policy log, packed by gzip.") from error
    return take_in_parts(database, node, batch)
