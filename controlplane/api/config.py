"""Config versions: preview what the settings would render to, diff, apply, roll back."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final

from fastapi import APIRouter, Query, Response
from fastapi import Path as PathKey
from pydantic import BaseModel, Field
from sqlmodel import Session

from controlplane.api.cluster_access import (
    CREATED,
    NOT_FOUND,
    PRINTABLE,
    Body,
    StoreDep,
    mark_created,
)
from controlplane.api.permissions import READ, OperateCaller
from controlplane.core.diff import diff, is_secret
from controlplane.errors import Conflict
from controlplane.store import config_versions
from controlplane.store.cluster import ClusterStore
from controlplane.store.cluster_tables import ConfigVersionRow
from controlplane.store.config_versions import Files
from nodeagent.core.config_plan import files_sha256
from nodeagent.core.contract import ConfigFile

router = APIRouter(prefix="/api/v1/config", tags=["configs"])

SHOWN_CHARACTERS: Final = 65_536
VersionKey = Annotated[int, PathKey(ge=1, le=2**31 - 1, description="A version's number.")]
VersionQuery = Annotated[int | None, Query(ge=1, le=2**31 - 1)]


class FileView(BaseModel):
    """One rendered file; files with credentials or keys show no content."""

    path: str
    mode: str
    owner: str
    size_bytes: int
    is_secret: bool
    content: str | None = Field(description="Null when secret; long ones end after 64 KiB.")
    is_truncated: bool


class NodeFiles(BaseModel):
    """All files of one node; `sha256` covers paths, owners, modes and contents."""

    node: str
    sha256: str
    files: list[FileView]


class Preview(BaseModel):
    """What the present settings would be as files."""

    revision: int = Field(description="Hand it to apply, so that nothing unseen is applied.")
    problems: dict[str, str] = Field(description="By field; not empty: it cannot be applied.")
    nodes: list[NodeFiles]


class FileChange(BaseModel):
    """One file that differs, as a unified diff; secrets are hidden."""

    node: str
    path: str
    change: str = Field(description="added, removed or changed")
    is_secret: bool
    text: str


class ConfigDiff(BaseModel):
    """What differs; `to_version` is null for the present settings, `from_version` for nothing."""

    from_version: int | None
    to_version: int | None
    revision: int | None = Field(description="Of the present settings, when they are compared.")
    problems: dict[str, str]
    files: list[FileChange]


class VersionView(BaseModel):
    """One config version; it never changes."""

    number: int
    sha256: str
    author: str
    reason: str
    restored_from: int | None = Field(description="The version that a roll-back brought back.")
    revision: int = Field(description="Of the settings at that time.")
    created_at: datetime


class VersionFiles(VersionView):
    """One config version with its files."""

    nodes: list[NodeFiles]


class ApplyBody(Body):
    """Why, and optionally what the author had seen."""

    reason: str = Field(default="", max_length=500, pattern=rf"{PRINTABLE}|^$")
    expected_revision: int | None = Field(
        default=None, description="Refuse when the settings have changed since this revision."
    )


class RollbackBody(Body):
    """Why."""

    reason: str = Field(default="", max_length=500, pattern=rf"{PRINTABLE}|^$")


@router.get("/preview", dependencies=[READ])
def preview(store: StoreDep) -> Preview:
    """Render the present settings for every node without making a version."""
    rendered = config_versions.render_present(store)
    return Preview(
        revision=rendered.revision,
        problems=dict(rendered.problems),
        nodes=_node_files(rendered.files),
    )


@router.get("/diff", responses=NOT_FOUND, dependencies=[READ])
def read_diff(
    store: StoreDep,
    from_version: VersionQuery = None,
    to_version: VersionQuery = None,
) -> ConfigDiff:
    """Compare two versions, or a version (the newest one by default) with the present settings."""
    with store.database.read() as session:
        start = from_version or config_versions.newest_version(session)
        before = config_versions.read_files(store, session, start) if start else {}
        if to_version is not None:
            after = config_versions.read_files(store, session, to_version)
            changes = file_changes(before, after)
            return ConfigDiff(
                from_version=start,
                to_version=to_version,
                revision=None,
                problems={},
                files=changes,
            )
    rendered = config_versions.render_present(store)
    return ConfigDiff(
        from_version=start,
        to_version=None,
        revision=rendered.revision,
        problems=dict(rendered.problems),
        files=[] if rendered.problems else file_changes(before, rendered.files),
    )


@router.post("/apply", responses=CREATED)
def apply(
    body: ApplyBody, caller: OperateCaller, store: StoreDep, response: Response
) -> VersionView:
    """Make a version of the present settings and assign it to all nodes.

    Each node fetches it, checks it with its own postfix and keepalived, and goes back to the
    version before when it does not pass. 200 instead of 201: all nodes have these files already.
    """
    rendered = config_versions.render_present(store)
    if body.expected_revision is not None and body.expected_revision != rendered.revision:
        raise Conflict("The settings were changed since you looked; look at the diff again.")
    applied = config_versions.apply(store, rendered, caller.actor, body.reason)
    mark_created(response, is_new=applied.is_new)
    return _view(applied.version)


@router.post("/rollback/{version}", status_code=201, responses=NOT_FOUND)
def roll_back(
    version: VersionKey, caller: OperateCaller, store: StoreDep, body: RollbackBody | None = None
) -> VersionView:
    """Make a new version of the files of an old one and assign it to all nodes.

    The settings stay as they are: the diff then shows what the next apply would change again. A
    node that the old version does not know keeps what it has.
    """
    reason = body.reason if body is not None else ""
    return _view(config_versions.roll_back(store, version, caller.actor, reason))


@router.get("/versions", dependencies=[READ])
def list_versions(
    store: StoreDep, limit: Annotated[int, Query(ge=1, le=1000)] = 100
) -> list[VersionView]:
    """List versions, newest first."""
    with store.database.read() as session:
        return [_view(row) for row in config_versions.list_versions(session, limit)]


@router.get("/versions/{version}", responses=NOT_FOUND, dependencies=[READ])
def read_version(version: VersionKey, store: StoreDep) -> VersionFiles:
    """Show one version with its files."""
    with store.database.read() as session:
        return _version_files(store, session, version)


def _version_files(store: ClusterStore, session: Session, number: int) -> VersionFiles:
    row = config_versions.read_version(session, number)
    nodes = _node_files(config_versions.read_files(store, session, number))
    return VersionFiles(**_view(row).model_dump(), nodes=nodes)


def file_changes(before: Files, after: Files) -> list[FileChange]:
    """Return what differs between two renderings, secrets hidden."""
    return [
        FileChange(
            node=node,
            path=one.path,
            change=one.change,
            is_secret=one.is_secret,
            text=one.text,
        )
        for node in sorted({*before, *after})
        for one in diff(before.get(node, ()), after.get(node, ()))
    ]


def _node_files(files: Files) -> list[NodeFiles]:
    return [
        NodeFiles(
            node=node,
            sha256=files_sha256(of_node),
            files=[_file_view(one) for one in of_node],
        )
        for node, of_node in sorted(files.items())
    ]


def _file_view(file: ConfigFile) -> FileView:
    hidden = is_secret(file)
    return FileView(
        path=file.path,
        mode=file.mode,
        owner=file.owner,
        size_bytes=len(file.content.encode()),
        is_secret=hidden,
        content=None if hidden else file.content[:SHOWN_CHARACTERS],
        is_truncated=not hidden and len(file.content) > SHOWN_CHARACTERS,
    )


def _view(row: ConfigVersionRow) -> VersionView:
    return VersionView.model_validate(row, from_attributes=True)
