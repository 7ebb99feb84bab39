"""The calls that every list of the mail policy has, made once for each of them.

There is no `from __future__ import annotations` here: the types of bodies and answers are those
that the function was called with, so the annotations have to be looked up when it runs.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from tempfile import SpooledTemporaryFile
from typing import Annotated, Any, BinaryIO, Final, TypeVar, cast

from fastapi import APIRouter, Query, Request, Response, status
from fastapi.responses import StreamingResponse
from pydantic import BaseModel, Field, create_model
from sqlmodel import Session
from starlette.concurrency import run_in_threadpool

from controlplane.api.cluster_access import CREATED, NOT_FOUND, Body, mark_created
from controlplane.api.csv_stream import stream_csv
from controlplane.api.mail_security.views import (
    MOST_AT_ONCE,
    ChangeCounts,
    ImportPreview,
    ImportQuery,
    ItemQuery,
    ManyNumbers,
    Number,
    counts_of,
    preview_of,
    view_of,
)
from controlplane.api.permissions import READ, OperateCaller
from controlplane.core.policy_drafts import Draft
from controlplane.errors import Invalid
from controlplane.store import policy_imports, policy_items
from controlplane.store.engine import Database, DatabaseDep
from controlplane.store.policy_imports import FileKind
from controlplane.store.policy_items import Row, Wanted
from controlplane.store.policy_kinds import Kind

Done = TypeVar("Done")
IN_MEMORY_BYTES: Final = 1024 * 1024
MEDIA: Final = {"text/csv": FileKind.CSV, "application/json": FileKind.JSON}
FILE_BODY: Final = {
    "requestBody": {
        "required": True,
        "content": {
            "text/csv": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "array", "items": {"type": "object"}}},
        },
    }
}
FILE_ANSWER: Final[dict[int | str, dict[str, Any]]] = {
    200: {
        "description": "One line each.",
        "content": {
            "text/csv": {"schema": {"type": "string"}},
            "application/json": {"schema": {"type": "array", "items": {"type": "object"}}},
        },
    }
}


class Page(BaseModel):
    """One page, the newest first; `items` are of the list's own type."""

    total: int = Field(description="How many match `search`.")
    next_before: int | None = Field(
        description="`before` of the next page; null: this is the last."
    )


@dataclass(frozen=True)
class ItemApi:
    """One list: where it is kept, its types, and what one entry and many are called."""

    kind: Kind
    draft: type[Draft]
    view: type[BaseModel]
    one: str
    many: str
    prepare: Callable[[Session], Kind] | None = None
    complete: Callable[[Session, Sequence[Row]], list[Row]] | None = None

    def current(self, database: Database) -> Kind:
        """Return the list, with what its drafts need to know of the database."""
        if self.prepare is None:
            return self.kind
        with database.read() as session:
            return self.prepare(session)

    def shown(self, database: Database, rows: Sequence[Row]) -> list[BaseModel]:
        """Return rows as they are shown."""
        if self.complete is not None:
            with database.read() as session:
                rows = self.complete(session, rows)
        return [view_of(self.view, row) for row in rows]


def add_item_routes(router: APIRouter, api: ItemApi) -> None:
    """Add all calls, those with fixed paths first."""
    _add_reads(router, api)
    _add_files(router, api)
    _add_many(router, api)
    _add_writes(router, api)


def _add_reads(router: APIRouter, api: ItemApi) -> None:
    listing = listing_of(api.view)

    @router.get("", dependencies=[READ], summary=f"List {api.many}")
    def list_items(query: Annotated[ItemQuery, Query()], database: DatabaseDep) -> listing:  # type: ignore[valid-type]
        """List a page, the newest first."""
        return page_of(listing, api, database, query)


def listing_of(view: type[BaseModel]) -> type[Page]:
    """Return the type of a page of these."""
    name = f"{view.__name__.removesuffix('View')}Page"
    items: Any = (list[view], ...)  # type: ignore[valid-type]
    return create_model(name, __base__=Page, __doc__="One page, the newest first.", items=items)


