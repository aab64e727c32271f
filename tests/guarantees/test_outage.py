"""The promise when an expert returns from an outage in which another one grew worse.

Tolerances are three standard errors of the mean over independent runs; seeds are fixed.
"""

from __future__ import annotations

import numpy as np
import pytest

from online.learn import JudgedRequest
from recalibrate.guard import recompute
from recalibrate.losses import BoolArray
from recalibrate.rolling import RollingCrc
from recalibrate.window import RescoredLabels, absent, calibration_window
from store.policy import PolicySettings
from store.records import ExpertId, FloatArray
from tests.factories import STRONG, sampled

pytestmark = pytest.mark.slow

ALPHA, RUNS, LABELS, FRESH = 0.10, 40, 700, 5_000
A, X = ExpertId("a"), ExpertId("x")
COLUMNS = (STRONG, A, X)
POLICY = PolicySettings(reference=STRONG, cost_weight=0.0, policy="cheapest", label_rate=1.0)
DRAG = 0.015
"""What the discounted window is late by: labels from before the change still have some weight."""


def traffic(
    rng: np.random.Generator, n: int, *, changed: BoolArray
) -> tuple[FloatArray, BoolArray]:
    scores = rng.random((n, 3)) * np.array([0.0, 0.8, 1.0]) + np.array([0.9, 0.0, 0.0])
    risk = np.column_stack([np.zeros(n), np.where(changed, 0.16, 0.06), np.full(n, 0.03)])
    return scores, np.asarray(rng.random((n, 3)) >= risk)


def excess_risk(*, newest_kept: bool) -> tuple[float, float]:
    """Return mean excess risk of the served once X is back, and its standard error.

    ``newest_kept``: λ by the rule in force; else from the window of both alone.
    """
    rng = np.random.default_rng(3)
    risks = []
    for _ in range(RUNS):
        seqs = np.arange(1, LABELS + 1)
        scores, good = traffic(rng, LABELS, changed=seqs > 300)
        judged = np.ones((LABELS, 3), dtype=bool)
        judged[300:, 2] = False
        rows = tuple(
            JudgedRequest(request=sampled(int(q), inclusion_probability=1.0, due_experts=(A, X)))
            for q in seqs
        )
        labels = RescoredLabels(
            rows=rows,
            columns=COLUMNS,
            relative_costs=np.array([1.0, 0.1, 0.2]),
            scores=scores,
            acceptable=good & judged,
            judged=judged,
            able=np.ones_like(judged),
            absent=absent(rows, COLUMNS, {X: ((300, LABELS),)}),
        )
        at = (with_the_newest if newest_kept else of_both_alone)(labels)
        scores, good = traffic(rng, FRESH, changed=np.ones(FRESH, dtype=bool))
        by_a = scores[:, 1] > at
        by_x = (scores[:, 2] > at) & ~by_a
        risks.append(float(np.mean((by_a & ~good[:, 1]) | (by_x & ~good[:, 2]))))
    return float(np.mean(risks)) - ALPHA, float(np.std(risks, ddof=1) / np.sqrt(RUNS))


def with_the_newest(labels: RescoredLabels) -> float:
    return recompute(POLICY, labels, {A, X}, last_seq=LABELS, from_seq=0, is_ramping=False).value


def of_both_alone(labels: RescoredLabels) -> float:
    controller = RollingCrc(
        alpha=ALPHA,
        label_discount=POLICY.label_discount,
        age_half_life_requests=POLICY.age_half_life_requests,
    )
    window = calibration_window(labels, {A, X}, last_seq=LABELS, from_seq=0, policy=POLICY)
    return controller.threshold(window).value


def test_a_return_keeps_what_was_learnt_of_the_others_meanwhile() -> None:
    over, error = excess_risk(newest_kept=True)
    assert over <= DRAG + 3.0 * error


def test_the_window_of_both_alone_breaks_the_promise() -> None:
    """The negative control: evidence about A from before X's outage, and none from during it."""
    over, error = excess_risk(newest_kept=False)
    assert over > 0.03 + 3.0 * error
