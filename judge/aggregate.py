"""From verdicts to labels (promise.md section 5).

A result counts only if it was seen in both orders. Consistent win or tie: acceptable. Inconsistent
after a third call: 0.5 for rankings and a loss for risk, for "inconsistent means tie means
acceptable" would let a judge that looks only at positions satisfy the promise.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime

from store.records import ExpertId, Label, RequestId, Verdict

TIE = 0.5


@dataclass(frozen=True, slots=True)
class PairResult:
    """What the calls on one pair say of an expert against the reference."""

    preference: float
    """1 win, 0.5 tie or inconsistent, 0 lost."""
    is_consistent: bool

    @property
    def outcome(self) -> int:
        """Return 1 if the expert's answer is acceptable."""
        return int(self.is_consistent and self.preference >= TIE)


INCONSISTENT = PairResult(TIE, is_consistent=False)


def is_settled(verdicts: Sequence[Verdict], expert: ExpertId) -> bool:
    """Return whether the first two calls agree, so that no third is needed."""
    return _agreed(verdicts, expert) is not None


def pair_result(verdicts: Sequence[Verdict], expert: ExpertId) -> PairResult:
    """Return the result of one judge's two or three calls on one pair."""
    agreed = _agreed(verdicts, expert)
    if agreed is None:
        return INCONSISTENT
    return PairResult(agreed, is_consistent=True)


def panel_result(verdicts: Sequence[Verdict], expert: ExpertId) -> PairResult:
    """Return what one pair's verdicts come to, of one judge or of several.

    Of several judges, two must have come to the same consistent result; three cannot come to two
    such results.
    """
    by_judge: dict[str, list[Verdict]] = {}
    for verdict in verdicts:
        by_judge.setdefault(verdict.judge_version, []).append(verdict)
    results = [pair_result(theirs, expert) for theirs in by_judge.values()]
    if len(results) == 1:
        return results[0]
    agreed = [r for r in results if r.is_consistent and results.count(r) > 1]
    return agreed[0] if agreed else INCONSISTENT


def labels_of(
    request_id: RequestId,
    reference: ExpertId,
    by_expert: Mapping[ExpertId, Sequence[Verdict] | None],
    *,
    judge_version: str,
    purpose: str,
    now: datetime,
) -> list[Label]:
    """Return one label per expert and one for the reference.

    Parameters
    ----------
    by_expert
        The verdicts on each expert against the reference; None where no readable verdict came
        after retries: a loss for risk (outcome 0) that trains nothing (score None).
    """
    results = {e: panel_result(v, e) for e, v in by_expert.items() if v is not None}
    labels = []
    for expert in by_expert:
        found = results.get(expert)
        labels.append(
            Label(
                request_id=request_id,
                expert=expert,
                judge_version=judge_version,
                outcome=found.outcome if found else 0,
                score=_quality(by_expert[expert] or (), expert, found),
                purpose=purpose,
                labelled_at=now,
            )
        )
    if results:
        quality = _reference_quality(reference, by_expert)
        labels.append(
            Label(
                request_id=request_id,
                expert=reference,
                judge_version=judge_version,
                outcome=1,
                score=quality,
                purpose=purpose,
                labelled_at=now,
            )
        )
    return labels


def _agreed(verdicts: Sequence[Verdict], expert: ExpertId) -> float | None:
    """Return the preference for ``expert`` that was seen in both orders, if one was."""
    shown_first = {v.preference for v in verdicts if v.expert_a == expert}
    shown_second = {1.0 - v.preference for v in verdicts if v.expert_b == expert}
    both = shown_first & shown_second
    return next(iter(both)) if len(both) == 1 else None


def _quality(
    verdicts: Sequence[Verdict], expert: ExpertId, result: PairResult | None
) -> float | None:
    """Return judged quality: the mean grade, or the preference where the judge gives no grades."""
    if result is None:
        return None
    grades = _grades(verdicts, expert)
    return sum(grades) / len(grades) if grades else result.preference


def _reference_quality(
    reference: ExpertId, by_expert: Mapping[ExpertId, Sequence[Verdict] | None]
) -> float:
    """Return the reference's mean grade; without grades 0.5, the tie that it is with itself.

    Its Borda mean over the judged pairs would rise when *another* expert loses, and an expert that
    ties would no longer be within the margin of it.
    """
    grades = [g for v in by_expert.values() if v is not None for g in _grades(v, reference)]
    return sum(grades) / len(grades) if grades else TIE


def _grades(verdicts: Sequence[Verdict], expert: ExpertId) -> list[float]:
    given = [
        v.grade_a if v.expert_a == expert else v.grade_b
        for v in verdicts
        if expert in (v.expert_a, v.expert_b)
    ]
    return [g for g in given if g is not None]
