"""Build, undo and check the schema with Alembic, and make the day partitions of the week.

A schema may be newer than the program: during a rolling upgrade it moves first. Migrations only
add, so an older program goes on; one that does not only add says which program it needs, as a
comment on Alembic's table (``require``).
"""

from __future__ import annotations

import logging
import re
import threading
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
from psycopg.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy import Connection, text

import store.postgres.describing_tables
import store.postgres.judging_tables  # noqa: F401  its tables join the metadata
from store.clock import SystemClock
from store.errors import StoreError, StoreUnavailable
from store.postgres import locks
from store.postgres.connecting import make_engine
from store.postgres.partitions import DayPartitions
from store.postgres.tables import metadata
from store.upkeep import coming_days

log = logging.getLogger(__name__)

LOCK_TIMEOUT_MS = 2_000
ATTEMPTS = 5
PAUSE_S = 1.0
"""Between attempts: those who waited behind us have their turn."""
_LEAST = "least program: "
_COMMENT = text("SELECT obj_description('alembic_version'::regclass)")
_PARTITION = re.compile(r".+_(p\d{8}|h\d+|undated)$")

# Restored into another cluster, labels carry transaction ids from its future and would wait there.
_REDATE_LABELS = text(
    "UPDATE labels SET xact = pg_current_xact_id()::text::bigint"
    " WHERE xact >= pg_snapshot_xmax(pg_current_snapshot())::text::bigint"
)


def upgrade(url: str, *, revision: str = "head", now: datetime | None = None) -> None:
    """Bring the schema to a revision and make the partitions of the coming week.

    Under an advisory lock, so several processes may start at once. The schema is one transaction:
    it changes as a whole or not at all. A newer schema is left as it is.

    Raises
    ------
    StoreError
        The schema needs a newer program.
    StoreUnavailable
        Others kept using a table that must change; nothing was changed.
    """
    _upgrade_schema(url, revision)
    with _migrating(url) as (connection, _):  # the locks of the schema's change are gone by now
        days = coming_days(now or SystemClock().now())
        DayPartitions(connection, set()).ensure(days)
        connection.execute(_REDATE_LABELS)


def _upgrade_schema(url: str, revision: str) -> None:
    """Try a few times: whoever waits for a table makes everybody else wait behind, so not long."""
    for _ in range(ATTEMPTS):
        if _is_upgraded(url, revision):
            return
        SystemClock().wait(threading.Event(), PAUSE_S)
    raise StoreUnavailable(
        f"the schema was not changed: others kept using a table in {ATTEMPTS} attempts (a pg_dump,"
        " a long transaction: see pg_stat_activity); when it has ended run `steersman migrate`"
    )


def _is_upgraded(url: str, revision: str) -> bool:
    """Bring the schema to a revision; False, and nothing changes, if a table is in use: others
    hold it too long, or hold one that we wait for while they wait for one that we hold.
    """
    try:
        with _migrating(url) as (connection, config):
            if not _is_newer(connection, config):
                connection.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
                command.upgrade(config, revision)
    except StoreUnavailable as problem:
        if not isinstance(problem.__cause__, LockNotAvailable | DeadlockDetected):
            raise
        log.warning("schema.in_use", extra={"why": str(problem)})
        return False
    return True


def downgrade(url: str, *, revision: str = "base") -> None:
    """Take the schema back to a revision; ``base`` removes every fact.

    What a migration that is undone required of programs is required no more.
    """
    with _migrating(url) as (connection, config):
        command.downgrade(config, revision)
        if _least(connection) > (_revision(connection) or ""):
            connection.execute(text("COMMENT ON TABLE alembic_version IS NULL"))


def check(url: str) -> None:
    """Raise ``StoreError`` unless the schema is at the newest revision or at a newer one that
    this program may use.
    """
    config = _config()
    newest = ScriptDirectory.from_config(config).get_current_head()
    engine = make_engine(url, pooled=False)
    with engine.connect() as connection:
        found = _revision(connection)
        if found != newest and not _is_newer(connection, config):
            raise StoreError(
                f"the schema is at revision {found or 'none'}, this version needs {newest};"
                " run `steersman migrate`"
            )


def require(connection: Connection, least: str) -> None:
    """Say, in a migration that does not only add, which revision a program must know from now on;
    older ones refuse to start instead of failing later.

    Its downgrade must say again what an earlier one required; otherwise nothing is.
    """
    connection.execute(text(f"COMMENT ON TABLE alembic_version IS '{_LEAST}{int(least):04}'"))


def _is_newer(connection: Connection, config: Config) -> bool:
    """Whether the schema was built by a newer program that lets this one go on."""
    found = _revision(connection)
    scripts = ScriptDirectory.from_config(config)
    own = scripts.get_current_head() or ""
    if found is None or found <= own:  # revisions are numbered: 0001, 0002, ...
        return False
    least = _least(connection)
    if least > own:
        raise StoreError(
            f"the schema is at revision {found} and needs a program that knows {least}; this one"
            f" knows {own}: install the newer version"
        )
    log.warning("schema.newer", extra={"schema": found, "program": own})
    return True


def _least(connection: Connection) -> str:
    """Return the revision that a program must know, nothing if there is none."""
    said: str = connection.scalar(_COMMENT) or ""
    return said.removeprefix(_LEAST) if said.startswith(_LEAST) else ""


def _revision(connection: Connection) -> str | None:
    return MigrationContext.configure(connection).get_current_revision()


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
