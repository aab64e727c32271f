"""What is acknowledged is stored, one bad event costs no other, and nothing waits forever."""

from __future__ import annotations

import json
import logging
import threading
import time
from dataclasses import dataclass, replace
from datetime import timedelta

import numpy as np
import pytest

from ingest import wire
from ingest.announce import announce_alert
from ingest.dead_letters import VALUE_BYTES, dead_letter
from ingest.handler import ResponseHandler
from ingest.memory_stream import MemoryBroker
from ingest.outbox import OutboxPublisher
from ingest.parking import Parking
from ingest.ports import Event, Outbound
from ingest.stream import BATCH, StreamWorker
from ingest.topics import ReceivedEvent
from recalibrate.watch import HealthWatch
from store.clock import ManualClock, SystemClock
from store.errors import BrokerUnavailable, EventRejected, StoreUnavailable
from store.health import CallError
from store.memory import MemoryLedger
from store.records import ExpertStatus, Feedback, PromptReceived, RequestId
from tests.factories import CHEAP, NOON, expert, prompt, response
from tests.unit.stream_fakes import LedgerHandler, RecordingSink, RecordingSource, Tally

TOPICS = ["router.prompts", "router.responses", "router.feedback", "router.other"]


class Boom(Exception):
    """A crash."""


@dataclass
class World:
    """Everything a worker touches, and the worker."""

    broker: MemoryBroker
    clock: ManualClock
    calls: list[str]
    ledger: MemoryLedger
    source: RecordingSource
    sink: RecordingSink
    handler: LedgerHandler
    parking: Parking
    worker: StreamWorker
    tally: Tally
    stop: threading.Event

    def send(self, topic: str, *values: bytes) -> None:
        messages = [Outbound(topic=f"router.{topic}", key="k", value=value) for value in values]
        self.broker.append(messages)

    def step(self) -> int:
        return self.worker.step(self.stop)

    def letters(self, topic: str) -> list[ReceivedEvent]:
        return self.broker.events(f"router.{topic}.dlq")

    def reasons(self, topic: str) -> list[str]:
        return [letter.headers["reason"] for letter in self.letters(topic)]

    def decisions(self) -> list[str]:
        events = self.broker.events("router.decisions")
        return [wire.decode_decision(event.value).request_id for event in events]

    def committed(self, topic: str) -> int:
        return self.broker.committed("g").get((f"router.{topic}", 0), 0)

    def restarted(self) -> World:
        self.source.close()
        source = RecordingSource(self.broker, TOPICS, self.calls)
        worker = StreamWorker(
            source, self.sink, self.handler, self.parking, self.clock, rng=np.random.default_rng(1)
        )
        return replace(self, source=source, worker=worker)


@pytest.fixture
def world() -> World:
    broker, clock, calls, tally = MemoryBroker(), ManualClock(NOON), list[str](), Tally()
    ledger = MemoryLedger(clock=clock)
    source, sink = RecordingSource(broker, TOPICS, calls), RecordingSink(broker, calls)
    handler = LedgerHandler(ledger, OutboxPublisher(ledger, sink, clock), calls)
    parking = Parking(ledger, handler, sink, clock, topic="router.responses", counters=tally)
    worker = StreamWorker(
        source,
        sink,
        handler,
        parking,
        clock,
        rng=np.random.default_rng(7),
        counters=tally,
        gauges=tally,
    )
    return World(
        broker, clock, calls, ledger, source, sink, handler, parking, worker, tally,
        threading.Event(),
    )  # fmt: skip


def asked(*ids: str) -> list[bytes]:
    return [wire.encode_prompt(prompt(request_id)) for request_id in ids]


def test_one_bad_event_costs_no_other(world: World) -> None:
    first, last = asked("r1", "r2")
    bad = [b"\xff", b"{}", first.replace(b'"version": 1', b'"version": 9')]
    world.send("prompts", first, *bad, last)
    assert world.step() == 5
    assert world.decisions() == ["r1", "r2"]
    assert [letter.value for letter in world.letters("prompts")] == bad
    assert world.reasons("prompts") == ["unreadable_json", "missing_field", "unknown_version"]
    assert world.committed("prompts") == 5


