"""Opening clients of Kafka: the only importer of ``kafka`` (kafka-python 3)."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any

from ingest.broker_connection import (
    DIRECT,
    ForgottenSocket,
    no_connection,
    options_of,
    reasons,
)
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

FETCH_BYTES = 16 * 1024 * 1024
MESSAGE_BYTES = 1024 * 1024
CLOSE_S = 5.0


class DirectSocket(KafkaNetSocket):  # type: ignore[misc]  # untyped base
    """Connects like the library's own; selected by a "proxy" of scheme ``direct``."""

    SCHEMES = (DIRECT,)

    def socket(self, *kind: Any) -> ForgottenSocket:
        """Return a new socket of this address family, type and protocol."""
        return ForgottenSocket(*kind)


def event_of(record: Any) -> ReceivedEvent:
    """Return a record as the ports know it."""
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


def open_consumer(settings: KafkaSettings, *topics: str, **own: Any) -> Any:
    """Build a consumer that commits by hand. Raises ``BrokerUnavailable``."""
    return open_client(
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


def open_client(
    kind: Callable[..., Any], settings: KafkaSettings, *topics: str, **options: Any
) -> Any:
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


def close_producer(producer: Any, *, timeout_s: float) -> None:
    """Close a producer for good; what could not be sent within ``timeout_s`` is dropped.

    The library's own close gives up while something is queued, and leaves the thread that goes on
    sending it: perhaps after the same has been sent by another.
    """
    try:
        producer.close(timeout=timeout_s)
    except KafkaError:
        sender = producer._sender  # noqa: SLF001  nothing public ends it
        sender.force_close()
        sender.join(CLOSE_S)
        with suppress(KafkaError):
            producer.close(timeout=0)


@contextmanager
def translated(doing: str) -> Iterator[None]:
    """Turn the library's errors into ``BrokerUnavailable``."""
    try:
        yield
    except (KafkaError, OSError) as problem:
        # The type only: some of the library's messages quote the request, prompts included.
        raise BrokerUnavailable(f"{doing}: {type(problem).__name__}") from problem


__all__ = [
    "CLOSE_S",
    "MESSAGE_BYTES",
    "CommitFailedError",
    "KafkaAdminClient",
    "KafkaConsumer",
    "KafkaError",
    "KafkaProducer",
    "KafkaTimeoutError",
    "OffsetAndMetadata",
    "TopicAlreadyExistsError",
    "TopicPartition",
    "close_producer",
    "event_of",
    "open_client",
    "open_consumer",
    "translated",
]
