"""LOOP: lease judge tasks, gather the answers, ask the judge in both orders, record labels."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from dataclasses import replace

from judge.aggregate import is_settled, labels_of
from judge.answers import Answers, Gathered
from judge.batch import MAX_ATTEMPTS, Batch
from judge.port import Judge, Question, Reply
from judge.records import Announce, Finished, Recorder
from online.chance import draw
from online.clients import ClientFactory
from store.clock import Clock
from store.errors import (
    ExpertUnavailable,
    JudgeUnavailable,
    LeaseLost,
    StoreError,
    VerdictUnreadable,
)
from store.ledger import Ledger, Notifications, Publish
from store.records import (
    ExpertId,
    JudgeTask,
    Label,
    RequestId,
    Verdict,
)

log = logging.getLogger(__name__)

UNREADABLE_TRIES = 2
_NOBODY = ExpertId("")


class JudgeWorker:
    """One worker; any number may run, the leases keep them apart.

    Parameters
    ----------
    announce, publish
        As of ``Recorder``.
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
        self._clock = clock
        self._name = name
        recorder = Recorder(ledger, worker=name, announce=announce, publish=publish)
        self._batch = Batch(ledger, clock, recorder, worker=name)
        self._answers = Answers(ledger, clients, clock, before_call=self._batch.keep)

    def run(self, stop: threading.Event, hints: Notifications) -> None:
        """Work until stopped; rest when there is nothing to do."""
        while not stop.is_set():
            if not self.step(stop):
                hints.wait(0.5)

    def step(self, stop: threading.Event | None = None) -> int:
        """Lease and finish one batch; return how many tasks were leased.

        Once ``stop`` is set the rest of the batch goes back for another worker to take. In mode
        ``off`` tasks wait: judging costs money.
        """
        leased = self._batch.lease()
        while True:
            if stop is not None and stop.is_set():
                self._batch.give_rest_back("the worker was stopped")
            task = self._batch.next()
            if task is None:
                break
            if (done := self._handled(task)) is not None:
                self._batch.finish(done)
        self._batch.flush()
        return leased

    def _handled(self, task: JudgeTask) -> Finished | None:
        """Return the finished task; None if it was given back or another worker has it."""
        try:
            return self._judged_or_given_back(task)
        except LeaseLost:
            log.warning("judge.lease_lost", extra={"task": task.task_id, "worker": self._name})
            return None

    def _judged_or_given_back(self, task: JudgeTask) -> Finished | None:
        try:
            return self._judged(task, last_try=task.attempts >= MAX_ATTEMPTS)
        except JudgeUnavailable as outage:
            self._batch.give_back(task, str(outage), counts=False)
        except ExpertUnavailable as silent:
            self._batch.give_back(task, str(silent), counts=True)
        except StoreError:
            raise
        except Exception as unexpected:  # noqa: BLE001  one task's problem is not the worker's end
            # By type alone: a message may quote the prompt or an answer.
            self._batch.give_back(task, f"unexpected {type(unexpected).__name__}", counts=True)
        return None

    def _judged(self, task: JudgeTask, *, last_try: bool) -> Finished:
        self._judge.version  # noqa: B018  a judge that is not configured costs no shadow answers
        if not task.experts:
            return self._nobody_to_judge(task)
        if task.attempts > MAX_ATTEMPTS:
            ended = f"{MAX_ATTEMPTS} attempts ended without a result; the last: {task.last_error}"
            return self._finished(task, dict.fromkeys(task.experts), error=ended)
        try:
            gathered = self._answers.gather(task, last_try=last_try)
        except ExpertUnavailable as silent:
            if not last_try:
                raise
            return self._finished(task, dict.fromkeys(task.experts), error=str(silent))
        if gathered is None:
            gone = "the prompt is unknown or was erased"
            return Finished(task=task, verdicts=(), labels=(), error=gone)
        by_expert: dict[ExpertId, list[Verdict] | None] = dict.fromkeys(gathered.silent)
        paid: list[Verdict] = []
        for expert in task.experts:
            if expert in gathered.answers:
                verdicts, is_readable = self._compare(task.request_id, expert, gathered)
                by_expert[expert] = verdicts if is_readable else None
                paid += verdicts
        error = "; ".join(gathered.silent.values()) or None
        return self._finished(task, by_expert, paid, reference=gathered.reference, error=error)

    def _nobody_to_judge(self, task: JudgeTask) -> Finished:
        """Return a request that none but the reference could serve: its one label holds by
        definition, costs nothing, and tells the window that C_λ was empty there.
        """
        with self._ledger.begin() as tx:
            decision = tx.decisions.find(task.request_id)
        if decision is None:
            return Finished(task=task, verdicts=(), labels=(), error="the request is unknown")
        label = Label(
            request_id=task.request_id,
            expert=decision.reference,
            judge_version=self._judge.version,
            outcome=1,
            score=None,
            purpose=task.purpose,
            labelled_at=self._clock.now(),
        )
        return Finished(task=task, verdicts=(), labels=(label,))

    def _compare(
        self, request_id: RequestId, expert: ExpertId, gathered: Gathered
    ) -> tuple[list[Verdict], bool]:
        """Return the verdicts on one pair; False if a call stayed unreadable and ended them."""
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
                return verdicts, False
            verdicts.append(self._verdict(question, reply, call))
        return verdicts, True

    def _ask(self, question: Question) -> Reply | None:
        """Return a readable reply, at the cost of all that it took; None if none came."""
        spent = 0.0
        for _ in range(UNREADABLE_TRIES):
            self._batch.keep()
            try:
                reply = self._judge.compare(question)
                return replace(reply, cost_usd=spent + reply.cost_usd)
            except VerdictUnreadable as problem:
                spent += problem.cost_usd
                log.warning(
                    "judge.verdict_unreadable",
                    extra={
                        "request_id": question.request_id,
                        "problem": str(problem),
                        "cost_usd": problem.cost_usd,
                    },
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

    def _finished(
        self,
        task: JudgeTask,
        by_expert: dict[ExpertId, list[Verdict] | None],
        paid: Sequence[Verdict] = (),
        *,
        reference: ExpertId = _NOBODY,
        error: str | None = None,
    ) -> Finished:
        """Return the task's end; verdicts that were paid for are kept, whatever the label is."""
        labels = labels_of(
            task.request_id,
            reference,
            by_expert,
            judge_version=self._judge.version,
            purpose=task.purpose,
            now=self._clock.now(),
        )
        return Finished(task=task, verdicts=tuple(paid), labels=tuple(labels), error=error)