def test_a_dead_letter_says_where_it_came_from_and_why(world: World) -> None:
    world.send("prompts", *asked("r1"), b'{"schema": "steersman.prompt"}')
    world.step()
    (letter,) = world.letters("prompts")
    assert letter.key == b"k"
    assert dict(letter.headers) == {
        "reason": "missing_field",
        "message": "version is required",
        "field": "version",
        "source_topic": "router.prompts",
        "partition": "0",
        "offset": "1",
    }


def test_the_order_is_database_publish_offset_commit(world: World) -> None:
    world.send("prompts", *asked("r1"), b"bad")
    world.step()
    expected = ["database", "publish router.decisions", "publish router.prompts.dlq", "commit"]
    assert world.calls == expected


def test_a_crash_between_handler_and_commit_redelivers(world: World) -> None:
    world.send("prompts", *asked("r1", "r2"))
    world.source.fail_next = [Boom()]
    with pytest.raises(Boom):
        world.step()
    assert world.committed("prompts") == 0
    again = world.restarted()
    assert again.step() == 2
    assert again.committed("prompts") == 2
    assert again.decisions() == ["r1", "r2"]  # decided once; published by the first process


def test_a_crash_before_the_database_redelivers(world: World) -> None:
    world.send("prompts", *asked("r1"))
    world.handler.fail_next = [Boom()]
    with pytest.raises(Boom):
        world.step()
    assert world.calls == []
    again = world.restarted()
    again.step()
    assert again.decisions() == ["r1"]


def test_while_the_ledger_is_away_the_same_batch_is_tried_again(world: World) -> None:
    world.send("prompts", *asked("r1"), b"bad")
    world.handler.fail_next = [StoreUnavailable("away")] * 3
    world.step()
    assert world.decisions() == ["r1"]
    assert len(world.letters("prompts")) == 1
    assert world.calls.count("commit") == 1
    assert world.tally.counts["stream_retries", "store", "ledger"] == 3
    assert timedelta(seconds=0.35) <= world.clock.now() - NOON <= timedelta(seconds=0.7)


def test_pauses_grow_to_ten_seconds_and_no_further(world: World) -> None:
    world.send("prompts", *asked("r1"))
    world.handler.fail_next = [StoreUnavailable("away")] * 100
    world.step()
    assert world.clock.now() - NOON < timedelta(seconds=100 * 10)
    assert world.clock.now() - NOON > timedelta(seconds=90 * 5)


def test_nothing_is_acknowledged_while_dead_letters_cannot_be_sent(world: World) -> None:
    world.send("prompts", b"bad")
    world.sink.fail_next = [BrokerUnavailable("away")] * 2
    world.step()
    assert world.calls == ["publish router.prompts.dlq", "commit"]
    assert world.tally.counts["stream_retries", "dead_letter", "broker"] == 2


def test_a_lost_commit_is_repeated(world: World) -> None:
    world.send("prompts", *asked("r1"))
    world.source.fail_next = [BrokerUnavailable("away")]
    world.step()
    assert world.calls == ["database", "publish router.decisions", "commit"]


def test_a_decision_that_could_not_be_sent_is_left_to_the_sweeper(world: World) -> None:
    world.send("prompts", *asked("r1"))
    world.sink.fail_next = [BrokerUnavailable("away")]
    world.step()
    assert world.decisions() == []
    assert world.committed("prompts") == 1
    world.clock.advance(6)
    assert OutboxPublisher(world.ledger, world.sink, world.clock).sweep() == 1
    assert world.decisions() == ["r1"]


def test_a_stop_ends_the_wait_and_acknowledges_nothing(world: World) -> None:
    world.send("prompts", *asked("r1"))
    world.handler.fail_next = [StoreUnavailable("away")] * 10
    world.stop.set()
    assert world.step() == 0
    assert world.committed("prompts") == 0


def test_a_stop_is_honoured_within_a_second(world: World) -> None:
    worker = StreamWorker(
        world.source,
        world.sink,
        world.handler,
        world.parking,
        SystemClock(),
        rng=np.random.default_rng(1),
    )
    thread = threading.Thread(target=worker.run, args=(world.stop,))
    thread.start()
    world.handler.fail_next = [StoreUnavailable("away")] * 1_000
    world.send("prompts", *asked("r1"))
    world.stop.wait(0.3)
    started = time.monotonic()
    world.stop.set()
    thread.join()
    assert time.monotonic() - started < 1.0


