"""What only a broker with a disk and a password can show: durability, SASL and TLS."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from ingest.broker import KafkaSink, KafkaSource
from ingest.broker_upkeep import ensure_topics
from ingest.ports import Event, EventSource, Outbound
from ingest.topics import KafkaSettings
from store.errors import BrokerUnavailable
from tests.contract.apache_kafka import PASSWORD, USER, ApacheKafka
from tests.contract.kafka_fixtures import settings_of
from tests.contract.test_event_source import read

pytestmark = pytest.mark.kafka
REASONS = {
    "sasl_password": ["SaslAuthenticationFailedError"],
    "security_protocol": ["socket disconnected", "Invalid frame"],
    "tls_ca_file": ["CERTIFICATE_VERIFY_FAILED"],
}
"""What the message says of each refusal."""


@pytest.fixture
def own_broker(apache_kafka_jars: Path, tmp_path: Path) -> Iterator[ApacheKafka]:
    """A broker that this test may kill."""
    broker = ApacheKafka(apache_kafka_jars, tmp_path / "kafka")
    broker.start()
    yield broker
    broker.stop()


def publish(sink: KafkaSink, topic: str, numbers: range) -> None:
    sink.publish([Outbound(topic=topic, key=f"k{n}", value=b"%d" % n) for n in numbers])


def read_again(source: EventSource, count: int) -> list[Event]:
    """Read although the first polls may still find the broker away."""
    for _ in range(30):
        try:
            return read(source, count)
        except BrokerUnavailable:
            continue
    raise AssertionError("the source did not come back")


def test_nothing_acknowledged_is_lost_when_the_broker_is_killed(own_broker: ApacheKafka) -> None:
    settings = settings_of(own_broker.bootstrap_servers, timeout_s=3.0)
    topic = f"{settings.topic_prefix}prompts"
    source, sink = KafkaSource(settings, topics=[topic], role="t"), KafkaSink(settings)
    publish(sink, topic, range(300))
    assert len(read(source, 300)) == 300
    source.commit()
    publish(sink, topic, range(300, 400))
    own_broker.kill()
    with pytest.raises(BrokerUnavailable):
        publish(sink, topic, range(400, 401))
    own_broker.start()
    publish(sink, topic, range(401, 450))
    found = {int(e.value) for e in read_again(source, 149)}
    assert found - {400} == {*range(300, 400), *range(401, 450)}
    source.close()
    sink.close()


def secured(broker: ApacheKafka, **changes: object) -> KafkaSettings:
    settings = KafkaSettings(
        bootstrap_servers=broker.secure_servers,
        topic_prefix="secured.",
        group_id="secured",
        partitions=2,
        timeout_s=5.0,
        security_protocol="SASL_SSL",
        sasl_mechanism="SCRAM-SHA-256",
        sasl_username=USER,
        sasl_password=PASSWORD,
        tls_ca_file=broker.ca_file,
    )
    return replace(settings, **changes)  # type: ignore[arg-type]  # each is its field's own type


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256"])
def test_a_password_over_tls_opens_the_stream(apache_kafka: ApacheKafka, mechanism: str) -> None:
    prefix = f"{mechanism.lower()}."
    settings = secured(
        apache_kafka, sasl_mechanism=mechanism, topic_prefix=prefix, group_id=mechanism
    )
    ensure_topics(settings, [f"{prefix}prompts"])
    source = KafkaSource(settings, topics=[f"{prefix}prompts"], role="t")
    sink = KafkaSink(settings)
    publish(sink, f"{prefix}prompts", range(20))
    assert {int(e.value) for e in read(source, 20)} == set(range(20))
    source.close()
    sink.close()


@pytest.mark.parametrize(
    "wrong",
    [
        {"sasl_password": "another"},
        {"security_protocol": "PLAINTEXT"},
        {"tls_ca_file": None},
    ],
    ids=lambda wrong: next(iter(wrong)),
)
def test_what_the_broker_refuses_says_where_and_how_and_no_password(
    apache_kafka: ApacheKafka, wrong: dict[str, object], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    settings = secured(apache_kafka, timeout_s=2.0, **wrong)
    source, sink = KafkaSource(settings, topics=["secured.prompts"], role="t"), KafkaSink(settings)
    calls: list[Callable[[], object]] = [
        lambda: publish(sink, "secured.prompts", range(1)),
        lambda: source.poll(timeout_s=0.1, limit=1),
        lambda: ensure_topics(settings, ["secured.prompts"]),
    ]
    everything, reasons = "", REASONS[next(iter(wrong))]
    for number, call in enumerate(calls * 8):
        # The broker often just hangs up on a wrong password; at times it says why.
        if number >= len(calls) and any(reason in everything for reason in reasons):
            break
        with pytest.raises(BrokerUnavailable) as refused:
            call()
        told = str(refused.value)
        assert f"{apache_kafka.secure_servers} over {settings.security_protocol}" in told
        assert "STEERSMAN_KAFKA_SASL_*" in told
        everything += told
    assert any(reason in everything for reason in reasons)
    everything += f"{caplog.text} {settings!r}"
    assert PASSWORD not in everything
    assert "another" not in everything
    source.close()
    sink.close()


@pytest.mark.parametrize(("hours", "kept"), [(48, 48), (-1, None)])
def test_created_topics_keep_events_for_the_set_time_and_dead_letters_longer(
    apache_kafka: ApacheKafka, hours: int, kept: int | None
) -> None:
    settings = KafkaSettings(
        bootstrap_servers=apache_kafka.bootstrap_servers, partitions=1, retention_hours=hours
    )
    names = [f"kept{hours}.prompts", f"kept{hours}.prompts.dlq"]
    ensure_topics(settings, names)
    found = [retention_ms(apache_kafka, name) for name in names]
    if kept is None:
        assert found == [None, None]
    else:
        assert found == [kept * 3_600_000, 4 * kept * 3_600_000]


def retention_ms(broker: ApacheKafka, topic: str) -> int | None:
    """Return a topic's own retention, as the broker describes it; None where it has none."""
    from kafka.admin import (  # noqa: PLC0415  # broker.py imports it first, without its warnings
        ConfigResource,
        ConfigResourceType,
        KafkaAdminClient,
    )

    admin = KafkaAdminClient(bootstrap_servers=broker.bootstrap_servers)
    try:
        found = admin.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
        set_here = found["topic"][topic].get("retention.ms")
        return None if set_here is None else int(set_here["value"])
    finally:
        admin.close()


def test_a_consumer_knows_the_partitions_before_it_joins(
    apache_kafka: ApacheKafka, caplog: pytest.LogCaptureFixture
) -> None:
    settings = settings_of(apache_kafka.bootstrap_servers)
    topic = f"{settings.topic_prefix}prompts"
    sink = KafkaSink(settings)
    publish(sink, topic, range(20))
    sink.close()
    for number in range(10):
        source = KafkaSource(settings, topics=[topic], role=f"t{number}")
        assert len(read(source, 20)) == 20
        source.close()
    assert [r.getMessage() for r in caplog.records if "partition metadata" in r.getMessage()] == []
