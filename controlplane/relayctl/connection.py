"""Opens the connection that a command uses, writes the paths of the REST API, reads and removes."""

from __future__ import annotations

import os
from typing import Any
from urllib.parse import quote

from controlplane.relayctl.client import Client
from controlplane.relayctl.errors import Misused, NotLoggedIn
from controlplane.relayctl.output import print_done
from controlplane.relayctl.profile import load_profile


def connect() -> Client:
    """Return a client with the operator's session; raises NotLoggedIn."""
    profile = load_profile(os.environ)
    profile.require_url()
    if profile.token is None:
        raise NotLoggedIn
    return Client(profile)


def path_of(*parts: str | int) -> str:
    """Return an API path; each part is quoted whole, slashes too. Raises Misused."""
    try:
        return "".join(f"/{quote(str(part), safe='')}" for part in parts)
    except UnicodeEncodeError as error:
        raise Misused("An argument is no UTF-8 text.") from error


def fetch(path: str, **params: Any) -> Any:
    """Read something over a connection of its own."""
    with connect() as client:
        return client.get(path, **params)


def remove(noun: str, key: str, *, as_json: bool, **params: Any) -> None:
    """Remove one item of a list and say so."""
    with connect() as client:
        client.delete(path_of(noun, key), **params)
    print_done({"removed": key}, f"Removed {key}.", as_json=as_json)
