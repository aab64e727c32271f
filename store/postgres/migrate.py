"""Build, undo and check the schema with Alembic, and make the day partitions of the week."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from store.clock import SystemClock
from store.errors import StoreError
from store.postgres import locks
from store.postgres.connecting import make_engine
from store.postgres.partitions import DayPartitions
from store.postgres.tables import metadata
from store.upkeep import coming_days

_PARTITION = re.compile(r".+_(p\d{8}|h\d+|undated)$")

# Restored into another cluster, labels carry transaction ids from its future and would wait there.
_REDATE_LABELS = text(
    "UPDATE labels SET xact = pg_current_xact_id()::text::bigint"
    " WHERE xact >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
)


def upgrade(url: str, *, revision: str = "head", now: datetime | None = None) -> None:
    """Bring the schema to a revision and make the partitions of the coming week.

    All in one transaction under an advisory lock, so several processes may start at once.
    """
    with _migrating(url) as (connection, config):
        command.upgrade(config, revision)
        days = coming_days(now or SystemClock().now())
        DayPartitions(connection, set()).ensure(days)
        connection.execute(_REDATE_LABELS)


def downgrade(url: str, *, revision: str = "base") -> None:
    """Take the schema back to a revision; ``base`` removes every fact."""
    with _migrating(url) as (_, config):
        command.downgrade(config, revision)


def check(url: str) -> None:
    """Raise ``StoreError`` unless the schema is at the newest revision."""
    newest = ScriptDirectory.from_config(_config()).get_current_head()
    engine = make_engine(url, pooled=False)
    with engine.connect() as connection:
        found = MigrationContext.configure(connection).get_current_revision()
    if found != newest:
        raise StoreError(
            f"the schema is at revision {found or 'none'}, this version needs {newest};"
            " run `steersman migrate`"
        )


def differences(url: str) -> list[object]:
    """Return how the schema differs from ``tables.py``, partitions apart."""
    engine = make_engine(url, pooled=False)
    options = {"include_name": is_ours, "compare_server_default": True}
    with engine.connect() as connection:
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, metadata))


def is_ours(name: str | None, kind: str, _parents: Mapping[Any, str | None]) -> bool:
    """Whether Alembic should compare that object: partitions follow their parents."""
    return not (kind == "table" and name is not None and _PARTITION.match(name))


@contextmanager
def _migrating(url: str) -> Iterator[tuple[Connection, Config]]:
    engine = make_engine(url, pooled=False)
    with engine.begin() as connection:
        connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": locks.MIGRATE})
        config = _config()
        config.attributes["connection"] = connection
        yield connection, config


def _config() -> Config:
    """Find the migrations: beside the packages in a checkout, inside ``store`` in the wheel."""
    store = Path(__file__).resolve().parents[1]
    places = (store / "_migrations", store.parent / "migrations")
    for place in places:
        if (place / "env.py").exists():
            config = Config()
            config.set_main_option("script_location", str(place).replace("%", "%%"))
            return config
    raise StoreError("the migrations are missing from this installation")
