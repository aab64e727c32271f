"""What every event source and sink promises."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

import pytest

from ingest.broker import KafkaSink, KafkaSource
from ingest.broker_connection import ForgottenSocket
from ingest.broker_upkeep import KafkaReader, ensure_topics
from ingest.letters import TopicReader
from ingest.memory_stream import MemoryBroker, MemoryReader, MemorySink, MemorySource
from ingest.ports import Event, EventSink, EventSource, Outbound
from ingest.topics import KafkaSettings, ReceivedEvent
from store.errors import BrokerUnavailable
from tests.contract.kafka_fixtures import (
    apache_settings,
    embedded_broker,
    kafka_settings,
)
from tests.contract.legs import COLLECTED, LEGS

__all__ = [
    "apache_settings",
    "embedded_broker",
    "kafka_settings",
]
SETTINGS = {"embedded": "kafka_settings", "apache": "apache_settings"}

JOIN_S = 30.0
QUIET_S = 1.5


@dataclass
class Stream:
    """A way to make sources and sinks of one broker."""

    topic: str
    make_source: Callable[[], EventSource]
    make_sink: Callable[[], EventSink]
    reader: TopicReader
    opened: list[EventSource | EventSink] = field(default_factory=list)

    def source(self) -> EventSource:
        source = self.make_source()
        self.opened.append(source)
        return source

    def publish(self, count: int, *, start: int = 0, keys: int = 7) -> None:
        sink = self.make_sink()
        numbers = range(start, start + count)
        sink.publish(
            [Outbound(topic=self.topic, key=f"k{n % keys}", value=b"%d" % n) for n in numbers]
        )
        sink.close()


@pytest.fixture(
    params=["memory", *(pytest.param(leg, marks=pytest.mark.kafka) for leg in SETTINGS)]
)
def stream(request: pytest.FixtureRequest) -> Iterator[Stream]:
    if request.param == "memory":
        broker = MemoryBroker(partitions=4)
        made = Stream(
            "t",
            lambda: MemorySource(broker, topics=["t"]),
            lambda: MemorySink(broker),
            MemoryReader(broker),
        )
    else:
        settings: KafkaSettings = request.getfixturevalue(SETTINGS[request.param])
        topic = f"{settings.topic_prefix}prompts"
        made = Stream(
            topic,
            lambda: KafkaSource(settings, topics=[topic], role="test"),
            lambda: KafkaSink(settings),
            KafkaReader(settings),
        )
    yield made
    for one in made.opened:
        one.close()


def read(source: EventSource, count: int, *, limit: int = 50) -> list[Event]:
    """Poll until ``count`` events came."""
    events: list[Event] = []
    deadline = time.monotonic() + JOIN_S
    while len(events) < count and time.monotonic() < deadline:
        events += source.poll(timeout_s=0.2, limit=limit)
    return events


def numbers(events: list[Event]) -> list[int]:
    return [int(event.value) for event in events]


def test_events_arrive_once_and_in_order_per_key(stream: Stream) -> None:
    stream.publish(200)
    source = stream.source()
    events = read(source, 200)
    assert sorted(numbers(events)) == list(range(200))
    for key in range(7):
        mine = numbers([event for event in events if event.key == b"k%d" % key])
        assert mine == sorted(mine)
    assert source.poll(timeout_s=QUIET_S, limit=50) == []


def test_a_poll_returns_at_most_its_limit(stream: Stream) -> None:
    stream.publish(30)
    source = stream.source()
    batches: list[list[Event]] = []
    deadline = time.monotonic() + JOIN_S
    while sum(map(len, batches)) < 30 and time.monotonic() < deadline:
        batches.append(source.poll(timeout_s=0.2, limit=3))
    assert max(map(len, batches)) == 3
    assert sum(map(len, batches)) == 30


def test_committed_events_do_not_come_again_and_uncommitted_ones_do(stream: Stream) -> None:
    stream.publish(20)
    first = stream.source()
    assert len(read(first, 20)) == 20
    first.commit()
    stream.publish(10, start=20)
    assert len(read(first, 10)) == 10
    first.close()
    second = stream.source()
    assert sorted(numbers(read(second, 10))) == list(range(20, 30))
    assert second.poll(timeout_s=QUIET_S, limit=50) == []


def test_bytes_keys_headers_and_places_survive(stream: Stream) -> None:
    value = bytes(range(256)) * 4
    headers = {"reason": "wrong_type", "message": "é\n"}
    sink = stream.make_sink()
    sink.publish([Outbound(topic=stream.topic, key="schlüssel", value=value, headers=headers)])
    sink.close()
    (event,) = read(stream.source(), 1)
    assert isinstance(event, ReceivedEvent)
    assert (event.topic, event.key) == (stream.topic, "schlüssel".encode())
    assert (event.value, dict(event.headers)) == (value, headers)
    assert event.offset == 0
    assert 0 <= event.partition < 4


def test_a_large_event_survives(stream: Stream) -> None:
    sink = stream.make_sink()
    sink.publish([Outbound(topic=stream.topic, key="k", value=b"x" * 900_000)])
    sink.close()
    assert len(read(stream.source(), 1)[0].value) == 900_000


def test_an_empty_publish_is_nothing(stream: Stream) -> None:
    sink = stream.make_sink()
    sink.publish([])
    sink.close()


def test_closing_twice_is_harmless(stream: Stream) -> None:
    source = stream.source()
    source.poll(timeout_s=0.1, limit=1)
    source.close()
    source.close()


class Reader(threading.Thread):
    """A consumer in a thread of its own, as in production: a rebalance needs both to poll."""

    def __init__(self, source: EventSource) -> None:
        super().__init__()
        self.source = source
        self.events: list[Event] = []
        self.done = threading.Event()

    def run(self) -> None:
        while not self.done.is_set():
            if batch := self.source.poll(timeout_s=0.1, limit=50):
                self.events += batch
                self.source.commit()


def test_two_consumers_of_a_group_share_the_partitions(stream: Stream) -> None:
    readers = [Reader(stream.source()) for _ in range(2)]
    for reader in readers:
        reader.start()
    deadline = time.monotonic() + JOIN_S
    sent = 0
    while not all(reader.events for reader in readers) and time.monotonic() < deadline:
        stream.publish(40, start=sent, keys=40)
        sent += 40
        readers[0].done.wait(0.5)
    while time.monotonic() < deadline:
        if len({n for reader in readers for n in numbers(reader.events)}) == sent:
            break
        readers[0].done.wait(0.1)
    for reader in readers:
        reader.done.set()
        reader.join()
    seen = [set(numbers(reader.events)) for reader in readers]
    assert all(seen)
    assert seen[0] | seen[1] == set(range(sent))


def test_lag_is_what_was_sent_and_not_yet_returned(stream: Stream) -> None:
    stream.publish(80, keys=40)
    source = stream.source()
    assert source.lag().keys() <= {(stream.topic, partition) for partition in range(4)}
    events: list[Event] = []
    while len(source.lag()) < 4 or not events:
        events += read(source, 1, limit=1)
    assert sum(source.lag().values()) == 80 - len(events) > 0
    events += read(source, 80 - len(events))
    assert source.lag() == {(stream.topic, partition): 0 for partition in range(4)}
    source.close()
    assert source.lag() == {}


def test_lag_is_of_a_members_own_partitions_only(stream: Stream) -> None:
    stream.publish(40, keys=40)
    first = stream.source()
    read(first, 40)
    first.commit()
    reader = Reader(stream.source())
    reader.start()
    deadline = time.monotonic() + JOIN_S
    while len(first.lag()) != 2 and time.monotonic() < deadline:
        first.poll(timeout_s=0.1, limit=50)
    stream.publish(40, start=40, keys=40)
    mine: list[Event] = []
    while len(mine) + len(reader.events) < 40 and time.monotonic() < deadline:
        mine += first.poll(timeout_s=0.1, limit=50)
    reader.done.set()
    reader.join()
    lags = [first.lag(), reader.source.lag()]
    assert [list(lag.values()) for lag in lags] == [[0, 0], [0, 0]]
    assert set().union(*lags) == {(stream.topic, partition) for partition in range(4)}


def test_a_reader_sees_all_that_a_topic_holds_each_time(stream: Stream) -> None:
    started = datetime.now(UTC) - timedelta(seconds=1)
    stream.publish(700, keys=40)
    for _ in range(2):
        events = list(stream.reader.read(stream.topic))
        assert sorted(numbers(list(events))) == list(range(700))
        assert {event.partition for event in events} == set(range(4))
        for partition in range(4):
            offsets = [event.offset for event in events if event.partition == partition]
            assert offsets == list(range(len(offsets)))
        assert all(started <= event.sent_at <= datetime.now(UTC) for event in events)


def test_a_reader_comes_to_an_end_though_each_event_brings_another(stream: Stream) -> None:
    stream.publish(40, keys=40)
    sink = stream.make_sink()
    seen: list[Event] = []
    for event in stream.reader.read(stream.topic):
        seen.append(event)
        assert len(seen) < 1_000
        sink.publish([Outbound(topic=stream.topic, key=f"k{len(seen)}", value=b"99")])
    sink.close()
    assert set(range(40)) <= set(numbers(seen))


def test_an_empty_topic_and_a_missing_one_hold_nothing(stream: Stream) -> None:
    assert list(stream.reader.read(stream.topic)) == []
    assert list(stream.reader.read(f"{stream.topic}.missing")) == []


def test_a_reader_disturbs_no_consumer(stream: Stream) -> None:
    stream.publish(20)
    source = stream.source()
    assert len(read(source, 20)) == 20
    source.commit()
    stream.publish(10, start=20)
    assert len(list(stream.reader.read(stream.topic))) == 30
    assert sorted(numbers(read(source, 10))) == list(range(20, 30))
    assert len(source.lag()) == 4
    source.close()
    assert sorted(numbers(read(stream.source(), 10))) == list(range(20, 30))


def test_every_promise_is_held_to_every_broker(request: pytest.FixtureRequest) -> None:
    """A leg that is not collected would look like one that passes."""
    here = request.node.nodeid.partition("::")[0]
    found = {name for name in request.config.stash[COLLECTED] if name.startswith(here)}
    promises = {name.partition("[")[0] for name in found if "[" in name}
    wanted = {f"{promise}[{leg}]" for promise in promises for leg in LEGS}
    assert {name for name in found if "[" in name} == wanted
    assert promises or found == {request.node.nodeid}, "asked for alone, it has nothing to look at"


def test_a_broker_in_memory_that_is_away_is_reported() -> None:
    broker = MemoryBroker()
    source, sink = MemorySource(broker, topics=["t"]), MemorySink(broker)
    reading = MemoryReader(broker).read("t")
    broker.is_away = True
    with pytest.raises(BrokerUnavailable):
        next(reading)
    with pytest.raises(BrokerUnavailable):
        source.poll(timeout_s=0.1, limit=1)
    with pytest.raises(BrokerUnavailable):
        source.commit()
    with pytest.raises(BrokerUnavailable):
        sink.publish([Outbound(topic="t", key="k", value=b"v")])


@pytest.fixture
def nowhere() -> Iterator[KafkaSettings]:
    """Settings of a port that is taken but where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
        yield KafkaSettings(bootstrap_servers=f"127.0.0.1:{port}", timeout_s=1.0)


