"""The settings of the mail policy: what an administrator set, secrets by their digest or sealed.

Trusted networks, recipient domains and the nodes' names are the cluster's: they are put in when a
manifest is made. Secrets of the HTTP door are made here, shown once, and kept as SHA-256.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final

from pydantic import ValidationError
from sqlalchemy import select
from sqlmodel import Session, col

from controlplane.core.context import OWN_NETWORKS
from controlplane.core.names import BadValue, parse_domain
from controlplane.core.policy_checks import NO_DATA, settings_problems, without_data
from controlplane.core.policy_state import DIGESTS, FROM_CLUSTER, MADE_HERE
from controlplane.errors import Conflict, Invalid
from controlplane.store import audit
from controlplane.store.audit import Actor
from controlplane.store.cluster import read_settings as read_cluster_settings
from controlplane.store.cluster_tables import NodeRow, RecipientDomainRow, TrustedNetworkRow
from controlplane.store.crypto import SecretBox
from controlplane.store.engine import POLICY_LOCK, Database
from controlplane.store.policy_revision import raise_revision
from controlplane.store.policy_tables import (
    POLICY_ID,
    CategoryRow,
    PolicyImportRow,
    PolicySettingsRow,
)
from nodeagent.policy.document import HttpDoor, PolicySettings, SectionKind

SECRET_BYTES: Final = 32


class Credential(StrEnum):
    """How an MTA says who it is at the HTTP door."""

    BASIC = "basic"
    BEARER = "bearer"
    HEADER = "header"


_DIGEST: Final = {
    Credential.BASIC: "password_sha256",
    Credential.BEARER: "token_sha256",
    Credential.HEADER: "header_sha256",
}
_NAME: Final = {Credential.BASIC: "username", Credential.HEADER: "header_name"}


@dataclass(frozen=True)
class IssuedCredential:
    """A new secret, shown this once; `name` is the user's or the header's."""

    kind: Credential
    name: str | None
    secret: str


def read_policy_settings(session: Session) -> PolicySettings:
    """Return what was set; defaults before the first change."""
    row = session.get(PolicySettingsRow, POLICY_ID)
    return PolicySettings.model_validate(row.settings if row is not None else {})


def settings_for_nodes(session: Session, box: SecretBox) -> PolicySettings:
    """Return the settings with what the cluster brings and the key of pseudonyms."""
    row = session.get(PolicySettingsRow, POLICY_ID)
    sealed = row.pseudonym_key_sealed if row is not None else None
    networks = session.execute(select(col(TrustedNetworkRow.network))).scalars()
    domains = session.execute(
        select(col(RecipientDomainRow.name)).order_by(col(RecipientDomainRow.name))
    ).scalars()
    return read_policy_settings(session).model_copy(
        update={
            "trusted_networks": (*OWN_NETWORKS, *sorted(networks)),
            "own_domains": tuple(domains),
            "own_names": _own_names(session),
            "pseudonym_key": box.open(sealed) if sealed is not None else None,
        }
    )


def ensure_policy(database: Database, box: SecretBox) -> None:
    """Make the key of pseudonyms when there is none; safe when instances race."""
    with database.read() as session:
        row = session.get(PolicySettingsRow, POLICY_ID)
        if row is not None and row.pseudonym_key_sealed is not None:
            return
    with database.write(POLICY_LOCK) as session:
        row = session.get(PolicySettingsRow, POLICY_ID) or PolicySettingsRow()
        if row.pseudonym_key_sealed is None:
            row.pseudonym_key_sealed = box.seal(secrets.token_hex(SECRET_BYTES))
            session.add(row)
            raise_revision(session)


def change_settings(database: Database, changes: Mapping[str, Any], actor: Actor) -> PolicySettings:
    """Put changes into the settings, sections merged (RFC 7396); raises Invalid."""
    with database.write(POLICY_LOCK) as session:
        before = read_policy_settings(session)
        after = merge(before, changes)
        if has_categories(session):
            _refuse(without_data(after))
        _store(session, after)
        _audit(session, actor, before, after)
    return after


def has_categories(session: Session) -> bool:
    """Tell whether there is a category, or an import that is bringing some in."""
    there = select(col(CategoryRow.id))
    of_them = col(PolicyImportRow.sections).contains(SectionKind.CATEGORIES.value)
    coming = select(col(PolicyImportRow.id)).where(col(PolicyImportRow.is_committed), of_them)
    return any(session.execute(one.limit(1)).first() is not None for one in (there, coming))


def check_new_entries(session: Session, section: SectionKind, added: int) -> None:
    """Refuse new categories while a door leaves out DATA: raises Conflict.

    The caller's transaction holds `POLICY_LOCK`, as a change of the settings does.
    """
    is_category = section is SectionKind.CATEGORIES and added > 0
    if is_category and without_data(read_policy_settings(session)):
        raise Conflict(NO_DATA)


def issue_credential(
    database: Database, kind: Credential, name: str | None, actor: Actor
) -> IssuedCredential:
    """Make a new secret for the HTTP door; the one before opens nothing from then on.

    Without a name the present one stays; raises Invalid where one is needed and there is none.
    """
    secret = secrets.token_urlsafe(SECRET_BYTES)
    with database.write(POLICY_LOCK) as session:
        before = read_policy_settings(session)
        field = _NAME.get(kind)
        present = getattr(before.http, field) if field is not None else None
        if field is not None and not (name or present):
            raise Invalid("A name is needed.", {"name": f"Say the {field} that goes with it."})
        values = before.http.model_dump(mode="json")
        values[_DIGEST[kind]] = hashlib.sha256(secret.encode()).hexdigest()
        if field is not None:
            values[field] = name or present
        after = before.model_copy(update={"http": _door(values)})
        _store(session, after)
        shown = {"kind": kind.value, "name": values[field] if field is not None else None}
        audit.record(session, actor, "policy-settings.http-credential", after=shown)
    return IssuedCredential(kind, shown["name"], secret)


def withdraw_credential(database: Database, kind: Credential, actor: Actor) -> None:
    """Let nobody in by this kind of secret; raises Conflict when the open door had no other."""
    with database.write(POLICY_LOCK) as session:
        before = read_policy_settings(session)
        gone = {_DIGEST[kind]: None, **({_NAME[kind]: None} if kind in _NAME else {})}
        http = before.http.model_copy(update=gone)
        if http.is_enabled and not any(getattr(http, name) for name in DIGESTS):
            raise Conflict("This is the HTTP door's last credential; switch the door off first.")
        _store(session, before.model_copy(update={"http": http}))
        action = "policy-settings.http-credential-delete"
        audit.record(session, actor, action, before={"kind": kind.value})


def merge(before: PolicySettings, changes: Mapping[str, Any]) -> PolicySettings:
    """Return the settings with these changes; raises Invalid beside the fields at fault."""
    merged = before.model_dump(mode="json")
    for name, value in changes.items():
        is_section = isinstance(value, Mapping) and isinstance(merged.get(name), Mapping)
        merged[name] = {**merged[name], **value} if is_section else value
    try:
        after = PolicySettings.model_validate(merged)
    except ValidationError as error:
        fields = {
            ".".join(str(part) for part in one["loc"]): f"{one['msg'].rstrip('.')}."
            for one in error.errors()
        }
        raise Invalid("Nothing was changed: " + ", ".join(fields) + ".", fields) from error
    _refuse(settings_problems(after))
    return after


def _refuse(problems: Mapping[str, str]) -> None:
    """Raise Invalid where a field has a problem."""
    if problems:
        said = dict.fromkeys(problems.values())
        raise Invalid("Nothing was changed: " + " ".join(said), problems)


def replace_settings(before: PolicySettings, wanted: Mapping[str, Any]) -> PolicySettings:
    """Return other settings as a whole; raises Invalid.

    A secret of the HTTP door stays while it goes with the same name, as the password of a route.
    """
    door = dict(wanted["http"])
    for kind, digest in _DIGEST.items():
        name = _NAME.get(kind)
        is_same = name is None or door[name] == getattr(before.http, name)
        door[digest] = getattr(before.http, digest) if is_same else None
    return merge(PolicySettings(), {**wanted, "http": door})


def _door(values: Mapping[str, Any]) -> HttpDoor:
    try:
        return HttpDoor.model_validate(values)
    except ValidationError as error:
        fields = {"name": "This name cannot be used."}
        raise Invalid("The name cannot be used; nothing was changed.", fields) from error


def _store(session: Session, settings: PolicySettings) -> None:
    write_settings(session, settings)
    raise_revision(session)


def write_settings(session: Session, settings: PolicySettings) -> None:
    """Write the row; the caller, under `POLICY_LOCK`, raises a revision and audits."""
    row = session.get(PolicySettingsRow, POLICY_ID) or PolicySettingsRow()
    row.settings = settings.model_dump(mode="json", exclude=set(FROM_CLUSTER | MADE_HERE))
    session.add(row)


def _audit(session: Session, actor: Actor, before: PolicySettings, after: PolicySettings) -> None:
    old, new = shown(before), shown(after)
    names = [name for name in new if old[name] != new[name]]
    audit.record(
        session,
        actor,
        "policy-settings.update",
        before={name: old[name] for name in names},
        after={name: new[name] for name in names},
    )


def shown(settings: PolicySettings) -> dict[str, Any]:
    """Return the settings as people see them: no digest, but whether there is a secret."""
    values = settings.model_dump(mode="json", exclude=set(FROM_CLUSTER | MADE_HERE))
    door = values["http"]
    values["http"] = {name: value for name, value in door.items() if name not in DIGESTS} | {
        f"has_{name.removesuffix('_sha256')}": door[name] is not None for name in sorted(DIGESTS)
    }
    return values


def _own_names(session: Session) -> tuple[str, ...]:
    domain = read_cluster_settings(session).domain
    rows = session.execute(select(col(NodeRow.name), col(NodeRow.hostname)))
    names = set()
    for name, hostname in rows:
        try:
            names.add(parse_domain(hostname or f"{name}.{domain}"))
        except BadValue:
            continue  # the validation of the cluster says so
    return tuple(sorted(names))
