"""Refusals as pages: whoever asked for a page gets one, in their language, with the way on."""

from __future__ import annotations

from http import HTTPStatus
from typing import Final
from urllib.parse import urlencode

from fastapi import Request, Response
from fastapi.responses import PlainTextResponse

from controlplane.api.error_handlers import Refused, respond_json
from controlplane.api.user_auth import Caller
from controlplane.errors import ControlPlaneError, PasswordChangeRequired
from controlplane.gui.protection import HEADERS
from controlplane.gui.sentences import translate_sentence
from controlplane.gui.shell import Shell, find_visitor, make_shell
from controlplane.store.engine import get_database

OTHER_PATHS: Final = ("/api/", "/static/", "/healthz", "/metrics", "/openapi.json", "/unsubscribe/")
STREAM: Final = "text/event-stream"


def respond(request: Request, refused: Refused) -> Response:
    """Answer with a page, or as the API does where no person reads it."""
    if request.url.path.startswith(OTHER_PATHS):
        return respond_json(request, refused)
    shell = make_shell(request, _visitor(request))
    if shell.is_htmx or STREAM in request.headers.get("accept", ""):
        return _for_scripts(shell, refused)
    if refused.status == HTTPStatus.UNAUTHORIZED:
        return shell.redirect(_login(request))
    if isinstance(refused.error, PasswordChangeRequired):
        return shell.redirect("/password")
    return shell.page("error.html", status=refused.status, refused=refused)


def _for_scripts(shell: Shell, refused: Refused) -> Response:
    """Answer HTMX with one sentence that is never swapped in, or with the way to the login."""
    headers = dict(HEADERS)
    if refused.status == HTTPStatus.UNAUTHORIZED:
        headers["HX-Redirect"] = "/login"
    text = translate_sentence(shell.localizer, refused.detail)
    return PlainTextResponse(text, status_code=refused.status, headers=headers)


def _login(request: Request) -> str:
    if request.method != "GET" or request.url.path == "/":
        return "/login"
    target = request.url.path + (f"?{request.url.query}" if request.url.query else "")
    return f"/login?{urlencode({'next': target})}"


def _visitor(request: Request) -> Caller | None:
    """Return who is signed in; nobody while the database does not answer."""
    try:
        return find_visitor(request, get_database(request))
    except ControlPlaneError:
        return None
