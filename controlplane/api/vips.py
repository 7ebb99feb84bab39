"""VIPs: the virtual addresses on which mail is accepted."""

from __future__ import annotations

from fastapi import APIRouter, Response, status
from pydantic import Field

from controlplane.api.cluster_access import (
    CREATED,
    NOT_FOUND,
    Body,
    StoreDep,
    TextKey,
    mark_created,
)
from controlplane.api.permissions import READ, AdminCaller
from controlplane.core.spec import VipSpec
from controlplane.store.nouns import VIPS

router = APIRouter(prefix="/api/v1/vips", tags=["vips"])


class VipBody(Body):
    """Everything of a VIP but its address."""

    virtual_router_id: int = Field(
        description="1 to 255, unique in the network segment.", examples=[51]
    )
    prefix_len: int | None = Field(
        default=None, description="Null: as the nodes' network.", examples=[24]
    )
    interface: str | None = Field(
        default=None, description="Null: each node's own interface.", examples=["eth0"]
    )


@router.get("", dependencies=[READ])
def list_vips(store: StoreDep) -> list[VipSpec]:
    """List all VIPs."""
    return store.items(VIPS)


@router.get("/{address}", responses=NOT_FOUND, dependencies=[READ])
def read_vip(address: TextKey, store: StoreDep) -> VipSpec:
    """Show one VIP."""
    return store.item(VIPS, address)


@router.put("/{address}", responses=CREATED)
def put_vip(
    address: TextKey, body: VipBody, caller: AdminCaller, store: StoreDep, response: Response
) -> VipSpec:
    """Create or replace a VIP; it must lie in the network of the nodes."""
    vip = VipSpec(address=address, **body.model_dump())
    mark_created(response, is_new=store.put_item(VIPS, vip, caller.actor))
    return vip


@router.delete("/{address}", status_code=status.HTTP_204_NO_CONTENT, responses=NOT_FOUND)
def delete_vip(address: TextKey, caller: AdminCaller, store: StoreDep) -> None:
    """Remove a VIP."""
    store.delete_item(VIPS, address, caller.actor)
