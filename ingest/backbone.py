"""Opening what every role stands on: database and broker, one's own or the embedded ones."""

from __future__ import annotations

import fcntl
import json
import logging
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from ingest.own_files import read_own, write_own
from ingest.settings import ProcessSettings
from ingest.topics import KafkaSettings, every_topic
from store.clock import Clock, SystemClock
from store.errors import SettingsInvalid
from store.postgres import migrate
from store.postgres.ledger import PostgresLedger

log = logging.getLogger(__name__)

CONNECTION_FILE = "connection.json"
LOCK_FILE = "up.lock"
_ADDRESSES = ("database_url", "bootstrap_servers", "http_url")
MEMORY_ONLY = (
    "the embedded broker keeps its topics in memory: fine for trials and tests, never for"
    " production; set STEERSMAN_KAFKA_BOOTSTRAP_SERVERS to use a real Kafka"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """Open connections and where they lead."""

    settings: ProcessSettings
    """With the addresses of embedded servers filled in."""
    ledger: PostgresLedger
    clock: Clock
    tend: Callable[[threading.Event], None] | None = None
    """Keeps the embedded broker running, if there is one, until its event is set."""


@contextmanager
def open_backbone(settings: ProcessSettings, *, embedded: bool) -> Iterator[Backbone]:
    """Yield ledger and broker addresses; start embedded servers where no setting names real ones.

    Parameters
    ----------
    embedded
        Whether this process may start servers (``steersman up``, the demo). Others find a running
        ``steersman up`` through its connection file.

    Raises
    ------
    SettingsInvalid
        Nothing names a database or broker, and none may be started.
    """
    clock = SystemClock()
    tend = None
    with ExitStack() as stack:
        if embedded:
            settings, tend = _with_embedded(settings, stack)
        elif not settings.database_url or not settings.kafka.bootstrap_servers:
            settings = _with_running(settings)
        migrate.upgrade(settings.database_url)
        ledger = stack.enter_context(closing(PostgresLedger(settings.database_url, clock=clock)))
        yield Backbone(settings=settings, ledger=ledger, clock=clock, tend=tend)


@contextmanager
def open_ledger(settings: ProcessSettings) -> Iterator[PostgresLedger]:
    """Yield the ledger alone: of the database that is named, of the `steersman up` that runs here,
    or of the embedded server, which then runs for as long as the block does.
    """
    with ExitStack() as stack:
        url = settings.database_url or _running_or_started(settings.run_dir, stack)
        migrate.upgrade(url)
        yield stack.enter_context(closing(PostgresLedger(url, clock=SystemClock())))


def prepare_topics(kafka: KafkaSettings) -> None:
    """Create missing topics."""
    from ingest.broker_upkeep import ensure_topics  # noqa: PLC0415  kafka is slow to import

    made = ensure_topics(kafka, every_topic(kafka.topic_prefix))
    if made:
        log.info("topics.created", extra={"topics": made})


def named_or_running(settings: ProcessSettings) -> KafkaSettings:
    """Return the broker that is named, else that of the `steersman up` that runs here.

    Raises
    ------
    SettingsInvalid
        There is neither.
    """
    if settings.kafka.bootstrap_servers:
        return settings.kafka
    servers = read_connection(settings.run_dir)["bootstrap_servers"]
    return replace(settings.kafka, bootstrap_servers=servers)


@contextmanager
def announced(backbone: Backbone, *, http_url: str) -> Iterator[None]:
    """Keep the connection file while the block runs, readable by this user only."""
    path = backbone.settings.run_dir / CONNECTION_FILE
    content = {
        "database_url": backbone.settings.database_url,
        "bootstrap_servers": backbone.settings.kafka.bootstrap_servers,
        "http_url": http_url,
    }
    write_own(json.dumps(content), path)
    try:
        yield
    finally:
        path.unlink(missing_ok=True)


def read_connection(run_dir: Path) -> dict[str, str]:
    """Return the addresses of the ``steersman up`` that runs there.

    Raises
    ------
    SettingsInvalid
        None runs there, or its file is not one's own.
    """
    try:
        stored = json.loads(read_own(run_dir / CONNECTION_FILE))
        found = {name: str(stored[name]) for name in _ADDRESSES}
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise SettingsInvalid(
            "no database is named and no `steersman up` runs here: set STEERSMAN_DATABASE_URL and"
            " STEERSMAN_KAFKA_BOOTSTRAP_SERVERS, or start `steersman up` (STEERSMAN_RUN_DIR says"
            f" where; now {run_dir})"
        ) from problem
    return found


def _running_or_started(run_dir: Path, stack: ExitStack) -> str:
    try:
        stack.enter_context(_only_one(run_dir))
    except _HeldByAnother:
        return read_connection(run_dir)["database_url"]
    return _started_postgres(run_dir, stack)


def _started_postgres(run_dir: Path, stack: ExitStack) -> str:
    from store.postgres.embedded import EmbeddedPostgres  # noqa: PLC0415  optional

    return stack.enter_context(EmbeddedPostgres(run_dir / "postgres")).url()


def _with_embedded(
    settings: ProcessSettings, stack: ExitStack
) -> tuple[ProcessSettings, Callable[[threading.Event], None] | None]:
    tend = None
    stack.enter_context(_only_one(settings.run_dir))
    if not settings.database_url:
        settings = replace(settings, database_url=_started_postgres(settings.run_dir, stack))
    if not settings.kafka.bootstrap_servers:
        from ingest.embedded_broker import EmbeddedBroker  # noqa: PLC0415  optional

        broker = stack.enter_context(closing(EmbeddedBroker(settings.run_dir / "broker")))
        log.warning("embedded_broker.memory_only", extra={"hint": MEMORY_ONLY})
        kafka = replace(settings.kafka, bootstrap_servers=broker.bootstrap_servers)
        settings = replace(settings, kafka=kafka)
        tend = partial(broker.tend, prepare=partial(prepare_topics, kafka))
    return settings, tend


class _HeldByAnother(SettingsInvalid):
    """Another process works in this run directory."""


@contextmanager
def _only_one(run_dir: Path) -> Iterator[None]:
    """Hold the run directory: a second `up` would adopt the first one's servers and stop them.

    The lock ends with the process, however that dies; what it then left behind is taken over.
    """
    try:
        run_dir.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW  # a link would be somebody's trap
        lock = os.fdopen(os.open(run_dir / LOCK_FILE, flags, 0o600), "w")
    except OSError as problem:
        raise SettingsInvalid(
            f"cannot write to the run directory {run_dir}: {problem.strerror};"
            " set STEERSMAN_RUN_DIR to another"
        ) from problem
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as held:
            raise _HeldByAnother(
                f"a `steersman up` runs in {run_dir} already: stop it first, or set"
                " STEERSMAN_RUN_DIR to another directory"
            ) from held
        (run_dir / CONNECTION_FILE).unlink(missing_ok=True)  # of one that was killed
        yield


def _with_running(settings: ProcessSettings) -> ProcessSettings:
    found = read_connection(settings.run_dir)
    return replace(
        settings,
        database_url=settings.database_url or found["database_url"],
        kafka=named_or_running(settings),
    )
