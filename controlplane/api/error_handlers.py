"""Every error leaves the API as one `Refusal`: a sentence, one per field at fault, no traceback."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from sqlalchemy.exc import IntegrityError
from starlette.exceptions import HTTPException

from controlplane.errors import ControlPlaneError
from nodeagent.core.contract import Refusal

log = structlog.get_logger(__name__)

BODY_PARTS = ("body", "query", "path", "header", "cookie")


@dataclass(frozen=True)
class Refused:
    """What is wrong with a request: for whoever answers it."""

    status: int
    detail: str
    fields: dict[str, str] = field(default_factory=dict)
    error: Exception | None = None


Respond = Callable[[Request, Refused], Response]


def respond_json(request: Request, refused: Refused) -> Response:
    """Answer with a `Refusal`, as the whole API does."""
    del request
    reason = refused.error.reason if isinstance(refused.error, ControlPlaneError) else None
    return refuse(refused.status, refused.detail, refused.fields, reason)


def install_error_handlers(app: FastAPI, respond: Respond = respond_json) -> None:
    """Make `app` answer every error in one shape, which `respond` makes."""
    explain: dict[type[Exception], Callable[[Request, Exception], Refused]] = {
        ControlPlaneError: explain_refusal,
        RequestValidationError: _on_invalid_request,
        HTTPException: _on_http_error,
        IntegrityError: _on_integrity_error,
        Exception: _on_crash,
    }
    for kind, on_error in explain.items():
        app.add_exception_handler(kind, _handler(on_error, respond))


def _handler(
    explain: Callable[[Request, Exception], Refused], respond: Respond
) -> Callable[[Request, Exception], Response]:
    def answer(request: Request, error: Exception) -> Response:
        return respond(request, explain(request, error))

    return answer


def refuse(
    status: int, detail: str, fields: dict[str, str] | None = None, reason: str | None = None
) -> JSONResponse:
    """Return the answer that carries one refusal."""
    body = Refusal(detail=detail, fields=fields or {}, reason=reason)
    headers = {"WWW-Authenticate": "Bearer"} if status == 401 else None  # noqa: PLR2004 - HTTP
    return JSONResponse(body.model_dump(exclude_none=True), status_code=status, headers=headers)


def field_sentences(errors: Sequence[Any]) -> dict[str, str]:
    """Return one sentence per field from pydantic's error list; the value itself is not quoted."""
    fields: dict[str, str] = {}
    for error in errors:
        where = [str(part) for part in error["loc"] if part not in BODY_PARTS]
        name = ".".join(where) or "body"
        message = str(error["msg"]).removeprefix("Value error, ")
        fields.setdefault(name, message[:1].upper() + message[1:].rstrip(".") + ".")
    return fields


def explain_refusal(request: Request, error: Exception) -> Refused:
    """Return what an answer says of a `ControlPlaneError`; the log hears of our own failures."""
    assert isinstance(error, ControlPlaneError)  # noqa: S101 - registered for this class
    if error.status >= 500:  # noqa: PLR2004 - HTTP
        log.warning("refused", path=request.url.path, detail=error.detail)
    return Refused(error.status, error.detail, error.fields, error)


def _on_invalid_request(request: Request, error: Exception) -> Refused:
    del request
    assert isinstance(error, RequestValidationError)  # noqa: S101 - registered for this class
    fields = field_sentences(error.errors())
    detail = "The request is not valid; nothing was changed: " + ", ".join(fields) + "."
    return Refused(422, detail, fields)


def _on_http_error(request: Request, error: Exception) -> Refused:
    assert isinstance(error, HTTPException)  # noqa: S101 - registered for this class
    if error.status_code == 404 and error.detail == "Not Found":  # noqa: PLR2004 - HTTP
        return Refused(404, f"There is nothing at {request.url.path}.")
    if error.status_code == 400:  # noqa: PLR2004 - HTTP: the framework could not read the body
        sentence = "The body cannot be read; nothing was changed."
        return Refused(422, sentence, {"body": str(error.detail).rstrip(".") + "."})
    return Refused(error.status_code, str(error.detail).rstrip(".") + ".")


def _on_integrity_error(request: Request, error: Exception) -> Refused:
    log.warning("constraint", path=request.url.path, error=str(error))
    return Refused(409, "Somebody changed the same thing at the same time; read it again.")


def _on_crash(request: Request, error: Exception) -> Refused:
    log.error("crashed", path=request.url.path, exc_info=error)
    return Refused(500, "An internal error; the control plane's log says more.")
