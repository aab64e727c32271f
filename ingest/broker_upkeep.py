"""Kafka for operators, not for the stream: making topics, reading them whole, moving groups."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import closing
from datetime import datetime
from typing import Any

from ingest.broker_client import (
    CLOSE_S,
    KafkaAdminClient,
    KafkaTimeoutError,
    OffsetAndMetadata,
    TopicAlreadyExistsError,
    TopicPartition,
    event_of,
    open_client,
    open_consumer,
    translated,
)
from ingest.ports import Place
from ingest.topics import KafkaSettings, ReceivedEvent

READER_POLL_MS = 100


class KafkaReader:
    """Reads a topic from its beginning to its end, each time over a connection of its own."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    def read(self, topic: str, *, since: datetime | None = None) -> Iterator[ReceivedEvent]:
        with translated("read"):
            waits = {"fetch_max_wait_ms": READER_POLL_MS}  # at the end of a topic, for each reading
            consumer = open_consumer(self._settings, group_id=None, **waits)
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
                yield from (event_of(one) for one in records if one.offset < ends[partition])
            done = set[TopicPartition]()
            if unread <= ends.keys():  # position() would meddle with what was not fetched yet
                done = {one for one in unread if _position(consumer, one) >= ends[one]}
            unread -= done
            quiet = 0 if batches or done else quiet + 1
            if quiet * READER_POLL_MS > self._settings.timeout_s * 1000:
                raise KafkaTimeoutError(f"{topic} was not read to its end")


class KafkaGroups:
    """``ingest.rewind.Groups``; each call connects for itself."""

    def __init__(self, settings: KafkaSettings) -> None:
        self._settings = settings

    def members(self, role: str) -> int:
        group = self._settings.group_of(role)
        with translated("describe groups"), _admin(self._settings) as admin:
            return len(admin.describe_groups([group])[group]["members"])

    def positions(self, role: str) -> dict[Place, int]:
        group = self._settings.group_of(role)
        with translated("list offsets"), _admin(self._settings) as admin:
            held = admin.list_group_offsets(group)[group]
        return {(p.topic, p.partition): at.offset for p, at in held.items() if at.offset >= 0}

    def offsets_at(self, topic: str, when: datetime) -> dict[Place, int]:
        with (
            translated("offsets of a time"),
            closing(open_consumer(self._settings, group_id=None)) as consumer,
        ):
            numbers = consumer.partitions_for_topic(topic) or ()
            partitions = [TopicPartition(topic, number) for number in numbers]
            found = _first_at(consumer, partitions, when)
        return {(p.topic, p.partition): at for p, at in found.items() if at is not None}

    def move(self, role: str, to: Mapping[Place, int]) -> None:
        offsets = {TopicPartition(*p): OffsetAndMetadata(at, "", None) for p, at in to.items()}
        with translated("set offsets"), _admin(self._settings) as admin:
            answers = admin.alter_group_offsets(self._settings.group_of(role), offsets)
            for refused in {answer for answer in answers.values() if answer.errno}:
                raise refused


def ensure_topics(settings: KafkaSettings, names: Sequence[str]) -> list[str]:
    """Create the topics that are missing; return their names. Raises ``BrokerUnavailable``."""
    with translated("ensure topics"), _admin(settings) as admin:
        present = set(admin.list_topics())
        missing = [name for name in dict.fromkeys(names) if name not in present]
        return [name for name in missing if _create(admin, name, settings)]


def _admin(settings: KafkaSettings) -> closing[Any]:
    return closing(open_client(KafkaAdminClient, settings))


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


def _position(consumer: Any, partition: TopicPartition) -> int:
    return consumer.position(partition, timeout_ms=0) or 0
