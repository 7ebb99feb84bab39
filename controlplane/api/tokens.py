"""API tokens: one's own under the profile, everybody's for an Admin; each is shown once."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Any

from fastapi import APIRouter, Path, status
from pydantic import BaseModel, Field

from controlplane.api.cluster_access import NOT_FOUND, PRINTABLE
from controlplane.api.permissions import OwnCaller, UsersCaller
from controlplane.api.second_factor import THROTTLED, PasswordProof
from controlplane.api.user_auth import LoginRulesDep
from controlplane.core.permissions import Scope
from controlplane.store.api_tokens import MAX_DAYS, create_token, list_tokens, revoke_token
from controlplane.store.engine import DatabaseDep, ReadSession, WriteSession
from controlplane.store.user_tables import ApiTokenRow
from controlplane.store.users import prove

own = APIRouter(prefix="/api/v1/profile/tokens", tags=["profile"])
router = APIRouter(prefix="/api/v1/tokens", tags=["tokens"])

TokenKey = Annotated[str, Path(pattern=r"^[0-9a-f]{16}$", examples=["0123456789abcdef"])]


class TokenBody(PasswordProof):
    """What a token is for, what it may do and how long; and the present password."""

    name: str = Field(min_length=1, max_length=64, pattern=PRINTABLE, examples=["backup job"])
    scope: Scope = Field(
        description="`admin` includes `operate`, which includes `read`. The owner's role of the "
        "moment limits it further."
    )
    valid_days: int = Field(default=90, ge=1, le=MAX_DAYS)


class TokenView(BaseModel):
    """What is known of a token; the token itself is not."""

    id: str
    user: str
    name: str
    prefix: str = Field(description="How the token begins, to recognise it by.")
    scope: Scope
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None = Field(description="To the minute; null: never.")


class TokenCreated(TokenView):
    """A fresh token; it is shown this once."""

    token: str = Field(description="Send it as `Authorization: Bearer <token>`.")


@own.get("")
def list_own_tokens(caller: OwnCaller, session: ReadSession) -> list[TokenView]:
    """List one's own API tokens, the newest first, expired ones too."""
    return [_view(row) for row in list_tokens(session, caller.user.name)]


@own.post("", status_code=status.HTTP_201_CREATED, responses=THROTTLED)
def create_own_token(
    body: TokenBody, caller: OwnCaller, database: DatabaseDep, rules: LoginRulesDep
) -> TokenCreated:
    """Make an API token for oneself."""
    prove(database, caller.actor, body.current_password, rules)
    with database.write() as session:
        issued = create_token(session, caller.actor, body.name, body.scope, body.valid_days)
    return TokenCreated(**_values(issued.row), token=issued.text)


@own.delete("/{id}", status_code=status.HTTP_204_NO_CONTENT, responses=NOT_FOUND)
def delete_own_token(id: TokenKey, caller: OwnCaller, session: WriteSession) -> None:  # noqa: A002 - the path's name
    """Revoke one of one's own tokens: it stops working at once."""
    revoke_token(session, caller.actor, id, caller.user.name)


@router.get("")
def list_all_tokens(caller: UsersCaller, session: ReadSession) -> list[TokenView]:
    """List everybody's API tokens, the newest first, expired ones too."""
    del caller
    return [_view(row) for row in list_tokens(session)]


@router.delete("/{id}", status_code=status.HTTP_204_NO_CONTENT, responses=NOT_FOUND)
def delete_token(id: TokenKey, caller: UsersCaller, session: WriteSession) -> None:  # noqa: A002 - the path's name
    """Revoke anybody's token: it stops working at once."""
    revoke_token(session, caller.actor, id)


def _view(row: ApiTokenRow) -> TokenView:
    return TokenView(**_values(row))


def _values(row: ApiTokenRow) -> dict[str, Any]:
    return {**row.model_dump(exclude={"token_sha256", "user_name"}), "user": row.user_name}
