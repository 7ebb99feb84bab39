"""One request to a page: who looks, in which language and theme, and how answers are made.

Every page's endpoint takes a shell that declares who may use it (`ReadShell`, `AdminShell`, ..., or
`AnyVisitor`, which anybody may) and answers with `page()`, `fragment()` or `done()`. Layout,
headers, tokens, notices and compression are made here and nowhere else.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Annotated, Any, Final
from urllib.parse import unquote

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from markupsafe import Markup

from controlplane.api.permissions import OPEN, Requires
from controlplane.api.user_auth import COOKIE, Caller, find_caller
from controlplane.core.permissions import Permission, refusal
from controlplane.errors import Unauthenticated
from controlplane.gui import protection
from controlplane.gui.language import (
    DEFAULT_LANGUAGE,
    LANGUAGES,
    REGIONS,
    Localizer,
    choose_language,
    find_zone,
)
from controlplane.gui.navigation import NAVIGATION, NavigationItem
from controlplane.gui.policy_tabs import POLICY_TABS, PolicyTab
from controlplane.gui.templating import render_block, render_page
from controlplane.store.engine import Database, DatabaseDep

LANGUAGE_COOKIE: Final = "relay_language"
THEME_COOKIE: Final = "relay_theme"
ZONE_COOKIE: Final = "relay_zone"
AUTO: Final = "auto"
THEMES: Final = (AUTO, "light", "dark")
COMPRESS_FROM_BYTES: Final = 1000
COMPRESSION: Final = 5


@dataclass(frozen=True)
class Shell:
    """Who looks at a page, and how; made once a request."""

    request: Request
    localizer: Localizer
    theme: str
    secret: str
    caller: Caller | None

    @property
    def signed_in(self) -> Caller:
        """The user who looks; raises Unauthenticated when nobody is signed in."""
        if self.caller is None:
            raise Unauthenticated("Log in first.")
        return self.caller

    def may(self, permission: str) -> bool:
        """Tell whether the user may do what needs this permission; the API checks it again."""
        user = self.signed_in.user
        return refusal(Permission(permission), user.role, user.scope) is None

    def text(self, message: str, **values: Any) -> str:
        """Return a message of the catalogue in the viewer's language."""
        return self.localizer.text(message, **values)

    def page(
        self, template: str, *, status: int = HTTPStatus.OK, block: str | None = None, **values: Any
    ) -> Response:
        """Answer with a page; to HTMX, which asks for a part of it, with `block` alone."""
        if block is not None and self.wants_fragment:
            return self.fragment(template, block, status=status, **values)
        return self._html(render_page(template, self._values(**values)), status)

    def fragment(
        self,
        template: str,
        block: str,
        *,
        status: int = HTTPStatus.OK,
        notice: str | None = None,
        tone: str = "good",
        **values: Any,
    ) -> Response:
        """Answer with one block of a template, and with a notice in the page's corner."""
        answer = self._html(render_block(template, block, self._values(**values)), status)
        if notice is not None:
            shown = {"relay:notice": {"text": notice, "tone": tone}}
            answer.headers["HX-Trigger"] = json.dumps(shown)
        return answer

    def done(self, path: str, notice: str | None = None, tone: str = "good") -> Response:
        """Answer a change with the way to another page, which shows the notice."""
        answer = self.redirect(path)
        if notice is not None:
            sealed = protection.seal_notice(self.secret, notice, tone)
            protection.set_cookie(answer, protection.NOTICE_COOKIE, sealed)
        return answer

    def redirect(self, path: str) -> Response:
        """Answer with the way to another page of ours."""
        where = protection.local_path(path)
        headers = dict(protection.HEADERS)
        if self.is_htmx:
            return Response(headers={**headers, "HX-Redirect": where})
        return RedirectResponse(where, status_code=HTTPStatus.SEE_OTHER, headers=headers)

    @property
    def is_htmx(self) -> bool:
        """Tell whether HTMX asks, and not the browser for a page."""
        return self.request.headers.get("HX-Request") == "true"

    @property
    def wants_fragment(self) -> bool:
        """Tell whether HTMX wants a part of the page."""
        return self.is_htmx and self.request.headers.get("HX-Request-Type") == "partial"

    @property
    def navigation(self) -> tuple[NavigationItem, ...]:
        """The sidebar: the pages that there are, and that the user may see."""
        return tuple(
            item for item in NAVIGATION if item.path in self.pages and self.may(item.permission)
        )

    @property
    def policy_tabs(self) -> tuple[PolicyTab, ...]:
        """The pages of the mail policy: those that there are, and that the user may see."""
        return tuple(
            tab for tab in POLICY_TABS if tab.path in self.pages and self.may(tab.permission)
        )

    @property
    def pages(self) -> frozenset[str]:
        """The paths of all pages that there are: what is not among them is linked nowhere."""
        paths: frozenset[str] = self.request.app.state.page_paths
        return paths

    def _values(self, **values: Any) -> dict[str, Any]:
        token = protection.form_token(self.secret)
        return {
            **values,
            "shell": self,
            "pages": self.pages,
            "localizer": self.localizer,
            "locale": REGIONS[self.localizer.language].replace("_", "-"),
            "languages": LANGUAGES,
            "themes": THEMES,
            "path": self.request.url.path,
            "now_ms": int(time.time() * 1000),
            "csrf": _input(token),
            "csrf_token": token,
            "notice": self._notice(),
        }

    def _notice(self) -> tuple[str, str] | None:
        sealed = self.request.cookies.get(protection.NOTICE_COOKIE)
        return protection.open_notice(self.secret, sealed) if sealed else None

    def _html(self, text: str, status: int) -> Response:
        headers = {**protection.HEADERS, "Vary": "Accept-Encoding, Cookie, HX-Request"}
        headers["Content-Language"] = self.localizer.language
        content = text.encode()
        accepts = self.request.headers.get("accept-encoding", "")
        if "gzip" in accepts and len(content) >= COMPRESS_FROM_BYTES:
            content = gzip.compress(content, COMPRESSION, mtime=0)
            headers["Content-Encoding"] = "gzip"
        answer = HTMLResponse(content, status_code=status, headers=headers)
        if protection.secret_of(self.request) is None:
            protection.set_cookie(answer, protection.VISIT_COOKIE, self.secret)
        if protection.NOTICE_COOKIE in self.request.cookies:
            answer.delete_cookie(protection.NOTICE_COOKIE, path="/", secure=True, httponly=True)
        return answer


