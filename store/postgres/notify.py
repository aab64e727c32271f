"""LISTEN and NOTIFY: sent in the transaction that makes it true, heard after its commit."""

from __future__ import annotations

import threading

import psycopg
from psycopg import sql
from sqlalchemy import Connection, func, select

from store.clock import Clock, SystemClock
from store.errors import StoreUnavailable
from store.postgres.connecting import raw_connection, translated

CHANNELS = ("state", "policy", "labels", "tasks")
_PREFIX = "steersman_"


def announce(connection: Connection, channel: str) -> None:
    """Notify listeners when the transaction commits; repeats within it are sent once."""
    connection.execute(select(func.pg_notify(_PREFIX + channel, "")))


class PostgresNotifications:
    """``store.ledger.Notifications`` on a connection of its own.

    A dropped connection is opened again by the next ``wait``, which then names every channel: what
    was announced in between is unknown.
    """

    def __init__(self, url: str, *, clock: Clock | None = None) -> None:
        self._url = url
        self._clock = clock or SystemClock()
        self._closed = threading.Event()
        self._connection: psycopg.Connection | None = self._listen()

    def wait(self, timeout_s: float) -> set[str]:
        if self._closed.is_set():
            return set()
        try:
            if self._connection is None:
                self._connection = self._listen()
                return set(CHANNELS)
            return self._heard(self._connection, timeout_s)
        except psycopg.Error:
            self._drop()
            return set()
        except StoreUnavailable:
            self._clock.wait(self._closed, min(timeout_s, 1.0))
            return set()

    def close(self) -> None:
        self._closed.set()
        self._drop()

    def _heard(self, connection: psycopg.Connection, timeout_s: float) -> set[str]:
        first = {note.channel for note in connection.notifies(timeout=timeout_s, stop_after=1)}
        # What else has come already; a burst of commits is one hint.
        more = {note.channel for note in connection.notifies(timeout=0)} if first else set()
        return {channel.removeprefix(_PREFIX) for channel in first | more}

    def _listen(self) -> psycopg.Connection:
        connection = raw_connection(self._url)
        try:
            for channel in CHANNELS:
                connection.execute(sql.SQL("LISTEN {}").format(sql.Identifier(_PREFIX + channel)))
        except psycopg.Error as problem:  # gone between the two
            connection.close()
            raise translated(problem) from problem
        return connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()
