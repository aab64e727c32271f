"""A handler over a real ledger and streams that say what was called, in order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from ingest import wire
from ingest.memory_stream import MemoryBroker, MemorySink, MemorySource
from ingest.outbox import OutboxPublisher
from ingest.ports import Event, Outbound
from store.errors import EventRejected
from store.facts import Recorded, ResponseOutcome
from store.ledger import Ledger
from store.records import Feedback, OutboxMessage, PromptReceived, ResponseReceived
from tests.factories import decided


class LedgerHandler:
    """Stores like the real handler; every prompt gets the same decision.

    ``fail_next`` holds errors to raise before anything is stored; ``refuse`` ids to refuse.
    """

    def __init__(self, ledger: Ledger, outbox: OutboxPublisher, calls: list[str]) -> None:
        self.fail_next: list[Exception] = []
        self.refuse: set[str] = set()
        self._ledger = ledger
        self._outbox = outbox
        self._calls = calls

    def on_prompts(self, batch: Sequence[PromptReceived]) -> list[Recorded | EventRejected]:
        self._maybe_fail()
        good = [prompt for prompt in batch if prompt.request_id not in self.refuse]
        with self._ledger.begin() as tx:
            choices = [
                replace(decided(prompt.request_id, text=prompt.text), prompt=prompt)
                for prompt in good
            ]
            recorded = tx.decisions.record(choices)
            messages = tx.outbox.add([_message(one) for one in recorded if one.is_new])
        self._calls.append("database")
        self._outbox.publish_now(messages)
        answers = iter(recorded)
        return [
            EventRejected("not_routable", "no expert may answer this")
            if prompt.request_id in self.refuse
            else next(answers)
            for prompt in batch
        ]

    def on_responses(
        self, batch: Sequence[ResponseReceived]
    ) -> list[ResponseOutcome | EventRejected]:
        self._maybe_fail()
        with self._ledger.begin() as tx:
            outcomes = tx.responses.record(batch)
        self._calls.append("database")
        return list(outcomes)

    def on_feedback(self, feedback: Feedback) -> bool:
        with self._ledger.begin() as tx:
            return tx.operations.record_feedback(feedback)

    def _maybe_fail(self) -> None:
        if self.fail_next:
            raise self.fail_next.pop(0)


def _message(recorded: Recorded) -> OutboxMessage:
    assert recorded.decision is not None
    value = wire.encode_decision(recorded.decision)
    return OutboxMessage(topic="decisions", key=recorded.request_id, value=value)


class RecordingSource(MemorySource):
    """A source that notes commits and fails on demand."""

    def __init__(self, broker: MemoryBroker, topics: Sequence[str], calls: list[str]) -> None:
        super().__init__(broker, topics=topics)
        self.fail_next: list[Exception] = []
        self._calls = calls

    def poll(self, *, timeout_s: float, limit: int) -> list[Event]:
        return super().poll(timeout_s=min(timeout_s, 0.02), limit=limit)

    def commit(self) -> None:
        if self.fail_next:
            raise self.fail_next.pop(0)
        super().commit()
        self._calls.append("commit")


class RecordingSink(MemorySink):
    """A sink that notes what it sent and fails on demand."""

    def __init__(self, broker: MemoryBroker, calls: list[str]) -> None:
        super().__init__(broker)
        self.fail_next: list[Exception] = []
        self._calls = calls

    def publish(self, messages: Sequence[Outbound]) -> None:
        if self.fail_next:
            raise self.fail_next.pop(0)
        super().publish(messages)
        self._calls += sorted({f"publish {message.topic}" for message in messages})


class Tally:
    """Counters and gauges that can be asked."""

    def __init__(self) -> None:
        self.counts: Counter[tuple[str, ...]] = Counter()
        self.shown: dict[tuple[str, ...], float] = {}

    def set(self, name: str, value: float, **labels: str) -> None:
        self.shown[name, *labels.values()] = value

    def forget(self, name: str, **labels: str) -> None:
        del self.shown[name, *labels.values()]

    def count(self, name: str, **labels: str) -> None:
        self.counts[(name, *labels.values())] += 1
