"""What `relay-lab up` was asked for, kept on disk so that every later verb acts on the same lab."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from typing import Final

from lab.errors import NotUp
from lab.layout import STATE_DIR

_FILE: Final = STATE_DIR / "lab.json"


@dataclass(frozen=True)
class Settings:
    """One lab's choices and, once it is provisioned, how to log in."""

    database: str = "sqlite"
    push_interval_s: float = 1.0
    advert_interval_s: float = 0.1
    has_sink: bool = True
    admin_user: str = "admin"
    admin_password: str = "Admin123"  # noqa: S105 - the documented first login

    def save(self) -> None:
        """Write the choices where only root may read them, whole or not at all."""
        STATE_DIR.mkdir(mode=0o700, parents=True, exist_ok=True)
        fresh = _FILE.with_suffix(".new")
        fresh.touch(mode=0o600)
        fresh.write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")
        fresh.replace(_FILE)

    def with_password(self, password: str) -> Settings:
        """Give the same choices with the administrator's new password."""
        return replace(self, admin_password=password)


def load() -> Settings:
    """Read the running lab's choices; raises NotUp where there is none, or none of this version."""
    try:
        return Settings(**json.loads(_FILE.read_text(encoding="utf-8")))
    except FileNotFoundError as error:
        raise NotUp from error
    except (ValueError, TypeError) as error:
        raise NotUp(f"{_FILE} is of another version: `relay-lab up` starts afresh.") from error
