"""Kafka behind the ports; the only importer of ``kafka`` (kafka-python 3)."""

from __future__ import annotations

import logging
import threading
import warnings
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from ingest.broker_connection import (
    DIRECT,
    ForgottenSocket,
    no_connection,
    options_of,
    reasons,
)
from ingest.ports import Event, Outbound, Place
from ingest.topics import KafkaSettings, ReceivedEvent
from store.errors import BrokerUnavailable

with warnings.catch_warnings():
    # kafka-python 3.0 reads its protocol files with a call that Python 3.11 deprecates.
    warnings.simplefilter("ignore", DeprecationWarning)
    from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer
    from kafka.errors import (
        CommitFailedError,
        KafkaError,
        KafkaTimeoutError,
        TopicAlreadyExistsError,
    )
    from kafka.net.inet import KafkaNetSocket
    from kafka.structs import OffsetAndMetadata, TopicPartition

log = logging.getLogger(__name__)

FETCH_BYTES = 16 * 1024 * 1024
MESSAGE_BYTES = 1024 * 1024
READER_POLL_MS = 100
CLOSE_S = 5.0


class DirectSocket(KafkaNetSocket):  # type: ignore[misc]  # untyped base
    """Connects like the library's own; selected by a "proxy" of scheme ``direct``."""

    SCHEMES = (DIRECT,)

    def socket(self, *kind: Any) -> ForgottenSocket:
        """Return a new socket of this address family, type and protocol."""
        return ForgottenSocket(*kind)


class KafkaSource:
    """Consumes topics as a member of a group; connects on the first poll.

    Parameters
    ----------
    settings
        Where the broker is.
    topics
        Full names; they must exist (``ensure_topics``).
    role
        Completes the group's name: members of one group must read the same topics.
    """

    def __init__(self, settings: KafkaSettings, *, topics: Sequence[str], role: str) -> None:
        self._settings = settings
        self._topics = tuple(topics)
        self._group = settings.group_of(role)
        self._consumer: Any = None
        self._ids: dict[str, object] = {}

    def poll(self, *, timeout_s: float, limit: int) -> list[Event]:
        try:
            with _translated("poll"):
                consumer = self._connected()
                batches = consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=limit)
                self._start_over(consumer)
        except BrokerUnavailable:
            self.close()  # join again from the committed offsets
            raise
        return [_event(record) for records in batches.values() for record in records]

    def commit(self) -> None:
        if self._consumer is None:
            return
        with _translated("commit"):
            try:
                self._consumer.commit(timeout_ms=int(self._settings.timeout_s * 1000))
            except CommitFailedError:
                # The group has moved on without us; the new owner gets the events again.
                log.warning("broker.partitions_lost", extra={"group": self._group})

    def lag(self) -> dict[Place, int]:
        if self._consumer is None:
            return {}
        with suppress(KafkaError):  # a partition that is leaving at this moment
            return _lag(self._consumer)
        return {}

    def close(self) -> None:
        consumer, self._consumer = self._consumer, None
        if consumer is not None:
            with suppress(KafkaError, OSError):  # away already: nothing to leave
                consumer.close(autocommit=False, timeout_ms=int(CLOSE_S * 1000))

    def _start_over(self, consumer: Any) -> None:
        """Read a topic that was made anew from its beginning: a position in the old one would skip
        as many events of the new one, and a broker without memory answers it with silence.
        """
        for topic in self._topics:
            mine = [one for one in consumer.assignment() if one.topic == topic]
            found = consumer._cluster.topic_id(topic)  # noqa: SLF001  shown in no other way
            if not mine or found is None or found == self._ids.get(topic):
                continue
            if topic in self._ids:
                log.warning("broker.topic_made_anew", extra={"topic": topic})
                consumer.seek_to_beginning(*mine)
            self._ids[topic] = found

    def _connected(self) -> Any:
        if self._consumer is None:
            self._consumer = _consumer(
                self._settings,
                *self._topics,
                group_id=self._group,
                session_timeout_ms=self._settings.session_timeout_ms,
                heartbeat_interval_ms=self._settings.session_timeout_ms // 3,
            )
            for topic in self._topics:
                # Joining before the partitions are known, the leader deals out none, and now and
                # then the library does not notice until its metadata is five minutes old.
                self._consumer.partitions_for_topic(topic)
        return self._consumer


