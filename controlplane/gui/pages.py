"""The status page at `/`, and the forms for logging in, changing the password and logging out."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any, Final

from fastapi import APIRouter, Depends, Request, Response
from fastapi.responses import HTMLResponse, RedirectResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from controlplane.api.cluster_access import StoreDep
from controlplane.api.permissions import OPEN, PasswordCaller
from controlplane.api.user_auth import (
    COOKIE,
    Caller,
    LoginRulesDep,
    actor_of,
    clear_session_cookie,
    find_caller,
    refuse_foreign_pages,
    set_session_cookie,
)
from controlplane.errors import ControlPlaneError, Invalid, Throttled, Unauthenticated
from controlplane.gui.forms import FormDep
from controlplane.gui.status import duration, read_status
from controlplane.store.engine import Database, DatabaseDep
from controlplane.store.user_sessions import log_out
from controlplane.store.users import change_password, log_in

router = APIRouter(include_in_schema=False)

HERE: Final = Path(__file__).parent
SEE_OTHER: Final = 303
MAX_INPUT: Final = 1024
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; style-src 'self'; form-action 'self'; "
    "frame-ancestors 'none'; base-uri 'none'",
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}


@router.get("/style.css", dependencies=[OPEN])
def style() -> Response:
    """Send the one style sheet."""
    return Response((HERE / "templates" / "style.css").read_text(), media_type="text/css")


@router.get("/", dependencies=[OPEN])
def status_page(request: Request, database: DatabaseDep, store: StoreDep) -> Response:
    """Show what runs where, or the way to the login."""
    caller = _page_caller(request, database)
    if caller is None:
        return _redirect("/login")
    if caller.user.must_change_password:
        return _redirect("/password")
    with database.read() as session:
        page = read_status(store, session)
    return _page("status.html", {"page": page, "user": caller.user.name})


@router.get("/login", dependencies=[OPEN])
def login_page() -> Response:
    """Show the login form."""
    return _page("login.html", {"error": None})


@router.post("/login", dependencies=[OPEN, Depends(refuse_foreign_pages)])
def log_in_by_form(
    request: Request, form: FormDep, database: DatabaseDep, rules: LoginRulesDep
) -> Response:
    """Log in, or show the form again with the reason."""
    try:
        actor = actor_of(request, _field(form, "user")[:64])
        code = form.get("code", "")[:64]
        issued = log_in(database, actor, _field(form, "password"), rules, code=code)
    except (Invalid, Unauthenticated, Throttled) as error:
        return _page("login.html", {"error": error.detail}, error)
    answer = _redirect("/")
    set_session_cookie(answer, issued, rules)
    return answer


@router.get("/password", dependencies=[OPEN])
def password_page(request: Request, database: DatabaseDep) -> Response:
    """Show the form for a new password."""
    caller = _page_caller(request, database)
    if caller is None:
        return _redirect("/login")
    return _page("password.html", _password_values(caller, None))


@router.post("/password")
def change_password_by_form(
    form: FormDep, caller: PasswordCaller, database: DatabaseDep, rules: LoginRulesDep
) -> Response:
    """Set the new password, or show the form again with the reason."""
    try:
        issued = change_password(
            database,
            caller.actor,
            current=_field(form, "current_password"),
            new=_repeated_password(form),
            rules=rules,
        )
    except (Invalid, Throttled) as error:
        return _page("password.html", _password_values(caller, error.detail), error)
    answer = _redirect("/")
    set_session_cookie(answer, issued, rules)
    return answer


@router.post("/logout")
def log_out_by_form(caller: PasswordCaller, database: DatabaseDep) -> Response:
    """End the session."""
    log_out(database, caller.actor, caller.token)
    answer = _redirect("/login")
    clear_session_cookie(answer)
    return answer


def _page_caller(request: Request, database: Database) -> Caller | None:
    token = request.cookies.get(COOKIE)
    return find_caller(request, database, token) if token else None


def _password_values(caller: Caller, error: str | None) -> dict[str, Any]:
    user = caller.user
    return {"error": error, "user": user.name, "is_forced": user.must_change_password}


def _field(form: dict[str, str], name: str) -> str:
    value = form.get(name, "")
    if not value or len(value) > MAX_INPUT:
        raise Invalid("Fill in every field of the form.")
    return value


def _repeated_password(form: dict[str, str]) -> str:
    new = _field(form, "new_password")
    if new != _field(form, "repeated"):
        raise Invalid("The two new passwords differ.")
    return new


def _redirect(path: str) -> RedirectResponse:
    return RedirectResponse(path, status_code=SEE_OTHER, headers=dict(HEADERS))


def _page(
    template: str, values: dict[str, Any], error: ControlPlaneError | None = None
) -> HTMLResponse:
    text = _environment().get_template(template).render(values)
    status = error.status if error is not None else 200
    return HTMLResponse(text, status_code=status, headers=dict(HEADERS))


@cache
def _environment() -> Environment:
    environment = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["duration"] = duration
    return environment
