"""What is in the outbox leaves: at once if it can, by the sweeper if not."""

from __future__ import annotations

import threading

import pytest

from ingest.memory_stream import MemoryBroker
from ingest.outbox import OutboxPublisher, Sweeper
from store.clock import ManualClock
from store.errors import BrokerUnavailable, StoreUnavailable
from store.memory import MemoryLedger
from store.records import OutboxMessage
from tests.factories import NOON
from tests.unit.stream_fakes import RecordingSink, Tally


class World:
    """A publisher over memory."""

    def __init__(self) -> None:
        self.calls: list[str] = []
        self.clock = ManualClock(NOON)
        self.broker = MemoryBroker()
        self.ledger = MemoryLedger(clock=self.clock)
        self.sink = RecordingSink(self.broker, self.calls)
        self.tally = Tally()
        self.publisher = OutboxPublisher(
            self.ledger, self.sink, self.clock, "x.", counters=self.tally
        )

    def write(self, *keys: str) -> list[OutboxMessage]:
        messages = [OutboxMessage(topic="decisions", key=key, value=key.encode()) for key in keys]
        with self.ledger.begin() as tx:
            return tx.outbox.add(messages)

    def unmarked(self) -> int:
        with self.ledger.begin() as tx:
            return len(tx.outbox.unmarked(limit=10_000))

    def sent(self) -> list[str]:
        return [event.value.decode() for event in self.broker.events("x.decisions")]


@pytest.fixture
def world() -> World:
    return World()


def test_what_is_published_at_once_is_marked(world: World) -> None:
    world.publisher.publish_now(world.write("a", "b"))
    assert (world.sent(), world.unmarked()) == (["a", "b"], 0)
    world.clock.advance(60)
    assert world.publisher.sweep() == 0


def test_nothing_to_publish_is_nothing(world: World) -> None:
    world.publisher.publish_now([])
    assert world.calls == []


def test_a_topic_with_its_prefix_is_left_alone(world: World) -> None:
    message = OutboxMessage(topic="x.decisions", key="a", value=b"a", message_id=1)
    world.publisher.publish_now([message])
    assert world.sent() == ["a"]


def test_a_broker_that_is_away_fails_nobody(world: World) -> None:
    world.sink.fail_next = [BrokerUnavailable("away")]
    world.publisher.publish_now(world.write("a"))
    assert (world.sent(), world.unmarked()) == ([], 1)
    assert world.tally.counts["outbox_deferred", "broker"] == 1


def test_the_sweeper_leaves_young_messages_to_their_writer(world: World) -> None:
    world.write("a")
    world.clock.advance(5)
    assert world.publisher.sweep() == 0
    world.clock.advance(0.1)
    assert world.publisher.sweep() == 1
    assert (world.sent(), world.unmarked()) == (["a"], 0)


def test_the_sweeper_sends_more_than_one_batch_in_order(world: World) -> None:
    keys = [f"{n:04}" for n in range(1_200)]
    world.write(*keys)
    world.clock.advance(6)
    assert world.publisher.sweep() == 1_200
    assert world.sent() == keys


def test_while_the_broker_is_away_nobody_waits_for_it(world: World) -> None:
    world.sink.fail_next = [BrokerUnavailable("away")]
    world.publisher.publish_now(world.write("a"))
    world.publisher.publish_now(world.write("b"))
    assert world.calls == []
    world.clock.advance(6)
    assert world.publisher.sweep() == 2
    world.publisher.publish_now(world.write("c"))  # the sweep found the broker back
    assert world.sent() == ["a", "b", "c"]


def test_without_a_sweep_the_broker_is_tried_again_after_a_while(world: World) -> None:
    world.sink.fail_next = [BrokerUnavailable("away")]
    world.publisher.publish_now(world.write("a"))
    world.clock.advance(30)
    world.publisher.publish_now(world.write("b"))
    assert world.sent() == ["b"]


def test_what_was_sent_but_not_marked_is_sent_again(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    messages = world.write("a")

    def away() -> None:
        raise StoreUnavailable("away")

    with monkeypatch.context() as patch:
        patch.setattr(world.ledger, "begin", away)
        world.publisher.publish_now(messages)
    assert (world.sent(), world.unmarked()) == (["a"], 1)
    world.clock.advance(6)
    assert world.publisher.sweep() == 1
    assert world.sent() == ["a", "a"]


def test_one_sweep_that_must_wait_does_not_stop_the_others(world: World) -> None:
    def away() -> int:
        raise BrokerUnavailable("away")

    sweeper = Sweeper(world.clock, [away, lambda: 3])
    assert sweeper.step() == 3


def test_the_sweeper_runs_until_it_is_stopped(world: World) -> None:
    stop = threading.Event()
    rounds: list[int] = []

    def sweep() -> int:
        rounds.append(len(rounds))
        if len(rounds) == 3:
            stop.set()
        return 0

    Sweeper(world.clock, [sweep]).run(stop)
    assert len(rounds) == 3
