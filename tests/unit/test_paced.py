"""A judge that is asked no faster than it may be, and rests while it is away."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from judge.llm import TRIAL
from judge.paced import FIRST_REST_S, LONGEST_REST_S, LONGEST_WAIT_S, OPENS_AFTER, Paced
from judge.port import Question, Reply
from store.clock import ManualClock, SystemClock
from store.errors import JudgeUnavailable, VerdictUnreadable
from tests.factories import NOON

AWAY = JudgeUnavailable("away")


class Flaky:
    """Answers, or raises what it is told to."""

    version = "flaky-1"
    family = "flaky"

    def __init__(self, *, meanwhile: Callable[[], None] | None = None) -> None:
        self.problem: Exception | None = None
        self.calls = 0
        self._meanwhile = meanwhile

    def most_usd(self, question: Question) -> float:
        return 0.25

    def compare(self, question: Question) -> Reply:
        self.calls += 1
        if self._meanwhile is not None:
            self._meanwhile()
        if self.problem is not None:
            raise self.problem
        return Reply(preference=0.5)


def paced(flaky: Flaky, clock: ManualClock, *, calls_per_s: float = 0.0) -> Paced:
    return Paced(flaky, clock, calls_per_s=calls_per_s, concurrency=4)


def fails(judge: Paced, times: int) -> None:
    for _ in range(times):
        with pytest.raises(JudgeUnavailable):
            judge.compare(TRIAL)


def test_it_stays_the_judge_that_it_is() -> None:
    judge = paced(Flaky(), ManualClock(NOON))
    assert (judge.version, judge.family, judge.most_usd(TRIAL)) == ("flaky-1", "flaky", 0.25)


def test_calls_are_evenly_spaced_and_a_turn_that_is_far_is_refused() -> None:
    clock = ManualClock(NOON)
    judge = paced(Flaky(), clock, calls_per_s=2.0)
    for _ in range(5):
        judge.compare(TRIAL)
    assert clock.monotonic() == pytest.approx(2.0)
    slow = paced(Flaky(), clock, calls_per_s=0.5 / LONGEST_WAIT_S)
    slow.compare(TRIAL)
    with pytest.raises(JudgeUnavailable, match="calls_per_s") as refused:
        slow.compare(TRIAL)
    assert refused.value.retry_after_s == pytest.approx(2.0 * LONGEST_WAIT_S)
    clock.advance(refused.value.retry_after_s)
    slow.compare(TRIAL)


def test_after_outages_in_a_row_it_rests_and_then_one_call_tries() -> None:
    clock = ManualClock(NOON)
    flaky = Flaky()
    judge = paced(flaky, clock)
    flaky.problem = AWAY
    fails(judge, OPENS_AFTER - 1)
    flaky.problem = None
    judge.compare(TRIAL)  # one answer, and they are no longer in a row
    flaky.problem = AWAY
    fails(judge, OPENS_AFTER)
    asked = flaky.calls
    rest_s = FIRST_REST_S
    for _ in range(8):
        with pytest.raises(JudgeUnavailable, match=r"away; tried again in \d+ s") as resting:
            judge.compare(TRIAL)
        assert resting.value.retry_after_s == pytest.approx(rest_s)
        assert flaky.calls == asked
        clock.advance(rest_s)
        fails(judge, 1)
        asked += 1
        assert flaky.calls == asked
        rest_s = min(2.0 * rest_s, LONGEST_REST_S)
    clock.advance(rest_s)
    flaky.problem = None
    for _ in range(3):
        judge.compare(TRIAL)
    flaky.problem = AWAY
    fails(judge, OPENS_AFTER)
    with pytest.raises(JudgeUnavailable) as resting:
        judge.compare(TRIAL)
    assert resting.value.retry_after_s == FIRST_REST_S


def test_while_one_call_tries_the_others_are_refused() -> None:
    clock = ManualClock(NOON)
    flaky = Flaky()
    judge = paced(flaky, clock)
    flaky.problem = AWAY
    fails(judge, OPENS_AFTER)
    clock.advance(FIRST_REST_S)
    flaky._meanwhile = lambda: fails(judge, 2)
    flaky.problem, asked = None, flaky.calls
    judge.compare(TRIAL)
    assert flaky.calls == asked + 1


def test_calls_that_were_under_way_together_begin_one_rest() -> None:
    clock = ManualClock(NOON)
    flaky = Flaky()
    judge = Paced(flaky, clock, calls_per_s=0.0, concurrency=20)
    flaky.problem = AWAY
    depth = 0

    def another() -> None:
        nonlocal depth
        depth += 1
        if depth < 15:
            fails(judge, 1)

    flaky._meanwhile = another
    fails(judge, 1)
    assert flaky.calls == 15
    with pytest.raises(JudgeUnavailable) as resting:
        judge.compare(TRIAL)
    assert resting.value.retry_after_s == FIRST_REST_S


def test_a_judge_that_answers_unreadably_is_there() -> None:
    flaky = Flaky()
    judge = paced(flaky, ManualClock(NOON))
    flaky.problem = VerdictUnreadable("?")
    for _ in range(3 * OPENS_AFTER):
        with pytest.raises(VerdictUnreadable):
            judge.compare(TRIAL)
    assert flaky.calls == 3 * OPENS_AFTER


def test_no_more_calls_are_under_way_than_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    go, inside = threading.Event(), threading.Semaphore(0)

    def meanwhile() -> None:
        inside.release()
        go.wait(10.0)

    flaky = Flaky(meanwhile=meanwhile)
    judge = Paced(flaky, SystemClock(), calls_per_s=0.0, concurrency=2)
    threads = [threading.Thread(target=judge.compare, args=(TRIAL,)) for _ in range(2)]
    for thread in threads:
        thread.start()
    assert all(inside.acquire(timeout=10.0) for _ in threads)
    monkeypatch.setattr("judge.paced.LONGEST_WAIT_S", 0.05)
    with pytest.raises(JudgeUnavailable, match="concurrency"):
        judge.compare(TRIAL)
    assert flaky.calls == 2
    go.set()
    for thread in threads:
        thread.join(10.0)
    judge.compare(TRIAL)
