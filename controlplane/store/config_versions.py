"""Config versions: numbered, hashed, rendered files per node, never changed once they are made.

Theory of operation. `apply` renders the spec outside of any transaction, because it may take
seconds, and stores the result only if nobody changed anything meanwhile (`revision`). The files are
sealed as one text per node: they hold relay credentials and the TLS key. `roll_back` stores the
files of an old version as a new one; it touches no setting, so it also works when the settings are
what is broken, and the diff then shows what the next apply would change again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass

from sqlalchemy import func, select
from sqlmodel import Session, col

from controlplane.core.render import render
from controlplane.errors import Conflict, Invalid, NotFound
from controlplane.store import audit
from controlplane.store.audit import Actor
from controlplane.store.cluster import ClusterStore, read_revision
from controlplane.store.cluster_tables import ConfigFilesRow, ConfigVersionRow, NodeRow
from controlplane.store.reports import add_event
from controlplane.store.sealed_files import open_files, seal_files
from controlplane.store.spec_problems import find_problems
from nodeagent.core.config_plan import files_sha256
from nodeagent.core.contract import ConfigFile

Files = Mapping[str, tuple[ConfigFile, ...]]
"""All files of each node, by path."""


@dataclass(frozen=True)
class Rendered:
    """What the settings of one revision look like as files, or why they cannot be rendered."""

    revision: int
    problems: Mapping[str, str]
    files: Files


@dataclass(frozen=True)
class Applied:
    """The version that the nodes shall run, and whether it was made just now."""

    version: ConfigVersionRow
    is_new: bool


def version_sha256(by_node: Mapping[str, str]) -> str:
    """Return the hash of a version from those of its nodes."""
    return hashlib.sha256(json.dumps(dict(by_node), sort_keys=True).encode()).hexdigest()


def read_version(session: Session, number: int) -> ConfigVersionRow:
    """Return one version; raises NotFound."""
    row = session.get(ConfigVersionRow, number)
    if row is None:
        raise NotFound(f"There is no config version {number}.")
    return row


def list_versions(session: Session, limit: int = 100) -> list[ConfigVersionRow]:
    """Return the newest versions first."""
    newest = select(ConfigVersionRow).order_by(col(ConfigVersionRow.number).desc()).limit(limit)
    return list(session.execute(newest).scalars())


def newest_version(session: Session) -> int | None:
    """Return the number of the last version made, None before the first."""
    number = session.execute(select(func.max(col(ConfigVersionRow.number)))).scalar_one()
    return None if number is None else int(number)


def read_files(store: ClusterStore, session: Session, number: int) -> Files:
    """Return the files of one version, opened."""
    read_version(session, number)
    rows = session.execute(
        select(ConfigFilesRow).where(col(ConfigFilesRow.version) == number)
    ).scalars()
    return {row.node: open_files(store.box, row.files_sealed) for row in rows}


def node_hashes(session: Session, number: int) -> dict[str, str]:
    """Return the hash of each node's files in one version."""
    columns = (col(ConfigFilesRow.node), col(ConfigFilesRow.sha256))
    rows = session.execute(select(*columns).where(col(ConfigFilesRow.version) == number))
    return {row[0]: row[1] for row in rows}


def render_present(store: ClusterStore) -> Rendered:
    """Render the present settings of all nodes; nothing is rendered while there are problems."""
    with store.database.read() as session:
        spec = store.read_spec(session)
        revision = read_revision(session)
    problems = find_problems(spec)
    files = {} if problems else {node.name: render(spec, node.name) for node in spec.nodes}
    return Rendered(revision, problems, files)


def apply(store: ClusterStore, rendered: Rendered, actor: Actor, reason: str) -> Applied:
    """Make a version of what was rendered and assign it to the nodes.

    When the nodes have these very files assigned already, no version is made. Raises Invalid when
    the settings have problems, Conflict when they were changed meanwhile.
    """
    if rendered.problems:
        raise Invalid("The settings have problems; nothing was applied.", rendered.problems)
    if not rendered.files:
        raise Conflict("There is no node yet to make a config version for.")
    rows = _sealed_rows(store, rendered.files)
    with store.database.write() as session:
        if read_revision(session) != rendered.revision:
            raise Conflict("Somebody changed the settings meanwhile; look at the diff again.")
        present = _assigned_to_all(session, rows)
        if present is not None:
            return Applied(present, is_new=False)
        version = _add_version(session, rows, actor, reason)
        text = f"{actor.name} applied config version {version.number}."
        add_event(session, "config-applied", text, data={"version": version.number})
        _audit(session, actor, "config.apply", version)
    return Applied(version, is_new=True)


def roll_back(store: ClusterStore, number: int, actor: Actor, reason: str) -> ConfigVersionRow:
    """Make a new version of the files of an old one and assign it to the nodes that it knows."""
    with store.database.read() as session:
        files = read_files(store, session, number)
    rows = _sealed_rows(store, files)
    with store.database.write() as session:
        version = _add_version(session, rows, actor, reason)
        version.restored_from = number
        session.add(version)
        text = f"{actor.name} rolled back to config version {number} as {version.number}."
        add_event(session, "config-rolled-back", text, data={"version": version.number})
        _audit(session, actor, "config.rollback", version)
    return version


def _sealed_rows(store: ClusterStore, files: Files) -> list[ConfigFilesRow]:
    return [
        ConfigFilesRow(
            version=0,
            node=node,
            sha256=files_sha256(of_node),
            files_sealed=seal_files(store.box, of_node),
        )
        for node, of_node in files.items()
    ]


def _assigned_to_all(session: Session, rows: list[ConfigFilesRow]) -> ConfigVersionRow | None:
    """Return the newest version if it has these files and every node has it assigned."""
    number = newest_version(session)
    if number is None:
        return None
    assigned = session.execute(select(col(NodeRow.assigned_version))).scalars().all()
    wanted = {row.node: row.sha256 for row in rows}
    is_same = node_hashes(session, number) == wanted and set(assigned) == {number}
    return read_version(session, number) if is_same else None


def _add_version(
    session: Session, rows: list[ConfigFilesRow], actor: Actor, reason: str
) -> ConfigVersionRow:
    version = ConfigVersionRow(
        number=(newest_version(session) or 0) + 1,
        sha256=version_sha256({row.node: row.sha256 for row in rows}),
        author=actor.name,
        reason=reason,
        revision=read_revision(session),
    )
    session.add(version)
    for row in rows:
        row.version = version.number
        session.add(row)
        node = session.get(NodeRow, row.node)
        if node is not None:
            node.assigned_version = version.number
            session.add(node)
    session.flush()
    return version


def _audit(session: Session, actor: Actor, action: str, version: ConfigVersionRow) -> None:
    after = {
        "version": version.number,
        "sha256": version.sha256,
        "reason": version.reason,
        "restored_from": version.restored_from,
    }
    audit.record(session, actor, action, str(version.number), after=after)