class KafkaReader:
    """Reads a topic from its beginning to its end, each time over a connection of its own."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    def read(self, topic: str, *, since: datetime | None = None) -> Iterator[ReceivedEvent]:
        with _translated("read"):
            waits = {"fetch_max_wait_ms": READER_POLL_MS}  # at the end of a topic, for each reading
            consumer = _consumer(self._settings, group_id=None, **waits)
            try:
                yield from self._held(consumer, topic, since)
            finally:
                consumer.close(autocommit=False, timeout_ms=int(CLOSE_S * 1000))

    def _held(self, consumer: Any, topic: str, since: datetime | None) -> Iterator[ReceivedEvent]:
        """Yield up to the ends that the first fetches tell: the embedded broker's answer to a
        question for the ends is wrong.
        """
        numbers = consumer.partitions_for_topic(topic) or ()
        unread = {TopicPartition(topic, number) for number in numbers}
        consumer.assign(sorted(unread))
        if since is not None:
            _go_to(consumer, unread, since)
        ends: dict[TopicPartition, int] = {}
        quiet = 0
        while unread:
            batches = consumer.poll(timeout_ms=READER_POLL_MS)
            for partition in unread - ends.keys():
                if (end := consumer.highwater(partition)) is not None:
                    ends[partition] = end
            for partition, records in batches.items():
                yield from (_event(one) for one in records if one.offset < ends[partition])
            done = set[TopicPartition]()
            if unread <= ends.keys():  # position() would meddle with what was not fetched yet
                done = {one for one in unread if _position(consumer, one) >= ends[one]}
            unread -= done
            quiet = 0 if batches or done else quiet + 1
            if quiet * READER_POLL_MS > self._settings.timeout_s * 1000:
                raise KafkaTimeoutError(f"{topic} was not read to its end")


class KafkaSink:
    """Produces with idempotence and waits for every acknowledgement; safe for many threads."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings
        self._lock = threading.Lock()
        self._producer: Any = None

    def publish(self, messages: Sequence[Outbound]) -> None:
        if not messages:
            return
        producer = None
        try:
            with _translated("publish"):
                producer = self._connected()
                sent = [_send(producer, message) for message in messages]
                for future in sent:
                    future.get(timeout=2 * self._settings.timeout_s)
        except BrokerUnavailable:
            self._drop(producer)  # what is still queued must not arrive after the retry
            raise

    def close(self) -> None:
        with self._lock:
            producer, self._producer = self._producer, None
        if producer is not None:
            with suppress(KafkaError):
                producer.close(timeout=CLOSE_S)

    def _connected(self) -> Any:
        timeout_ms = int(self._settings.timeout_s * 1000)
        with self._lock:
            if self._producer is None:
                self._producer = _open(
                    KafkaProducer,
                    self._settings,
                    acks=-1,
                    enable_idempotence=True,
                    allow_auto_create_topics=False,
                    max_block_ms=timeout_ms,
                    delivery_timeout_ms=2 * timeout_ms,
                    max_request_size=2 * MESSAGE_BYTES,
                    metrics_enabled=False,
                )
            return self._producer

    def _drop(self, failed: Any) -> None:
        with self._lock:
            if failed is None or self._producer is not failed:
                return
            self._producer = None
        with suppress(KafkaError):
            failed.close(timeout=0)


