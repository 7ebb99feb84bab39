"""Open sessions: one's own under the profile, everybody's for an Admin; each can be revoked."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from fastapi import APIRouter, Path, status
from pydantic import BaseModel, Field

from controlplane.api.cluster_access import NOT_FOUND
from controlplane.api.permissions import OwnCaller, UsersCaller
from controlplane.store.engine import ReadSession, WriteSession
from controlplane.store.user_sessions import list_sessions, revoke_others, revoke_session
from controlplane.store.user_tables import UserSessionRow

own = APIRouter(prefix="/api/v1/profile/sessions", tags=["profile"])
router = APIRouter(prefix="/api/v1/sessions", tags=["sessions"])

SessionKey = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$", examples=["0123456789abcdef"])]


class OpenSession(BaseModel):
    """One login that has not ended."""

    id: str
    user: str
    address: str = Field(description="Where the login came from.")
    user_agent: str = Field(description="What the program called itself, cut at 200 characters.")
    created_at: datetime
    last_seen_at: datetime = Field(description="The last use, to the minute.")
    idle_at: datetime = Field(description="It ends then unless it is used before.")
    expires_at: datetime = Field(description="It ends then in any case.")
    is_current: bool = Field(description="It is the one that asks.")


class Ended(BaseModel):
    """How many sessions were ended."""

    ended: int


@own.get("")
def list_own_sessions(caller: OwnCaller, session: ReadSession) -> list[OpenSession]:
    """List one's own open sessions, the one used last first."""
    rows = list_sessions(session, caller.user.name)
    return [_view(row, caller.user.credential_id) for row in rows]


@own.delete("/{id}", status_code=status.HTTP_204_NO_CONTENT, responses=NOT_FOUND)
def delete_own_session(id: SessionKey, caller: OwnCaller, session: WriteSession) -> None:  # noqa: A002 - the path's name
    """End one of one's own sessions: its token stops working at once."""
    revoke_session(session, caller.actor, id, caller.user.name)


@own.delete("")
def delete_other_sessions(caller: OwnCaller, session: WriteSession) -> Ended:
    """End all of one's own sessions but the one that asks."""
    return Ended(ended=revoke_others(session, caller.actor, caller.user.credential_id))


@router.get("")
def list_all_sessions(caller: UsersCaller, session: ReadSession) -> list[OpenSession]:
    """List everybody's open sessions, the one used last first."""
    return [_view(row, caller.user.credential_id) for row in list_sessions(session)]


@router.delete("/{id}", status_code=status.HTTP_204_NO_CONTENT, responses=NOT_FOUND)
def delete_session(id: SessionKey, caller: UsersCaller, session: WriteSession) -> None:  # noqa: A002 - the path's name
    """End anybody's session: its token stops working at once."""
    revoke_session(session, caller.actor, id)


def _view(row: UserSessionRow, current_id: str) -> OpenSession:
    values = row.model_dump(exclude={"token_sha256", "user_name"})
    return OpenSession(**values, user=row.user_name, is_current=row.id == current_id)
