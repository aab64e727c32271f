"""The soak's traffic: 25 requests a second over HTTP and as many over Kafka, on a fixed timetable.

A request's time counts from when it was due, so a router that stalls is not asked less for it.
"""

from __future__ import annotations

import http.client
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field

from ingest.broker import KafkaSink
from ingest.ports import Outbound
from ingest.topics import PROMPTS, KafkaSettings, full_name
from ingest.wire import encode_prompt
from store.clock import SystemClock
from store.errors import BrokerUnavailable
from store.records import JsonObject, PromptReceived, RequestId
from tests.replicas import CALL_S, asked

RATE = 50
"""Requests a second, every second one over Kafka."""
CALLERS = 8
CHUNK_S = 0.2
CLOCK = SystemClock()


@dataclass(slots=True)
class Load:
    """Sends request i at its own time until the timetable ends or ``stop`` is set."""

    port: int
    kafka: KafkaSettings
    texts: Sequence[str]
    count: int
    stop: threading.Event = field(default_factory=threading.Event)
    took: list[tuple[float, float]] = field(default_factory=list)
    """When a call over HTTP was due (seconds of the run) and how long it then took."""
    failures: list[str] = field(default_factory=list)
    produced: int = 0
    started: float = 0.0
    _threads: list[threading.Thread] = field(default_factory=list)

    def start(self) -> None:
        """Begin sending."""
        self.started = time.perf_counter()
        works: list[Callable[[], None]] = [lambda n=n: self._call(n) for n in range(CALLERS)]  # type: ignore[misc]
        self._threads = [threading.Thread(target=work) for work in (*works, self._produce)]
        for thread in self._threads:
            thread.start()

    def end(self) -> None:
        """Stop sending and wait for the calls that are on their way."""
        self.stop.set()
        for thread in self._threads:
            thread.join()

    @property
    def sent(self) -> int:
        """How many requests were sent and not refused."""
        return len(self.took) + self.produced

    def _call(self, caller: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=CALL_S)
        for i in range(2 * caller, self.count, 2 * CALLERS):
            if not self._until(i / RATE):
                break
            body: JsonObject = {"request_id": request_id(i), "prompt": self._text(i)}
            try:
                status, told = asked(connection, "POST", "/v1/routing/decision", body)
            except (OSError, http.client.HTTPException, ValueError) as problem:
                connection.close()
                self.failures.append(repr(problem))
                continue
            if status == 200:
                self.took.append((i / RATE, self._now() - i / RATE))
            else:
                self.failures.append(f"{status} {told}")
        connection.close()

    def _produce(self) -> None:
        topic = full_name(PROMPTS, prefix=self.kafka.topic_prefix)
        chunk = 2 * round(RATE * CHUNK_S / 2)
        with closing(KafkaSink(self.kafka)) as sink:
            for first in range(0, self.count, chunk):
                if not self._until(first / RATE):
                    break
                own = range(first + 1, min(first + chunk, self.count), 2)
                try:
                    sink.publish([self._message(topic, i) for i in own])
                except BrokerUnavailable as away:
                    self.failures.append(repr(away))
                else:
                    self.produced += len(own)

    def _message(self, topic: str, i: int) -> Outbound:
        prompt = PromptReceived(
            request_id=RequestId(request_id(i)), text=self._text(i), received_at=CLOCK.now()
        )
        return Outbound(topic=topic, key=prompt.request_id, value=encode_prompt(prompt))

    def _text(self, i: int) -> str:
        return self.texts[i % len(self.texts)]

    def _until(self, due_s: float) -> bool:
        """Wait for a time of the run; False once the run is over."""
        return not self.stop.wait(max(0.0, due_s - self._now()))

    def _now(self) -> float:
        return time.perf_counter() - self.started


def request_id(i: int) -> str:
    """Return the id of the i-th request; recorded traffic answers by it."""
    return f"soak-{i:07d}"
