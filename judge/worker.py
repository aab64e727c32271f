"""LOOP: lease judge tasks, gather the answers, ask the judge in both orders, record labels."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from datetime import timedelta

from judge.aggregate import is_settled, labels_of
from judge.answers import Answers, Gathered
from judge.port import Judge, Question, Reply
from online.chance import draw
from online.clients import ClientFactory
from store.clock import Clock
from store.errors import ExpertUnavailable, JudgeUnavailable, LeaseLost, VerdictUnreadable
from store.ledger import Ledger, Notifications
from store.records import (
    ExpertId,
    JudgeTask,
    Label,
    OutboxMessage,
    RequestId,
    Verdict,
)

log = logging.getLogger(__name__)

LEASE_S = 120.0
"""Longer than the slowest task: a panel of calls at the expert client's timeout."""
MAX_ATTEMPTS = 5
UNREADABLE_TRIES = 2
RETRY_AFTER_S = 10.0
BATCH = 16
_NOBODY = ExpertId("")

Announce = Callable[[Sequence[Label]], Sequence[OutboxMessage]]
Publish = Callable[[Sequence[OutboxMessage]], None]


class JudgeWorker:
    """One worker; any number may run, the leases keep them apart.

    Parameters
    ----------
    announce
        Turns labels into the messages that leave with them (the wire format is not known here).
    publish
        Sends committed messages at once; a failure is the outbox sweeper's business.
    """

    def __init__(
        self,
        ledger: Ledger,
        judge: Judge,
        clients: ClientFactory,
        clock: Clock,
        *,
        name: str,
        announce: Announce,
        publish: Publish,
    ) -> None:
        self._ledger = ledger
        self._judge = judge
        self._answers = Answers(ledger, clients, clock)
        self._clock = clock
        self._name = name
        self._announce = announce
        self._publish = publish

    def run(self, stop: threading.Event, hints: Notifications) -> None:
        """Work until stopped; rest when there is nothing to do."""
        while not stop.is_set():
            if not self.step():
                hints.wait(0.5)

    def step(self) -> int:
        """Lease and finish one batch; return how many tasks were leased."""
        with self._ledger.begin() as tx:
            tasks = tx.tasks.lease(
                worker=self._name, now=self._clock.now(), lease_s=LEASE_S, limit=BATCH
            )
        for task in tasks:
            self._handle(task)
        return len(tasks)

    def _handle(self, task: JudgeTask) -> None:
        try:
            self._judge_or_give_back(task)
        except LeaseLost:
            log.warning("judge.lease_lost", extra={"task": task.task_id, "worker": self._name})

    def _judge_or_give_back(self, task: JudgeTask) -> None:
        try:
            self._judge_task(task)
        except JudgeUnavailable as outage:
            self._give_back(task, str(outage), counts=False)
        except ExpertUnavailable as silent:
            if task.attempts >= MAX_ATTEMPTS:
                self._record(task, [], dict.fromkeys(task.experts), error=str(silent))
            else:
                self._give_back(task, str(silent), counts=True)

    def _judge_task(self, task: JudgeTask) -> None:
        gathered = self._answers.gather(task)
        if gathered is None:
            self._bury(task, "the prompt is unknown or was erased")
            return
        by_expert = {e: self._compare(task.request_id, e, gathered) for e in task.experts}
        verdicts = [v for found in by_expert.values() if found is not None for v in found]
        self._record(task, verdicts, by_expert, reference=gathered.reference)

    def _compare(
        self, request_id: RequestId, expert: ExpertId, gathered: Gathered
    ) -> list[Verdict] | None:
        """Return the calls on one pair, None if one stayed unreadable."""
        orders = [(expert, gathered.reference), (gathered.reference, expert)]
        verdicts: list[Verdict] = []
        for call in range(3):
            if call == 2 and is_settled(verdicts, expert):
                break
            pick = int(2 * draw(f"third-call-{expert}", request_id)) if call == 2 else call
            a, b = orders[pick]
            question = Question(
                request_id=request_id,
                prompt=gathered.prompt,
                expert_a=a,
                answer_a=gathered.answers[a],
                expert_b=b,
                answer_b=gathered.answers[b],
            )
            reply = self._ask(question)
            if reply is None:
                return None
            verdicts.append(self._verdict(question, reply, call))
        return verdicts

    def _ask(self, question: Question) -> Reply | None:
        for _ in range(UNREADABLE_TRIES):
            try:
                return self._judge.compare(question)
            except VerdictUnreadable as problem:
                log.warning(
                    "judge.verdict_unreadable",
                    extra={"request_id": question.request_id, "problem": str(problem)},
                )
        return None

    def _verdict(self, question: Question, reply: Reply, call: int) -> Verdict:
        return Verdict(
            request_id=question.request_id,
            expert_a=question.expert_a,
            expert_b=question.expert_b,
            judge_version=self._judge.version,
            call=call,
            preference=reply.preference,
            grade_a=reply.grade_a,
            grade_b=reply.grade_b,
            judged_at=self._clock.now(),
            cost_usd=reply.cost_usd,
        )

    def _record(
        self,
        task: JudgeTask,
        verdicts: Sequence[Verdict],
        by_expert: dict[ExpertId, list[Verdict] | None],
        *,
        reference: ExpertId = _NOBODY,
        error: str | None = None,
    ) -> None:
        """Store verdicts and labels and end the task, in one transaction."""
        labels = labels_of(
            task.request_id,
            reference,
            by_expert,
            judge_version=self._judge.version,
            purpose=task.purpose,
            now=self._clock.now(),
        )
        task_id = task.task_id or 0
        with self._ledger.begin() as tx:
            tx.labels.add(verdicts, labels)
            outgoing = tx.outbox.add(list(self._announce(labels)))
            if error is None:
                tx.tasks.finish(task_id, worker=self._name)
            else:
                tx.tasks.bury(task_id, worker=self._name, error=error)
        self._publish(outgoing)

    def _bury(self, task: JudgeTask, error: str) -> None:
        with self._ledger.begin() as tx:
            tx.tasks.bury(task.task_id or 0, worker=self._name, error=error)

    def _give_back(self, task: JudgeTask, error: str, *, counts: bool) -> None:
        due_at = self._clock.now() + timedelta(seconds=RETRY_AFTER_S * max(1, task.attempts))
        with self._ledger.begin() as tx:
            tx.tasks.give_back(
                task.task_id or 0, worker=self._name, due_at=due_at, error=error, counts=counts
            )
        log.warning("judge.given_back", extra={"task": task.task_id, "error": error})
