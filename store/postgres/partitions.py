"""Day partitions: made ahead at migrate time and daily, and on the spot when one is missing.

A decision whose day has no partition gets one in its own transaction. Refusing it would lose a
decision to a clock or to a maintenance job that did not run; a default partition would have to be
emptied before the day's own could be attached.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from datetime import date, timedelta

from sqlalchemy import Connection, Table, func, select, text

from store.postgres import locks
from store.postgres.tables import DAY_TABLES

_EXISTING = text(
    "SELECT parent.relname AS parent, child.relname AS child,"
    " pg_total_relation_size(child.oid) AS bytes, obj_description(child.oid, 'pg_class') AS comment"
    " FROM pg_inherits"
    " JOIN pg_class child ON child.oid = inhrelid JOIN pg_class parent ON parent.oid = inhparent"
    " WHERE parent.relname = ANY(:tables) AND child.relname ~ '_p[0-9]{8}$'"
    " AND parent.relnamespace = current_schema()::regnamespace"
)


class DayPartitions:
    """The partitions as one transaction sees them.

    Parameters
    ----------
    connection
        The transaction.
    known
        Days whose partitions are committed; shared by all transactions of a process, so that a
        batch costs no look-up.
    """

    def __init__(self, connection: Connection, known: set[date]) -> None:
        self._connection = connection
        self._known = known
        self._made: set[date] = set()

    def look_again(self, days: Iterable[date]) -> None:
        """Take nothing for granted about those days: others may have dropped their partitions."""
        self._known -= set(days)

    def ensure(self, days: Iterable[date]) -> list[date]:
        """Make what is missing for those days; return the days that were made."""
        missing = set(days) - self._known - self._made
        if not missing:
            return []
        # Held to the end: two transactions that make one day must not both try.
        self._connection.execute(select(func.pg_advisory_xact_lock(locks.PARTITIONS)))
        attached = {(name, day) for name, day, _, _ in described(self._connection)}
        made = []
        for day in sorted(missing):
            absent = [table for table in DAY_TABLES if (table.name, day) not in attached]
            if absent:
                _make(self._connection, day, absent)
                made.append(day)
            else:
                self._known.add(day)
        self._made.update(made)
        return made


def _make(connection: Connection, day: date, tables: Iterable[Table]) -> None:
    """Build a day's tables apart, then attach: attaching does not wait for running inserts."""
    for table in tables:
        name = partition_of(table, day)
        bounds = f"FROM ('{day}') TO ('{day + timedelta(days=1)}')"
        connection.exec_driver_sql(f"CREATE TABLE {name} (LIKE {table.name} INCLUDING ALL)")
        connection.exec_driver_sql(
            f"ALTER TABLE {table.name} ATTACH PARTITION {name} FOR VALUES {bounds}"
        )


def listed(connection: Connection) -> list[date]:
    """Return the days that have a partition of every table, in order."""
    found = Counter(day for _, day, _, _ in described(connection))
    return sorted(day for day, tables in found.items() if tables == len(DAY_TABLES))


def described(connection: Connection) -> list[tuple[str, date, int, str | None]]:
    """Return table, day, size in bytes and comment of every attached day partition."""
    tables = {"tables": [table.name for table in DAY_TABLES]}
    found = connection.execute(_EXISTING, tables)
    return [
        (row.parent, date.fromisoformat(row.child.rpartition("_p")[2]), row.bytes, row.comment)
        for row in found
    ]


def partition_of(table: Table, day: date) -> str:
    """Return the name of a table's partition of a day."""
    return f"{table.name}_p{day:%Y%m%d}"
