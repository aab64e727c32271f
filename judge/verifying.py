"""Verifier before judge: labels of answers that a check can grade (design.md section 7).

They are absolute: a grade says whether an answer is right, not which of two is better. The outcome
is design.md section 3's, score at least the reference's less the margin. One answer that cannot be
graded leaves the whole task to the judge, so that all its labels are of one kind.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from datetime import datetime

from judge.answers import Gathered, Known
from judge.checks import Check, Pattern, read_check
from judge.rules import Rule, check_for
from judge.sandbox import Trial, run_tests
from judge.trial import Reason
from judge.verifiers import grade
from store.errors import EventRejected
from store.records import VERIFIER, ExpertId, JudgeTask, Label

log = logging.getLogger(__name__)

VERSION = f"{VERIFIER}2"
"""Of every verifier's labels; changes when one of them grades any answer otherwise."""
_ROUNDING = 1e-9


class Verifier:
    """Grades by the check that came with the prompt or, without one, by the first rule that fits.

    Parameters
    ----------
    rules
        For prompts without a check.
    """

    def __init__(self, rules: Sequence[Rule] = ()) -> None:
        self._rules = rules

    def has_check(self, known: Known) -> bool:
        """Return whether there is a check for the task, so that it may need no judge."""
        return self._check(known) is not None

    def grades(
        self, gathered: Gathered, *, before_each: Callable[[], None]
    ) -> dict[ExpertId, float] | None:
        """Return every answer's grade in [0, 1]; None if there is no check or one answer cannot be
        graded. ``before_each`` is called first: tests may run for some minutes.

        An answer that the check came to nothing with fails it if another one passes: then it is
        the answer that it cannot be carried out on, and no answer may choose a judge instead. Not
        the reference's: were it called wrong for that, every other answer would be acceptable.
        """
        check = self._check(gathered)
        if check is None:
            return None
        found: dict[ExpertId, float] = {}
        open_by_itself: list[ExpertId] = []
        for expert, answer in gathered.answers.items():
            before_each()
            trials = _Trials()
            graded = None if answer.text is None else grade(check, answer.text, run_tests=trials)
            is_open_by_itself = trials.came_to_nothing or isinstance(check, Pattern)
            if graded is None and not (is_open_by_itself and expert != gathered.reference):
                _leave_to_the_judge(check, expert)
                return None
            if graded is None:
                open_by_itself.append(expert)
            found[expert] = graded or 0.0
        if open_by_itself and 1.0 not in found.values():
            _leave_to_the_judge(check, open_by_itself[0])
            return None
        return found

    def _check(self, asked: Gathered | Known) -> Check | None:
        if asked.check is None:
            return check_for(self._rules, tenant=asked.tenant, prompt=asked.prompt)
        try:
            return read_check(json.loads(asked.check))
        except EventRejected as unknown:
            # Accepted by another version of this program.
            log.warning("judge.check_unknown", extra={"code": unknown.code})
            return None


def known_answer(gathered: Gathered) -> str | None:
    """Return what the prompt's check states as right, for a judge to go by; None if it does not."""
    body = {} if gathered.check is None else json.loads(gathered.check)
    stated = body.get("answer")  # a newer program's check may have another shape
    if body.get("kind") not in {"exact", "numeric", "choice"} or stated is None:
        return None
    return "\nor: ".join(stated) if isinstance(stated, list) else str(stated)


def labels_of_grades(
    task: JudgeTask, gathered: Gathered, grades: dict[ExpertId, float], *, now: datetime
) -> list[Label]:
    """Return the labels of every answer; an expert that stayed silent lost, and trains nothing."""
    least = grades[gathered.reference] - gathered.margin - _ROUNDING

    def label(expert: ExpertId, score: float | None) -> Label:
        is_acceptable = expert == gathered.reference or (score is not None and score >= least)
        return Label(
            request_id=task.request_id,
            expert=expert,
            judge_version=VERSION,
            outcome=int(is_acceptable),
            score=score,
            purpose=task.purpose,
            labelled_at=now,
        )

    silent = [label(expert, None) for expert in gathered.silent]
    return [label(expert, score) for expert, score in grades.items()] + silent


class _Trials:
    """Runs the trials of one answer, of each way to read it."""

    def __init__(self) -> None:
        self._ended: list[Trial] = []

    def __call__(self, code: str, tests: str) -> bool | None:
        trial = run_tests(code, tests)
        self._ended.append(trial)
        if trial.passed is None:
            log.warning("judge.tests_undecided", extra={"why": trial.why})
        return trial.passed

    @property
    def came_to_nothing(self) -> bool:
        """Return whether code ran, and no reading of the answer passed."""
        ran = all(trial.why is not Reason.NOT_LOCKED_IN for trial in self._ended)
        return bool(self._ended) and ran and not any(trial.passed for trial in self._ended)


def _leave_to_the_judge(check: Check, expert: ExpertId) -> None:
    facts = {"check": type(check).__name__, "expert": expert}
    log.info("judge.cannot_verify", extra=facts)
