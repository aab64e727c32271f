"""The broker dies under a running stream and comes back; the embedded one has forgotten all."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from ingest import wire
from ingest.broker import KafkaSink, KafkaSource
from ingest.broker_upkeep import KafkaReader, ensure_topics
from ingest.embedded_broker import EmbeddedBroker
from ingest.letters import TopicReader
from ingest.memory_stream import MemoryBroker, MemoryReader, MemorySink, MemorySource
from ingest.outbox import OutboxPublisher, Sweeper
from ingest.parking import Parking
from ingest.ports import EventSink, EventSource, Outbound
from ingest.stream import StreamWorker
from ingest.topics import KafkaSettings, every_topic
from store.clock import SystemClock
from store.errors import BrokerUnavailable
from store.postgres.ledger import PostgresLedger
from store.records import RequestId
from tests.factories import prompt
from tests.unit.stream_fakes import LedgerHandler
from tests.waiting import until

pytestmark = [pytest.mark.postgres, pytest.mark.kafka]

CLOCK = SystemClock()
NEVER = threading.Event()
AWAY_S = 2.0
INBOUND = "router.prompts"


@dataclass
class Broker:
    """A broker that can be taken away and brought back."""

    source: EventSource
    sink: EventSink
    reader: TopicReader
    die: Callable[[], object]
    come_back: Callable[[], object]


@pytest.fixture(params=["memory", "embedded"])
def broker(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Broker]:
    if request.param == "memory":
        yield from in_memory()
    else:
        yield from embedded(tmp_path)


def in_memory() -> Iterator[Broker]:
    """Part of this process, so that it can go away but not forget."""
    broker = MemoryBroker(partitions=4)
    yield Broker(
        MemorySource(broker, topics=[INBOUND]),
        MemorySink(broker),
        MemoryReader(broker),
        die=lambda: setattr(broker, "is_away", True),
        come_back=lambda: setattr(broker, "is_away", False),
    )


def embedded(folder: Path) -> Iterator[Broker]:
    broker = EmbeddedBroker(folder)
    settings = KafkaSettings(
        bootstrap_servers=broker.bootstrap_servers, partitions=1, timeout_s=3.0
    )
    ensure_topics(settings, every_topic(settings.topic_prefix))
    stop = threading.Event()
    tending = threading.Thread(target=broker.tend, args=(stop,))
    source, sink = KafkaSource(settings, topics=[INBOUND], role="serve"), KafkaSink(settings)
    with closing(broker), closing(source), closing(sink):
        yield Broker(
            source,
            sink,
            KafkaReader(settings),
            die=lambda: os.killpg(broker._process.pid, signal.SIGKILL),
            come_back=tending.start,
        )
        stop.set()
        tending.join()


def send(sink: EventSink, ids: list[str]) -> None:
    """Send prompts, with patience for a broker that is just coming back."""
    messages = [
        Outbound(topic=INBOUND, key="k", value=wire.encode_prompt(prompt(one))) for one in ids
    ]

    def sent() -> bool:
        try:
            sink.publish(messages)
        except BrokerUnavailable:
            return False
        return True

    until(sent, what="broker to send to")


def announced(reader: TopicReader) -> set[str]:
    try:
        events = list(reader.read("router.decisions"))
    except BrokerUnavailable:
        return set()
    return {wire.decode_decision(event.value).request_id for event in events}


def test_what_the_ledger_has_survives_and_the_stream_goes_on(
    broker: Broker, postgres_ledger: PostgresLedger
) -> None:
    outbox = OutboxPublisher(postgres_ledger, broker.sink, CLOCK)
    handler = LedgerHandler(postgres_ledger, outbox, [])
    parking = Parking(postgres_ledger, handler, broker.sink, CLOCK, topic="router.responses")
    worker = StreamWorker(
        broker.source, broker.sink, handler, parking, CLOCK, rng=np.random.default_rng(7)
    )
    sweeper = Sweeper(CLOCK, [outbox.sweep, parking.sweep])
    stop = threading.Event()
    threads = [threading.Thread(target=role.run, args=(stop,)) for role in (worker, sweeper)]
    for thread in threads:
        thread.start()
    before, meanwhile, after = ([f"{when}-{n}" for n in range(60)] for when in "abc")

    def stored() -> set[RequestId]:
        with postgres_ledger.begin() as tx:
            asked = [RequestId(one) for one in (*before, *meanwhile, *after)]
            return set(tx.decisions.find_many(asked))

    send(broker.sink, before)
    until(lambda: stored() == {*before}, what="first decisions")
    broker.die()
    handler.on_prompts([prompt(one) for one in meanwhile])  # as HTTP does
    CLOCK.wait(NEVER, AWAY_S)
    broker.come_back()
    until(lambda: announced(broker.reader) >= {*meanwhile}, what="unannounced decisions")
    send(broker.sink, after)
    broker.sink.publish([Outbound(topic=INBOUND, key="k", value=b"{")])
    until(lambda: announced(broker.reader) >= {*after}, what="new decisions")
    until(lambda: list(broker.reader.read(f"{INBOUND}.dlq")), what="dead letter")
    stop.set()
    for thread in threads:
        thread.join()

    assert stored() == {*before, *meanwhile, *after}
    with postgres_ledger.begin() as tx:
        assert tx.outbox.unmarked(limit=1) == []