def test_a_repeat_is_fine_and_another_prompt_under_the_id_is_not(world: World) -> None:
    other = wire.encode_prompt(prompt("r1", text="Something else?"))
    world.send("prompts", *asked("r1", "r1"), other)
    world.step()
    assert world.decisions() == ["r1"]
    assert world.reasons("prompts") == ["request_conflict"]
    counts = {key[2]: n for key, n in world.tally.counts.items() if key[0] == "stream_events"}
    assert counts == {"new": 1, "repeated": 1, "conflict": 1}


def test_what_the_handler_refuses_is_dead_lettered(world: World) -> None:
    world.handler.refuse = {"r2"}
    world.send("prompts", *asked("r1", "r2", "r3"))
    world.step()
    assert world.decisions() == ["r1", "r3"]
    assert world.reasons("prompts") == ["not_routable"]
    assert world.letters("prompts")[0].headers["offset"] == "1"


def test_a_response_in_the_batch_of_its_prompt_finds_the_decision(world: World) -> None:
    world.send("responses", wire.encode_response(response("r1")))
    world.send("prompts", *asked("r1"))
    assert world.step() == 2
    with world.ledger.begin() as tx:
        assert tx.responses.find(RequestId("r1")) is not None


def test_an_early_response_waits_for_its_decision(world: World) -> None:
    world.send("responses", wire.encode_response(response("r1")))
    world.step()
    assert world.committed("responses") == 1
    assert world.parking.sweep() == 0
    world.send("prompts", *asked("r1"))
    world.step()
    assert world.parking.sweep() == 1
    assert world.parking.sweep() == 0
    assert world.letters("responses") == []
    with world.ledger.begin() as tx:
        assert tx.responses.find(RequestId("r1")) is not None


def test_a_response_to_nothing_is_given_up_after_ten_minutes(world: World) -> None:
    original = wire.encode_response(response("r1"))
    world.send("responses", original)
    world.step()
    world.clock.advance(600)
    assert world.parking.sweep() == 0
    world.clock.advance(1)
    assert world.parking.sweep() == 1
    assert world.parking.sweep() == 0
    (letter,) = world.letters("responses")
    assert (letter.value, letter.headers["reason"]) == (original, "unknown_request")
    assert letter.headers["source_topic"] == "router.responses"


def test_a_sweep_that_fails_loses_no_parked_response(world: World) -> None:
    world.send("responses", wire.encode_response(response("r1")))
    world.step()
    world.send("prompts", *asked("r1"))
    world.step()
    world.handler.fail_next = [StoreUnavailable("away")]
    with pytest.raises(StoreUnavailable):
        world.parking.sweep()
    assert world.parking.sweep() == 1


def test_a_give_up_that_cannot_be_sent_loses_no_parked_response(world: World) -> None:
    world.send("responses", wire.encode_response(response("r1")))
    world.step()
    world.clock.advance(601)
    world.sink.fail_next = [BrokerUnavailable("away")]
    with pytest.raises(BrokerUnavailable):
        world.parking.sweep()
    assert world.parking.sweep() == 1
    assert world.reasons("responses") == ["unknown_request"]


def test_a_parked_response_that_conflicts_is_dead_lettered(world: World) -> None:
    world.send("responses", wire.encode_response(response("r1", text="one", expert="a")))
    world.send("responses", wire.encode_response(response("r1", text="two", expert="b")))
    world.step()
    world.send("prompts", *asked("r1"))
    world.step()
    assert world.parking.sweep() == 2
    assert world.reasons("responses") == ["response_conflict"]


def test_a_second_different_answer_is_dead_lettered(world: World) -> None:
    world.send("prompts", *asked("r1"))
    answers = [response("r1", text="one"), response("r1", text="one"), response("r1", text="two")]
    world.send("responses", *map(wire.encode_response, answers))
    world.step()
    assert world.reasons("responses") == ["response_conflict"]


def test_feedback_is_stored_once_and_without_a_request_dead_lettered(world: World) -> None:
    word = Feedback(
        idempotency_key="k1", request_id=RequestId("r1"), rating=1.0, source="ui", received_at=NOON
    )
    lost = replace(word, request_id=RequestId("r9"), idempotency_key="k9")
    world.send("prompts", *asked("r1"))
    world.send("feedback", *map(wire.encode_feedback, [word, word, lost]))
    world.step()
    assert world.reasons("feedback") == ["unknown_request"]
    assert world.tally.counts["stream_events", "feedback", "new"] == 1
    assert world.tally.counts["stream_events", "feedback", "repeated"] == 1


