"""Tables of the mail policy: settings, entries, the packed sections, counts of rates, nodes.

Ids of entries are handed out by `policy_sequences`, from 1 rising, and never again: an entry's id
says which section it stands in. Times are floats, seconds since 1970 by the database's clock.
"""

from __future__ import annotations

from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Float,
    Index,
    LargeBinary,
    String,
    Text,
    UniqueConstraint,
)
from sqlmodel import Field, SQLModel

from controlplane.store.trace_tables import NUMBER, key_type

POLICY_ID = 1
"""Settings and revision are single rows with this id."""


class PolicySettingsRow(SQLModel, table=True):
    """What an administrator set, without what the cluster brings; the key is encrypted."""

    __tablename__ = "policy_settings"

    id: int = Field(default=POLICY_ID, primary_key=True)
    settings: dict[str, Any] = Field(default_factory=dict, sa_column=Column(JSON, nullable=False))
    pseudonym_key_sealed: str | None = Field(default=None, sa_column=Column(Text))


class PolicyRevisionRow(SQLModel, table=True):
    """How many publications there have been; nothing else is read once a second and node."""

    __tablename__ = "policy_revision"

    id: int = Field(default=POLICY_ID, primary_key=True)
    revision: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))


class PolicySequenceRow(SQLModel, table=True):
    """The last number that was given of one sort."""

    __tablename__ = "policy_sequences"

    name: str = Field(primary_key=True, max_length=32)
    last: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))


class PolicySectionRow(SQLModel, table=True):
    """One section as the nodes fetch it; `edits` and `packed_edits` differ until it is packed."""

    __tablename__ = "policy_sections"
    __table_args__ = (Index("ix_policy_sections_sha256", "sha256"),)

    kind: str = Field(primary_key=True, max_length=16)
    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    sha256: str = Field(default="", max_length=64)
    entries: int = 0
    body: bytes = Field(default=b"", sa_column=Column(LargeBinary, nullable=False))
    edits: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    packed_edits: int = Field(default=0, sa_column=Column(BigInteger, nullable=False))
    touched_at: float = Field(default=0.0, sa_type=Float)


class ItemRow(SQLModel):
    """What every entry has beside its own columns; `origin` is a user, or "import:" and one."""

    id: int = Field(sa_type=NUMBER, primary_key=True, sa_column_kwargs={"autoincrement": False})
    origin: str = Field(default="", max_length=64)
    created_at: float = Field(sa_type=Float)


class ListEntryRow(ItemRow, table=True):
    """One entry of block- or allowlist."""

    __tablename__ = "policy_list_entries"
    __table_args__ = (
        UniqueConstraint("listing", "value", name="uq_policy_list_entries_value"),
        Index("ix_policy_list_entries_expires", "expires_at"),
        Index("ix_policy_list_entries_listing", "listing", "id"),
    )

    listing: str = Field(max_length=8)
    value: str = Field(sa_type=key_type(320))
    reason: str = Field(default="", max_length=500)
    expires_at: float | None = Field(default=None, sa_type=Float)


class BadwordRow(ItemRow, table=True):
    """One word, phrase or regular expression; `digest` is unique where a pattern is too long."""

    __tablename__ = "policy_badwords"

    digest: str = Field(max_length=64, unique=True)
    pattern: str = Field(max_length=1000)
    is_regex: bool = False
    severity: str = Field(max_length=16)
    category: str = Field(max_length=16)
    is_enabled: bool = True


class RateRuleRow(ItemRow, table=True):
    """One limit."""

    __tablename__ = "policy_rates"
    __table_args__ = (UniqueConstraint("subject", "window", name="uq_policy_rates_subject"),)

    subject: str = Field(max_length=24)
    window: str = Field(max_length=16)
    limit: int = Field(sa_type=BigInteger)
    verdict: str = Field(max_length=16)
    is_enabled: bool = True


class ThreatSettingRow(SQLModel, table=True):
    """What an administrator changed of one built-in rule; the others have no row."""

    __tablename__ = "policy_threats"

    rule: str = Field(primary_key=True, max_length=60)
    is_enabled: bool = True
    score: float | None = Field(default=None, sa_type=Float)


class CategoryRow(ItemRow, table=True):
    """An address that stands for its subscribers."""

    __tablename__ = "policy_categories"

    address: str = Field(sa_column=Column(key_type(320), nullable=False, unique=True))
    name: str = Field(default="", max_length=100)
    posting: str = Field(max_length=16)
    allowed_senders: list[str] = Field(default_factory=list, sa_column=Column(JSON, nullable=False))
    is_enabled: bool = True


class SubscriptionRow(ItemRow, table=True):
    """One subscriber of one category; whoever has the token may end it."""

    __tablename__ = "policy_subscriptions"
    __table_args__ = (
        UniqueConstraint("category", "address", name="uq_policy_subscriptions_address"),
        Index("ix_policy_subscriptions_address", "address"),
    )

    category: int = Field(sa_type=BigInteger)
    address: str = Field(sa_type=key_type(320))
    token: str = Field(max_length=64, unique=True)


class RateCountRow(SQLModel, table=True):
    """How many one hook counted of one key in one bucket; `change` is the count's newest number."""

    __tablename__ = "policy_rate_counts"
    __table_args__ = (
        Index("ix_policy_rate_counts_change", "change"),
        Index("ix_policy_rate_counts_bucket", "window", "bucket"),
        {"sqlite_with_rowid": False},
    )

    source: str = Field(sa_column=Column(String(32), primary_key=True))
    window: str = Field(sa_column=Column(String(8), primary_key=True))
    bucket: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    key: str = Field(sa_column=Column(String(32), primary_key=True))
    count: int = Field(sa_column=Column(BigInteger, nullable=False))
    change: int = Field(sa_column=Column(BigInteger, nullable=False))


class PolicyNodeRow(SQLModel, table=True):
    """Which revision a node has in force, and why it has no newer one."""

    __tablename__ = "policy_nodes"

    node: str = Field(primary_key=True, max_length=63)
    source: str = Field(max_length=32)
    revision: int | None = Field(default=None, sa_column=Column(BigInteger))
    problem: str = Field(default="", max_length=500)
    seen_at: float = Field(sa_type=Float)


class PolicyImportRow(SQLModel, table=True):
    """One import that is not done; from `is_committed` on it is carried out, whatever happens."""

    __tablename__ = "policy_imports"

    id: int | None = Field(default=None, sa_column=Column(NUMBER, primary_key=True))
    list: str = Field(max_length=32)
    sections: str = Field(max_length=64)
    origin: str = Field(max_length=64)
    is_committed: bool = False
    touched_at: float = Field(sa_type=Float)


class PolicyImportPartRow(SQLModel, table=True):
    """Some entries to put or ids to remove, as JSON packed by zlib; gone once that is done."""

    __tablename__ = "policy_import_parts"

    import_id: int = Field(sa_column=Column(BigInteger, primary_key=True, autoincrement=False))
    number: int = Field(primary_key=True, sa_column_kwargs={"autoincrement": False})
    body: bytes = Field(sa_column=Column(LargeBinary, nullable=False))
