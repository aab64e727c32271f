"""A consumer of decisions that knows only the topics: the stand-in for a gateway or an app.

Reads ``decisions``, calls the chosen expert (here: looks its recorded answer up) and publishes
``responses``. It imports nothing of the router but its way to the broker and the recorded traffic.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import closing, suppress
from functools import partial

import numpy as np

from ingest.broker import KafkaSink, KafkaSource
from ingest.patience import NoCounters, Patience, StoppedWaiting
from ingest.ports import Event, EventSink, EventSource, Outbound
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
    answer = partial(_answer, prefix=kafka.topic_prefix, traffic=traffic, clock=clock)
    with (
        closing(KafkaSource(kafka, topics=[topic], role="gateway")) as source,
        closing(KafkaSink(kafka)) as sink,
    ):
        return answer_all(source, sink, answer, clock, stop)


def answer_all(
    source: EventSource,
    sink: EventSink,
    answer: Callable[[Event], Outbound],
    clock: Clock,
    stop: threading.Event,
) -> int:
    """Answer each event until stopped, waiting for a broker that is away; return how many."""
    insist = partial(Patience(clock, np.random.default_rng(), NoCounters()).insist, stop=stop)
    answered = 0
    with suppress(StoppedWaiting):
        while not stop.is_set():
            events = insist(partial(source.poll, timeout_s=POLL_S, limit=200), name="poll")
            if events:
                insist(partial(sink.publish, [answer(one) for one in events]), name="publish")
                insist(source.commit, name="commit")
                answered += len(events)
    return answered


def _answer(event: Event, *, prefix: str, traffic: RecordedTraffic, clock: Clock) -> Outbound:
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
        topic=full_name(RESPONSES, prefix=prefix),
        key=decision.request_id,
        value=encode_response(response),
    )
