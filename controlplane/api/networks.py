"""Trusted networks: clients that may relay to any domain."""

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
from controlplane.api.permissions import READ, OperateCaller
from controlplane.store.nouns import NETWORKS

router = APIRouter(prefix="/api/v1/trusted-networks", tags=["networks"])


class TrustedNetwork(Body):
    """One network in CIDR notation."""

    network: str = Field(examples=["198.51.100.0/24"])


@router.get("", dependencies=[READ])
def list_networks(store: StoreDep) -> list[TrustedNetwork]:
    """List all trusted networks."""
    return [TrustedNetwork(network=one) for one in store.items(NETWORKS)]


@router.put("/{network:path}", responses=CREATED)
def put_network(
    network: TextKey, caller: OperateCaller, store: StoreDep, response: Response
) -> TrustedNetwork:
    """Trust a network, for instance `PUT /api/v1/trusted-networks/198.51.100.0/24`; no body."""
    mark_created(response, is_new=store.put_item(NETWORKS, network, caller.actor))
    return TrustedNetwork(network=network)


@router.delete("/{network:path}", status_code=status.HTTP_204_NO_CONTENT, responses=NOT_FOUND)
def delete_network(network: TextKey, caller: OperateCaller, store: StoreDep) -> None:
    """Trust a network no longer."""
    store.delete_item(NETWORKS, network, caller.actor)
