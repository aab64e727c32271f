"""Streaming prompts through Kafka and watching what comes back, as a client would."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing

from ingest.broker import KafkaSink, KafkaSource
from ingest.ports import Outbound
from ingest.topics import ALERTS, DECISIONS, LABELS, PROMPTS, KafkaSettings, full_name
from ingest.wire import decode_alert, decode_decision, decode_label, encode_prompt
from store.clock import Clock
from store.errors import SteersmanError
from store.records import (
    TRAFFIC,
    Alert,
    Decision,
    ExpertId,
    JsonObject,
    PromptReceived,
    RequestId,
)

IN_FLIGHT = 128
"""Prompts sent and not yet decided, at most: the stream runs at the router's full speed."""
UNJUDGED = 48
"""Sampled requests whose labels have not come, at most: and no faster than the loop learns, else a
stream from the embedding cache would be over before its first labels."""
CHUNK = 32
TIMEOUT_S = 60.0
POLL_S = 0.1


class Feed:
    """Sends prompts, collects decisions, counts labels, keeps alerts."""

    def __init__(self, kafka: KafkaSettings, clock: Clock) -> None:
        self._clock = clock
        self._names = {t: full_name(t, prefix=kafka.topic_prefix) for t in _TOPICS}
        self._stack = ExitStack()
        self._sink = self._stack.enter_context(closing(KafkaSink(kafka)))
        watched = [self._names[t] for t in (DECISIONS, LABELS, ALERTS)]
        source = KafkaSource(kafka, topics=watched, role="demo-feed")
        self._source = self._stack.enter_context(closing(source))
        self.decisions: dict[RequestId, Decision] = {}
        self.sent = 0
        self.labels = 0
        self.traffic_labels: Counter[ExpertId] = Counter()
        self.served: Counter[ExpertId] = Counter()
        self.alerts: list[Alert] = []
        self._sampled: set[RequestId] = set()
        self._labelled: set[RequestId] = set()

    def close(self) -> None:
        """Release the connections."""
        self._stack.close()

    def stream(self, prompts: Sequence[tuple[str, str]], *, each: Callable[[], None]) -> None:
        """Send (request id, text) pairs and return when all are decided.

        ``each`` is called between polls: progress, health, whatever happens meanwhile.
        """
        waiting = list(reversed(prompts))
        wanted = self.sent + len(prompts)
        while waiting or len(self.decisions) < wanted:
            room = IN_FLIGHT - (self.sent - len(self.decisions))
            if len(self._sampled - self._labelled) > UNJUDGED:
                room = 0
            chunk = [waiting.pop() for _ in range(min(room, CHUNK, len(waiting)))]
            if chunk:
                self._sink.publish([self._message(r, text) for r, text in chunk])
                self.sent += len(chunk)
            self.look()
            each()

    def look(self) -> None:
        """Take in what has come."""
        for event in self._source.poll(timeout_s=POLL_S, limit=1_000):
            if event.topic == self._names[DECISIONS]:
                self._decided(decode_decision(event.value))
            elif event.topic == self._names[LABELS]:
                label = decode_label(event.value)
                self.labels += 1
                self.traffic_labels[label.expert] += label.purpose == TRAFFIC
                self._labelled.add(label.request_id)
            else:
                self.alerts.append(decode_alert(event.value))

    def _decided(self, decision: Decision) -> None:
        if decision.request_id in self.decisions:
            return  # sent twice
        self.decisions[decision.request_id] = decision
        self.served[decision.expert] += 1
        if decision.is_sampled:
            self._sampled.add(decision.request_id)

    def _message(self, request_id: str, text: str) -> Outbound:
        prompt = PromptReceived(
            request_id=RequestId(request_id), text=text, received_at=self._clock.now()
        )
        return Outbound(topic=self._names[PROMPTS], key=request_id, value=encode_prompt(prompt))


_TOPICS = (PROMPTS, DECISIONS, LABELS, ALERTS)


class CallFailed(SteersmanError):
    """The router refused a call or did not answer it."""


class Api:
    """The public HTTP interface, with an admin key."""

    def __init__(self, url: str, key: str) -> None:
        self._url = url
        self._headers = {"content-type": "application/json", "authorization": f"Bearer {key}"}

    def get(self, path: str) -> JsonObject:
        """Return a document."""
        return self._call("GET", path, None)

    def post(self, path: str, body: JsonObject) -> JsonObject:
        """Create something."""
        return self._call("POST", path, body)

    def patch(self, path: str, body: JsonObject) -> JsonObject:
        """Change something."""
        return self._call("PATCH", path, body)

    def _call(self, method: str, path: str, body: JsonObject | None) -> JsonObject:
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(  # noqa: S310  our own loopback address
            self._url + path, data=data, headers=self._headers, method=method
        )
        try:
            with urllib.request.urlopen(request, timeout=TIMEOUT_S) as reply:  # noqa: S310
                found: JsonObject = json.load(reply)
        except urllib.error.HTTPError as refused:
            said = refused.read().decode(errors="replace")
            raise CallFailed(f"{method} {path} answered {refused.code}: {said}") from refused
        except OSError as problem:
            raise CallFailed(f"{method} {path} got no answer: {problem}") from problem
        return found
