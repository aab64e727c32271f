"""The promise by Monte Carlo: what holds, how tightly, and that breaking a rule breaks it.

Tolerances are three standard errors of the mean over independent runs; seeds are fixed.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from recalibrate.controller import Losses, Window
from recalibrate.crc import Feasible, crc_threshold
from recalibrate.losses import BoolArray, set_fpr, worst_in_set
from recalibrate.rolling import RollingCrc
from store.records import SAFE, FloatArray

pytestmark = pytest.mark.slow

ALPHA = 0.10
Traffic = tuple[FloatArray, BoolArray]


def requests(rng: np.random.Generator, n: int, *, experts: int) -> Traffic:
    """Continuous, informative, overconfident scores and what is acceptable."""
    ease = rng.normal(size=(n, 1)) + rng.normal(scale=0.5, size=(n, experts))
    acceptable = rng.random((n, experts)) < 1.0 / (1.0 + np.exp(-(1.0 + 1.5 * ease)))
    noisy = ease + rng.normal(scale=0.8, size=(n, experts))
    return 1.0 / (1.0 + np.exp(-(2.0 + 2.0 * noisy))), acceptable


def excess(risks: list[float]) -> tuple[float, float]:
    """Return the mean risk above α and its standard error."""
    found = np.array(risks)
    return float(found.mean() - ALPHA), float(found.std(ddof=1) / np.sqrt(len(found)))


def risk_of(
    made: Callable[[FloatArray, BoolArray], Losses], *, n: int, experts: int, runs: int = 3_000
) -> tuple[float, float]:
    """Calibrate on n labels, then measure on 400 fresh requests; over many runs."""
    rng = np.random.default_rng(1)
    risks = []
    for _ in range(runs):
        scores, good = requests(rng, n + 400, experts=experts)
        found = crc_threshold(made(scores[:n], good[:n]), np.ones(n), test_weight=1.0, alpha=ALPHA)
        at = found.threshold if isinstance(found, Feasible) else SAFE
        risks.append(float(made(scores[n:], good[n:]).at(at).mean()))
    return excess(risks)


@pytest.mark.parametrize("n", [50, 200])
def test_the_share_of_admitted_wrong_experts_is_met_and_not_wasted(n: int) -> None:
    over, error = risk_of(set_fpr, n=n, experts=3)
    assert -2.0 / (n + 1) - 3.0 * error <= over <= 3.0 * error


@pytest.mark.parametrize("n", [50, 200])
def test_two_expert_regret_is_met_and_not_wasted(n: int) -> None:
    """One cheap expert and the reference: the worst in the set is the regret of the choice."""
    over, error = risk_of(worst_in_set, n=n, experts=1)
    assert -2.0 / (n + 1) - 3.0 * error <= over <= 3.0 * error


def test_the_worst_of_three_experts_is_within_the_target() -> None:
    over, error = risk_of(worst_in_set, n=200, experts=3)
    assert over <= 3.0 * error


def test_without_the_correction_small_windows_break_the_promise() -> None:
    """The negative control of the theorem's 1/(n+1): the plain empirical infimum."""
    rng = np.random.default_rng(1)
    n, risks = 50, []
    for _ in range(2_000):
        scores, good = requests(rng, n + 400, experts=1)
        plain = crc_threshold(
            worst_in_set(scores[:n], good[:n]), np.ones(n), test_weight=0.0, alpha=ALPHA
        )
        assert isinstance(plain, Feasible)
        risks.append(float(worst_in_set(scores[n:], good[n:]).at(plain.threshold).mean()))
    over, error = excess(risks)
    assert over > 3.0 * error


def judged_by_uncertainty(
    rng: np.random.Generator, scores: FloatArray, good: BoolArray
) -> tuple[FloatArray, BoolArray, FloatArray]:
    """Judge hard cases more often: π from .02 to .15, known before the label is."""
    uncertain = 1.0 - 2.0 * np.abs(scores[:, 0] - 0.5)
    pi = 0.02 + 0.13 * uncertain
    kept = rng.random(len(pi)) < pi
    return scores[kept], good[kept], pi[kept]


@pytest.mark.parametrize("weighted", [True, False])
def test_labels_of_hard_cases_hold_the_promise_only_with_their_weights(weighted: bool) -> None:
    """algorithms.md 5.1, through the controller in force; without 1/π it is broken clearly."""
    rng = np.random.default_rng(2)
    controller = RollingCrc(alpha=ALPHA, label_discount=1.0, age_half_life_requests=1e12)
    risks = []
    for _ in range(300):
        scores, good = requests(rng, 6_000, experts=1)
        seen, fine, pi = judged_by_uncertainty(rng, scores, good)
        used = pi if weighted else np.ones(len(pi))
        found = controller.threshold(
            Window(
                losses=worst_in_set(seen, fine),
                inclusion_probability=used,
                requests_ago=np.zeros(len(pi)),
                minimum_inclusion=float(0.02 if weighted else 1.0),
            )
        )
        fresh = requests(rng, 4_000, experts=1)
        risks.append(float(worst_in_set(*fresh).at(found.value).mean()))
    over, error = excess(risks)
    if weighted:
        assert over <= 3.0 * error
    else:
        assert over > 0.01 + 3.0 * error
