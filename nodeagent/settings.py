"""The agent's settings: from `/etc/relay/agent.toml`, or the environment (`RELAY_AGENT_*`)."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)


class AgentSettings(BaseSettings):
    """Where things are on this host; everything else comes from the control plane."""

    model_config = SettingsConfigDict(
        env_prefix="RELAY_AGENT_", toml_file="/etc/relay/agent.toml", extra="forbid"
    )

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
    tick_s: float = Field(default=0.5, gt=0, le=10, description="Seconds between two ticks.")

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
