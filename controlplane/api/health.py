"""The liveness check: answers as long as the process and its database do."""

from __future__ import annotations

from fastapi import APIRouter
from pydantic import BaseModel

from controlplane.api.permissions import OPEN
from controlplane.store.clock import read_clock_s
from controlplane.store.engine import ReadSession

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """The control plane answers, and so does its database."""

    status: str = "ok"
    database_time_s: float


@router.get("/healthz", dependencies=[OPEN])
def health(session: ReadSession) -> Health:
    """Say whether this process can read its database; 503 when it cannot."""
    return Health(database_time_s=read_clock_s(session))
