"""Connections, and the one place where a driver's error becomes ours."""

from __future__ import annotations

import psycopg
from psycopg.types.array import ListBinaryDumper
from sqlalchemy import URL, Engine, NullPool, Pool, QueuePool, create_engine, event, make_url
from sqlalchemy.engine.interfaces import ExceptionContext

from store.errors import EventRejected, SettingsInvalid, StoreError, StoreUnavailable

_CONNECT = {
    "application_name": "steersman",
    "connect_timeout": 5,
    "keepalives_idle": 30,
    # A transaction that hangs would hold back settled_since and the watermark for everyone.
    "options": "-c timezone=UTC -c idle_in_transaction_session_timeout=60000",
}


def make_engine(url: str, *, pooled: bool = True) -> Engine:
    """Return an engine whose driver errors are ``store.errors``.

    Raises
    ------
    SettingsInvalid
        The URL is unreadable or not PostgreSQL with psycopg.
    """
    parsed = _parsed(url)
    if parsed.drivername in {"postgresql", "postgres"}:
        parsed = parsed.set(drivername="postgresql+psycopg")
    if parsed.drivername != "postgresql+psycopg":
        raise SettingsInvalid(f"the database must be postgresql, got {parsed.drivername}")
    pool: type[Pool] = QueuePool if pooled else NullPool
    sizes = {"pool_size": 8, "max_overflow": 24, "pool_timeout": 10} if pooled else {}
    engine = create_engine(
        parsed,
        poolclass=pool,
        pool_pre_ping=pooled,
        hide_parameters=True,  # an error that is not the driver's quotes them: prompts
        isolation_level="READ COMMITTED",  # the watermark needs a fresh snapshot a statement
        connect_args=_CONNECT,
        **sizes,
    )
    event.listen(engine, "handle_error", _translate)
    event.listen(engine, "connect", _send_arrays_in_binary)
    return engine


def raw_connection(url: str) -> psycopg.Connection:
    """Return a connection outside any pool, in autocommit mode; raises as ``make_engine`` does."""
    parsed = _parsed(url).set(drivername="postgresql+psycopg")
    _, arguments = parsed.get_dialect()().create_connect_args(parsed)
    try:
        return psycopg.connect(**{**_CONNECT, **arguments}, autocommit=True)
    except psycopg.Error as problem:
        raise translated(problem) from problem


def _parsed(url: str) -> URL:
    try:
        parsed = make_url(url)
    except Exception as unreadable:  # SQLAlchemy's ArgumentError or ValueError
        raise SettingsInvalid("the database URL cannot be read") from unreadable
    if "@" in (parsed.host or ""):  # else the host that cannot be resolved is named: a secret's end
        raise SettingsInvalid(
            "the database URL has an @ in its user or password: write it as %40, a % as %25"
        )
    return parsed


def translated(problem: BaseException) -> Exception:
    """Return our error for a driver's. Its text never carries a row: it may hold a prompt."""
    diag = getattr(problem, "diag", None)
    said = getattr(diag, "message_primary", None) or type(problem).__name__
    if isinstance(problem, psycopg.DataError):
        return EventRejected("unstorable", "a field holds what the ledger cannot store")
    if isinstance(problem, psycopg.OperationalError | psycopg.InterfaceError):
        # Deadlocks and serialization failures too: nothing was stored, trying again helps.
        where = said if diag is not None and diag.message_primary else str(problem)
        return StoreUnavailable(f"the database cannot be used now: {where}")
    if isinstance(problem, psycopg.errors.UndefinedTable):
        return StoreError(f"{said}; run `steersman migrate`")
    return StoreError(said)


def _send_arrays_in_binary(connection: psycopg.Connection, _: object) -> None:
    """As text each element would be searched for quotes, which is most of a batch's time."""
    connection.adapters.register_dumper(list, ListBinaryDumper)


def _translate(context: ExceptionContext) -> None:
    is_foreign = isinstance(context.original_exception, psycopg.Error)
    if is_foreign and not context.is_pre_ping:
        raise translated(context.original_exception)
