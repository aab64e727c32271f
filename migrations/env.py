"""Alembic's entry: runs on the connection that ``store/postgres/migrate.py`` hands over."""

from __future__ import annotations

from alembic import context

import store.postgres.judging_tables  # noqa: F401  its tables join the metadata
from store.postgres.migrate import is_ours
from store.postgres.tables import metadata

context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=metadata,
    include_name=is_ours,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
