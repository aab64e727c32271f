"""Micro-batching: company is used, never waited for, and errors find the right caller."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime

import pytest

from ingest.batcher import MicroBatcher, Overloaded
from store.errors import EventRejected, StoreUnavailable
from store.facts import Recorded, ResponseOutcome
from store.records import Feedback, PromptReceived, RequestId, ResponseReceived

PATIENCE_S = 20.0


def prompt(request_id: str) -> PromptReceived:
    return PromptReceived(
        request_id=RequestId(request_id), text="hello", received_at=datetime(2026, 1, 1, tzinfo=UTC)
    )


def recorded(one: PromptReceived) -> Recorded:
    return Recorded(request_id=one.request_id, decision=None, is_new=True, is_conflict=False)


@dataclass
class Gated:
    """A handler whose first call waits at a gate, so that others queue behind it."""

    answer: Callable[[PromptReceived], Recorded | EventRejected] = recorded
    gate: threading.Event = field(default_factory=threading.Event)
    entered: threading.Event = field(default_factory=threading.Event)
    batches: list[list[str]] = field(default_factory=list)

    def on_prompts(self, batch: Sequence[PromptReceived]) -> list[Recorded | EventRejected]:
        self.batches.append([one.request_id for one in batch])
        self.entered.set()
        assert self.gate.wait(PATIENCE_S)
        return [self.answer(one) for one in batch]

    def on_responses(
        self, batch: Sequence[ResponseReceived]
    ) -> list[ResponseOutcome | EventRejected]:
        raise AssertionError("the batcher only asks for decisions")

    def on_feedback(self, feedback: Feedback) -> bool:
        raise AssertionError("the batcher only asks for decisions")


def queue_behind_the_gate(
    pool: ThreadPoolExecutor, batcher: MicroBatcher, handler: Gated, names: Sequence[str]
) -> list[Future[Recorded]]:
    """Occupy the handler with ``first``, then let ``names`` queue in order."""
    futures = [pool.submit(batcher.decide, prompt("first"))]
    assert handler.entered.wait(PATIENCE_S)
    for place, name in enumerate(names, start=1):
        futures.append(pool.submit(batcher.decide, prompt(name)))
        while batcher.waiting < place:
            pass
    return futures


def test_a_lone_caller_is_not_delayed() -> None:
    handler = Gated()
    handler.gate.set()

    with MicroBatcher(handler) as batcher:
        assert batcher.decide(prompt("a")).request_id == "a"

    assert handler.batches == [["a"]]


def test_what_queues_while_a_batch_runs_is_the_next_batch() -> None:
    handler = Gated()

    with ThreadPoolExecutor(8) as pool, MicroBatcher(handler, max_batch=3) as batcher:
        futures = queue_behind_the_gate(pool, batcher, handler, ["b", "c", "d", "e"])
        handler.gate.set()
        answers = [future.result(PATIENCE_S).request_id for future in futures]

    assert answers == ["first", "b", "c", "d", "e"]
    assert handler.batches == [["first"], ["b", "c", "d"], ["e"]]


def test_a_rejected_prompt_costs_no_other() -> None:
    def answer(one: PromptReceived) -> Recorded | EventRejected:
        return EventRejected("bad", "no") if one.request_id == "b" else recorded(one)

    handler = Gated(answer)
    with ThreadPoolExecutor(8) as pool, MicroBatcher(handler) as batcher:
        _, bad, good = queue_behind_the_gate(pool, batcher, handler, ["b", "c"])
        handler.gate.set()

        assert good.result(PATIENCE_S).request_id == "c"
        with pytest.raises(EventRejected):
            bad.result(PATIENCE_S)


def test_an_unexpected_error_reaches_only_the_prompt_that_causes_it() -> None:
    def answer(one: PromptReceived) -> Recorded | EventRejected:
        if one.request_id == "b":
            raise ZeroDivisionError
        return recorded(one)

    handler = Gated(answer)
    with ThreadPoolExecutor(8) as pool, MicroBatcher(handler) as batcher:
        _, bad, good = queue_behind_the_gate(pool, batcher, handler, ["b", "c"])
        handler.gate.set()

        assert good.result(PATIENCE_S).request_id == "c"
        with pytest.raises(ZeroDivisionError):
            bad.result(PATIENCE_S)

    assert handler.batches == [["first"], ["b", "c"], ["b"], ["c"]]


def test_an_absent_ledger_reaches_every_caller_of_the_batch_and_the_next_batch_works() -> None:
    is_away = True

    def answer(one: PromptReceived) -> Recorded | EventRejected:
        if is_away:
            raise StoreUnavailable("away")
        return recorded(one)

    handler = Gated(answer)
    with ThreadPoolExecutor(8) as pool, MicroBatcher(handler) as batcher:
        futures = queue_behind_the_gate(pool, batcher, handler, ["b", "c"])
        handler.gate.set()
        for future in futures:
            with pytest.raises(StoreUnavailable):
                future.result(PATIENCE_S)
        is_away = False

        assert batcher.decide(prompt("d")).request_id == "d"
    assert handler.batches == [["first"], ["b", "c"], ["d"]]


def test_a_full_queue_refuses_the_next_caller_at_once() -> None:
    handler = Gated()
    with ThreadPoolExecutor(8) as pool, MicroBatcher(handler, capacity=2) as batcher:
        futures = queue_behind_the_gate(pool, batcher, handler, ["b", "c"])
        with pytest.raises(Overloaded):
            batcher.decide(prompt("d"))
        handler.gate.set()

        assert [future.result(PATIENCE_S).request_id for future in futures] == ["first", "b", "c"]


def test_a_caller_gives_up_on_a_handler_that_hangs() -> None:
    handler = Gated()
    with MicroBatcher(handler, wait_s=0.01) as batcher:
        with pytest.raises(Overloaded, match="not decided"):
            batcher.decide(prompt("a"))
        handler.gate.set()


def test_stopping_answers_those_who_wait_and_refuses_new_ones() -> None:
    handler = Gated()
    batcher = MicroBatcher(handler)
    with ThreadPoolExecutor(8) as pool:
        with batcher:
            futures = queue_behind_the_gate(pool, batcher, handler, ["b", "c"])
            threading.Timer(0.01, handler.gate.set).start()
        answers = [future.result(PATIENCE_S).request_id for future in futures]

    assert answers == ["first", "b", "c"]
    with pytest.raises(Overloaded):
        batcher.decide(prompt("late"))
    assert "micro-batcher" not in {thread.name for thread in threading.enumerate()}


def test_a_handler_that_answers_too_little_gives_nobody_anothers_decision() -> None:
    class Short(Gated):
        def on_prompts(self, batch: Sequence[PromptReceived]) -> list[Recorded | EventRejected]:
            return []

    with MicroBatcher(Short()) as batcher, pytest.raises(RuntimeError):
        batcher.decide(prompt("a"))
