"""The whole way over a broker: prompts in, decisions and dead letters out."""

from __future__ import annotations

import threading
import time

import numpy as np
import pytest

from ingest import wire
from ingest.broker import KafkaSink, KafkaSource
from ingest.outbox import OutboxPublisher
from ingest.parking import Parking
from ingest.ports import Event, Outbound
from ingest.stream import StreamWorker
from ingest.topics import KafkaSettings, ReceivedEvent
from store.clock import SystemClock
from store.memory import MemoryLedger
from tests.contract.kafka_fixtures import embedded_broker, kafka_settings
from tests.factories import prompt
from tests.unit.stream_fakes import LedgerHandler

__all__ = ["embedded_broker", "kafka_settings"]

PROMPTS = 500
BAD = (b"\xff\x00", b"{}", b"[]")
LIMIT_S = 60.0


def read(settings: KafkaSettings, topic: str, count: int) -> list[Event]:
    """Read ``count`` events of a topic as a consumer would, and then see whether more come."""
    source = KafkaSource(settings, topics=[topic], role=f"reader-{topic}")
    events: list[Event] = []
    deadline = time.monotonic() + LIMIT_S
    while len(events) < count and time.monotonic() < deadline:
        events += source.poll(timeout_s=0.5, limit=500)
    events += source.poll(timeout_s=0.5, limit=500)
    source.close()
    return events


@pytest.mark.kafka
def test_500_prompts_become_500_decisions_and_the_rest_dead_letters(
    kafka_settings: KafkaSettings,
) -> None:
    prefix = kafka_settings.topic_prefix
    inbound = f"{prefix}prompts"
    clock, ledger, sink = SystemClock(), MemoryLedger(), KafkaSink(kafka_settings)
    ids = [f"r{n}" for n in range(PROMPTS)]
    messages = [
        Outbound(
            topic=inbound, key=one, value=wire.encode_prompt(prompt(one, text=f"Is it {one}?"))
        )
        for one in ids
    ]
    for place, value in enumerate(BAD):
        messages.insert(place * 100, Outbound(topic=inbound, key=f"bad{place}", value=value))
    sink.publish(messages)

    handler = LedgerHandler(ledger, OutboxPublisher(ledger, sink, clock, prefix), [])
    parking = Parking(ledger, handler, sink, clock, topic=f"{prefix}responses")
    source = KafkaSource(kafka_settings, topics=[inbound], role="serve")
    worker = StreamWorker(
        source, sink, handler, parking, clock,
        rng=np.random.default_rng(7), topic_prefix=prefix,
    )  # fmt: skip
    stop = threading.Event()
    thread = threading.Thread(target=worker.run, args=(stop,))
    thread.start()
    decisions = read(kafka_settings, f"{prefix}decisions", PROMPTS)
    letters = read(kafka_settings, f"{inbound}.dlq", len(BAD))
    stop.set()
    thread.join()
    source.close()
    sink.close()

    decided = [wire.decode_decision(event.value).request_id for event in decisions]
    assert sorted(decided) == sorted(ids)
    assert all(event.key == one.encode() for event, one in zip(decisions, decided, strict=True))
    by_reason = {
        letter.headers["reason"]: letter for letter in letters if isinstance(letter, ReceivedEvent)
    }
    assert {reason: letter.value for reason, letter in by_reason.items()} == {
        "unreadable_json": BAD[0],
        "missing_field": BAD[1],
        "wrong_type": BAD[2],
    }
    for letter in by_reason.values():
        assert letter.headers["source_topic"] == inbound
        assert int(letter.headers["partition"]) in range(kafka_settings.partitions)
        assert int(letter.headers["offset"]) >= 0
    with ledger.begin() as tx:
        assert tx.outbox.unmarked(limit=1) == []
        assert tx.decisions.last_seq() == PROMPTS
