"""The brokers that figures are taken on: the embedded one, and Apache Kafka where it can run."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

from ingest.broker_upkeep import ensure_topics
from ingest.embedded_broker import EmbeddedBroker
from ingest.topics import KafkaSettings, every_topic
from tests.contract.apache_kafka import ApacheKafka, fetch_jars, missing_tools

APACHE, EMBEDDED = "Apache Kafka", "embedded"


def available() -> list[str]:
    """Return which brokers this machine can run."""
    return [EMBEDDED] if missing_tools() else [EMBEDDED, APACHE]


@contextmanager
def running(kind: str, folder: Path) -> Iterator[str]:
    """Start a broker and yield where it listens."""
    if kind == EMBEDDED:
        with closing(EmbeddedBroker(folder)) as embedded:
            yield embedded.bootstrap_servers
        return
    apache = ApacheKafka(fetch_jars(Path(".run")), folder)
    apache.start()
    try:
        yield apache.bootstrap_servers
    finally:
        apache.stop()


def fresh_topics(servers: str, *, partitions: int) -> KafkaSettings:
    """Return settings with topics and a group that nobody else uses."""
    name = uuid.uuid4().hex[:8]
    settings = KafkaSettings(
        bootstrap_servers=servers, topic_prefix=f"{name}.", group_id=name, partitions=partitions
    )
    ensure_topics(settings, every_topic(settings.topic_prefix))
    return settings
