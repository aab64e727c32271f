"""Recorded prompts that stream into a router, and a gateway that answers what it decides."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from ingest.broker import KafkaSink
from ingest.consumer import consume
from ingest.demo_traffic import GEMINI, load_prompts, write_recorded
from ingest.ports import Outbound
from ingest.topics import PROMPTS, RESPONSES, KafkaSettings, full_name
from ingest.wire import encode_prompt, encode_response
from online.recorded import load_recorded
from store.clock import SystemClock
from store.errors import BrokerUnavailable
from store.records import PromptReceived, RequestId, ResponseReceived

PROMPTS_SENT = 2_000
PINNED_EVERY = 25
"""One prompt in so many names its expert, and its answer comes before it."""
EARLY_BY = 20
"""How many prompts before."""
CLOCK = SystemClock()


class Stream:
    """The demo's first prompts, in their order; ``recorded`` becomes the file of their answers."""

    def __init__(self, kafka: KafkaSettings, recorded: Path, count: int) -> None:
        self._kafka = kafka
        prompts = load_prompts()[:count]
        write_recorded(prompts, recorded)
        self.traffic = load_recorded(recorded)
        self.sent: set[str] = set()
        self._waiting = [(RequestId(p.request_id), p.text) for p in prompts]
        self._stop = threading.Event()
        self._sink = KafkaSink(kafka)

    @contextmanager
    def answered(self) -> Iterator[None]:
        """Answer decisions while the block runs."""
        gateway = threading.Thread(target=self._answer)
        gateway.start()
        try:
            yield
        finally:
            self._stop.set()
            gateway.join()
            self._sink.close()

    def feed(self, count: int) -> None:
        """Send the next prompts, and the answers of some that come later."""
        soon = self._waiting[EARLY_BY : EARLY_BY + count]
        batch, self._waiting = self._waiting[:count], self._waiting[count:]
        messages = [self._response(name) for name, _ in soon if _is_pinned(name)]
        for name, text in batch:
            prompt = PromptReceived(
                request_id=name,
                text=text,
                received_at=CLOCK.now(),
                pinned_expert=GEMINI if _is_pinned(name) else None,
            )
            messages.append(self._outbound(PROMPTS, name, encode_prompt(prompt)))
        while not self._stop.is_set():
            with suppress(BrokerUnavailable):
                self._sink.publish(messages)
                break
        self.sent |= {name for name, _ in batch}

    def _answer(self) -> None:
        consume(self._kafka, self.traffic, CLOCK, self._stop)

    def _response(self, request_id: RequestId) -> Outbound:
        recorded = self.traffic.answers[request_id, GEMINI]
        response = ResponseReceived(
            request_id=request_id,
            expert=GEMINI,
            received_at=CLOCK.now(),
            text=recorded.text,
            cost_usd=recorded.cost_usd,
        )
        return self._outbound(RESPONSES, request_id, encode_response(response))

    def _outbound(self, topic: str, key: str, value: bytes) -> Outbound:
        name = full_name(topic, prefix=self._kafka.topic_prefix)
        return Outbound(topic=name, key=key, value=value)


def _is_pinned(name: RequestId) -> bool:
    return int(name[-5:]) % PINNED_EVERY == 0
