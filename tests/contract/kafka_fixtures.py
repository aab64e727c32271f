"""Brokers for tests: one of each kind per session, topics of their own for each test."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from ingest.broker_upkeep import ensure_topics
from ingest.embedded_broker import EmbeddedBroker
from ingest.topics import KafkaSettings, every_topic
from tests.contract.apache_kafka import ApacheKafka, fetch_jars, missing_tools, must_run

CACHE = Path(".run")


@pytest.fixture(scope="session")
def embedded_broker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedBroker]:
    directory: Path = tmp_path_factory.mktemp("broker")
    broker = EmbeddedBroker(directory)
    yield broker
    broker.close()


@pytest.fixture(scope="session")
def apache_kafka_jars() -> Path:
    """The jars of a real broker; where they cannot be had the leg is skipped, in CI it fails."""
    if missing := missing_tools():
        why = f"Apache Kafka needs {', '.join(missing)}: apt install openjdk-17-jre-headless maven"
        if must_run():
            pytest.fail(why)
        pytest.skip(why)
    return fetch_jars(CACHE)


@pytest.fixture(scope="session")
def apache_kafka(
    apache_kafka_jars: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[ApacheKafka]:
    broker = ApacheKafka(apache_kafka_jars, tmp_path_factory.mktemp("apache"))
    broker.start()
    yield broker
    broker.stop()


def settings_of(servers: str, **changes: Any) -> KafkaSettings:
    """Return settings with a prefix and a group that no other test uses; every topic exists."""
    name = uuid.uuid4().hex[:8]
    named = KafkaSettings(topic_prefix=f"{name}.", group_id=name, partitions=4)
    settings = replace(named, bootstrap_servers=servers, **changes)
    ensure_topics(settings, every_topic(settings.topic_prefix))
    return settings


@pytest.fixture
def kafka_settings(embedded_broker: EmbeddedBroker) -> KafkaSettings:
    return settings_of(embedded_broker.bootstrap_servers)


@pytest.fixture
def apache_settings(apache_kafka: ApacheKafka) -> KafkaSettings:
    return settings_of(apache_kafka.bootstrap_servers)
