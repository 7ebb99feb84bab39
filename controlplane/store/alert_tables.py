"""Tables of alerts: where they go, when, what is remembered of each rule, and what was sent."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import JSON, Column, Float, Text
from sqlmodel import Field, SQLModel

SETTINGS_ID: Final = 1


class AlertChannelRow(SQLModel, table=True):
    """One place that alerts go to; the URL, which mostly holds a secret, is sealed."""

    __tablename__ = "alert_channels"

    name: str = Field(primary_key=True, max_length=64)
    service: str = Field(max_length=60)
    host: str = Field(max_length=255)
    """Whom it connects to; empty where the service has a fixed place."""
    url_sealed: str
    is_enabled: bool = True
    last_at: float | None = Field(default=None, sa_type=Float)
    last_is_ok: bool | None = None
    last_text: str = Field(default="", max_length=300)


class AlertRuleRow(SQLModel, table=True):
    """What an administrator set for a rule; one without a row is as the program says."""

    __tablename__ = "alert_rules"

    rule: str = Field(primary_key=True, max_length=40)
    is_enabled: bool
    threshold: float = Field(sa_type=Float)


class AlertSettingsRow(SQLModel, table=True):
    """How often anything is said, and when the rules were looked at last: one row."""

    __tablename__ = "alert_settings"

    id: int = Field(default=SETTINGS_ID, primary_key=True)
    cool_down_minutes: int
    tells_end: bool
    judged_at: float = Field(default=0.0, sa_type=Float)


class AlertStateRow(SQLModel, table=True):
    """`RuleState` of one rule."""

    __tablename__ = "alert_states"

    rule: str = Field(primary_key=True, max_length=40)
    announced: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    notified_at: float | None = Field(default=None, sa_type=Float)
    calm_since: float | None = Field(default=None, sa_type=Float)


class AlertMessageRow(SQLModel, table=True):
    """One message that was due, whether or not there was a channel for it."""

    __tablename__ = "alert_messages"

    number: int | None = Field(default=None, primary_key=True)
    at: float = Field(sa_type=Float, index=True)
    title: str = Field(max_length=200)
    body: str = Field(sa_type=Text)
    rules: list[Any] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))


class AlertDeliveryRow(SQLModel, table=True):
    """One message on its way to one channel; `due_at` is None once nothing more is tried."""

    __tablename__ = "alert_deliveries"

    message: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    channel: str = Field(primary_key=True, max_length=64)
    attempts: int = 0
    due_at: float | None = Field(default=None, sa_type=Float, index=True)
    finished_at: float | None = Field(default=None, sa_type=Float)
    is_ok: bool | None = None
    text: str = Field(default="", max_length=300)
