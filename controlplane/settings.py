"""Settings of one control plane process, read from the environment (prefix RELAY_)."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from typing import Annotated, Any

from apscheduler.triggers.cron import CronTrigger
from pydantic import Field, StringConstraints, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

LISTEN_PATTERN = r"^(\[[0-9a-fA-F:]+\]|[^:\[\]]+):[0-9]{1,5}$"
CRON_FIELDS = 5


class Settings(BaseSettings):
    """Where state lives, which database holds it, and where the API listens."""

    model_config = SettingsConfigDict(env_prefix="RELAY_", extra="ignore", frozen=True)

    state_dir: Path = Field(
        default=Path("/var/lib/relay-controlplane"),
        description="Keys, certificates and the embedded database.",
    )
    database_url: str = Field(default="", description="Empty: a SQLite file in `state_dir`.")
    listen: Annotated[str, StringConstraints(pattern=LISTEN_PATTERN)] = Field(
        default="0.0.0.0:8443", description="HOST:PORT of the API and the GUI, HTTPS only."
    )
    max_list_mib: int = Field(
        default=64,
        ge=1,
        description="Largest body of the calls that carry many domains or queue ids; "
        "64 MiB hold three million queue ids.",
    )
    event_keep_days: int = Field(default=90, ge=1, description="How long events are kept.")
    audit_keep_days: int = Field(
        default=1825, ge=1, description="How long the audit log is kept; five years."
    )
    trace_keep_days: int = Field(
        default=30,
        ge=1,
        description="How long a message stays in the trace after its last log line.",
    )
    policy_threat_keep_days: int = Field(
        default=90, ge=1, description="How long the threat log of the policy hook is kept."
    )
    policy_log_keep_days: int = Field(
        default=30,
        ge=1,
        description="How long decisions and connections of the policy hook are kept.",
    )
    cleanup_schedule: str = Field(
        default="0 2 * * *",
        description="When the policy log is cleaned up: minute, hour, day, month, weekday (UTC), "
        "as in crontab(5); weekdays by name.",
    )
    config_keep_versions: int = Field(
        default=100,
        ge=1,
        description="How many config versions are kept; one that a node has assigned or live is "
        "kept besides.",
    )
    node_wheel: Path | None = Field(
        default=None,
        description="A wheel of this program that hosts get which are set up over SSH; a "
        "`constraints.txt` beside it goes along. Empty: the program must be there already.",
    )
    stop_timeout_s: int = Field(
        default=5, ge=1, description="How long requests may take to end at a stop."
    )
    log_level: str = Field(default="info", description="debug, info, warning or error.")
    session_hours: float = Field(
        default=12.0, gt=0, le=720, description="How long a session lasts at most."
    )
    session_idle_minutes: float = Field(
        default=60.0,
        ge=2,
        description="How long a session lasts without being used; a use counts for a minute.",
    )
    one_time_password_hours: float = Field(
        default=24.0, gt=0, le=720, description="How long a one-time password opens its change."
    )
    argon2_rounds: int = Field(default=3, ge=1, description="Argon2 time cost of a password.")
    argon2_memory_kib: int = Field(default=65536, ge=8, description="Argon2 memory cost.")
    argon2_parallelism: int = Field(default=2, ge=1, description="Argon2 lanes.")

    @field_validator("listen")
    @classmethod
    def _port_is_a_port(cls, value: str) -> str:
        port = int(value.rsplit(":", 1)[1])
        if not 0 < port < 65536:  # noqa: PLR2004 - TCP
            raise ValueError(f"{port} is not a TCP port")
        return value

    @field_validator("cleanup_schedule")
    @classmethod
    def _schedule_is_a_schedule(cls, value: str) -> str:
        fields = value.split()
        if len(fields) != CRON_FIELDS:
            raise ValueError("a schedule has five fields: minute, hour, day, month, weekday")
        if any(digit in fields[-1] for digit in "0123456789"):
            raise ValueError("weekdays are named: mon, tue, ...; their numbers differ by program")
        try:
            CronTrigger.from_crontab(value, timezone=UTC)
        except ValueError as error:
            raise ValueError(f"this is no schedule: {error}") from error
        return value

    def model_post_init(self, context: Any, /) -> None:
        """Fill in the database that depends on the state directory."""
        del context
        if not self.database_url:
            url = f"sqlite:///{self.state_dir / 'relay.db'}"
            object.__setattr__(self, "database_url", url)

    @property
    def host(self) -> str:
        """The address to listen on, without brackets."""
        return self.listen.rsplit(":", 1)[0].strip("[]")

    @property
    def port(self) -> int:
        """The TCP port to listen on."""
        return int(self.listen.rsplit(":", 1)[1])
