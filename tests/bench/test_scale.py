"""What a hundred thousand domains, and an adopted queue as long, cost the control plane."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import pytest
from cryptography.fernet import Fernet

from controlplane.core.render import render
from controlplane.core.spec import RecipientDomain
from controlplane.core.validation import validate
from controlplane.store.audit import SYSTEM
from controlplane.store.cluster import ClusterStore
from controlplane.store.crypto import SecretBox
from controlplane.store.domain_lists import put_domains
from controlplane.store.engine import Database
from nodeagent.core import contract as wire
from tests.bench.figures import show
from tests.fakes.ownership_worlds import DURATION_S, RealWorld
from tests.render.specs import pair

pytestmark = [pytest.mark.bench, pytest.mark.timeout(600)]

MANY: Final = 100_000


@contextmanager
def timed(what: str) -> Iterator[None]:
    """Print how long the body took."""
    began_s = time.perf_counter()
    yield
    show(what, f"{time.perf_counter() - began_s:.1f} s")


def domains() -> tuple[RecipientDomain, ...]:
    """Give as many domains as the largest cluster has."""
    names = (f"d{number}.example.com" for number in range(MANY))
    return tuple(RecipientDomain(name=name, next_hop="198.51.100.20") for name in names)


def test_rendering_many_domains():
    """From a spec to the files of one node."""
    spec = pair(recipient_domains=domains())
    with timed(f"{MANY} domains checked"):
        assert validate(spec) == ()
    with timed(f"{MANY} domains rendered"):
        assert render(spec, "node-a")


def test_storing_many_domains(database: Database):
    """One list into either database."""
    store = ClusterStore(database, SecretBox(Fernet.generate_key()))
    with timed(f"{MANY} domains stored, {database.engine.dialect.name}"):
        assert put_domains(store, list(domains()), SYSTEM, replace=True).added == MANY


def test_a_receipt_of_many_messages(database: Database):
    """Committed by the adopter, then reconciled by the node that comes back."""
    world = RealWorld(database)
    for node in ("node-a", "node-b"):
        world.enrol(node)
    ids = tuple(f"4fQ{number:07d}zB" for number in range(MANY))
    world.advance(DURATION_S + 1)
    lease = world.calls.acquire("node-b", wire.LeaseRequest(queue="node-a")).lease
    assert lease is not None
    receipt = wire.ReceiptRequest.model_construct(
        queue="node-a", generation=lease.generation, ids=ids
    )
    kind = database.engine.dialect.name
    with timed(f"receipt of {MANY} committed, {kind}"):
        world.calls.commit_receipt("node-b", receipt)
    world.calls.release("node-b", wire.LeaseRequest(queue="node-a", generation=lease.generation))
    with timed(f"{MANY} pending messages reconciled, {kind}"):
        request = wire.ReconcileRequest.model_construct(pending_ids=ids)
        answer = world.calls.reconcile("node-a", request)
    assert len(answer.elsewhere) == MANY
