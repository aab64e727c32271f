"""``make bench-ingest``: responses from Kafka into the ledger, against consuming and copying."""

from __future__ import annotations

import json
import tempfile
import threading
import time
import uuid
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from benchmarks.brokers import available, fresh_topics, running
from benchmarks.timing import heading, table, verdict
from ingest.broker import KafkaSink, KafkaSource
from ingest.handler import ResponseHandler
from ingest.parking import Parking
from ingest.ports import Outbound
from ingest.stream import BATCH, StreamWorker
from ingest.topics import RESPONSES, KafkaSettings, full_name
from ingest.wire import encode_response
from store.clock import SystemClock
from store.facts import Decided
from store.ledger import Ledger
from store.postgres import migrate
from store.postgres.connecting import raw_connection
from store.postgres.embedded import EmbeddedPostgres
from store.postgres.ledger import PostgresLedger
from store.records import ResponseReceived
from tests import factories

with warnings.catch_warnings():
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaConsumer

MESSAGES = 8_000
ROUNDS = 3
PARTITIONS = (1, 2, 4, 8)
TARGET = 2_000.0
LABEL_RATE = 0.05
STORED_AT_ONCE = 500
POLL_MS = 500
TEXT = "An answer of ordinary length, about as long as this one is. " * 5
COPY = "COPY bare FROM STDIN"
BARE = (
    "CREATE TABLE bare (request_id text, expert text, body text, cost_usd double precision,"
    " received_at timestamptz)"
)
CLOCK = SystemClock()


def main() -> None:
    """Print the table."""
    print(heading("make bench-ingest"))
    print(
        f"\nResponses of {len(TEXT)} characters, {MESSAGES:,} a round, {ROUNDS} interleaved rounds,"
        f" batches of {BATCH}; PostgreSQL with fsync on:"
    )
    print(_table([row for kind in available() for row in _rows(kind)]))


def _rows(kind: str) -> Iterator[tuple[object, ...]]:
    with (
        tempfile.TemporaryDirectory(prefix="in") as name,
        EmbeddedPostgres(Path(name) / "data") as server,
        running(kind, Path(name) / "broker") as servers,
    ):
        migrate.upgrade(server.url())
        with raw_connection(server.url()) as admin:
            admin.execute(BARE)
        with closing(PostgresLedger(server.url(), clock=CLOCK)) as ledger:
            with ledger.begin() as tx:
                tx.experts.add(factories.expert("cheap"))
                tx.experts.add(factories.expert("strong"))
            for partitions in PARTITIONS:
                settings = fresh_topics(servers, partitions=partitions)
                yield (kind, partitions, *_figures(ledger, server.url(), settings))


def _figures(ledger: Ledger, url: str, settings: KafkaSettings) -> tuple[str, ...]:
    """Return both rates and their ratio: the same messages, one after the other, in turn."""
    with ExitStack() as stack:
        router = stack.enter_context(_router(ledger, settings))
        bare = stack.enter_context(_bare(url, settings))
        sink = stack.enter_context(closing(KafkaSink(settings)))
        for half in (router, bare):
            half.join(sink, ledger, settings)
        stored, copied = [], []
        for number in range(ROUNDS):
            _produce(sink, ledger, settings, MESSAGES)
            order = (router, bare) if number % 2 else (bare, router)
            seconds = {half.name: half.drain(MESSAGES) for half in order}
            stored.append(MESSAGES / seconds[router.name])
            copied.append(MESSAGES / seconds[bare.name])
    ratio = float(np.median(np.array(stored) / np.array(copied)))
    rate = float(np.median(stored))
    return (
        f"{rate:,.0f}",
        f"{np.median(copied):,.0f}",
        f"{ratio:.2f}",
        verdict(rate, TARGET, at_least=True),
    )


