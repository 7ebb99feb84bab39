"""Requests as Stalwart really sends them, one a stage, to be varied by each test."""

from __future__ import annotations

import copy
import json
from typing import Any

MAIL_HEADERS = [
    ["From", " John Doe <john@example.com>\r\n"],
    ["To", " bill@foobar.test\r\n"],
    ["Subject", " A long subject\r\n that is folded\r\n"],
    ["X-Mailer", " one\r\n"],
    ["X-Mailer", " two\r\n"],
]
BODY = "Dear Bill,\r\n\r\n.dot\r\nGrüße\r\n"


def request(stage: str = "data", **client: Any) -> dict[str, Any]:
    """Return what Stalwart's code sends at this stage; `client` replaces fields of the client."""
    context: dict[str, Any] = {
        "stage": stage,
        "client": {"ip": "192.0.2.1", "port": 34567, "ptr": None, "helo": None}
        | {"activeConnections": 1}
        | client,
        "server": {"name": "Stalwart", "port": 25, "ip": "192.0.2.2"},
        "protocol": {"version": 1},
    }
    asked: dict[str, Any] = {"context": context}
    if stage != "connect":
        context["client"].setdefault("helo", None)
        context["client"]["helo"] = context["client"]["helo"] or "mx.example.com"
    if stage in {"mail", "rcpt", "data"}:
        to = [] if stage == "mail" else [{"address": "bill@foobar.test"}]
        asked["envelope"] = {"from": {"address": "john@example.com"}, "to": to}
    if stage == "data":
        context["queue"] = {"id": "2a5b0c"}
        headers = copy.deepcopy(MAIL_HEADERS)
        asked["message"] = {"headers": headers, "contents": BODY, "size": 12345}
    return asked


def encoded(asked: object) -> bytes:
    """Return the body of the request."""
    return json.dumps(asked).encode()
