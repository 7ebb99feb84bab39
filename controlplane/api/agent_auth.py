"""Which node is asking: a short token signed with the node's own Ed25519 key (RFC 7519, RFC 8037).

A refusal is recorded in the audit log, but the same one at most once a minute: a stranger who keeps
trying fills no disk and holds no write lock.
"""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Annotated, Final

import jwt
from fastapi import Depends, Request
from fastapi.security import HTTPAuthorizationCredentials, HTTPBearer
from starlette.concurrency import run_in_threadpool

from controlplane.api.user_auth import client_address
from controlplane.errors import Forbidden, Unauthenticated
from controlplane.store import agents, audit
from controlplane.store.audit import Actor
from controlplane.store.engine import Database, DatabaseDep
from controlplane.store.ownership_tables import AgentRow
from nodeagent.core.agent_api import TOKEN_AUDIENCE
from nodeagent.core.names import is_node_name

LEEWAY_S: Final = 300
AUDIT_EVERY_S: Final = 60.0
REMEMBERED: Final = 1000
KEPT_PROOFS: Final = 10_000
CLAIMS: Final = ("iss", "aud", "iat", "exp")

_bearer = HTTPBearer(
    auto_error=False, scheme_name="NodeKey", description="A token signed by the node's own key."
)
BearerDep = Annotated[HTTPAuthorizationCredentials | None, Depends(_bearer)]


class RefusalLog:
    """Remembers which refusals were recorded lately."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._recorded: dict[tuple[str, str, str], float] = {}

    def is_due(self, key: tuple[str, str, str], now_s: float) -> bool:
        """Tell whether this refusal is to be recorded now, and take it as recorded."""
        with self._lock:
            if now_s - self._recorded.get(key, -AUDIT_EVERY_S) < AUDIT_EVERY_S:
                return False
            if len(self._recorded) >= REMEMBERED:
                self._recorded.clear()
            self._recorded[key] = now_s
            return True


def record_refusal(request: Request, database: Database, node: str, reason: str) -> None:
    """Write the refusal to the audit log, in a transaction of its own."""
    address = client_address(request)
    log: RefusalLog = request.app.state.refusals
    if not log.is_due((node, address, reason), time.monotonic()):
        return
    with database.write() as session:
        audit.record(
            session,
            Actor(f"agent:{node}", address),
            "agent.refused",
            node,
            after={"path": request.url.path, "reason": reason},
        )


@dataclass(frozen=True)
class Proof:
    """That `node` signed a token with a key of its own (PEM); good until `expires_at` (Unix)."""

    node: str
    public_key_pem: str
    expires_at: float


class Proofs:
    """Tokens whose signature was found good: a node sends the same one for a while.

    That the key is still the node's is for the caller to look up.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._proofs: dict[str, Proof] = {}

    def find(self, token: str) -> Proof | None:
        """Return what is known of the token, None when it is not, or not any more."""
        proof = self._proofs.get(token)
        return proof if proof is not None and time.time() < proof.expires_at else None

    def keep(self, token: str, proof: Proof) -> None:
        """Remember a token until it expires."""
        with self._lock:
            if len(self._proofs) >= KEPT_PROOFS:
                self._proofs.clear()
            self._proofs[token] = proof


def authenticated_node(request: Request, database: DatabaseDep, bearer: BearerDep) -> str:
    """Return the name of the node that signed this request; refusals are audited."""
    return _prove(request, database, _token(bearer)).node


async def proved_sender(request: Request, database: DatabaseDep, bearer: BearerDep) -> Proof:
    """Return who signed this request, perhaps a while ago: the key may have been revoked since."""
    token, proofs = _token(bearer), request.app.state.proofs
    known: Proof | None = proofs.find(token)
    if known is None:
        known = await run_in_threadpool(_prove, request, database, token)
        proofs.keep(token, known)
    return known


NodeDep = Annotated[str, Depends(authenticated_node)]
SenderDep = Annotated[Proof, Depends(proved_sender)]


def _token(bearer: HTTPAuthorizationCredentials | None) -> str:
    return bearer.credentials if bearer is not None else ""


def _prove(request: Request, database: Database, token: str) -> Proof:
    claimed = "unknown"
    try:
        claimed = _claimed_node(token)
        return _verify(database, claimed, token)
    except (Unauthenticated, Forbidden) as error:
        record_refusal(request, database, claimed, error.detail)
        raise


def _claimed_node(token: str) -> str:
    if not token:
        raise Unauthenticated("An agent's request carries a token signed by its key.")
    try:
        claims = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError as error:
        raise Unauthenticated("The token cannot be read.") from error
    name = claims.get("iss")
    if not isinstance(name, str) or not is_node_name(name):
        raise Unauthenticated("The token names no node.")
    return name


def _verify(database: Database, node: str, token: str) -> Proof:
    with database.read() as session:
        key_pem = agents.active_key(node, session.get(AgentRow, node))
    try:
        claims = jwt.decode(
            token,
            agents.load_public_key(key_pem),
            algorithms=["EdDSA"],
            audience=TOKEN_AUDIENCE,
            leeway=LEEWAY_S,
            options={"require": list(CLAIMS)},
        )
    except jwt.InvalidSignatureError as error:
        raise Unauthenticated(f"The token was not signed with the key of {node}.") from error
    except (jwt.ExpiredSignatureError, jwt.ImmatureSignatureError) as error:
        raise Unauthenticated(f"The token of {node} is out of date; check its clock.") from error
    except jwt.InvalidTokenError as error:
        raise Unauthenticated(f"The token of {node} is not valid: {error}.") from error
    return Proof(node, key_pem, claims["exp"] + LEEWAY_S)