@dataclass(slots=True)
class _Half:
    """One of the two ways; ``step`` handles a batch and returns how many messages it had."""

    name: str
    step: Callable[[], int]

    def join(self, sink: KafkaSink, ledger: Ledger, settings: KafkaSettings) -> None:
        """Become the group's member and take in a few messages: joining takes seconds."""
        if self.name == "router":
            _produce(sink, ledger, settings, STORED_AT_ONCE)
        self.drain(STORED_AT_ONCE)

    def drain(self, count: int) -> float:
        """Return the seconds in which so many messages were stored and acknowledged."""
        started = time.perf_counter()
        left = count
        while left > 0:
            left -= self.step()
        return time.perf_counter() - started


@contextmanager
def _router(ledger: Ledger, settings: KafkaSettings) -> Iterator[_Half]:
    """Run what the role ``ingest`` runs, in this process."""
    topic = full_name(RESPONSES, prefix=settings.topic_prefix)
    handler = ResponseHandler(ledger, CLOCK)
    with (
        closing(KafkaSource(settings, topics=[topic], role="ingest")) as source,
        closing(KafkaSink(settings)) as sink,
    ):
        worker = StreamWorker(
            source,
            sink,
            handler,
            Parking(ledger, handler, sink, CLOCK, topic=topic),
            CLOCK,
            rng=np.random.default_rng(),
            topic_prefix=settings.topic_prefix,
        )
        never = threading.Event()
        yield _Half("router", lambda: worker.step(never))


@contextmanager
def _bare(url: str, settings: KafkaSettings) -> Iterator[_Half]:
    """Consume, parse, COPY into a plain table, commit, acknowledge: no more."""
    consumer = KafkaConsumer(
        full_name(RESPONSES, prefix=settings.topic_prefix),
        bootstrap_servers=settings.bootstrap_servers,
        group_id=f"{settings.group_id}.bare",
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        metrics_enabled=False,
    )
    with raw_connection(url) as connection:
        connection.autocommit = False

        def step() -> int:
            batches = consumer.poll(timeout_ms=POLL_MS, max_records=BATCH)
            records = [record for found in batches.values() for record in found]
            if records:
                with connection.cursor() as cursor, cursor.copy(COPY) as copy:
                    for record in records:
                        copy.write_row(_columns(record.value))
                connection.commit()
                consumer.commit()
            return len(records)

        try:
            yield _Half("bare", step)
        finally:
            consumer.close(autocommit=False)


def _columns(value: bytes) -> tuple[object, ...]:
    body = json.loads(value)
    return tuple(body[name] for name in ("request_id", "expert", "text", "cost_usd", "created_at"))


def _produce(sink: KafkaSink, ledger: Ledger, settings: KafkaSettings, count: int) -> None:
    """Store decisions, a twentieth of them sampled, and send their responses."""
    topic = full_name(RESPONSES, prefix=settings.topic_prefix)
    prefix = uuid.uuid4().hex[:12]
    ids = [f"{prefix}-{i}" for i in range(count)]
    for first in range(0, count, STORED_AT_ONCE):
        chunk = ids[first : first + STORED_AT_ONCE]
        with ledger.begin() as tx:
            tx.decisions.record([_decided(name, i) for i, name in enumerate(chunk)])
        sink.publish(
            [
                Outbound(topic=topic, key=name, value=encode_response(_response(name)))
                for name in chunk
            ]
        )


def _decided(name: str, i: int) -> Decided:
    return factories.decided(
        name, decided_at=CLOCK.now(), is_sampled=i % round(1 / LABEL_RATE) == 0
    )


def _response(name: str) -> ResponseReceived:
    return factories.response(name, text=TEXT, received_at=CLOCK.now(), cost_usd=0.001)


def _table(rows: list[tuple[object, ...]]) -> str:
    columns = (
        "broker",
        "partitions",
        "into the ledger, messages/s",
        "bare COPY loop, messages/s",
        "ratio",
        "target 2,000/s",
    )
    return table(columns, rows)


if __name__ == "__main__":
    main()