def page_of(listing: type[Page], api: ItemApi, database: Database, query: ItemQuery) -> Page:
    """Return what a query finds."""
    wanted = Wanted(query.search, query.before, query.limit)
    with database.read() as session:
        page = policy_items.read_page(session, api.kind, wanted)
    items = api.shown(database, page.rows)
    values = {"items": items, "total": page.total, "next_before": page.next_before}
    return listing.model_validate(values)


def _add_writes(router: APIRouter, api: ItemApi) -> None:
    view, draft = api.view, api.draft

    @router.post("", status_code=status.HTTP_201_CREATED, summary=f"Add {api.one}")
    def create_item(body: draft, caller: OperateCaller, database: DatabaseDep) -> view:  # type: ignore[valid-type]
        """Add one; 409 where it is there already."""
        row = policy_items.create(database, api.current(database), body, caller.actor)
        return api.shown(database, [row])[0]

    @router.put("", responses=CREATED, summary=f"Add or change {api.one}")
    def put_item(
        body: draft,  # type: ignore[valid-type]
        caller: OperateCaller,
        database: DatabaseDep,
        response: Response,
    ) -> view:  # type: ignore[valid-type]
        """Add one, or change the one that is there already; it keeps its id."""
        row, is_new = policy_items.put(database, api.current(database), body, caller.actor)
        mark_created(response, is_new=is_new)
        return api.shown(database, [row])[0]

    @router.get("/{number}", responses=NOT_FOUND, dependencies=[READ], summary=f"Show {api.one}")
    def read_item(number: Number, database: DatabaseDep) -> view:  # type: ignore[valid-type]
        """Show one by its id."""
        with database.read() as session:
            row = policy_items.read_item(session, api.kind, number)
        return api.shown(database, [row])[0]

    @router.put("/{number}", responses=NOT_FOUND, summary=f"Change {api.one}")
    def replace_item(
        number: Number,
        body: draft,  # type: ignore[valid-type]
        caller: OperateCaller,
        database: DatabaseDep,
    ) -> view:  # type: ignore[valid-type]
        """Change one by its id; 409 where it would become the same as another."""
        kind = api.current(database)
        row = policy_items.replace_item(database, kind, number, body, caller.actor)
        return api.shown(database, [row])[0]

    @router.delete(
        "/{number}",
        status_code=status.HTTP_204_NO_CONTENT,
        responses=NOT_FOUND,
        summary=f"Delete {api.one}",
    )
    def delete_item(number: Number, caller: OperateCaller, database: DatabaseDep) -> None:
        """Delete one by its id."""
        policy_items.remove(database, api.kind, number, caller.actor)


def _add_many(router: APIRouter, api: ItemApi) -> None:
    drafts = create_model(
        f"{api.draft.__name__.removesuffix('Draft')}Bulk",
        __base__=Body,
        __doc__="Entries to add or change; the others stay.",
        items=(list[api.draft], Field(max_length=MOST_AT_ONCE)),  # type: ignore[name-defined]
    )

    @router.post("/bulk", summary=f"Add or change many {api.many}")
    def put_items(body: drafts, caller: OperateCaller, database: DatabaseDep) -> ChangeCounts:
        """Add or change up to 1,000 at once, all of them or none; for more there is the import."""
        items: Sequence[Draft] = body.items  # type: ignore[attr-defined]
        done = policy_items.put_all(database, api.current(database), items, caller.actor)
        return counts_of(done)

    @router.post("/bulk-delete", summary=f"Delete many {api.many}")
    def delete_items(
        body: ManyNumbers, caller: OperateCaller, database: DatabaseDep
    ) -> ChangeCounts:
        """Delete up to 1,000 ids and 1,000 values at once."""
        done = policy_items.remove_all(database, api.kind, body.ids, body.values, caller.actor)
        return counts_of(done)


