"""The best fixed λ in hindsight: what knowing every score in advance would have saved.

Over the out-of-fold scores that were logged with the decisions, so it measures the choice of λ
alone, not the scorer. An oracle to compare with, never something that could have been promised.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from online.admission import MAX_CANDIDATES
from recalibrate.realised import Interval, ratio_of_means
from recalibrate.stream_facts import Graded, ServedRequest, StatusChange, is_worse
from store.records import SAFE, ExpertId, ExpertStatus, FloatArray, Retrieved


@dataclass(frozen=True, slots=True, kw_only=True)
class Hindsight:
    """The cheapest fixed λ whose realised regret on these requests is at most α."""

    threshold: float
    regret: float
    quality: float
    cost_usd: float
    """Mean per request."""
    cost_share: Interval | None
    """Of always asking the reference."""


class CertifiedAt:
    """Answers which experts were certified when a request was decided."""

    def __init__(self, statuses: Sequence[StatusChange]) -> None:
        self._changes: dict[ExpertId, list[StatusChange]] = {}
        for change in sorted(statuses, key=lambda c: c.position):
            self._changes.setdefault(change.expert, []).append(change)

    def __call__(self, expert: ExpertId, position: int) -> bool:
        """Return whether the expert's last change by then made it certified."""
        past = [c.status for c in self._changes.get(expert, ()) if c.position <= position]
        return bool(past) and past[-1] is ExpertStatus.CERTIFIED


def best_in_hindsight(
    requests: Sequence[ServedRequest],
    certified: CertifiedAt,
    *,
    reference: ExpertId,
    alpha: float,
    margin: float,
) -> Hindsight | None:
    """Return the best λ of {0} ∪ {logged scores} ∪ {SAFE}; None without requests or costs.

    For each λ every request is given the expert that the policy would have chosen without
    exploration or comparator: the highest logged utility among the certified experts scored above
    λ (at most four) and the reference. An expert without a recorded answer is passed over. Of
    equally cheap thresholds the safest is returned.
    """
    ladders = [_ladder(r, certified, reference=reference) for r in requests]
    if not requests or any(g.cost_usd is None for ladder in ladders for _, g in ladder):
        return None
    grid, sums = _sums_over_grid(ladders, margin=margin)
    allowed = np.flatnonzero(sums[:, 1] / len(requests) <= alpha)
    best = allowed[np.argmin(sums[allowed, 0])]  # the grid falls: the first minimum is the safest
    threshold = float(grid[best])
    cost = np.array([_served_at(ladder, threshold).cost_usd for ladder in ladders], np.float64)
    base = np.array([ladder[0][1].cost_usd for ladder in ladders], np.float64)
    return Hindsight(
        threshold=threshold,
        regret=float(sums[best, 1]) / len(requests),
        quality=float(sums[best, 2]) / len(requests),
        cost_usd=float(cost.mean()),
        cost_share=ratio_of_means(cost, base),
    )


Ladder = list[tuple[float, Graded]]
"""What is served as λ falls: (score that λ must be under, answer), the reference first."""


def _ladder(request: ServedRequest, certified: CertifiedAt, *, reference: ExpertId) -> Ladder:
    logged = {c.expert: c for c in request.candidates}
    home = logged.get(reference)
    steps: Ladder = [(np.inf, request.answers[reference])]
    if home is None or home.utility is None:
        return steps
    best = home.utility
    for score, utility, name in _eligible(logged, request, certified, reference):
        # A tie goes to the expert: the policy prefers what it lists first, the reference last.
        if utility > best or (utility == best and len(steps) == 1):
            best = utility
            steps.append((score, request.answers[name]))
    return steps


def _eligible(
    logged: Mapping[ExpertId, Retrieved],
    request: ServedRequest,
    certified: CertifiedAt,
    reference: ExpertId,
) -> list[tuple[float, float, ExpertId]]:
    """Return (score, utility, expert) of those who could enter C_λ, highest score first."""
    found = [
        (c.score, c.utility, name)
        for name, c in logged.items()
        if name != reference
        and c.score is not None
        and c.utility is not None
        and (c.is_candidate or certified(name, request.position))
    ]
    highest = sorted(found, key=lambda member: -member[0])[:MAX_CANDIDATES]
    return [member for member in highest if member[2] in request.answers]


def _served_at(ladder: Ladder, threshold: float) -> Graded:
    return [answer for score, answer in ladder if score > threshold][-1]


def _sums_over_grid(ladders: Sequence[Ladder], *, margin: float) -> tuple[FloatArray, FloatArray]:
    """Return the falling grid and float64[g, 3]: total cost, unacceptable, quality at each λ."""
    points, changes = [], []
    start = np.zeros(3)
    for ladder in ladders:
        served = [_figures(answer, ladder[0][1], margin=margin) for _, answer in ladder]
        start += served[0]
        for (score, _), before, after in zip(ladder[1:], served, served[1:], strict=False):
            points.append(score)
            changes.append(after - before)
    order = np.argsort(-np.asarray(points, np.float64), kind="stable")
    falling = np.asarray(points, np.float64)[order]
    running = np.vstack([np.zeros(3), *np.asarray(changes).reshape(-1, 3)[order]]).cumsum(axis=0)
    scores = np.unique(falling[falling > 0.0])[::-1]
    grid = np.concatenate([[SAFE], scores, [0.0]])
    # Strictly greater scores count, as in serving.
    greater = np.searchsorted(-falling, -grid, side="left")
    return grid, start + running[greater]


def _figures(answer: Graded, reference: Graded, *, margin: float) -> FloatArray:
    wrong = is_worse(answer.score, reference.score, margin=margin)
    return np.array([answer.cost_usd or 0.0, float(wrong), answer.score])