class KafkaGroups:
    """``ingest.rewind.Groups``; each call connects for itself."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    def members(self, role: str) -> int:
        group = self._settings.group_of(role)
        with _translated("describe groups"), self._admin() as admin:
            return len(admin.describe_groups([group])[group]["members"])

    def positions(self, role: str) -> dict[Place, int]:
        group = self._settings.group_of(role)
        with _translated("list offsets"), self._admin() as admin:
            held = admin.list_group_offsets(group)[group]
        return {(p.topic, p.partition): at.offset for p, at in held.items() if at.offset >= 0}

    def offsets_at(self, topic: str, when: datetime) -> dict[Place, int]:
        with (
            _translated("offsets of a time"),
            closing(_consumer(self._settings, group_id=None)) as consumer,
        ):
            numbers = consumer.partitions_for_topic(topic) or ()
            partitions = [TopicPartition(topic, number) for number in numbers]
            found = _first_at(consumer, partitions, when)
        return {(p.topic, p.partition): at for p, at in found.items() if at is not None}

    def move(self, role: str, to: Mapping[Place, int]) -> None:
        offsets = {TopicPartition(*p): OffsetAndMetadata(at, "", None) for p, at in to.items()}
        with _translated("set offsets"), self._admin() as admin:
            answers = admin.alter_group_offsets(self._settings.group_of(role), offsets)
            for refused in {answer for answer in answers.values() if answer.errno}:
                raise refused

    @contextmanager
    def _admin(self) -> Iterator[Any]:
        with closing(_open(KafkaAdminClient, self._settings)) as admin:
            yield admin


def ensure_topics(settings: KafkaSettings, names: Sequence[str]) -> list[str]:
    """Create the topics that are missing; return their names. Raises ``BrokerUnavailable``."""
    with _translated("ensure topics"):
        admin = _open(KafkaAdminClient, settings)
        try:
            present = set(admin.list_topics())
            missing = [name for name in dict.fromkeys(names) if name not in present]
            return [name for name in missing if _create(admin, name, settings)]
        finally:
            admin.close()


def _create(admin: Any, name: str, settings: KafkaSettings) -> bool:
    shape = {
        "num_partitions": settings.partitions,
        "replication_factor": settings.replication_factor,
        "configs": settings.configuration_of(name),
    }
    try:
        admin.create_topics({name: shape}, wait_for_metadata=True)
    except TopicAlreadyExistsError:  # another process was faster
        return False
    return True


def _go_to(consumer: Any, partitions: Collection[TopicPartition], since: datetime) -> None:
    """Put a consumer at what was sent at that time or later."""
    for partition, found in _first_at(consumer, partitions, since).items():
        if found is None:
            consumer.seek_to_end(partition)
        else:
            consumer.seek(partition, found)


def _first_at(
    consumer: Any, partitions: Collection[TopicPartition], when: datetime
) -> dict[TopicPartition, int | None]:
    """Return the first offset of that time or later, None where nothing was sent since."""
    found = consumer.offsets_for_times(dict.fromkeys(partitions, int(when.timestamp() * 1000)))
    return {
        partition: None if at is None or at.offset < 0 else at.offset
        for partition, at in found.items()
    }


def _lag(consumer: Any) -> dict[Place, int]:
    ends = {partition: consumer.highwater(partition) for partition in consumer.assignment()}
    if None in ends.values():  # position() would ask the broker for what was never fetched
        return {}
    positions = {partition: consumer.position(partition, timeout_ms=0) for partition in ends}
    return {
        (partition.topic, partition.partition): ends[partition] - position
        for partition, position in positions.items()
        if position is not None
    }


def _position(consumer: Any, partition: TopicPartition) -> int:
    return consumer.position(partition, timeout_ms=0) or 0


def _send(producer: Any, message: Outbound) -> Any:
    return producer.send(
        message.topic,
        key=message.key.encode(),
        value=message.value,
        headers=[(name, value.encode()) for name, value in message.headers.items()],
    )


def _event(record: Any) -> ReceivedEvent:
    return ReceivedEvent(
        topic=record.topic,
        value=record.value or b"",  # a tombstone has none
        key=record.key,
        partition=record.partition,
        offset=record.offset,
        sent_at=_instant(record.timestamp),
        headers={
            name: (value or b"").decode(errors="replace") for name, value in record.headers or ()
        },
    )


def _instant(milliseconds: int) -> datetime:
    """Return when a message says that it was sent; a sender may say what no calendar has."""
    try:
        return datetime.fromtimestamp(milliseconds / 1000, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime.fromtimestamp(0, UTC)


def _consumer(settings: KafkaSettings, *topics: str, **own: Any) -> Any:
    return _open(
        KafkaConsumer,
        settings,
        *topics,
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        allow_auto_create_topics=False,
        fetch_max_bytes=FETCH_BYTES,
        max_partition_fetch_bytes=MESSAGE_BYTES,
        metrics_enabled=False,
        **own,
    )


def _open(kind: Callable[..., Any], settings: KafkaSettings, *topics: str, **options: Any) -> Any:
    """Build a client; one that cannot connect leaves no thread or socket behind."""
    # At DEBUG the library logs keys and values, prompts included.
    logging.getLogger("kafka").setLevel(logging.WARNING)
    connections: list[Any] = []

    def connect(**config: Any) -> Any:
        connections.append(KafkaProducer.DEFAULT_CONFIG["kafka_client"](**config))
        return connections[-1]

    with reasons() as why:
        try:
            return kind(*topics, kafka_client=connect, **options_of(settings), **options)
        except BaseException as problem:
            for connection in connections:
                connection.close()
            if isinstance(problem, KafkaError | OSError):
                raise no_connection(settings, why) from problem
            raise


@contextmanager
def _translated(doing: str) -> Iterator[None]:
    try:
        yield
    except (KafkaError, OSError) as problem:
        # The type only: some of the library's messages quote the request, prompts included.
        raise BrokerUnavailable(f"{doing}: {type(problem).__name__}") from problem


__all__ = [
    "KafkaGroups",
    "KafkaReader",
    "KafkaSettings",
    "KafkaSink",
    "KafkaSource",
    "ensure_topics",
]
