"""The loop between the event stream and the handler.

A batch is decoded, stored, its refused events dead-lettered, and only then are its offsets
committed: what is acknowledged is stored. Each step is repeated while ledger or broker is away.
A process that dies between two steps gets the batch again; every step may be done twice.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ingest import wire
from ingest.dead_letters import dead_letter
from ingest.lag import LagGauge
from ingest.parking import Parking, response_conflict
from ingest.patience import Counters, NoCounters, Patience, StoppedWaiting
from ingest.ports import Event, EventSink, EventSource, Gauges, Handler
from ingest.topics import DEFAULT_PREFIX, FEEDBACK, PROMPTS, RESPONSES, ReceivedEvent
from store.clock import Clock
from store.errors import EventRejected, RequestConflict
from store.facts import Recorded, ResponseOutcome
from store.records import Feedback, PromptReceived, ResponseReceived

log = logging.getLogger(__name__)

BATCH = 200
POLL_S = 0.5
"""Half of the second within which a stop is honoured."""
Fact = PromptReceived | ResponseReceived | Feedback


@dataclass(frozen=True, slots=True)
class Fate:
    """What became of one event."""

    event: Event
    outcome: str
    refusal: EventRejected | None = None
    """Set when the event goes to the dead-letter topic."""


class StreamWorker:
    """Reads prompts, responses and feedback in batches and acknowledges what is stored.

    Parameters
    ----------
    source, sink
        Where events come from, and where the refused ones go.
    handler
        Stores; the same one that serves HTTP.
    parking
        Keeps responses that are ahead of their decision.
    rng
        Draws the jitter of pauses.
    """

    def __init__(  # noqa: PLR0913 - what it connects
        self,
        source: EventSource,
        sink: EventSink,
        handler: Handler,
        parking: Parking,
        clock: Clock,
        *,
        rng: np.random.Generator,
        counters: Counters | None = None,
        gauges: Gauges | None = None,
        topic_prefix: str = DEFAULT_PREFIX,
        max_prompt_bytes: int = wire.PROMPT_BYTES,
        batch: int = BATCH,
    ) -> None:
        self._source = source
        self._sink = sink
        self._handler = handler
        self._parking = parking
        self._clock = clock
        self._counters = counters or NoCounters()
        self._lag = LagGauge(gauges) if gauges is not None else None
        self._patience = Patience(clock, rng, self._counters)
        self._prefix = topic_prefix
        self._max_prompt_bytes = max_prompt_bytes
        self._batch = batch

    def run(self, stop: threading.Event) -> None:
        """Work until ``stop`` is set; what is then unfinished comes again after a restart."""
        while not stop.is_set():
            self.step(stop)

    def step(self, stop: threading.Event) -> int:
        """Poll once and finish that batch; return how many events it had."""
        insist = self._patience.insist
        try:
            events = insist(self._poll, name="poll", stop=stop)
            if not events:
                return 0
            fates = insist(lambda: self._store(events), name="store", stop=stop)
            letters = [dead_letter(f.event, f.refusal) for f in fates if f.refusal is not None]
            if letters:
                insist(lambda: self._sink.publish(letters), name="dead_letter", stop=stop)
            insist(self._source.commit, name="commit", stop=stop)
        except StoppedWaiting:
            log.info("stream.stopped_waiting")
            return 0
        for fate in fates:
            self._count(fate)
        return len(events)

    def _poll(self) -> list[Event]:
        try:
            return self._source.poll(timeout_s=POLL_S, limit=self._batch)
        finally:  # also when the broker is away: its partitions may be another's by now
            if self._lag is not None:
                self._lag.show(self._source.lag())

    def _store(self, events: Sequence[Event]) -> list[Fate]:
        """Hand a batch over, prompts first: a response of the same batch finds its decision."""
        fates: list[Fate] = []
        prompts: list[tuple[Event, PromptReceived]] = []
        responses: list[tuple[Event, ResponseReceived]] = []
        feedback: list[tuple[Event, Feedback]] = []
        for event in events:
            match self._decode(event):
                case EventRejected() as refusal:
                    fates.append(Fate(event, "rejected", refusal))
                case PromptReceived() as prompt:
                    prompts.append((event, prompt))
                case ResponseReceived() as response:
                    responses.append((event, response))
                case Feedback() as word:
                    feedback.append((event, word))
        fates += self._store_prompts(prompts)
        fates += self._store_responses(responses)
        fates += [self._store_feedback(event, word) for event, word in feedback]
        return fates

    def _decode(self, event: Event) -> Fact | EventRejected:
        now = self._clock.now()
        try:
            match event.topic.removeprefix(self._prefix):
                case topic if topic == PROMPTS:
                    return wire.decode_prompt(event.value, now=now, limit=self._max_prompt_bytes)
                case topic if topic == RESPONSES:
                    return _dated(event, wire.decode_response(event.value, now=now))
                case topic if topic == FEEDBACK:
                    return wire.decode_feedback(event.value, now=now)
        except EventRejected as refusal:
            return refusal
        return EventRejected("unknown_topic", "this topic is not read")

    def _store_prompts(self, batch: Sequence[tuple[Event, PromptReceived]]) -> list[Fate]:
        if not batch:
            return []
        answers = self._handler.on_prompts([prompt for _, prompt in batch])
        return [
            _fate_of_prompt(event, answer)
            for (event, _), answer in zip(batch, answers, strict=True)
        ]

    def _store_responses(self, batch: Sequence[tuple[Event, ResponseReceived]]) -> list[Fate]:
        if not batch:
            return []
        outcomes = self._handler.on_responses([response for _, response in batch])
        pairs = list(zip(batch, outcomes, strict=True))
        self._parking.park(
            [
                (response, event.value)
                for (event, response), outcome in pairs
                if outcome is ResponseOutcome.UNKNOWN_REQUEST
            ]
        )
        return [_fate_of_response(event, outcome) for (event, _), outcome in pairs]

    def _store_feedback(self, event: Event, feedback: Feedback) -> Fate:
        try:
            is_new = self._handler.on_feedback(feedback)
        except EventRejected as refusal:
            return Fate(event, "rejected", refusal)
        return Fate(event, "new" if is_new else "repeated")

    def _count(self, fate: Fate) -> None:
        event = fate.event
        topic = event.topic.removeprefix(self._prefix)
        self._counters.count("stream_events", topic=topic, outcome=fate.outcome)
        if fate.refusal is None:
            return
        self._counters.count("events_rejected", source="kafka", code=fate.refusal.code)
        place = {"topic": event.topic, "partition": event.partition, "offset": event.offset}
        log.warning("stream.dead_letter", extra=place | {"code": fate.refusal.code})


def _dated(event: Event, response: ResponseReceived) -> ResponseReceived:
    """Date a failed call by when it was told: read late, or again, it says nothing of the expert
    now. Answers are dated by our clock, like every fact that a day or a timeout depends on.
    """
    if response.error is None or not isinstance(event, ReceivedEvent):
        return response
    return replace(response, received_at=min(response.received_at, event.sent_at))


def _fate_of_prompt(event: Event, answer: Recorded | EventRejected) -> Fate:
    if isinstance(answer, EventRejected):
        return Fate(event, "rejected", answer)
    if answer.is_conflict:
        refusal = RequestConflict(
            "request_conflict", "the id is taken by another prompt", field="request_id"
        )
        return Fate(event, "conflict", refusal)
    return Fate(event, "new" if answer.is_new else "repeated")


def _fate_of_response(event: Event, outcome: ResponseOutcome | EventRejected) -> Fate:
    if isinstance(outcome, EventRejected):
        return Fate(event, "rejected", outcome)
    if outcome is ResponseOutcome.CONFLICT:
        return Fate(event, "conflict", response_conflict())
    if outcome is ResponseOutcome.UNKNOWN_REQUEST:
        return Fate(event, "parked")
    return Fate(event, "new" if outcome is ResponseOutcome.NEW else "repeated")
