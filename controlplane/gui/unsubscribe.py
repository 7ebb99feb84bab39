"""The link to unsubscribe in a mail (RFC 8058): a page with one button, and what POST does.

Anybody may call it: there is no login, no cookie and no form token, for mail providers send the
POST themselves. A GET changes nothing, because scanners follow every link of a mail. What is
answered tells a stranger nothing: neither the list nor the subscriber, and of a link that is not
ours only that.
"""

from __future__ import annotations

import re
import threading
import time
from email import message_from_bytes
from http import HTTPStatus
from typing import Annotated, Final
from urllib.parse import unquote_plus

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse
from starlette.concurrency import run_in_threadpool

from controlplane.api.permissions import OPEN
from controlplane.api.user_auth import actor_of, client_address
from controlplane.errors import Invalid, Throttled
from controlplane.gui.language import DEFAULT_LANGUAGE, REGIONS, Localizer, choose_language
from controlplane.gui.protection import FORM_TYPE, HEADERS
from controlplane.gui.templating import render_page
from controlplane.store.cluster import read_settings
from controlplane.store.engine import Database, DatabaseDep
from controlplane.store.unsubscribing import is_known, unsubscribe

router = APIRouter(include_in_schema=False, dependencies=[OPEN])

SUBSCRIBER: Final = "subscriber"
FIELD: Final = "List-Unsubscribe"
ONE_CLICK: Final = "One-Click"
TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{16,64}")
MULTIPART: Final = "multipart/form-data"
MOST_BYTES: Final = 4096
LONGEST_KIND: Final = 200
"""A boundary has up to 70 characters; reading a Content-Type takes the square of its length."""
MISSES_A_MINUTE: Final = 60
MOST_ADDRESSES: Final = 10_000
MINUTE_S: Final = 60.0


class Misses:
    """Counts links that are not ours by the address that tries them; one of them a process.

    Hits neither count nor are refused: a large provider unsubscribes many people from few
    addresses, and behind a proxy all people have one address, that of whoever guesses as well.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._minute = 0
        self._counts: dict[str, int] = {}

    def refuse_guessing(self, address: str, now_s: float) -> None:
        """Raise Throttled for an address with too many misses in this minute."""
        with self._lock:
            self._begin(now_s)
            if self._counts.get(address, 0) >= MISSES_A_MINUTE:
                raise Throttled("Too many links that are not known; try again in a minute.")

    def note(self, address: str, now_s: float) -> None:
        """Count one miss."""
        with self._lock:
            self._begin(now_s)
            if address in self._counts or len(self._counts) < MOST_ADDRESSES:
                self._counts[address] = self._counts.get(address, 0) + 1

    def _begin(self, now_s: float) -> None:
        minute = int(now_s // MINUTE_S)
        if minute != self._minute:
            self._minute, self._counts = minute, {}


def get_misses(request: Request) -> Misses:
    """Give an endpoint the process's count."""
    misses: Misses = request.app.state.misses
    return misses


MissesDep = Annotated[Misses, Depends(get_misses)]


@router.get("/unsubscribe/{token}")
def confirm(token: str, request: Request, database: DatabaseDep, misses: MissesDep) -> Response:
    """Show the button; nothing is changed."""
    if TOKEN.fullmatch(token):
        with database.read() as session:
            if is_known(session, token):
                return _page(request, database, token=token)
    return _unknown(request, database, misses)


@router.post("/unsubscribe/{token}")
async def follow(
    token: str, request: Request, database: DatabaseDep, misses: MissesDep
) -> Response:
    """End the subscription, at once and however often."""
    is_asked = await asks_one_click(request)
    return await run_in_threadpool(_follow, token, request, database, misses, is_asked=is_asked)


def _follow(
    token: str, request: Request, database: Database, misses: Misses, *, is_asked: bool
) -> Response:
    if not is_asked:
        return _page(request, database, status=HTTPStatus.BAD_REQUEST)
    actor = actor_of(request, SUBSCRIBER)
    if not TOKEN.fullmatch(token) or not unsubscribe(database, token, actor):
        return _unknown(request, database, misses)
    return _page(request, database, is_done=True)


async def asks_one_click(request: Request) -> bool:
    """Tell whether the body is that of RFC 8058, as either kind of form; raises Invalid."""
    kind = request.headers.get("content-type", "")
    if len(kind) > LONGEST_KIND:
        raise Invalid(f"The Content-Type is longer than {LONGEST_KIND} characters.")
    body = b""
    async for chunk in request.stream():
        body += chunk
        if len(body) > MOST_BYTES:
            return False
    media = kind.partition(";")[0].strip().lower()
    if media == FORM_TYPE:
        pairs = body.decode("latin-1").split("&")
        return [value for name, value in map(_unquoted, pairs) if name == FIELD] == [ONE_CLICK]
    return media == MULTIPART and _of_multipart(kind, body) == [ONE_CLICK]


def _unquoted(pair: str) -> tuple[str, str]:
    name, _, value = pair.partition("=")
    return unquote_plus(name), unquote_plus(value)


def _of_multipart(kind: str, body: bytes) -> list[str]:
    message = message_from_bytes(f"Content-Type: {kind}\r\n\r\n".encode("latin-1") + body)
    if not message.is_multipart():
        return []
    return [
        bytes(part.get_payload(decode=True) or b"").decode("latin-1").strip()
        for part in message.walk()
        if part.get_param("name", header="content-disposition") == FIELD
    ]


def _unknown(request: Request, database: Database, misses: Misses) -> Response:
    address, now_s = client_address(request), time.monotonic()
    misses.refuse_guessing(address, now_s)
    misses.note(address, now_s)
    return _page(request, database, status=HTTPStatus.NOT_FOUND)


def _page(
    request: Request,
    database: Database,
    *,
    token: str | None = None,
    is_done: bool = False,
    status: int = HTTPStatus.OK,
) -> Response:
    accepted = request.headers.get("accept-language", DEFAULT_LANGUAGE)
    language = choose_language(None, accepted)
    with database.read() as session:
        cluster = read_settings(session).name
    values = {
        "localizer": Localizer(language),
        "locale": REGIONS[language].replace("_", "-"),
        "cluster": cluster,
        "token": token,
        "is_done": is_done,
        "status": int(status),
        "field": FIELD,
        "value": ONE_CLICK,
    }
    headers = {**HEADERS, "Content-Language": language, "X-Robots-Tag": "noindex"}
    headers["Referrer-Policy"] = "no-referrer"
    return HTMLResponse(render_page("unsubscribe.html", values), int(status), headers=headers)
