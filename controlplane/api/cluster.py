"""The cluster's shared settings: names, replication, limits, retries, VRRP and lease timings."""

from __future__ import annotations

from typing import Annotated, Any, Optional

from fastapi import APIRouter
from fastapi import Body as RequestBody
from pydantic import BaseModel, Field, ValidationError, create_model

from controlplane.api.cluster_access import Body, StoreDep
from controlplane.api.error_handlers import field_sentences
from controlplane.api.permissions import READ, AdminCaller
from controlplane.core.spec import MiltersSpec, QueueSpec, VrrpSpec
from controlplane.errors import Invalid
from controlplane.store.cluster import read_revision, read_settings
from controlplane.store.cluster_settings import ClusterSettings, merge_settings
from nodeagent.core.contract import Timings

router = APIRouter(prefix="/api/v1/cluster", tags=["cluster"])


def _all_optional(name: str, doc: str, model: type[BaseModel], **sections: Any) -> type[Body]:
    """Return a body in which every field of `model` may be left out."""
    fields: dict[str, Any] = {
        field: (
            Optional[sections.get(field, info.annotation)],  # noqa: UP045 - made at run time
            Field(default=None, description=info.description),
        )
        for field, info in model.model_fields.items()
    }
    return create_model(name, __base__=Body, __doc__=doc, **fields)


ClusterChange = _all_optional(
    "ClusterChange",
    "What to change; everything that is left out stays as it is.",
    ClusterSettings,
    queue=_all_optional("QueueChange", "Retries and lifetimes to change.", QueueSpec),
    vrrp=_all_optional("VrrpChange", "VRRP settings to change.", VrrpSpec),
    milters=_all_optional("MiltersChange", "Mail filters to switch or to move.", MiltersSpec),
    timings=_all_optional("TimingsChange", "Lease and push timings to change.", Timings),
)
CHANGE_EXAMPLE = {
    "message_size_limit_bytes": 52_428_800,
    "vrrp": {"advert_int_s": 0.1},
    "timings": {"push_interval_s": 5.0},
}


class ClusterView(Body):
    """The settings, and how many changes of the cluster there have been."""

    settings: ClusterSettings
    revision: int = Field(description="Rises by one with each change of anything.")


@router.get("", dependencies=[READ])
def read_cluster(store: StoreDep) -> ClusterView:
    """Show the settings that all nodes share."""
    with store.database.read() as session:
        return ClusterView(settings=read_settings(session), revision=read_revision(session))


@router.patch("")
def patch_cluster(
    change: Annotated[ClusterChange, RequestBody(examples=[CHANGE_EXAMPLE])],  # type: ignore[valid-type]
    caller: AdminCaller,
    store: StoreDep,
) -> ClusterSettings:
    """Change some settings.

    Timings reach the agents with their next heartbeat; everything else with the next apply. Timings
    that do not fit together are refused: retry < renew deadline < duration - margin.
    """
    wanted = change.model_dump(mode="json", exclude_unset=True)  # type: ignore[attr-defined]
    return store.change_settings(lambda settings: merged(settings, wanted), caller.actor)


def merged(settings: ClusterSettings, wanted: dict[str, Any]) -> ClusterSettings:
    """Return the settings with these changes; raises Invalid beside the fields at fault."""
    try:
        return merge_settings(settings, wanted)
    except ValidationError as error:
        fields = field_sentences(error.errors())
        raise Invalid("Nothing was changed: " + ", ".join(fields) + ".", fields) from error
