"""The embedded broker for tests: one per session, topics of their own for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.broker import ensure_topics
from ingest.embedded_broker import EmbeddedBroker
from ingest.topics import KafkaSettings, every_topic


@pytest.fixture(scope="session")
def embedded_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    directory: Path = tmp_path_factory.mktemp("broker")
    broker = EmbeddedBroker(directory)
    yield broker
    broker.close()


@pytest.fixture
def kafka_settings(embedded_broker: EmbeddedBroker) -> KafkaSettings:
    """Settings with a prefix and a group that no other test uses; every topic exists."""
    name = uuid.uuid4().hex[:8]
    settings = KafkaSettings(
        bootstrap_servers=embedded_broker.bootstrap_servers,
        topic_prefix=f"{name}.",
        group_id=name,
        partitions=4,
    )
    ensure_topics(settings, every_topic(settings.topic_prefix))
    return settings
