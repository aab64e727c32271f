"""The tasks that one worker has leased: in hand, waiting, and finished but not yet stored."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta

from judge.records import Finished, Recorder
from online.chance import draw
from store.clock import Clock
from store.errors import LeaseLost
from store.facts import PutOff
from store.ledger import Ledger
from store.policy import OFF
from store.records import JudgeTask, RequestId

log = logging.getLogger(__name__)

LEASE_S = 1_080.0
LONGEST_CALL_S = LEASE_S * 3 / 4
"""Outlasts the slowest call: the wait for a turn, every try at its longest, and the longest waits
between them that an endpoint may ask for, a harmless trial after a refusal; also the trials of one
answer's code."""
RETRY_AFTER_S = 10.0
LONGEST_RETRY_S = 120.0
MAX_ATTEMPTS = 5
BATCH = 16
FLUSH_S = 1.0
"""Finished tasks wait this long for others of their batch before they are stored."""


class Batch:
    """A worker's leases; no call is begun on less than ``LONGEST_CALL_S`` of one."""

    def __init__(self, ledger: Ledger, clock: Clock, recorder: Recorder, *, worker: str) -> None:
        self._ledger = ledger
        self._clock = clock
        self._recorder = recorder
        self._worker = worker
        self._in_hand: JudgeTask | None = None
        self._last_tenant = ""
        self._waiting: list[JudgeTask] = []
        self._finished: list[Finished] = []
        self._put_off: list[PutOff] = []
        self._answered = False
        self._rests_until = clock.monotonic()
        self._leased = self._flushed = clock.monotonic()

    def lease(self) -> int:
        """Lease tasks, none in mode ``off`` or at rest; return how many."""
        self._in_hand, self._finished, self._put_off = None, [], []
        self._answered = False
        self._leased = self._flushed = self._clock.monotonic()
        if self._leased < self._rests_until:
            return 0
        self._waiting = self._new()
        return len(self._waiting)

    def _new(self) -> list[JudgeTask]:
        """Lease a batch up to the first task that was begun before and not finished, or that alone.

        It may be one that kills its judge, and would take the others with it for ever.
        """
        now = self._clock.now()
        with self._ledger.begin() as tx:
            current = tx.policies.current()
            if current is not None and current[1].mode == OFF:
                return []
            tasks = tx.tasks.lease(
                worker=self._worker,
                now=now,
                lease_s=LEASE_S,
                limit=BATCH,
                after=self._last_tenant,
            )
            new = list(itertools.takewhile(lambda task: task.attempts == 1, tasks))
            taken = new or tasks[:1]
            others = [
                PutOff(
                    task_id=other.task_id or 0,
                    due_at=now,
                    error=other.last_error or "another task went first, alone",
                )
                for other in tasks[len(taken) :]
            ]
            tx.tasks.put_off(others, worker=self._worker)
        if taken:
            self._last_tenant = taken[-1].tenant
        return taken

    def next(self) -> JudgeTask | None:
        """Take the next task in hand; None when no more wait."""
        self._in_hand = self._waiting.pop(0) if self._waiting else None
        return self._in_hand

    def keep(self) -> None:
        """Make sure of the task in hand before a call, which may take as long as calls can.

        Once a quarter of the lease has gone, what is finished is stored, what waits goes back for
        another worker to take, and the lease is renewed: a language model may need a minute where
        a recording needs none.

        Raises
        ------
        LeaseLost
            Another worker has the task: a call would be paid for twice.
        """
        if self._in_hand is None or self._clock.monotonic() - self._leased <= LEASE_S / 4:
            return
        self.flush()
        self.give_rest_back("the batch took too long")
        now, self._leased = self._clock.now(), self._clock.monotonic()
        with self._ledger.begin() as tx:
            tx.tasks.renew(
                self._in_hand.task_id or 0, worker=self._worker, now=now, lease_s=LEASE_S
            )

    def finish(self, done: Finished) -> None:
        """Hold a finished task until it is stored with others, soon."""
        self._finished.append(done)
        self._answered = True
        self._flush_soon()

    def put_off(self, task: JudgeTask, error: str, *, wait_s: float = 0.0) -> None:
        """Hold a task that met an outage until it goes back with others, soon, uncounted.

        It is tried again after ``wait_s`` at least. Once nothing but outages came of a batch the
        worker rests: the next would come to the same.
        """
        self._put_off.append(self._later(task, error, wait_s))
        if not self._answered and not self._waiting:
            self._rests_until = self._clock.monotonic() + RETRY_AFTER_S
        self._flush_soon()

    def _later(self, task: JudgeTask, error: str, wait_s: float = 0.0) -> PutOff:
        due_at = self._clock.now() + timedelta(seconds=max(wait_s, retry_after_s(task)))
        return PutOff(task_id=task.task_id or 0, due_at=due_at, error=error)

    def _flush_soon(self) -> None:
        if self._clock.monotonic() - self._flushed > FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Store what is finished. What cannot be stored is judged again; once all its attempts are
        spent not even its losses could be, and it ends without labels.
        """
        finished, self._finished = self._finished, []
        for task, problem in self._recorder.record(finished):
            with self._losable(task):
                if task.attempts <= MAX_ATTEMPTS:
                    self.give_back(task, problem)
                else:
                    self._bury(task, problem)
        self._return(self._put_off)
        self._put_off = []
        self._flushed = self._clock.monotonic()

    def _return(self, tasks: Sequence[PutOff]) -> None:
        """Give tasks back in one transaction; another worker may have some of them."""
        if not tasks:
            return
        with self._ledger.begin() as tx:
            returned = tx.tasks.put_off(tasks, worker=self._worker)
        for one in tasks:
            if one.task_id in returned:
                log.warning("judge.given_back", extra={"task": one.task_id, "error": one.error})
            else:
                log.warning("judge.lease_lost", extra={"task": one.task_id, "worker": self._worker})

    def _bury(self, task: JudgeTask, error: str) -> None:
        with self._ledger.begin() as tx:
            tx.tasks.bury(task.task_id or 0, worker=self._worker, error=error)

    def give_rest_back(self, why: str) -> None:
        """Let other workers have what waits."""
        waiting, self._waiting = self._waiting, []
        self._return([self._later(task, why) for task in waiting])

    @contextmanager
    def _losable(self, task: JudgeTask) -> Iterator[None]:
        """Go on if another worker has the task."""
        try:
            yield
        except LeaseLost:
            log.warning("judge.lease_lost", extra={"task": task.task_id, "worker": self._worker})

    def give_back(self, task: JudgeTask, error: str) -> None:
        """Return a task whose attempt counts, to be tried again later. Raises ``LeaseLost``."""
        self._answered = True
        due_at = self._later(task, error).due_at
        with self._ledger.begin() as tx:
            tx.tasks.give_back(
                task.task_id or 0, worker=self._worker, due_at=due_at, error=error, counts=True
            )
        log.warning("judge.given_back", extra={"task": task.task_id, "error": error})


def retry_after_s(task: JudgeTask) -> float:
    """Return how long a task waits for its next try: twice as long after each, up to a limit.

    Between half of that and the whole, by task and attempt: tasks that failed together do not all
    come back together.
    """
    longest: float = min(RETRY_AFTER_S * 2.0 ** max(0, task.attempts - 1), LONGEST_RETRY_S)
    return longest * (1.0 + draw(f"retry {task.attempts}", RequestId(str(task.task_id)))) / 2.0
