"""What guards the pages: headers, the forms' tokens, signed notices, and paths to go back to.

Theory of operation. Every change by a browser needs two proofs: that it came from a page of ours
(Fetch Metadata or Origin, see `user_auth`), and a token that only a page of the same session shows.
The token is an HMAC under the session's own secret, so nothing is stored and it dies with the
session; before there is a session, a random cookie of the visit stands for it. It is masked anew
in every page, so that compressing pages tells nothing about it (BREACH).
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
from typing import Final
from urllib.parse import parse_qsl, urlsplit

from fastapi import Request, Response

from controlplane.api.body_limit import POLICY_PAGE_FILES
from controlplane.api.user_auth import COOKIE, SAFE_METHODS, is_own_origin
from controlplane.errors import Forbidden, Invalid

TOKEN_FIELD: Final = "csrf_token"  # noqa: S105 - a field's name
TOKEN_HEADER: Final = "X-CSRF-Token"  # noqa: S105 - a header's name
VISIT_COOKIE: Final = "relay_visit"
NOTICE_COOKIE: Final = "relay_notice"
FORM_TYPE: Final = "application/x-www-form-urlencoded"
MAX_FIELDS: Final = 2000
DIGEST_BYTES: Final = 32
HEADERS: Final = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; "
    "base-uri 'none'",
    "Cache-Control": "no-store",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=()",
    "Referrer-Policy": "same-origin",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
}
"""Of every page. `data:` images are the arrows and ticks within Tabler's style sheet."""


def new_visit() -> str:
    """Return a secret for a browser that has no session yet."""
    return secrets.token_urlsafe(32)


def secret_of(request: Request) -> str | None:
    """Return what the browser alone knows: its session's token, else its visit's."""
    return request.cookies.get(COOKIE) or request.cookies.get(VISIT_COOKIE)


def form_token(secret: str) -> str:
    """Return a fresh token for the forms of a page."""
    mask = secrets.token_bytes(DIGEST_BYTES)
    return _encode(mask + _xor(mask, _digest(secret, b"form")))


def is_form_token(secret: str, token: str) -> bool:
    """Tell whether a token was made for this secret."""
    try:
        raw = _decode(token)
    except ValueError:
        return False
    if len(raw) != 2 * DIGEST_BYTES:
        return False
    shown = _xor(raw[:DIGEST_BYTES], raw[DIGEST_BYTES:])
    return hmac.compare_digest(shown, _digest(secret, b"form"))


async def read_form(request: Request) -> dict[str, list[str]]:
    """Return the fields of a form's body, each with all its values; raises Invalid.

    Where a page sends a file as it is, of any length, a form is none of ours and not read.
    """
    if request.url.path in POLICY_PAGE_FILES:
        return {}
    if request.headers.get("content-type", "").partition(";")[0].strip() != FORM_TYPE:
        return {}
    try:
        pairs = parse_qsl(
            (await request.body()).decode(), keep_blank_values=True, max_num_fields=MAX_FIELDS
        )
    except ValueError as error:
        raise Invalid("This form cannot be read.") from error
    fields: dict[str, list[str]] = {}
    for name, value in pairs:
        fields.setdefault(name, []).append(value)
    return fields


async def protect(request: Request) -> None:
    """Refuse a change that does not come from a form of ours; every page's router depends on it."""
    if request.method in SAFE_METHODS:
        return
    if is_own_origin(request) is not True:
        raise Forbidden("This request came from a page of another site.")
    sent = request.headers.get(TOKEN_HEADER) or (await read_form(request)).get(TOKEN_FIELD, [""])[0]
    secret = secret_of(request)
    if secret is None or not is_form_token(secret, sent):
        raise Forbidden("This form is too old or was not made for you; open the page again.")


def seal_notice(secret: str, text: str, tone: str) -> str:
    """Return a notice for the next page, readable and writable under this secret only."""
    body = json.dumps([text, tone]).encode()
    return _encode(_digest(secret, body) + body)


def open_notice(secret: str, sealed: str) -> tuple[str, str] | None:
    """Return text and tone of a notice, None when it is none of ours."""
    try:
        raw = _decode(sealed)
    except ValueError:
        return None
    digest, body = raw[:DIGEST_BYTES], raw[DIGEST_BYTES:]
    if not hmac.compare_digest(digest, _digest(secret, body)):
        return None
    text, tone = json.loads(body)
    return str(text), str(tone)


def local_path(wanted: str | None, default: str = "/") -> str:
    """Return a path of ours to go to; what names another host becomes `default`."""
    if not wanted or not wanted.startswith("/") or wanted.startswith(("//", "/\\")):
        return default
    if not wanted.isprintable() or "\\" in wanted or urlsplit(wanted).netloc:
        return default
    return wanted


def set_cookie(response: Response, name: str, value: str, max_age_s: int | None = None) -> None:
    """Set a cookie of the GUI: HTTPS only, unreadable by scripts, never cross-site."""
    response.set_cookie(
        name, value, max_age=max_age_s, path="/", secure=True, httponly=True, samesite="strict"
    )


def _digest(secret: str, purpose: bytes) -> bytes:
    return hmac.digest(hashlib.sha256(secret.encode()).digest(), purpose, "sha256")


def _xor(left: bytes, right: bytes) -> bytes:
    return bytes(a ^ b for a, b in zip(left, right, strict=True))


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).decode().rstrip("=")


def _decode(text: str) -> bytes:
    return base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
