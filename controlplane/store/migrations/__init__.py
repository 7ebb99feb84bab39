"""Alembic's environment and the numbered migrations of the control plane's database."""
