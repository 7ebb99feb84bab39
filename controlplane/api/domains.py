"""Recipient domains: which domains mail is relayed to; lists of 100,000 go in one call."""

from __future__ import annotations

from typing import Annotated, Final

from fastapi import APIRouter, Query, Response, status
from pydantic import BaseModel, ConfigDict, Field

from controlplane.api.cluster_access import (
    CREATED,
    NOT_FOUND,
    Body,
    StoreDep,
    TextKey,
    mark_created,
)
from controlplane.api.permissions import READ, OperateCaller
from controlplane.core.spec import ClusterSpec, RecipientDomain, TlsMode
from controlplane.core.validation import validate
from controlplane.errors import Invalid
from controlplane.store.cluster import ClusterStore
from controlplane.store.domain_lists import put_domains, read_page
from controlplane.store.nouns import DOMAINS

router = APIRouter(prefix="/api/v1/recipient-domains", tags=["domains"])

MAX_DOMAINS: Final = 500_000
MAX_SENTENCES: Final = 20


class DomainBody(Body):
    """Everything of a recipient domain but its name."""

    next_hop: str | None = Field(
        default=None,
        description="Host or IP address; null: the domain's MX.",
        examples=["mail.example.com"],
    )
    port: int = Field(default=25, examples=[25])
    tls_mode: TlsMode = TlsMode.MAY


class DomainList(Body):
    """Many domains: a plain name, or an object where a domain has a next hop of its own."""

    model_config = ConfigDict(
        json_schema_extra={
            "examples": [
                {"domains": ["example.com", {"name": "example.org", "next_hop": "198.51.100.20"}]}
            ]
        }
    )

    domains: list[str | RecipientDomain] = Field(max_length=MAX_DOMAINS)


class DomainListing(BaseModel):
    """One page of domains."""

    items: list[RecipientDomain]
    total: int = Field(description="How many match `search`.")
    next_after: str | None = Field(description="`after` of the next page; null: this is the last.")


class ImportResult(BaseModel):
    """What became of the list."""

    added: int
    changed: int
    removed: int
    total: int


class DomainQuery(BaseModel):
    """Which domains to list."""

    model_config = ConfigDict(extra="forbid")

    search: str = Field(default="", max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")
    after: str = Field(default="", max_length=255, pattern=r"^[^\x00-\x1f\x7f]*$")
    limit: int = Field(default=100, ge=1, le=10_000)


@router.get("", dependencies=[READ])
def list_domains(query: Annotated[DomainQuery, Query()], store: StoreDep) -> DomainListing:
    """List recipient domains by name, a page at a time."""
    with store.database.read() as session:
        page = read_page(session, query.search, query.after, query.limit)
    return DomainListing(items=page.items, total=page.total, next_after=page.next_after)


@router.put("")
def replace_domains(body: DomainList, caller: OperateCaller, store: StoreDep) -> ImportResult:
    """Make this the whole list: domains that it does not name are removed."""
    return _put_all(store, body, caller, replace=True)


@router.post("")
def add_domains(body: DomainList, caller: OperateCaller, store: StoreDep) -> ImportResult:
    """Add or change many domains; the others stay."""
    return _put_all(store, body, caller, replace=False)


@router.get("/{name}", responses=NOT_FOUND, dependencies=[READ])
def read_domain(name: TextKey, store: StoreDep) -> RecipientDomain:
    """Show one recipient domain."""
    return store.item(DOMAINS, name)


@router.put("/{name}", responses=CREATED)
def put_domain(
    name: TextKey, body: DomainBody, caller: OperateCaller, store: StoreDep, response: Response
) -> RecipientDomain:
    """Create or replace a recipient domain; `.example.com` stands for all its subdomains."""
    domain = RecipientDomain(name=name, **body.model_dump())
    mark_created(response, is_new=store.put_item(DOMAINS, domain, caller.actor))
    return domain


@router.delete("/{name}", status_code=status.HTTP_204_NO_CONTENT, responses=NOT_FOUND)
def delete_domain(name: TextKey, caller: OperateCaller, store: StoreDep) -> None:
    """Remove a recipient domain: its mail is refused after the next apply."""
    store.delete_item(DOMAINS, name, caller.actor)


def _put_all(
    store: ClusterStore, body: DomainList, caller: OperateCaller, *, replace: bool
) -> ImportResult:
    domains = [RecipientDomain(name=one) if isinstance(one, str) else one for one in body.domains]
    problems = validate(ClusterSpec(recipient_domains=tuple(domains)))
    if problems:
        shown = {
            problem.field.replace(DOMAINS.field, "domains", 1): problem.sentence
            for problem in problems[:MAX_SENTENCES]
        }
        raise Invalid(f"{len(problems)} entries cannot be used; nothing was changed.", shown)
    change = put_domains(store, domains, caller.actor, replace=replace)
    return ImportResult(**change.counts)
