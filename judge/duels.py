"""Duels: pairs beside λ, compared like those that labels come from, and never labelled.

Rankings read their verdicts (``ranking.py``); λ, the watermark and learning read labels only.
"""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime

from judge.answers import NOT_TO_BE_SEEN, Answers, Gathered
from judge.batch import MAX_ATTEMPTS
from judge.pairs import Pair, Pairs, Panel, most_micro_usd
from judge.records import Finished
from judge.spending import bill_of
from judge.verifying import known_answer
from store.duels import AGAIN, DUEL
from store.errors import ExpertUnavailable, JudgeUnavailable, TooDear
from store.records import TRAFFIC, ExpertId, JudgeTask


def duel_after(done: Finished, gathered: Gathered, *, now: datetime) -> tuple[JudgeTask, ...]:
    """Return the task of the duel that was drawn with a request, once the request is judged.

    It is the youngest that waits, so it comes behind every label that is due, and the answers that
    it compares are there already.
    """
    duel = gathered.duel
    if done.task.purpose != TRAFFIC or done.error is not None or duel is None:
        return ()
    task = JudgeTask(
        request_id=done.task.request_id,
        experts=(ExpertId(duel.first), ExpertId(duel.second)),
        purpose=DUEL,
        created_at=now,
        tenant=done.task.tenant,
    )
    return (task,)


class Duels:
    """Has the pairs of duel tasks compared."""

    def __init__(self, answers: Answers, pairs: Pairs) -> None:
        self._answers = answers
        self._pairs = pairs

    def judged(self, task: JudgeTask, panel: Panel, *, last_try: bool) -> Finished:
        """Return the pair's verdicts; none if an expert has left the pool meanwhile.

        Raises
        ------
        ExpertUnavailable, JudgeUnavailable, LeaseLost
            The task is to be tried again, or another worker has it.
        """
        if task.attempts > MAX_ATTEMPTS:
            return _over(task, f"{MAX_ATTEMPTS} attempts ended without a result")
        try:
            known = self._answers.known(task)
            if known is None:
                return _over(task, NOT_TO_BE_SEEN)
            gathered = self._answers.gather(task, known, last_try=False)
            pair = self._pair(task, gathered)
            if pair is None:
                return _over(task)
            return self._compared(task, gathered, pair, panel)
        except (ExpertUnavailable, TooDear) as why:
            if isinstance(why, ExpertUnavailable) and not last_try:
                raise
            return _over(task, str(why))

    def _compared(self, task: JudgeTask, gathered: Gathered, pair: Pair, panel: Panel) -> Finished:
        try:
            judges = panel.unrelated_to([gathered.families.get(name) for name in task.experts])
            with bill_of(gathered.tenant, lambda: most_micro_usd([(pair, judges)])) as bill:
                compared = self._pairs.compare(replace(pair, bill=bill), judges)
        except JudgeUnavailable as outage:
            if len(set(task.experts)) > 1:
                raise
            # Every try pays for another second answer: an outage must not ask without end.
            raise ExpertUnavailable(str(outage)) from outage
        return Finished(task=task, verdicts=compared.verdicts, labels=())

    def _pair(self, task: JudgeTask, gathered: Gathered) -> Pair | None:
        first, second = task.experts
        answers = dict(gathered.answers)
        if not {first, second} <= answers.keys():
            return None
        if first == second:
            again = self._answers.again(task, first, gathered.prompt)
            if again is None:
                return None
            first = ExpertId(second + AGAIN)
            answers[first] = again
        return Pair(
            request_id=task.request_id,
            prompt=gathered.prompt,
            expert=first,
            reference=second,
            answers=answers,
            reference_answer=known_answer(gathered),
        )


def _over(task: JudgeTask, error: str | None = None) -> Finished:
    return Finished(task=task, verdicts=(), labels=(), error=error)