def _input(token: str) -> Markup:
    return Markup('<input type="hidden" name="{}" value="{}">').format(
        protection.TOKEN_FIELD, token
    )


def make_shell(request: Request, caller: Caller | None) -> Shell:
    """Return the shell of a request; what a user chose comes before what the browser chose."""
    cookies = request.cookies
    language = choose_language(
        _chosen(caller.user.language if caller else None, cookies.get(LANGUAGE_COOKIE)),
        request.headers.get("accept-language", DEFAULT_LANGUAGE),
    )
    in_browser = unquote(cookies.get(ZONE_COOKIE, AUTO))
    zone = _chosen(caller.user.time_zone if caller else None, in_browser)
    theme = _chosen(caller.user.theme if caller else None, cookies.get(THEME_COOKIE))
    return Shell(
        request=request,
        localizer=Localizer(language, find_zone(zone if zone != AUTO else None)),
        theme=theme if theme in THEMES else AUTO,
        secret=protection.secret_of(request) or protection.new_visit(),
        caller=caller,
    )


def _chosen(by_user: str | None, in_browser: str | None) -> str:
    return by_user if by_user not in {None, AUTO} else in_browser or AUTO


def find_visitor(request: Request, database: Database) -> Caller | None:
    """Return who the browser's session belongs to, None when there is none."""
    token = request.cookies.get(COOKIE)
    return find_caller(request, database, token) if token else None


def any_visitor(request: Request, database: DatabaseDep, is_open: Annotated[None, OPEN]) -> Shell:
    """Give an endpoint the shell, also of somebody who is not signed in."""
    del is_open
    return make_shell(request, find_visitor(request, database))


def shell_for(permission: Permission) -> Callable[..., Shell]:
    """Return what gives an endpoint the shell of a user who may do this; else the way on."""
    required = Depends(Requires(permission))

    def get_shell(request: Request, caller: Caller = required) -> Shell:
        return make_shell(request, caller)

    return get_shell


AnyVisitor = Annotated[Shell, Depends(any_visitor)]
PasswordShell = Annotated[Shell, Depends(shell_for(Permission.PASSWORD))]
OwnShell = Annotated[Shell, Depends(shell_for(Permission.OWN))]
ReadShell = Annotated[Shell, Depends(shell_for(Permission.READ))]
OperateShell = Annotated[Shell, Depends(shell_for(Permission.OPERATE))]
AdminShell = Annotated[Shell, Depends(shell_for(Permission.ADMIN))]
UsersShell = Annotated[Shell, Depends(shell_for(Permission.USERS))]
"""Each declares what the page's endpoint needs, as the API's `...Caller` types do."""


def page_router() -> APIRouter:
    """Return a router for pages: not in the API's document, every change of it protected."""
    return APIRouter(include_in_schema=False, dependencies=[Depends(protection.protect)])
