"""The wire types of a route test: what a node shall try, and the dialogue that came of it."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field, SecretStr, field_serializer

from nodeagent.core.contract import Number, Wire


class RouteTestQuestion(Wire):
    """Asks what the route test of this number is to try."""

    id: Number


class RouteTestWish(Wire):
    """A route to be tried up to RCPT, as smtp(8) would use it; no message is sent."""

    id: Number
    next_hop: str  # a host name or an address without brackets
    port: int
    tls_mode: Literal["none", "may", "encrypt", "verify"]
    helo: str
    mail_from: str
    recipient: str
    username: str | None = None
    password: SecretStr | None = None

    @field_serializer("password", when_used="json")
    def _open_password(self, password: SecretStr | None) -> str | None:
        return None if password is None else password.get_secret_value()


class Speaker(StrEnum):
    """Who said a line of a dialogue; NODE: what the node notes about it."""

    CLIENT = "client"
    SERVER = "server"
    NODE = "node"


class RouteTestLine(Wire):
    """One line of the dialogue, credentials masked."""

    speaker: Speaker
    text: str = Field(max_length=500)


class RouteTestResult(Wire):
    """How far a dialogue came: `ok` when the recipient was accepted; `text` is one sentence."""

    id: Number
    ok: bool
    text: str = Field(max_length=500)
    lines: tuple[RouteTestLine, ...] = Field(default=(), max_length=200)
