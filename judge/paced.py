"""A judge that is asked no faster than its endpoint allows, and not at all while it is away."""

from __future__ import annotations

import threading

from judge.port import Judge, Question, Reply
from store.clock import Clock
from store.errors import JudgeUnavailable, VerdictUnreadable

OPENS_AFTER = 5
"""Outages in a row after which nobody asks any more; each has cost the tries of a call."""
FIRST_REST_S = 15.0
LONGEST_REST_S = 300.0
LONGEST_WAIT_S = 10.0
"""For a turn or a seat: a worker that is stopped has 15 s, and its lease runs meanwhile."""


class Paced:
    """Asks the judge at most so often and by so many at once, all threads of a process together.

    After ``OPENS_AFTER`` outages in a row it rests: every question is refused for a while, then one
    goes through to try, and the while doubles if that fails (a circuit breaker).

    Parameters
    ----------
    calls_per_s
        At most, evenly spaced; 0 for no limit.
    concurrency
        Calls under way at the same time, at most.
    """

    def __init__(self, judge: Judge, clock: Clock, *, calls_per_s: float, concurrency: int) -> None:
        self._judge = judge
        self._clock = clock
        self._spacing_s = 1.0 / calls_per_s if calls_per_s else 0.0
        self._seats = threading.BoundedSemaphore(concurrency)
        self._lock = threading.Lock()
        self._next_turn = self._rests_until = clock.monotonic()
        self._outages = 0
        """In a row."""
        self._rests = 0
        """Since it last answered."""
        self._problem = ""

    @property
    def version(self) -> str:
        return self._judge.version

    @property
    def family(self) -> str | None:
        return self._judge.family

    def most_usd(self, question: Question) -> float:
        return self._judge.most_usd(question)

    def compare(self, question: Question) -> Reply:
        if not self._seats.acquire(timeout=LONGEST_WAIT_S):
            raise JudgeUnavailable(
                "as many calls of the judge are under way as its concurrency allows"
            )
        try:
            wait_s, rests = self._admitted()
            self._clock.wait(threading.Event(), wait_s)  # nobody sets it: the wait is short
            return self._asked(question, rests)
        finally:
            self._seats.release()

    def _asked(self, question: Question, rests: int) -> Reply:
        try:
            reply = self._judge.compare(question)
        except JudgeUnavailable as outage:
            self._failed(str(outage), rests)
            raise
        except VerdictUnreadable:
            self._answered()
            raise
        self._answered()
        return reply

    def _admitted(self) -> tuple[float, int]:
        """Return the seconds until this call's turn and the rests before it.

        Raises ``JudgeUnavailable`` while the judge rests or the turn is too far.
        """
        with self._lock:
            now = self._clock.monotonic()
            if self._rests:
                if now < self._rests_until:
                    raise _away(self._problem, self._rests_until - now)
                self._rests_until = now + self._rest_s()  # for the others, while this one tries
            turn = max(now, self._next_turn)
            if turn - now > LONGEST_WAIT_S:
                raise _away("more is asked of the judge than its calls_per_s allows", turn - now)
            self._next_turn = turn + self._spacing_s
            return turn - now, self._rests

    def _answered(self) -> None:
        with self._lock:
            self._outages = self._rests = 0

    def _failed(self, problem: str, rests: int) -> None:
        """Note an outage; of calls that were under way together only the first begins a rest."""
        with self._lock:
            self._outages += 1
            self._problem = problem
            if self._outages >= OPENS_AFTER and rests == self._rests:
                self._rests += 1
                self._rests_until = self._clock.monotonic() + self._rest_s()

    def _rest_s(self) -> float:
        doublings: int = 2 ** min(self._rests - 1, 10)
        return min(FIRST_REST_S * doublings, LONGEST_REST_S)


def _away(why: str, seconds: float) -> JudgeUnavailable:
    return JudgeUnavailable(f"{why}; tried again in {seconds:.0f} s", retry_after_s=seconds)
