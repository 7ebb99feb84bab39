"""Alembic's entry point: migrates the connection that `controlplane.store.schema` hands over."""

from __future__ import annotations

from alembic import context
from sqlmodel import SQLModel

from controlplane.store import (
    cluster_tables,
    ownership_tables,
    sample_tables,
    trace_tables,
    user_tables,
)

TABLES = (cluster_tables, ownership_tables, sample_tables, trace_tables, user_tables)

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=SQLModel.metadata,
    transactional_ddl=False,
    render_as_batch=True,
    compare_type=True,
)
context.run_migrations()
