"""A consumer of decisions that knows only the topics: the stand-in for a gateway or an app.

Reads ``decisions``, calls the chosen expert (here: looks its recorded answer up) and publishes
``responses``. It imports nothing of the router but the broker adapter and the recorded traffic.
"""

from __future__ import annotations

import threading
from contextlib import closing

from ingest.broker import KafkaSink, KafkaSource
from ingest.ports import Event, Outbound
from ingest.topics import DECISIONS, RESPONSES, KafkaSettings, full_name
from ingest.wire import decode_decision, encode_response
from online.recorded import RecordedTraffic
from store.clock import Clock
from store.records import ResponseReceived

POLL_S = 0.2


def consume(
    kafka: KafkaSettings, traffic: RecordedTraffic, clock: Clock, stop: threading.Event
) -> int:
    """Answer decisions until stopped; return how many were answered."""
    topic = full_name(DECISIONS, prefix=kafka.topic_prefix)
    answered = 0
    with (
        closing(KafkaSource(kafka, topics=[topic], role="gateway")) as source,
        closing(KafkaSink(kafka)) as sink,
    ):
        while not stop.is_set():
            events = source.poll(timeout_s=POLL_S, limit=200)
            if events:
                sink.publish([_answer(event, kafka, traffic, clock) for event in events])
                source.commit()
                answered += len(events)
    return answered


def _answer(event: Event, kafka: KafkaSettings, traffic: RecordedTraffic, clock: Clock) -> Outbound:
    decision = decode_decision(event.value)
    recorded = traffic.answers[decision.request_id, decision.expert]
    response = ResponseReceived(
        request_id=decision.request_id,
        expert=decision.expert,
        received_at=clock.now(),
        text=recorded.text,
        cost_usd=recorded.cost_usd,
    )
    return Outbound(
        topic=full_name(RESPONSES, prefix=kafka.topic_prefix),
        key=decision.request_id,
        value=encode_response(response),
    )
