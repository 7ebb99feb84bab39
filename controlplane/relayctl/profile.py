"""Where the control plane is, how it is recognised, and the session: environment before file.

`relayctl login` writes the file (mode 0600). `RELAYCTL_URL`, `RELAYCTL_TOKEN`, `RELAYCTL_CA` (a PEM
file) and `RELAYCTL_FINGERPRINT` override it one by one; `RELAYCTL_CONFIG` names another file.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Final

from controlplane.relayctl.errors import Misused, NotLoggedIn

_TOKEN: Final = re.compile(r"[!-~]+")
DEFAULT_FILE: Final = Path("~/.config/relayctl/profile.json")


@dataclass(frozen=True)
class Profile:
    """One control plane as this operator knows it."""

    url: str | None = None
    token: str | None = None
    ca: str | None = None  # PEM file with a CA that signed its certificate
    fingerprint: str | None = None  # SHA-256 of its certificate, hex
    server_name: str | None = None  # the name in its certificate, where the URL has another

    def require_url(self) -> str:
        """Return the URL; raises NotLoggedIn."""
        if self.url is None:
            raise NotLoggedIn(
                "Say where the control plane is: relayctl login --url https://HOST:8443."
            )
        return self.url


def profile_path(environment: Mapping[str, str]) -> Path:
    """Return the file that `login` writes."""
    return Path(environment.get("RELAYCTL_CONFIG", str(DEFAULT_FILE))).expanduser()


def load_profile(environment: Mapping[str, str]) -> Profile:
    """Return the stored profile with the environment's values put in."""
    stored = _read(profile_path(environment))
    overrides = {
        name: environment[variable]
        for name in ("url", "token", "ca", "fingerprint", "server_name")
        if environment.get(variable := f"RELAYCTL_{name.upper()}")
    }
    if "url" in overrides and overrides["url"] != stored.url:
        stored = Profile()
    if "token" in overrides and not _TOKEN.fullmatch(overrides["token"]):
        raise Misused("RELAYCTL_TOKEN is no token: letters, digits and signs without a space.")
    return replace(stored, **overrides)


def save_profile(environment: Mapping[str, str], profile: Profile) -> Path:
    """Write the file so that only its owner can read it, whole or not at all."""
    path = profile_path(environment)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        with os.fdopen(os.open(temporary, flags, 0o600), "w") as file:
            json.dump(asdict(profile), file, indent=2)
        temporary.replace(path)
    except OSError as error:
        raise Misused(f"{path} cannot be written: {error.strerror}.") from error
    return path


def _read(path: Path) -> Profile:
    try:
        return _profile(**json.loads(path.read_text()))
    except FileNotFoundError:
        return Profile()
    except OSError as error:
        raise Misused(f"{path} cannot be read: {error.strerror}.") from error
    except (ValueError, TypeError) as error:
        raise Misused(f"{path} is damaged; remove it and log in again.") from error


def _profile(**values: object) -> Profile:
    texts = {name: value for name, value in values.items() if isinstance(value, str | None)}
    if len(texts) < len(values):
        raise TypeError("a profile has texts only")
    return Profile(**texts)
