"""Sender policies: which sender domains may send through the relay, and what others are told."""

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
from controlplane.core.spec import SenderAction, SenderPolicy
from controlplane.store.nouns import POLICIES

router = APIRouter(prefix="/api/v1/sender-policies", tags=["policies"])


class PolicyBody(Body):
    """Everything of a sender policy but its domain."""

    action: SenderAction = Field(description="It binds trusted networks too.")
    reply_text: str = Field(
        default="",
        description='After "550 5.7.1" when blocked; empty: a default text.',
        examples=["Your domain is not served here"],
    )


@router.get("", dependencies=[READ])
def list_policies(store: StoreDep) -> list[SenderPolicy]:
    """List all sender policies."""
    return store.items(POLICIES)


@router.get("/{domain}", responses=NOT_FOUND, dependencies=[READ])
def read_policy(domain: TextKey, store: StoreDep) -> SenderPolicy:
    """Show the policy of one sender domain."""
    return store.item(POLICIES, domain)


@router.put("/{domain}", responses=CREATED)
def put_policy(
    domain: TextKey, body: PolicyBody, caller: OperateCaller, store: StoreDep, response: Response
) -> SenderPolicy:
    """Allow or block a sender domain; `.example.com` stands for all its subdomains."""
    policy = SenderPolicy(domain=domain, **body.model_dump())
    mark_created(response, is_new=store.put_item(POLICIES, policy, caller.actor))
    return policy


@router.delete("/{domain}", status_code=status.HTTP_204_NO_CONTENT, responses=NOT_FOUND)
def delete_policy(domain: TextKey, caller: OperateCaller, store: StoreDep) -> None:
    """Remove a policy: the cluster's default holds for this domain again."""
    store.delete_item(POLICIES, domain, caller.actor)