def test_a_topic_that_is_not_read_is_dead_lettered(world: World) -> None:
    world.send("other", *asked("r1"))
    world.step()
    assert world.reasons("other") == ["unknown_topic"]


def test_a_quiet_stream_costs_nothing(world: World) -> None:
    assert world.step() == 0
    assert world.calls == []


def test_a_dead_letter_always_fits_into_a_message() -> None:
    event = Event(topic="t", value=b"x" * 1_048_000, key=None)
    letter = dead_letter(event, EventRejected("unreadable_json", "m"))
    assert (len(letter.value), letter.headers["original_bytes"]) == (VALUE_BYTES, "1048000")


def test_a_dead_letter_with_a_huge_key_or_header_still_fits_a_broker() -> None:
    """Bug: bytes that are no text triple in size, and a letter over 1 MB held up its partition."""
    event = ReceivedEvent(
        topic="router.prompts",
        value=b"{" * 700_000,
        key=b"\xff" * 300_000,
        partition=0,
        offset=1,
        sent_at=NOON,
        headers={"replayed_from": "\ufffd" * 200_000},
    )
    letter = dead_letter(event, EventRejected("unreadable_json", "m"))
    texts = [letter.key, *letter.headers.values()]
    assert len(letter.value) == 700_000
    assert sum(len(text.encode()) for text in texts) < 10_000


def test_the_lag_is_shown_after_each_poll(world: World) -> None:
    world.send("prompts", *asked(*(f"r{n}" for n in range(BATCH + 3))))
    world.step()
    assert world.tally.shown["stream_lag", "router.prompts", "0"] == 3
    world.step()
    assert world.tally.shown["stream_lag", "router.prompts", "0"] == 0


def test_a_partition_that_moved_away_shows_no_lag(world: World) -> None:
    world.step()
    assert len(world.tally.shown) == len(TOPICS)
    world.source.close()
    world.step()
    assert world.tally.shown == {}


def test_no_prompt_reaches_a_log(world: World, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    event: PromptReceived = prompt("r1", text="SECRET")
    raw = wire.encode_prompt(event)
    wrong = json.dumps(json.loads(raw) | {"tenant": "SECRET\n"}).encode()
    world.send("prompts", raw, wrong, raw[:-1], raw.replace(b'"SECRET"', b"NaN"))
    world.handler.fail_next = [StoreUnavailable("away")]
    world.step()
    assert len(world.letters("prompts")) == 3
    headers = [letter.headers for letter in world.letters("prompts")]
    assert "SECRET" not in str([vars(record) for record in caplog.records]) + str(headers)


@pytest.mark.parametrize(("late_s", "status"), [(5.0, "paused"), (7_200.0, "certified")])
def test_an_outage_of_this_morning_that_is_read_again_pauses_nobody(
    late_s: float, status: str
) -> None:
    """Bug: failed calls that were read late, or again after a rewind, counted as of now."""
    clock = ManualClock(NOON)
    broker, ledger = MemoryBroker(clock=clock), MemoryLedger(clock=clock)
    with ledger.begin() as tx:
        tx.experts.add(expert(CHEAP, status=ExpertStatus.CERTIFIED))
    failed = [response(f"r{n}", text=None, error=CallError.TIMEOUT) for n in range(9)]
    for one in failed:
        clock.advance(60.0)
        value = wire.encode_response(replace(one, received_at=clock.now()))
        broker.append([Outbound(topic="router.responses", key="k", value=value)])
    clock.advance(late_s)
    calls: list[str] = []
    sink, handler = RecordingSink(broker, calls), ResponseHandler(ledger, clock)
    worker = StreamWorker(
        RecordingSource(broker, TOPICS, calls),
        sink,
        handler,
        Parking(ledger, handler, sink, clock, topic="router.responses"),
        clock,
        rng=np.random.default_rng(7),
    )
    assert worker.step(threading.Event()) == len(failed)
    HealthWatch(ledger, clock, announce=announce_alert, send=lambda messages: None).step()
    with ledger.begin() as tx:
        found = tx.experts.find(CHEAP)
        assert len(tx.calls.failures(CHEAP, after=NOON, limit=99)) == len(failed)
    assert found is not None
    assert found.status == status
