"""The ledger on PostgreSQL: transactions, leaders and what they hold."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from datetime import date

import psycopg
from sqlalchemy import Connection, QueuePool
from sqlalchemy.exc import TimeoutError as PoolTimeout

from store.clock import Clock, SystemClock
from store.errors import StoreUnavailable
from store.postgres.calls import PostgresCalls
from store.postgres.connecting import make_engine, raw_connection, translated
from store.postgres.decisions import PostgresDecisions
from store.postgres.describing import PostgresDescribing, PostgresLives
from store.postgres.experts import PostgresExperts
from store.postgres.judging import PostgresJudging
from store.postgres.labels import PostgresLabels
from store.postgres.locks import role_key
from store.postgres.money import PostgresMoney
from store.postgres.notify import PostgresNotifications
from store.postgres.operations import PostgresOperations, PostgresPolicies
from store.postgres.outbox import PostgresOutbox
from store.postgres.partitions import DayPartitions
from store.postgres.responses import PostgresResponses
from store.postgres.states import PostgresStates
from store.postgres.tasks import PostgresTasks
from store.postgres.upkeep import PostgresUpkeep


class PostgresTransaction:
    """``store.ledger.Transaction`` over one connection."""

    def __init__(self, connection: Connection, known_days: set[date], clock: Clock) -> None:
        partitions = DayPartitions(connection, known_days)
        self.decisions = PostgresDecisions(connection, partitions)
        self.responses = PostgresResponses(connection)
        self.tasks = PostgresTasks(connection)
        self.labels = PostgresLabels(connection)
        self.judging = PostgresJudging(connection)
        self.experts = PostgresExperts(connection)
        self.describing = PostgresDescribing(connection)
        self.lives = PostgresLives(connection)
        self.states = PostgresStates(connection)
        self.policies = PostgresPolicies(connection)
        self.outbox = PostgresOutbox(connection, clock)
        self.calls = PostgresCalls(connection)
        self.operations = PostgresOperations(connection)
        self.money = PostgresMoney(connection)
        self.upkeep = PostgresUpkeep(connection, partitions)


class PostgresLedger:
    """``store.ledger.Ledger`` over a pool of connections.

    Parameters
    ----------
    url
        ``postgresql+psycopg://...``; the schema must be there (``store.postgres.migrate``).
    clock
        Dates outbox messages.
    """

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self._url = url
        self._clock = clock or SystemClock()
        self._engine = make_engine(url)
        self._known_days: set[date] = set()

    @contextmanager
    def begin(self) -> Iterator[PostgresTransaction]:
        try:
            connection = self._engine.connect()
        except PoolTimeout as busy:
            raise StoreUnavailable("no connection became free in time") from busy
        with connection, connection.begin():
            yield PostgresTransaction(connection, self._known_days, self._clock)

    @contextmanager
    def lead(self, role: str) -> Iterator[bool]:
        """Hold a session's advisory lock, so that a leader that dies frees its role.

        A leader whose own connection breaks is not told: the compare-and-set of what it publishes
        is what keeps two of them from doing harm.
        """
        with closing(raw_connection(self._url)) as connection:
            try:
                row = connection.execute(
                    "SELECT pg_try_advisory_lock(%s)", [role_key(role)]
                ).fetchone()
            except psycopg.Error as problem:
                raise translated(problem) from problem
            try:
                yield row is not None and bool(row[0])
            finally:
                # The server notices a closed connection only later; the next leader need not wait.
                with suppress(psycopg.Error):
                    connection.execute("SELECT pg_advisory_unlock_all()")

    def notifications(self) -> PostgresNotifications:
        """Return a listener on a connection of its own."""
        return PostgresNotifications(self._url, clock=self._clock)

    def connections_in_use(self) -> int:
        """Return how many transactions hold a connection."""
        pool = self._engine.pool
        return pool.checkedout() if isinstance(pool, QueuePool) else 0

    def close(self) -> None:
        self._engine.dispose()
