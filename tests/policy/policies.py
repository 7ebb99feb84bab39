"""Policies and mails for the engine's tests, made as the control plane and an MTA make them."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Any

from nodeagent.policy.document import (
    ListEntry,
    Listing,
    Manifest,
    PolicySettings,
    SectionKind,
)
from nodeagent.policy.engine.case import Given
from nodeagent.policy.engine.judge import judge
from nodeagent.policy.engine.policy import CompiledPolicy, compile_policy
from nodeagent.policy.engine.sections import ENTRY_TYPES, Entry, pack_section
from nodeagent.policy.model import Client, Decision, Envelope, Header, Message, Session, Stage

NOW_S = 1_800_000_000.0
STRANGER = Session(Client(ip_address("203.0.113.7"), 2525, "mail.example.org"), "mail.example.org")
TRUSTED = Session(Client(ip_address("10.1.2.3"), 2525, None), "desk-12")
SENDER, RECIPIENT = "alice@example.org", "bob@example.com"
ENVELOPE = Envelope(SENDER, (RECIPIENT,))
OURS: dict[str, Any] = {
    "is_active": True,
    "trusted_networks": ("10.0.0.0/8", "2001:db8:1::/48"),
    "own_domains": ("example.com", ".example.com"),
    "own_names": ("relay1.example.com", "relay2.example.com"),
}


def manifest_of(
    entries: Iterable[Entry] = (), revision: int = 1, **settings: Any
) -> tuple[Manifest, dict[str, bytes]]:
    """Return a manifest and the bodies of its sections, one section a kind."""
    by_kind: dict[SectionKind, list[Entry]] = {}
    kinds = {model: kind for kind, model in ENTRY_TYPES.items()}
    for entry in entries:
        by_kind.setdefault(kinds[type(entry)], []).append(entry)
    packed = [pack_section(kind, 0, listed) for kind, listed in by_kind.items()]
    manifest = Manifest(
        revision=revision,
        settings=PolicySettings(**(OURS | settings)),
        sections=tuple(one.section for one in packed),
    )
    return manifest, {one.section.sha256: one.body for one in packed}


def policy_of(*entries: Entry, **settings: Any) -> CompiledPolicy:
    """Return the compiled policy of these entries and settings."""
    manifest, bodies = manifest_of(entries, **settings)
    return compile_policy(manifest, bodies.get)


def message_of(text: str = "Hello Bob.", **headers: str) -> Message:
    """Return a plain mail; headers are given with "_" for "-", folds as they stand."""
    found = {"From": SENDER, "To": RECIPIENT, "Subject": "Hello"} | {
        name.replace("_", "-"): value for name, value in headers.items()
    }
    body = text.encode("utf-8", "surrogateescape")
    return Message(
        tuple(Header(name, f" {value}") for name, value in found.items()), body, len(body), "4XyZ"
    )


def multipart(*parts: tuple[str, str], boundary: str = "b0undary") -> Message:
    """Return a mail of parts, each given as its headers and its content."""
    lines = [f"--{boundary}\r\n{head}\r\n\r\n{content}\r\n" for head, content in parts]
    body = f"{''.join(lines)}--{boundary}--\r\n".encode()
    headers = (
        Header("From", f" {SENDER}"),
        Header("Subject", " Parts"),
        Header("MIME-Version", " 1.0"),
        Header("Content-Type", f' multipart/mixed; boundary="{boundary}"'),
    )
    return Message(headers, body, len(body))


def decide(
    policy: CompiledPolicy,
    stage: Stage = Stage.DATA,
    session: Session = STRANGER,
    envelope: Envelope = ENVELOPE,
    message: Message | None = None,
    **given: Any,
) -> Decision:
    """Return the decision of the engine; at DATA of a harmless mail unless another is given."""
    if stage is Stage.DATA and message is None:
        message = message_of()
    known = Given(**({"now_s": NOW_S} | given))
    return judge(stage, session, envelope, message, policy=policy, given=known)


def rules_of(decision: Decision) -> tuple[str, ...]:
    """Return the names of the rules that fired, what decided first."""
    return tuple(fired.rule for fired in decision.fired)


def blocked(value: str, number: int = 1, **more: Any) -> ListEntry:
    """Return an entry of the blocklist."""
    return ListEntry(id=number, value=value, **more)


def allowed(value: str, number: int = 2, **more: Any) -> ListEntry:
    """Return an entry of the allowlist."""
    return ListEntry(id=number, listing=Listing.ALLOW, value=value, **more)
