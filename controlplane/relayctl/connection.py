"""Opens the connection that a command uses, and writes the paths of the REST API."""

from __future__ import annotations

import os
from urllib.parse import quote

from controlplane.relayctl.client import Client
from controlplane.relayctl.errors import NotLoggedIn
from controlplane.relayctl.profile import load_profile


def connect() -> Client:
    """Return a client with the operator's session; raises NotLoggedIn."""
    profile = load_profile(os.environ)
    profile.require_url()
    if profile.token is None:
        raise NotLoggedIn
    return Client(profile)


def path_of(*parts: str | int) -> str:
    """Return an API path; each part is quoted whole, slashes too."""
    return "".join(f"/{quote(str(part), safe='')}" for part in parts)