def test_an_unreachable_broker_is_reported_within_a_bound(nowhere: KafkaSettings) -> None:
    source = KafkaSource(nowhere, topics=["t"], role="test")
    sink = KafkaSink(nowhere)
    calls: list[Callable[[], object]] = [
        lambda: source.poll(timeout_s=0.1, limit=1),
        lambda: sink.publish([Outbound(topic="t", key="k", value=b"v")]),
        lambda: ensure_topics(nowhere, ["t"]),
        lambda: list(KafkaReader(nowhere).read("t")),
    ]
    threads = threading.active_count()
    for call in calls:
        started = time.monotonic()
        with pytest.raises(BrokerUnavailable, match=f"{nowhere.bootstrap_servers}.*ECONNREFUSED"):
            call()
        assert time.monotonic() - started < 5.0
    source.close()
    sink.close()
    assert threading.active_count() == threads


def test_a_socket_that_the_library_forgets_is_closed_quietly() -> None:
    forgotten, other = socket.socketpair()
    kept = ForgottenSocket(fileno=forgotten.detach())
    with other:
        del kept  # a warning would fail the test
        other.settimeout(1.0)
        assert other.recv(1) == b""


@pytest.mark.kafka
def test_topics_are_created_once(kafka_settings: KafkaSettings) -> None:
    settings = replace(kafka_settings, partitions=3)
    name = f"{settings.topic_prefix}new"
    assert ensure_topics(settings, [name, name]) == [name]
    assert ensure_topics(settings, [name]) == []
