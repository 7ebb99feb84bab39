"""The agent's settings: from `/etc/relay/agent.toml`, or the environment (`RELAY_AGENT_*`)."""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pydantic import Field, ValidationError, field_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from nodeagent.errors import BadSettings

PREFIX: Final = "RELAY_AGENT_"
TOML_FILE: Final = "/etc/relay/agent.toml"


class AgentSettings(BaseSettings):
    """Where things are on this host; everything else comes from the control plane."""

    model_config = SettingsConfigDict(env_prefix=PREFIX, toml_file=TOML_FILE, extra="forbid")

    queue_directory: Path = Field(
        default=Path("/var/spool/postfix"), description="Postfix's queue_directory."
    )
    relay_directory: Path = Field(
        default=Path("/var/spool/relay"),
        description="Mirrors, pending and retired mail; on the filesystem of queue_directory.",
    )
    state_directory: Path = Field(
        default=Path("/var/lib/relay"), description="Keys, ledger and config versions."
    )
    run_directory: Path = Field(
        default=Path("/run/relay"), description="Sockets and files that must not survive a boot."
    )
    config_root: Path = Field(
        default=Path("/"), description="Rendered files are written below this directory."
    )
    ssh_config_directory: Path = Field(
        default=Path("/etc/relay"), description="authorized_keys and known_hosts of the peers."
    )
    mail_log: Path = Field(
        default=Path("/var/log/mail.log"),
        description="Postfix's maillog_file, read for the message trace.",
    )
    trace_spool_mib: int = Field(
        default=64,
        ge=1,
        le=4096,
        description="What of the message trace may wait here for the control plane; beyond that "
        "the oldest goes, and the trace says so.",
    )
    policy_directory: Path = Field(
        default=Path("/var/lib/relay-policy"),
        description="The policy hook's copy of the policy, and its log that waits for the control "
        "plane.",
    )
    policy_log_mib: int = Field(
        default=256,
        ge=1,
        le=65_536,
        description="What of the policy log may wait here; beyond that lines without a message go "
        "first, those of held or discarded mail last, and the log says so.",
    )
    policy_user: str = Field(
        default="relay-policy",
        pattern=r"^[a-z_][a-z0-9_-]{0,31}$",
        description="Who the policy hook runs as: a user without any rights.",
    )
    tick_s: float = Field(default=0.5, gt=0, le=10, description="Seconds between two ticks.")

    @field_validator("*")
    @classmethod
    def _is_absolute(cls, value: object) -> object:
        if isinstance(value, Path) and not value.is_absolute():
            raise ValueError("must be an absolute path")
        return value

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Let the environment win over the file."""
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def load_settings() -> AgentSettings:
    """Return this host's settings; raises `BadSettings` with one sentence a field."""
    try:
        return AgentSettings()
    except ValidationError as error:
        raise BadSettings(_sentences(error)) from error
    except ValueError as error:  # tomllib's, or a file in another encoding
        raise BadSettings(f"{TOML_FILE} is not TOML: {error}.") from error
    except OSError as error:
        raise BadSettings(f"{TOML_FILE} cannot be read: {error.strerror}.") from error


def _sentences(error: ValidationError) -> str:
    """Return one sentence a field, named as the environment names it."""
    found: dict[str, str] = {}
    for one in error.errors():
        text = one["msg"].removeprefix("Value error, ").rstrip(".")
        found.setdefault(str(one["loc"][0]), f"{text[:1].upper()}{text[1:]}.")
    return " ".join(f"{PREFIX}{name.upper()}: {text}" for name, text in found.items())


def check_filesystem(settings: AgentSettings) -> None:
    """Check that the queue can be renamed aside at all; raises `BadSettings`."""
    if not settings.queue_directory.is_dir():
        return
    relay = settings.relay_directory
    while not relay.exists():
        relay = relay.parent
    if relay.stat().st_dev != settings.queue_directory.stat().st_dev:
        raise BadSettings(
            f"relay_directory ({settings.relay_directory}) must be on the filesystem of "
            f"queue_directory ({settings.queue_directory})."
        )
