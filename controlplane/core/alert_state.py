"""The alerts' part of a state file: thresholds, how often anything is said, channels by name.

A channel's URL is a secret, and where it leads is an Admin's to know while everybody may export a
state. So the file has no more of a channel than its name and whether it is on. An import keeps the
URL of a channel of the same name. A part that a file does not have stays as it is.
"""

from __future__ import annotations

from typing import Annotated, Final

from pydantic import Field, StringConstraints

from controlplane.core.spec import Spec

MOST_CHANNELS: Final = 20
CHANNEL_PATTERN: Final = r"^[A-Za-z0-9][A-Za-z0-9 ._-]{0,62}$"

ThresholdValue = Annotated[float, Field(gt=0, le=1e12, allow_inf_nan=False)]
CoolDown = Annotated[int, Field(ge=1, le=1440)]


class AlertPaceState(Spec):
    """How often anything is said."""

    cool_down_minutes: CoolDown = 30
    tells_end: bool = True


class AlertRuleState(Spec):
    """What was set of one rule."""

    rule: str = Field(max_length=40, examples=["queue-size"])
    is_enabled: bool = True
    threshold: ThresholdValue


class AlertChannelState(Spec):
    """One channel; its URL is in no file."""

    name: Annotated[str, StringConstraints(pattern=CHANNEL_PATTERN)] = Field(examples=["on-call"])
    is_enabled: bool = True


class AlertsState(Spec):
    """The alerts; what is null or not there is left as it is by an import."""

    settings: AlertPaceState | None = None
    rules: tuple[AlertRuleState, ...] | None = Field(
        default=None, description="Those that were set; the others are as the program says."
    )
    channels: tuple[AlertChannelState, ...] | None = Field(
        default=None,
        description="By name, without their URLs. One that is not there yet is imported switched "
        "off and has to be given its URL.",
    )
