"""Enrolled node agents: one-time tokens, the public halves of their keys, revocation.

A token reads `<secret>.<SHA-256 of the CA certificate>`: the agent checks the CA against the second
part before it sends the first. Only a hash of the secret is stored. A token is bound to one node,
works once and expires.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import load_pem_public_key
from sqlalchemy import delete, select
from sqlmodel import Session, col

from controlplane.core.known_hosts import KEY_TYPES
from controlplane.errors import Forbidden, Invalid, NotFound, Unauthenticated
from controlplane.store import given_keys
from controlplane.store.clock import read_clock_s
from controlplane.store.leases import ensure_lease
from controlplane.store.ownership_tables import AgentRow, EnrolTokenRow
from nodeagent.core.enrol_wire import EnrolRequest

TOKEN_BYTES: Final = 24
TOKEN_LIFE_S: Final = 24 * 3600.0
SSH_KEY_WORDS: Final = (2, 3)


@dataclass(frozen=True)
class IssuedToken:
    """A fresh token; its text is shown once and stored nowhere."""

    node: str
    text: str
    expires_at: float


def issue_token(
    session: Session, node: str, ca_sha256: str, life_s: float = TOKEN_LIFE_S
) -> IssuedToken:
    """Make a token for `node`; it replaces every unused one of that node."""
    secret = secrets.token_urlsafe(TOKEN_BYTES)
    now_s = read_clock_s(session)
    session.execute(delete(EnrolTokenRow).where(col(EnrolTokenRow.node) == node))
    session.add(
        EnrolTokenRow(
            token_sha256=_hash(secret), node=node, created_at=now_s, expires_at=now_s + life_s
        )
    )
    session.flush()
    return IssuedToken(node=node, text=f"{secret}.{ca_sha256}", expires_at=now_s + life_s)


def enrol(session: Session, request: EnrolRequest) -> AgentRow:
    """Use up the token and store the node's keys; a known node gets its keys replaced."""
    token = session.get(EnrolTokenRow, _hash(request.token.partition(".")[0]))
    now_s = read_clock_s(session)
    if token is None:
        raise Unauthenticated("This enrolment token is not known.")
    if token.node != request.node:
        raise Forbidden(f"This enrolment token was not made for {request.node}.")
    if token.used_at is not None:
        raise Forbidden("This enrolment token was used before; ask for a new one.")
    if token.expires_at <= now_s:
        raise Forbidden("This enrolment token has expired; ask for a new one.")
    _check_keys(request)
    token.used_at = now_s
    row = session.get(AgentRow, request.node) or AgentRow(name=request.node)
    row.public_key_pem = request.public_key_pem
    row.ssh_public_key = request.ssh_public_key.strip()
    row.ssh_next_public_key = row.ssh_replace = row.ssh_replace_at = None
    given_keys.keep(session, request.node, (row.ssh_public_key,))
    row.ssh_host_keys = list(request.ssh_host_keys)
    row.enrolled_at = now_s
    row.revoked_at = None
    row.struck_off_at = None
    session.add(token)
    session.add(row)
    ensure_lease(session, request.node)
    session.flush()
    return row


def active_key(node: str, row: AgentRow | None) -> str:
    """Return the PEM of the key that the node's requests must be signed with."""
    if row is None or row.public_key_pem is None:
        raise Unauthenticated(f"{node} is not enrolled.")
    if row.struck_off_at is not None:
        raise Forbidden(f"{node} was struck off; it must be enrolled anew.")
    if row.revoked_at is not None:
        raise Forbidden(f"The key of {node} was revoked; it must be enrolled anew.")
    return row.public_key_pem


def load_public_key(pem: str) -> Ed25519PublicKey:
    """Return an Ed25519 key from its PEM."""
    try:
        key = load_pem_public_key(pem.encode())
    except (ValueError, UnsupportedAlgorithm) as error:
        raise Invalid("public_key_pem is not a public key.") from error
    if not isinstance(key, Ed25519PublicKey):
        raise Invalid("public_key_pem is not an Ed25519 key.")
    return key


def revoke(session: Session, node: str) -> AgentRow:
    """Refuse every further request of the node until it is enrolled anew."""
    row = session.get(AgentRow, node)
    if row is None:
        raise NotFound(f"{node} is not enrolled.")
    given_keys.keep(session, node, (row.ssh_public_key, row.ssh_next_public_key))
    if row.revoked_at is None:
        row.revoked_at = read_clock_s(session)
        session.add(row)
        session.flush()
    return row


def list_agents(session: Session) -> list[AgentRow]:
    """Return every agent that was ever enrolled or struck off, by name."""
    return list(session.execute(select(AgentRow).order_by(col(AgentRow.name))).scalars())


def waiting_tokens(session: Session) -> dict[str, float]:
    """Return, by node, when its one-time token ends that nobody has used yet."""
    statement = select(EnrolTokenRow).where(
        col(EnrolTokenRow.used_at).is_(None), col(EnrolTokenRow.expires_at) > read_clock_s(session)
    )
    return {row.node: row.expires_at for row in session.execute(statement).scalars()}


def is_active(row: AgentRow) -> bool:
    """Tell whether the node may act now."""
    return row.public_key_pem is not None and row.revoked_at is None and row.struck_off_at is None


def is_ssh_key(line: str) -> bool:
    """Tell whether `line` is one public key of a known type, without options or line breaks."""
    words = line.strip().split(" ")
    return line.strip().isprintable() and len(words) in SSH_KEY_WORDS and words[0] in KEY_TYPES


def _check_keys(request: EnrolRequest) -> None:
    load_public_key(request.public_key_pem)
    if not is_ssh_key(request.ssh_public_key):
        raise Invalid(
            "The SSH key cannot be used.",
            {"ssh_public_key": "This is not one line with one public key."},
        )
    if not all(is_ssh_key(key) for key in request.ssh_host_keys):
        raise Invalid(
            "The SSH host keys cannot be used.",
            {"ssh_host_keys": "Each must be one public key: its type and its base64 text."},
        )


def _hash(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()
