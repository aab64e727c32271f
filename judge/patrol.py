"""LOOP: canaries for every judge once a day, its consistency every hour; who fails is quarantined.

A judge that lets a canary win, prefers gibberish or says another thing in the other order would
have λ believe anything (promise.md section 5). Its labels since it was last seen to be good are out
of λ until another judge has done their tasks again.
"""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta

import numpy as np

from judge.canaries import Canary, drawn, finding, is_right
from judge.distrust import AnnounceAlert, distrust, impose
from judge.pairs import UNREADABLE_TRIES, Panel
from judge.port import Judge, Question
from judge.purse import Bill
from judge.spending import canaries
from online.clients import Answer
from store.clock import Clock
from store.errors import JudgeUnavailable, VerdictUnreadable
from store.judging import CanaryResult
from store.ledger import Ledger
from store.money import day_of
from store.policy import OFF
from store.records import ExpertId, OutboxMessage, RequestId

log = logging.getLogger(__name__)

EVERY = timedelta(days=1)
LOOK_EVERY_S = 5.0
RETRY_AFTER_S = 60.0
"""After an outage of the judge in the middle of a run, which then counts for nothing."""
RUNS_PER_DAY = 24
"""Of a version, over all processes: an endpoint that goes away in the middle costs calls too."""
JUDGED_EVERY_S = 3600.0
"""What is known of a judge is looked at as often, for it reads a week of verdicts."""
Publish = Callable[[Sequence[OutboxMessage]], None]


class Patrol:
    """Watches the judges of one process; any number may run, one at a time asks a version.

    Parameters
    ----------
    panel
        Returns who judges now, quarantined or not; raises ``JudgeUnavailable`` if nobody can.
    announce, send
        As of ``Recalibrator``.
    show
        Told at every step how many seconds ago the canaries of each judge that is asked any ran
        last, or if they never did, how long ago it was first seen here.
    """

    def __init__(
        self,
        ledger: Ledger,
        panel: Callable[[], Panel],
        clock: Clock,
        *,
        announce: AnnounceAlert,
        send: Publish,
        show: Callable[[Mapping[str, float]], None] = lambda _: None,
    ) -> None:
        self._ledger = ledger
        self._panel = panel
        self._clock = clock
        self._announce = announce
        self._send = send
        self._show = show
        self._first_seen: dict[str, datetime] = {}
        self._not_before = -math.inf
        self._looked: dict[str, float] = {}

    def run(self, stop: threading.Event) -> None:
        """Look until stopped. Raises ``StoreUnavailable``."""
        while not stop.is_set():
            self.step(stop)
            self._clock.wait(stop, LOOK_EVERY_S)

    def step(self, stop: threading.Event | None = None) -> int:
        """Run the canaries that are due and quarantine who fails; return how many runs were made.

        A judge that reads no text (of no family) has none; in mode ``off`` nobody is asked.
        """
        try:
            panel = self._panel()
        except JudgeUnavailable:
            self._show({})
            return 0
        readers = [judge for judge in panel.judges if judge.family is not None]
        self._show(self._ages([judge.version for judge in readers]))
        if self._clock.monotonic() < self._not_before:
            return 0
        return sum(self._look_after(judge, stop or threading.Event()) for judge in readers)

    def run_now(self, stop: threading.Event) -> list[list[CanaryResult]]:
        """Run every judge's canaries whether they are due or not, and quarantine who fails; return
        the runs. A judge in quarantine is asked too: whoever mended it wants to know.

        Raises ``JudgeUnavailable``.
        """
        panel = self._panel()
        runs = []
        for judge in panel.judges:
            if judge.family is not None:
                runs.append(self.ask(judge, stop))
                if not self._is_let_be(judge.version):
                    self._quarantine_if_failed(judge.version)
        return runs

    def ask(self, judge: Judge, stop: threading.Event) -> list[CanaryResult]:
        """Run a judge's canaries and store what came of them; nothing if stopped in between.

        Raises ``JudgeUnavailable``: a run with a gap says nothing.
        """
        ran_at = self._clock.now()
        rng = np.random.default_rng(int(1e6 * ran_at.timestamp()))
        results = []
        for canary in drawn(rng):
            if stop.is_set():
                return []
            results.append(_shown(canary, judge, ran_at, stop))
        with self._ledger.begin() as tx:
            tx.judging.record_canaries(results)
        found = finding(results)
        log.info(
            "canaries.ran",
            extra={
                "judge_version": judge.version,
                "canaries": found.canaries,
                "lost": len(found.lost),
                "unreadable": found.unreadable,
                "gibberish_worse": found.gibberish_worse,
                "cost_usd": sum(result.cost_usd for result in results),
            },
        )
        return results

    def _look_after(self, judge: Judge, stop: threading.Event) -> int:
        """Run a judge's canaries and look at what is known of it, each if its time has come."""
        version, now = judge.version, self._clock.monotonic()
        looks = now - self._looked.get(version, -math.inf) >= JUDGED_EVERY_S
        if self._is_let_be(version) or not (looks or self._is_due(version)):
            return 0
        with self._ledger.lead(f"canaries of {version}") as leads:
            if not leads or self._is_let_be(version):
                return 0
            try:
                runs = int(self._may_run(version) and bool(self.ask(judge, stop)))
            except JudgeUnavailable as away:
                runs, self._not_before = 0, now + RETRY_AFTER_S
                extra = {"judge_version": version, "problem": str(away)}
                log.warning("canaries.postponed", extra=extra)
            if runs or looks:
                self._quarantine_if_failed(version)
                self._looked[version] = now
        return runs

    def _ages(self, versions: Sequence[str]) -> dict[str, float]:
        now = self._clock.now()
        asked = [version for version in versions if not self._is_let_be(version)]
        for version in asked:
            self._first_seen.setdefault(version, now)
        with self._ledger.begin() as tx:
            last = {v: tx.judging.last_canaries_at(v) or self._first_seen[v] for v in asked}
        return {v: max(0.0, (now - at).total_seconds()) for v, at in last.items()}

    def _is_let_be(self, version: str) -> bool:
        """Return whether a judge is not asked: it is in quarantine already, or mode is off."""
        with self._ledger.begin() as tx:
            current = tx.policies.current()
            held = {one.judge_version for one in tx.judging.quarantines()}
        return version in held or (current is not None and current[1].mode == OFF)

    def _is_due(self, version: str) -> bool:
        with self._ledger.begin() as tx:
            last, lifted = tx.judging.last_canaries_at(version), tx.judging.lifted_at(version)
        if last is None or self._clock.now() - last >= EVERY:
            return True
        return lifted is not None and lifted > last

    def _may_run(self, version: str) -> bool:
        """Return whether a run is due and one of the day's is left, which is then taken."""
        if not self._is_due(version):
            return False
        with self._ledger.begin() as tx:
            taken = tx.operations.reserve(
                f"canary_runs:{version}",
                day=day_of(self._clock.now()),
                amount=1,
                limit=RUNS_PER_DAY,
            )
        if not taken:
            self._not_before = self._clock.monotonic() + RETRY_AFTER_S
        return bool(taken)

    def _quarantine_if_failed(self, version: str) -> None:
        now = self._clock.now()
        with self._ledger.begin() as tx:
            found = distrust(tx, version, now=now)
            if found is None:
                return
            _, outgoing = impose(
                tx, version, found, actor="canaries", now=now, announce=self._announce
            )
        self._send(outgoing)


