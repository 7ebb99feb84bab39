"""The table of samples: what each node's queue held and how much mail went, over time."""

from __future__ import annotations

from sqlalchemy import BigInteger, Index
from sqlmodel import Field, SQLModel


class SampleRow(SQLModel, table=True):
    """One node in one step of time; `at` is its begin, whole seconds of the database's clock.

    Queue counts are the largest of the step. Flow counts only rise, from the agent's start on, and
    are those of the step's end; a fall says that the agent was started again. None: not known.
    """

    __tablename__ = "samples"
    __table_args__ = (Index("ix_samples_time", "step_s", "at"),)

    node: str = Field(primary_key=True, max_length=63)
    step_s: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    at: int = Field(primary_key=True, sa_type=BigInteger, sa_column_kwargs={"autoincrement": False})
    incoming: int | None = Field(default=None, sa_type=BigInteger)
    active: int | None = Field(default=None, sa_type=BigInteger)
    deferred: int | None = Field(default=None, sa_type=BigInteger)
    hold: int | None = Field(default=None, sa_type=BigInteger)
    pending: int | None = Field(default=None, sa_type=BigInteger)
    retired: int | None = Field(default=None, sa_type=BigInteger)
    quarantined: int | None = Field(default=None, sa_type=BigInteger)
    accepted: int | None = Field(default=None, sa_type=BigInteger)
    delivered: int | None = Field(default=None, sa_type=BigInteger)
    deferrals: int | None = Field(default=None, sa_type=BigInteger)
    bounced: int | None = Field(default=None, sa_type=BigInteger)
    rejected: int | None = Field(default=None, sa_type=BigInteger)
