"""How a day goes: its partitions detached and dropped, or swapped for a copy without text.

Detaching takes the parent's strongest lock for a moment. Whoever waits for it makes everybody else
wait behind, so it gives up after ``LOCK_TIMEOUT_MS`` and the caller tries again. ``CONCURRENTLY``
would not wait, but cannot be one transaction with the other tables and the audit entry.
"""

from __future__ import annotations

from datetime import date, timedelta

from sqlalchemy import Connection, Table, func, select, text

from store.postgres import locks
from store.postgres.partitions import partition_of
from store.postgres.tables import DAY_TABLES, prompts, responses, shadow_answers

LOCK_TIMEOUT_MS = 300
TEXTS = frozenset({"text_utf8", "check_utf8"})
"""Columns that go with the text: a check may hold the answer."""
WITHOUT_TEXT = "without text"
"""Comment of a day's partition of prompts whose text was dropped; saves looking through it."""

DROP_KEYS = text(
    "WITH batch AS (SELECT request_id FROM decisions"
    " WHERE day = :day AND NOT is_sampled AND request_id > :after"
    " ORDER BY request_id LIMIT :limit),"
    " gone AS (DELETE FROM request_keys k USING batch"
    " WHERE k.request_id = batch.request_id AND k.day = :day RETURNING 1)"
    " SELECT (SELECT count(*) FROM batch), (SELECT count(*) FROM gone),"
    " (SELECT max(request_id) FROM batch)"
)
# Oldest first off the primary key: a batch looks at `limit` rows, not for `limit` rows.
DROP_AGED = (
    text(
        "DELETE FROM outbox WHERE message_id IN (SELECT message_id FROM"
        " (SELECT * FROM outbox ORDER BY message_id LIMIT :limit) AS oldest"
        " WHERE written_at < :before AND published_at IS NOT NULL)"
    ),
    text(
        "DELETE FROM calibrations WHERE calibration_id IN (SELECT calibration_id FROM"
        " (SELECT * FROM calibrations ORDER BY calibration_id LIMIT :limit) AS oldest"
        " WHERE calibrated_at < :before)"
    ),
    text(
        "DELETE FROM feedback WHERE idempotency_key IN"
        " (SELECT idempotency_key FROM feedback WHERE received_at < :before LIMIT :limit)"
    ),
)
_DROP_TASKS = text(
    "DELETE FROM judge_tasks t USING decisions d"
    " WHERE d.day = :day AND d.is_sampled AND t.request_id = d.request_id"
)
_DROP_AWAITED = text(
    "DELETE FROM awaited_labels a USING decisions d"
    " WHERE d.day = :day AND d.is_sampled AND a.request_id = d.request_id"
)
_DROP_OTHER_KEYS = text(
    "DELETE FROM request_keys k USING decisions d"
    " WHERE d.day = :day AND k.request_id = d.request_id AND k.day = :day"
)
_DROP_COMMENTS = text(
    "UPDATE feedback SET comment = NULL"
    " WHERE comment IS NOT NULL AND received_at >= :day AND received_at < :next"
)


def drop_day(connection: Connection, day: date) -> None:
    """Drop a day's partitions with the keys and tasks that point into them."""
    _begin_alone(connection)
    for statement in (_DROP_TASKS, _DROP_AWAITED, _DROP_OTHER_KEYS):
        connection.execute(statement, {"day": day})
    for table in DAY_TABLES:
        _detach_and_drop(connection, table, day)


def drop_texts(connection: Connection, day: date) -> None:
    """Swap a day's partitions that hold text for copies without it, and clear its comments.

    Not an UPDATE: that would leave each row twice until a vacuum, the old one with its text.
    """
    _begin_alone(connection)
    connection.execute(_DROP_COMMENTS, {"day": day, "next": day + timedelta(days=1)})
    for table in (prompts, responses, shadow_answers):
        _copy_without_text(connection, table, day)
    for table in (prompts, responses, shadow_answers):
        _detach_and_drop(connection, table, day)
        _attach_copy(connection, table, day)
    name = partition_of(prompts, day)
    connection.exec_driver_sql(f"COMMENT ON TABLE {name} IS '{WITHOUT_TEXT}'")


def _begin_alone(connection: Connection) -> None:
    """Keep out whoever makes or drops partitions, and never wait long for anybody else."""
    connection.exec_driver_sql(f"SET LOCAL lock_timeout = {LOCK_TIMEOUT_MS}")
    connection.execute(select(func.pg_advisory_xact_lock(locks.PARTITIONS)))


def _detach_and_drop(connection: Connection, table: Table, day: date) -> None:
    name = partition_of(table, day)
    connection.exec_driver_sql(f"ALTER TABLE {table.name} DETACH PARTITION {name}")
    connection.exec_driver_sql(f"DROP TABLE {name}")


def _copy_without_text(connection: Connection, table: Table, day: date) -> None:
    """Copy everything but the text; late writers of the day wait for the swap."""
    name = partition_of(table, day)
    kept = ", ".join(column.name for column in table.c if column.name not in TEXTS)
    connection.exec_driver_sql(f"LOCK TABLE {name} IN SHARE ROW EXCLUSIVE MODE")
    connection.exec_driver_sql(f"CREATE TABLE {name}_bare (LIKE {table.name} INCLUDING ALL)")
    connection.exec_driver_sql(
        f"INSERT INTO {name}_bare ({kept}) SELECT {kept} FROM {name}"  # noqa: S608  names of ours
    )
    # Proves the bounds, so that attaching need not read the table under the parent's lock.
    connection.exec_driver_sql(
        f"ALTER TABLE {name}_bare ADD CONSTRAINT in_day CHECK"
        f" (day >= '{day}' AND day < '{day + timedelta(days=1)}')"
    )


def _attach_copy(connection: Connection, table: Table, day: date) -> None:
    name = partition_of(table, day)
    bounds = f"FROM ('{day}') TO ('{day + timedelta(days=1)}')"
    connection.exec_driver_sql(f"ALTER TABLE {name}_bare RENAME TO {name}")
    connection.exec_driver_sql(
        f"ALTER TABLE {table.name} ATTACH PARTITION {name} FOR VALUES {bounds}"
    )
    connection.exec_driver_sql(f"ALTER TABLE {name} DROP CONSTRAINT in_day")
