"""The demo's stand-in for a gateway outlasts its broker."""

from __future__ import annotations

import threading
from collections.abc import Sequence

from ingest.consumer import answer_all
from ingest.memory_stream import MemoryBroker, MemorySink, MemorySource
from ingest.ports import Event, Outbound
from store.clock import ManualClock
from tests.factories import NOON

DECIDED = Outbound(topic="decisions", key="k", value=b"1")


class Pauses(ManualClock):
    """Brings the broker back at each pause."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(NOON)
        self._broker = broker
        self.count = 0

    def wait(self, stop: threading.Event, seconds: float) -> bool:
        self.count += 1
        self._broker.is_away = False
        return super().wait(stop, seconds)


def test_it_waits_for_its_broker_at_every_step_and_loses_nothing() -> None:
    """Bug: it ended when the broker was away."""
    broker, stop = MemoryBroker(), threading.Event()
    pauses = Pauses(broker)
    MemorySink(broker).publish([DECIDED])

    def answer(event: Event) -> Outbound:
        broker.is_away = True  # before the answer is sent
        return Outbound(topic="responses", key="k", value=event.value)

    class Sink(MemorySink):
        def publish(self, messages: Sequence[Outbound]) -> None:
            super().publish(messages)
            broker.is_away = True  # before the commit

    class Source(MemorySource):
        def commit(self) -> None:
            super().commit()
            stop.set()

    source = Source(broker, topics=["decisions"])
    broker.is_away = True  # before the first poll
    assert answer_all(source, Sink(broker), answer, pauses, stop) == 1
    assert pauses.count == 3
    assert [event.value for event in broker.events("responses")] == [b"1"]
    assert broker.committed("g") == {("decisions", 0): 1}


def test_it_can_be_stopped_while_it_waits() -> None:
    broker, stop = MemoryBroker(), threading.Event()
    source = MemorySource(broker, topics=["decisions"])
    broker.is_away = True

    class Stopping(ManualClock):
        def wait(self, stop: threading.Event, seconds: float) -> bool:
            stop.set()
            return super().wait(stop, seconds)

    assert answer_all(source, MemorySink(broker), lambda _: DECIDED, Stopping(NOON), stop) == 0
