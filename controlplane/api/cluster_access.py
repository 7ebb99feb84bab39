"""What the routers of the cluster share: its store, the shape of keys, documented answers."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import Depends, Path, Response, status
from pydantic import AfterValidator, AwareDatetime, BaseModel, ConfigDict

from controlplane.core.times import in_these_years
from controlplane.store.cluster import ClusterStore
from controlplane.store.crypto import SecretBoxDep
from controlplane.store.engine import DatabaseDep
from nodeagent.core.contract import Refusal
from nodeagent.core.names import NODE_NAME_PATTERN

PRINTABLE: Final = r"^[^\x00-\x1f\x7f]+$"

NodeKey = Annotated[
    str, Path(pattern=NODE_NAME_PATTERN, description="The node's name.", examples=["node-a"])
]
TextKey = Annotated[str, Path(max_length=320, pattern=PRINTABLE)]

Since = Annotated[AwareDatetime, AfterValidator(in_these_years)]
"""A point in time that every zone and both databases can express."""

NOT_FOUND: Final[dict[int | str, dict[str, Any]]] = {
    404: {"model": Refusal, "description": "There is no such thing."}
}
CREATED: Final[dict[int | str, dict[str, Any]]] = {
    201: {"description": "It did not exist before."},
}


class Body(BaseModel):
    """Base of all request bodies: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def get_store(database: DatabaseDep, box: SecretBoxDep) -> ClusterStore:
    """Give an endpoint the cluster."""
    return ClusterStore(database, box)


StoreDep = Annotated[ClusterStore, Depends(get_store)]


def mark_created(response: Response, *, is_new: bool) -> None:
    """Answer 201 for what did not exist before."""
    response.status_code = status.HTTP_201_CREATED if is_new else status.HTTP_200_OK
