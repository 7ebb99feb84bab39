"""Alembic's entry point: migrates the connection that `controlplane.store.schema` hands over."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

from controlplane.store import (
    alert_tables,
    cluster_tables,
    ended_subscriptions,
    ownership_tables,
    policy_log_tables,
    policy_tables,
    sample_tables,
    trace_tables,
    user_tables,
)

TABLES = (
    alert_tables,
    cluster_tables,
    ended_subscriptions,
    ownership_tables,
    policy_tables,
    policy_log_tables,
    sample_tables,
    trace_tables,
    user_tables,
)

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    transactional_ddl=False,
    render_as_batch=True,
    compare_type=True,
)
context.run_migrations()
