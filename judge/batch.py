"""The tasks that one worker has leased: in hand, waiting, and finished but not yet stored."""

from __future__ import annotations

import itertools
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from judge.records import Finished, Recorder
from store.clock import Clock
from store.errors import LeaseLost
from store.ledger import Ledger
from store.policy import OFF
from store.records import JudgeTask

log = logging.getLogger(__name__)

LEASE_S = 900.0
"""Three quarters outlast the slowest call: the wait for a turn, every try at its longest, and the
longest waits between them that an endpoint may ask for."""
RETRY_AFTER_S = 10.0
MAX_ATTEMPTS = 5
BATCH = 16
FLUSH_S = 1.0
"""Finished tasks wait this long for others of their batch before they are stored."""


class Batch:
    """A worker's leases; no call is begun on less than three quarters of one."""

    def __init__(self, ledger: Ledger, clock: Clock, recorder: Recorder, *, worker: str) -> None:
        self._ledger = ledger
        self._clock = clock
        self._recorder = recorder
        self._worker = worker
        self._in_hand: JudgeTask | None = None
        self._last_tenant = ""
        self._waiting: list[JudgeTask] = []
        self._finished: list[Finished] = []
        self._leased = self._flushed = clock.monotonic()

    def lease(self) -> int:
        """Lease tasks, none in mode ``off``; return how many."""
        self._in_hand, self._finished = None, []
        self._leased = self._flushed = self._clock.monotonic()
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
            for other in tasks[len(taken) :]:
                tx.tasks.give_back(
                    other.task_id or 0,
                    worker=self._worker,
                    due_at=now,
                    error=other.last_error or "another task went first, alone",
                    counts=False,
                )
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
                    self.give_back(task, problem, counts=True)
                else:
                    self._bury(task, problem)
        self._flushed = self._clock.monotonic()

    def _bury(self, task: JudgeTask, error: str) -> None:
        with self._ledger.begin() as tx:
            tx.tasks.bury(task.task_id or 0, worker=self._worker, error=error)

    def give_rest_back(self, why: str) -> None:
        """Let other workers have what waits."""
        waiting, self._waiting = self._waiting, []
        for task in waiting:
            with self._losable(task):
                self.give_back(task, why, counts=False)

    @contextmanager
    def _losable(self, task: JudgeTask) -> Iterator[None]:
        """Go on if another worker has the task."""
        try:
            yield
        except LeaseLost:
            log.warning("judge.lease_lost", extra={"task": task.task_id, "worker": self._worker})

    def give_back(self, task: JudgeTask, error: str, *, counts: bool, wait_s: float = 0.0) -> None:
        """Return a task to be tried again later, ``wait_s`` at least. Raises ``LeaseLost``."""
        wait_s = max(wait_s, RETRY_AFTER_S * max(1, task.attempts))
        due_at = self._clock.now() + timedelta(seconds=wait_s)
        with self._ledger.begin() as tx:
            tx.tasks.give_back(
                task.task_id or 0, worker=self._worker, due_at=due_at, error=error, counts=counts
            )
        log.warning("judge.given_back", extra={"task": task.task_id, "error": error})