def _add_files(router: APIRouter, api: ItemApi) -> None:
    @router.get(
        "/export",
        dependencies=[READ],
        response_class=StreamingResponse,
        responses=FILE_ANSWER,
        summary=f"Export all {api.many}",
    )
    def export_items(database: DatabaseDep, format: FileKind = FileKind.CSV) -> StreamingResponse:  # noqa: A002 - its name in the query
        """Give all as CSV or as JSON, the oldest first, in a form that the import takes."""
        return stream_items(database, api, format)

    @router.post("/import", openapi_extra=FILE_BODY, summary=f"Import {api.many}")
    async def import_items(
        query: Annotated[ImportQuery, Query()],
        request: Request,
        caller: OperateCaller,
        database: DatabaseDep,
    ) -> ChangeCounts:
        """Add or change all that a file names: CSV (`text/csv`) or an array (`application/json`).

        Every entry is checked before anything is changed. A file of a million entries takes some
        minutes at the most; the nodes get all of it at once. 409 while another one is imported.
        """
        read = partial(policy_imports.import_file, database, actor=caller.actor)
        how = {"file_kind": kind_of(request), "replace": query.replace}
        return counts_of(await with_file(request, database, api, read, **how))

    @router.post(
        "/import/preview", openapi_extra=FILE_BODY, summary=f"Preview an import of {api.many}"
    )
    async def preview_import(
        query: Annotated[ImportQuery, Query()],
        request: Request,
        caller: OperateCaller,
        database: DatabaseDep,
    ) -> ImportPreview:
        """Say what importing a file would change, and what of it cannot be used."""
        del caller
        read = partial(policy_imports.preview_file, database)
        how = {"file_kind": kind_of(request), "replace": query.replace}
        return preview_of(await with_file(request, database, api, read, **how))


async def with_file(
    request: Request, database: Database, api: ItemApi, read: Callable[..., Done], **how: Any
) -> Done:
    """Have a request's body read by `read`, in a thread; a large one waits on the disk."""
    with SpooledTemporaryFile(max_size=IN_MEMORY_BYTES) as spooled:
        file = cast("BinaryIO", spooled)
        async for chunk in request.stream():
            file.write(chunk)
        file.seek(0)
        kind = await run_in_threadpool(api.current, database)
        return await run_in_threadpool(read, kind=kind, file=file, **how)


def kind_of(request: Request) -> FileKind:
    """Return what the body is, by its media type; raises Invalid."""
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media not in MEDIA:
        raise Invalid("The Content-Type has to be text/csv or application/json.")
    return MEDIA[media]


def stream_items(database: Database, api: ItemApi, file_kind: FileKind) -> StreamingResponse:
    """Return all entries as a file to save."""
    pages = (
        [item.model_dump(mode="json") for item in api.shown(database, page)]
        for page in policy_imports.export_rows(database, api.kind)
    )
    names = tuple(api.draft.model_fields)
    if file_kind is FileKind.CSV:
        rows = ([[_cell(item[name]) for name in names] for item in page] for page in pages)
        return stream_csv(api.kind.name, names, rows)
    headers = {"Content-Disposition": f'attachment; filename="{api.kind.name}.json"'}
    return StreamingResponse(
        _json_lines(names, pages), media_type="application/json", headers=headers
    )


def _json_lines(names: Sequence[str], pages: Iterator[list[dict[str, Any]]]) -> Iterator[str]:
    before = "[\n"
    for page in pages:
        lines = [json.dumps({name: item[name] for name in names}) for item in page]
        yield before + ",\n".join(lines)
        before = ",\n"
    yield "[]\n" if before == "[\n" else "\n]\n"


def _cell(value: object) -> object:
    if isinstance(value, list):
        return " ".join(str(one) for one in value)
    return str(value).lower() if isinstance(value, bool) else value