def _shown(canary: Canary, judge: Judge, ran_at: datetime, stop: threading.Event) -> CanaryResult:
    """Return what a judge made of a canary, shown first and shown second."""
    asked = 2 * int(1e6 * ran_at.timestamp())
    with Bill(canaries, lambda: 0) as bill:  # without a limit: it may be reserved call by call
        first, first_cost = _compared(canary, judge, bill, stop, is_first=True, sample=asked)
        second, second_cost = _compared(canary, judge, bill, stop, is_first=False, sample=asked + 1)
    return CanaryResult(
        judge_version=judge.version,
        ran_at=ran_at,
        name=canary.name,
        is_right=is_right(canary, (first, second)),
        cost_usd=first_cost + second_cost,
    )


def _compared(
    canary: Canary,
    judge: Judge,
    bill: Bill,
    stop: threading.Event,
    *,
    is_first: bool,
    sample: int,
) -> tuple[float | None, float]:
    """Return the preference for the planted answer, None if no reply was a verdict, and its cost.

    As often tried as in traffic; never answered by a verdict that is kept.
    """
    right = Answer(text=canary.right, cost_usd=0.0)
    planted = Answer(text=canary.shown_as("A" if is_first else "B"), cost_usd=0.0)
    question = Question(
        request_id=RequestId(f"canary-{canary.name}"),
        prompt=canary.prompt,
        expert_a=ExpertId("planted" if is_first else "plain"),
        answer_a=planted if is_first else right,
        expert_b=ExpertId("plain" if is_first else "planted"),
        answer_b=right if is_first else planted,
        sample=sample,
        bill=bill,
    )
    spent = 0.0
    for _ in range(UNREADABLE_TRIES):
        stop.is_set()  # which shows that nothing hangs; a canary that was begun is finished
        try:
            reply = judge.compare(question)
        except VerdictUnreadable as problem:
            spent += problem.cost_usd
        else:
            spent += reply.cost_usd
            return (reply.preference if is_first else 1.0 - reply.preference), spent
    return None, spent
