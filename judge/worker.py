"""LOOP: lease judge tasks, gather the answers, verify them or ask the judge, record labels."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

from judge.aggregate import labels_of
from judge.answers import NOT_TO_BE_SEEN, Answers, Gathered
from judge.batch import MAX_ATTEMPTS, Batch
from judge.duels import Duels, duel_after
from judge.pairs import Pair, Pairs, Panel, most_micro_usd
from judge.port import Judge
from judge.purse import Bill
from judge.records import Announce, Finished, Recorder
from judge.spending import bill_of
from judge.verifying import VERSION, Verifier, known_answer, labels_of_grades
from online.clients import ClientFactory
from store.clock import Clock
from store.duels import DUEL
from store.errors import (
    ExpertUnavailable,
    JudgeUnavailable,
    LeaseLost,
    StoreError,
    TooDear,
)
from store.ledger import Ledger, Notifications, Publish
from store.records import (
    ExpertId,
    JudgeTask,
    Label,
    Verdict,
)

log = logging.getLogger(__name__)

_NOBODY = ExpertId("")


class JudgeWorker:
    """One worker; any number may run, the leases keep them apart.

    Parameters
    ----------
    panel
        Returns who judges now; raises ``JudgeUnavailable`` if nobody can.
    announce, publish
        As of ``Recorder``.
    verifier
        Without one, checks that come with prompts are used, and no rules.
    """

    def __init__(
        self,
        ledger: Ledger,
        panel: Callable[[], Panel],
        clients: ClientFactory,
        clock: Clock,
        *,
        name: str,
        announce: Announce,
        publish: Publish,
        verifier: Verifier | None = None,
    ) -> None:
        self._ledger = ledger
        self._panel = panel
        self._clock = clock
        self._name = name
        self._verifier = verifier or Verifier()
        recorder = Recorder(ledger, worker=name, announce=announce, publish=publish)
        self._batch = Batch(ledger, clock, recorder, worker=name)
        self._answers = Answers(ledger, clients, clock, before_call=self._before_call)
        self._pairs = Pairs(clock, before_call=self._before_call)
        self._stop = threading.Event()
        self._duels = Duels(self._answers, self._pairs)

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
        self._stop = stop or threading.Event()
        leased = self._batch.lease()
        while True:
            if self._stop.is_set():
                self._batch.give_rest_back("the worker was stopped")
            task = self._batch.next()
            if task is None:
                break
            if (done := self._handled(task)) is not None:
                self._batch.finish(done)
        self._batch.flush()
        return leased

    def _before_call(self) -> None:
        """Show that this worker does not hang, by asking whether to stop, and keep the task."""
        self._stop.is_set()
        self._batch.keep()

    def _handled(self, task: JudgeTask) -> Finished | None:
        """Return the finished task; None if it was given back or another worker has it."""
        try:
            return self._judged_or_given_back(task)
        except LeaseLost:
            log.warning("judge.lease_lost", extra={"task": task.task_id, "worker": self._name})
            return None

    def _judged_or_given_back(self, task: JudgeTask) -> Finished | None:
        try:
            last_try = task.attempts >= MAX_ATTEMPTS
            if task.purpose == DUEL:
                return self._duels.judged(task, self._panel(), last_try=last_try)
            return self._judged(task, last_try=last_try)
        except JudgeUnavailable as outage:
            self._batch.put_off(task, str(outage), wait_s=outage.retry_after_s)
        except ExpertUnavailable as silent:
            self._batch.give_back(task, str(silent))
        except StoreError:
            raise
        except Exception as unexpected:  # noqa: BLE001  one task's problem is not the worker's end
            # By type alone: a message may quote the prompt or an answer.
            self._batch.give_back(task, f"unexpected {type(unexpected).__name__}")
        return None

    def _judged(self, task: JudgeTask, *, last_try: bool) -> Finished:
        if not task.experts:
            return self._nobody_to_judge(task, self._panel().version)
        known = self._answers.known(task)
        if known is None:
            return Finished(task=task, verdicts=(), labels=(), error=NOT_TO_BE_SEEN)
        # Before anybody is asked: a judge that is not configured costs no shadow answers. What a
        # check can grade waits for no judge, and is labelled by its rule if no answer ever comes.
        panel = None if self._verifier.has_check(known) else self._panel()
        version = panel.version if panel else VERSION
        if task.attempts > MAX_ATTEMPTS:
            ended = f"{MAX_ATTEMPTS} attempts ended without a result; the last: {task.last_error}"
            return self._finished(task, version, dict.fromkeys(task.experts), error=ended)
        if not known.has_contestants:
            left = "every expert to be judged left the pool before it answered: nothing to compare"
            return Finished(task=task, verdicts=(), labels=(), error=left)
        try:
            gathered = self._answers.gather(task, known, last_try=last_try)
        except (ExpertUnavailable, TooDear) as why:
            if isinstance(why, ExpertUnavailable) and not last_try:
                raise
            return self._lost(task, version, why)
        return self._labelled(task, gathered, panel)

    def _labelled(self, task: JudgeTask, gathered: Gathered, panel: Panel | None) -> Finished:
        """Return the task's end once its answers are there: by its check if that can, else by the
        panel. Raises ``JudgeUnavailable``.
        """
        error = "; ".join(gathered.silent.values()) or None
        grades = self._verifier.grades(gathered, before_each=self._before_call)
        if grades is not None:
            graded = labels_of_grades(task, gathered, grades, now=self._clock.now())
            return Finished(task=task, verdicts=(), labels=tuple(graded), error=error)
        panel = panel or self._panel()
        try:
            by_expert, paid = self._compared(task, gathered, panel)
        except TooDear as dear:
            return self._lost(task, panel.version, dear)
        done = self._finished(
            task, panel.version, by_expert, paid, reference=gathered.reference, error=error
        )
        return replace(done, then=duel_after(done, gathered, now=self._clock.now()))

    def _lost(self, task: JudgeTask, version: str, why: Exception) -> Finished:
        """Return a task without a verdict as a loss for each expert. No label would be a selection:
        what is too dear, for one, is long, and may be hard.
        """
        return self._finished(task, version, dict.fromkeys(task.experts), error=str(why))

    def _compared(
        self, task: JudgeTask, gathered: Gathered, panel: Panel
    ) -> tuple[dict[ExpertId, Sequence[Verdict] | None], list[Verdict]]:
        """Return what each expert's answer came to, all on one bill, and what was paid for."""
        by_expert: dict[ExpertId, Sequence[Verdict] | None] = dict.fromkeys(gathered.silent)
        paid: list[Verdict] = []
        pairs: list[tuple[Pair, tuple[Judge, ...]]] = []
        with bill_of(gathered.tenant, lambda: most_micro_usd(pairs)) as bill:
            pairs += self._pairs_of(task, gathered, panel, bill)
            for pair, judges in pairs:
                compared = self._pairs.compare(pair, judges)
                by_expert[pair.expert] = compared.verdicts if compared.is_readable else None
                paid += compared.verdicts
        return by_expert, paid

    def _pairs_of(
        self, task: JudgeTask, gathered: Gathered, panel: Panel, bill: Bill
    ) -> list[tuple[Pair, tuple[Judge, ...]]]:
        """Return the pairs and who judges each, all before the first is paid for."""
        found = []
        for expert in task.experts:
            if expert in gathered.answers:
                contestants = (expert, gathered.reference)
                judges = panel.unrelated_to([gathered.families.get(name) for name in contestants])
                pair = Pair(
                    request_id=task.request_id,
                    prompt=gathered.prompt,
                    expert=expert,
                    reference=gathered.reference,
                    answers=gathered.answers,
                    reference_answer=known_answer(gathered),
                    bill=bill,
                )
                found.append((pair, judges))
        return found

    def _nobody_to_judge(self, task: JudgeTask, version: str) -> Finished:
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
            judge_version=version,
            outcome=1,
            score=None,
            purpose=task.purpose,
            labelled_at=self._clock.now(),
        )
        return Finished(task=task, verdicts=(), labels=(label,))

    def _finished(
        self,
        task: JudgeTask,
        version: str,
        by_expert: Mapping[ExpertId, Sequence[Verdict] | None],
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
            judge_version=version,
            purpose=task.purpose,
            now=self._clock.now(),
        )
        return Finished(task=task, verdicts=tuple(paid), labels=tuple(labels), error=error)
