"""Kafka behind the ports of the stream: a source and a sink."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from ingest.broker_client import (
    CLOSE_S,
    MESSAGE_BYTES,
    CommitFailedError,
    KafkaError,
    KafkaProducer,
    close_producer,
    event_of,
    open_client,
    open_consumer,
    translated,
)
from ingest.ports import Event, Outbound, Place
from ingest.topics import KafkaSettings
from store.errors import BrokerUnavailable

log = logging.getLogger(__name__)


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
            with translated("poll"):
                consumer = self._connected()
                batches = consumer.poll(timeout_ms=int(timeout_s * 1000), max_records=limit)
                self._start_over(consumer)
        except BrokerUnavailable:
            self.close()  # join again from the committed offsets
            raise
        return [event_of(record) for records in batches.values() for record in records]

    def commit(self) -> None:
        if self._consumer is None:
            return
        with translated("commit"):
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
            self._consumer = open_consumer(
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
            with translated("publish"):
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
            close_producer(producer, timeout_s=CLOSE_S)

    def _connected(self) -> Any:
        timeout_ms = int(self._settings.timeout_s * 1000)
        with self._lock:
            if self._producer is None:
                self._producer = open_client(
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
        close_producer(failed, timeout_s=0.0)


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


def _send(producer: Any, message: Outbound) -> Any:
    return producer.send(
        message.topic,
        key=message.key.encode(),
        value=message.value,
        headers=[(name, value.encode()) for name, value in message.headers.items()],
    )
