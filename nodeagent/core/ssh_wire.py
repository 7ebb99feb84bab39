"""The wire types of a test of a peer and of a user's key, and how SSH keys are named to people."""

from __future__ import annotations

import base64
import binascii
import hashlib
from enum import StrEnum
from typing import Final

from pydantic import Field, SecretStr, field_serializer

from nodeagent.core.contract import Number, PeerView, Wire


class PeerTestStep(StrEnum):
    """The steps in their order; the first that fails is the last that is done."""

    ADDRESS = "address"
    CONNECT = "connect"
    HOST_KEY = "host-key"
    LOGIN = "login"
    RECEIVER = "receiver"
    SPACE = "space"
    RSYNC = "rsync"
    CLOCK = "clock"


PEER_TEST_STEPS: Final = tuple(PeerTestStep)


class PeerTestQuestion(Wire):
    """Asks which peer the test of this number is about."""

    id: Number


class PeerTestWish(Wire):
    """A peer to be reached as a push would reach it."""

    id: Number
    peer: PeerView


class PeerTestLine(Wire):
    """What one step showed, in one sentence."""

    step: PeerTestStep
    ok: bool
    text: str = Field(max_length=500)


class PeerTestReport(Wire):
    """The steps done so far; `ok` is None while there are more to come."""

    id: Number
    ok: bool | None
    text: str = Field(default="", max_length=500)
    lines: tuple[PeerTestLine, ...] = Field(default=(), max_length=len(PEER_TEST_STEPS))


class GivenKeyQuestion(Wire):
    """Asks for the private half of the key that `ssh_replace_by` named."""

    public_key: str = Field(max_length=8192)


class GivenKey(Wire):
    """A private key as OpenSSH writes it, without a passphrase."""

    private_key: SecretStr

    @field_serializer("private_key", when_used="json")
    def _open_private_key(self, private_key: SecretStr) -> str:
        return private_key.get_secret_value()


def fingerprint(public_key: str) -> str | None:
    """Return what ssh-keygen(1) shows as fingerprint of a "type base64" line; None: no key."""
    try:
        blob = base64.b64decode(public_key.split()[1], validate=True)
    except (IndexError, ValueError, binascii.Error):
        return None
    return f"SHA256:{base64.b64encode(hashlib.sha256(blob).digest()).decode().rstrip('=')}"
