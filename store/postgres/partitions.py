"""Day partitions: made ahead at migrate time and daily, and on the spot when one is missing.

A decision whose day has no partition gets one in its own transaction. Refusing it would lose a
decision to a clock or to a maintenance job that did not run; a default partition would have to be
emptied before the day's own could be attached.
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import date, datetime, timedelta

from sqlalchemy import Connection, Engine, func, select, text

from store.postgres import locks
from store.postgres.tables import DAY_TABLES
from store.records import day_of

DAYS_AHEAD = 7
_EXISTING = text(
    "SELECT child.relname FROM pg_inherits"
    " JOIN pg_class child ON child.oid = inhrelid JOIN pg_class parent ON parent.oid = inhparent"
    " WHERE parent.relname = 'decisions' AND parent.relnamespace = current_schema()::regnamespace"
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

    def ensure(self, days: Iterable[date]) -> list[date]:
        """Make what is missing for those days; return the days that were made."""
        missing = set(days) - self._known - self._made
        if not missing:
            return []
        # Held to the end: two transactions that make one day must not both try.
        self._connection.execute(select(func.pg_advisory_xact_lock(locks.PARTITIONS)))
        existing = set(listed(self._connection))
        self._known |= (missing & existing) - self._made
        made = sorted(missing - existing)
        for day in made:
            _make(self._connection, day)
        self._made.update(made)
        return made


def _make(connection: Connection, day: date) -> None:
    """Build a day's tables apart, then attach: attaching does not wait for running inserts."""
    for table in DAY_TABLES:
        name = f"{table.name}_p{day:%Y%m%d}"
        bounds = f"FROM ('{day}') TO ('{day + timedelta(days=1)}')"
        connection.exec_driver_sql(f"CREATE TABLE {name} (LIKE {table.name} INCLUDING ALL)")
        connection.exec_driver_sql(
            f"ALTER TABLE {table.name} ATTACH PARTITION {name} FOR VALUES {bounds}"
        )


def listed(connection: Connection) -> list[date]:
    """Return the days that have partitions, in order."""
    names = connection.execute(_EXISTING).scalars()
    return sorted(date.fromisoformat(name.rpartition("_p")[2]) for name in names if "_p" in name)


def prepare_days(engine: Engine, *, now: datetime, ahead: int = DAYS_AHEAD) -> list[date]:
    """Make partitions from yesterday to ``ahead`` days from now; return the days made.

    Run at migrate time and daily. Safe to run at any time and by several processes at once.
    """
    with engine.begin() as connection:
        return DayPartitions(connection, set()).ensure(coming_days(now, ahead=ahead))


def coming_days(now: datetime, *, ahead: int = DAYS_AHEAD) -> list[date]:
    """Return yesterday (a late batch), today and the days to come."""
    return [day_of(now) + timedelta(days=n) for n in range(-1, ahead + 1)]
