"""The boundary of the HTTP door: behind it a defect ends as a `Defect`, which is answered.

An exception that nobody expects would end in the HTTP server, as a bare 500 without a line in the
policy log, and an MTA that is set not to care takes the mail then. So reading a question, putting
mail away and writing an answer run behind this boundary, in whatever code or library it breaks.
"""

from __future__ import annotations

from collections.abc import Awaitable
from typing import TypeVar

import structlog

from nodeagent.errors import AgentError

T = TypeVar("T")

log = structlog.get_logger()


class Defect(AgentError):
    """Something broke that should not; the message is the exception, and may quote the mail."""


async def contained(work: Awaitable[T]) -> T:
    """Return what the work returns; raises AgentError, which is expected, and else `Defect`."""
    try:
        return await work
    except AgentError:
        raise
    except Exception as error:
        log.exception("the HTTP hook has a defect")
        raise Defect(repr(error)) from error
