"""The promise under hard filters that go with quality: who cannot serve is no member there.

Hard prompts are long; the cheap experts' windows are short and one of them is worse on long
prompts. Tolerances are three standard errors of the mean over independent runs; seeds are fixed.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from online.admission import eligible, preference
from online.learn import JudgedRequest
from recalibrate.losses import BoolArray
from recalibrate.rolling import RollingCrc
from recalibrate.window import RescoredLabels, able, calibration_window
from store.needs import UNDECLARED, Capabilities, Needs
from store.policy import PolicySettings
from store.records import ExpertId, FloatArray
from tests.factories import STRONG, sampled

pytestmark = pytest.mark.slow

ALPHA = 0.10
LABELS, FRESH, RUNS = 250, 2_000, 150
X, Y = ExpertId("x"), ExpertId("y")
COLUMNS = (STRONG, X, Y)
COSTS = np.array([1.0, 0.1, 0.2])
SHORT = {X: Capabilities(context_tokens=1_000)}
POLICY = PolicySettings(reference=STRONG, cost_weight=0.0, policy="cheapest", label_rate=1.0)


def traffic(rng: np.random.Generator, n: int) -> tuple[list[JudgedRequest], FloatArray, BoolArray]:
    """Requests with the scores and the true quality of x and y; x is bad on what it cannot read."""
    long = rng.random(n) < 0.4
    ease = rng.normal(size=(n, 3)) - 1.5 * long[:, None] * np.array([0.0, 1.0, 0.0])
    good = rng.random((n, 3)) < 1.0 / (1.0 + np.exp(-(1.5 + 1.5 * ease)))
    # The scorer saw x on short prompts only, so its scores know nothing of long ones.
    seen = ease + 1.5 * long[:, None] * np.array([0.0, 1.0, 0.0])
    scores = 1.0 / (1.0 + np.exp(-(2.0 + 2.0 * (seen + rng.normal(scale=0.8, size=(n, 3))))))
    needs = [Needs(input_tokens=4_000 if one else 100) for one in long]
    rows = [
        JudgedRequest(request=replace(ROW, seq=i + 1, needs=need)) for i, need in enumerate(needs)
    ]
    return rows, scores, good


ROW = sampled(inclusion_probability=1.0, due_experts=(X, Y))


def window_of(
    rng: np.random.Generator, *, declared: dict[ExpertId, Capabilities], believed: bool
) -> RescoredLabels:
    """Labels taken while x could not read long prompts: none of x there.

    ``believed``: what has no label is taken for acceptable, as no rule of ours does.
    """
    rows, scores, good = traffic(rng, LABELS)
    judged = able(rows, COLUMNS, SHORT)
    return RescoredLabels(
        rows=tuple(rows),
        columns=COLUMNS,
        relative_costs=COSTS,
        scores=scores,
        acceptable=(good & judged) | (believed & ~judged),
        judged=judged,
        able=able(rows, COLUMNS, declared),
        absent=np.zeros_like(judged),
    )


def outcome(
    declared: dict[ExpertId, Capabilities],
    *,
    served: dict[ExpertId, Capabilities],
    believed: bool = False,
) -> tuple[float, float, float]:
    """Return mean excess risk of the served, its standard error, and the share not the reference's.

    Parameters
    ----------
    declared, served
        What the experts can do as λ is calibrated, and as requests are served.
    """
    rng = np.random.default_rng(7)
    controller = RollingCrc(alpha=ALPHA, label_discount=1.0, age_half_life_requests=1e12)
    risks, shares = [], []
    for _ in range(RUNS):
        labels = window_of(rng, declared=declared, believed=believed)
        window = calibration_window(labels, {X, Y}, last_seq=LABELS, from_seq=0, policy=POLICY)
        at = controller.threshold(window).value
        rows, scores, good = traffic(rng, FRESH)
        preferred = preference(scores, COSTS, policy=POLICY.policy, cost_weight=0.0)
        members = eligible(scores, preferred, np.ones(3, dtype=bool), reference=0)
        inside = members & able(rows, COLUMNS, served) & (scores > at)
        chosen = np.where(inside[:, 1], 1, np.where(inside[:, 2], 2, 0))  # the cheapest member
        risks.append(float(np.mean((chosen > 0) & ~good[np.arange(FRESH), chosen])))
        shares.append(float(np.mean(chosen > 0)))
    error = float(np.std(risks, ddof=1) / np.sqrt(RUNS))
    return float(np.mean(risks)) - ALPHA, error, float(np.mean(shares))


def test_the_served_stay_within_the_target_and_the_filter_costs_nothing() -> None:
    over, error, share = outcome(SHORT, served=SHORT)
    assert over <= 3.0 * error
    everything_missing_is_a_loss = outcome({X: UNDECLARED}, served=SHORT)[2]
    assert share > 2.0 * everything_missing_is_a_loss


def test_a_widened_expert_is_not_believed_untested() -> None:
    """x now declares room for long prompts: the window has no label of it there, so each is a loss
    and the promise holds, at the price of the share.
    """
    wide = {X: UNDECLARED}
    over, error, _ = outcome(wide, served=wide)
    assert over <= 3.0 * error


def test_serving_what_calibration_left_out_breaks_the_promise() -> None:
    """The negative control: λ of the filtered set, and the filter not applied to requests."""
    over, error, _ = outcome(SHORT, served={X: UNDECLARED})
    assert over > 0.02 + 3.0 * error


def test_believing_what_has_no_label_breaks_the_promise() -> None:
    """The other one: a label that is missing for want of room taken for a good answer."""
    wide = {X: UNDECLARED}
    over, error, _ = outcome(wide, served=wide, believed=True)
    assert over > 0.02 + 3.0 * error
