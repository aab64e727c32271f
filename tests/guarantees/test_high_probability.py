"""Modes ``pac`` and ``anytime`` by Monte Carlo: how often λ misses the target, and what breaks it.

Tolerances are three standard errors over independent runs; seeds are fixed.
"""

from __future__ import annotations

import math
from functools import cache

import numpy as np
import pytest

import recalibrate.anytime
from recalibrate.anytime import BettingProcesses
from recalibrate.controller import Losses, RiskController, Window
from recalibrate.grid import score_grid
from recalibrate.losses import set_fpr, worst_in_set
from recalibrate.pac import FixedSequence
from store.records import FloatArray
from tests.guarantees.test_risk_control import Traffic, judged_by_uncertainty, requests

pytestmark = pytest.mark.slow

ALPHA, DELTA = 0.10, 0.10
LOOKS = range(200, 4_100, 100)
"""39 of them."""
RUNS = 300
LOSSES = {1: worst_in_set, 3: set_fpr}
"""By the number of experts: losses of 0 and 1, and those between."""


@cache
def truth(experts: int) -> tuple[FloatArray, FloatArray]:
    """Return the grid, from scores without labels, and each threshold's risk on fresh traffic."""
    rng = np.random.default_rng(3)
    grid = score_grid(requests(rng, 2_000, experts=experts)[0].ravel())[::8]
    fresh = LOSSES[experts](*requests(rng, 200_000, experts=experts))
    return grid, np.array([fresh.at(float(threshold)).mean() for threshold in grid])


def risk_at(threshold: float, *, experts: int) -> float:
    """Return the true risk; SAFE has none."""
    grid, risks = truth(experts)
    return float(dict(zip(grid.tolist(), risks, strict=True)).get(threshold, 0.0))


def window(losses: Losses, n: int) -> Window:
    return Window(
        losses=losses[:n],
        inclusion_probability=np.ones(n),
        requests_ago=np.zeros(n),
        minimum_inclusion=1.0,
    )


def exceeded(risks: list[float]) -> tuple[float, float]:
    """Return how often α was exceeded, and three standard errors at δ."""
    return float(np.mean(np.array(risks) > ALPHA)), 3.0 * float(
        np.sqrt(DELTA * (1.0 - DELTA) / len(risks))
    )


@pytest.mark.parametrize("n", [300, 1_000])
@pytest.mark.parametrize("experts", [1, 3])
def test_one_look_misses_the_target_at_most_as_often_as_allowed(n: int, experts: int) -> None:
    rng = np.random.default_rng(4)
    controller = FixedSequence(alpha=ALPHA, delta=DELTA, grid=truth(experts)[0])
    risks = []
    for _ in range(RUNS):
        losses = LOSSES[experts](*requests(rng, n, experts=experts))
        risks.append(risk_at(controller.threshold(window(losses, n)).value, experts=experts))
    share, tolerance = exceeded(risks)
    assert share <= DELTA + tolerance
    assert np.mean(risks) > 0.5 * ALPHA, "and the target is used"


def looked_at(controller: RiskController, seed: int) -> tuple[list[float], list[float]]:
    """Return each run's largest risk over all looks, and its last one."""
    rng = np.random.default_rng(seed)
    worst, last = [], []
    for _ in range(RUNS // 2):
        losses = worst_in_set(*requests(rng, LOOKS[-1], experts=1))
        path = [risk_at(controller.threshold(window(losses, n)).value, experts=1) for n in LOOKS]
        worst.append(max(path))
        last.append(path[-1])
    return worst, last


def test_looking_again_and_again_breaks_what_holds_for_one_look() -> None:
    """The negative control: exact binomial Learn-then-Test at 39 looks."""
    worst, _ = looked_at(FixedSequence(alpha=ALPHA, delta=DELTA, grid=truth(1)[0]), seed=5)
    assert exceeded(worst)[0] > 2.0 * DELTA


def test_betting_processes_may_be_asked_at_every_look() -> None:
    worst, last = looked_at(BettingProcesses(alpha=ALPHA, delta=DELTA, grid=truth(1)[0]), seed=5)
    share, tolerance = exceeded(worst)
    assert share <= DELTA + tolerance
    assert np.mean(last) > 0.6 * ALPHA, "and the target is used"


@pytest.mark.parametrize("is_told", [True, False])
@pytest.mark.parametrize("mode", [FixedSequence, BettingProcesses])
def test_hard_cases_judged_more_often_need_their_probability(
    mode: type[FixedSequence] | type[BettingProcesses], is_told: bool
) -> None:
    """Judged more often are the uncertain ones, which here are also the more often wrong ones or
    the more often right ones: without π the target is missed, or far from used.
    """
    rng = np.random.default_rng(6)
    controller = mode(alpha=ALPHA, delta=DELTA, grid=truth(1)[0])
    risks = []
    for _ in range(100):
        scores, good, pi = judged_by_uncertainty(rng, *requests(rng, 20_000, experts=1))
        found = controller.threshold(
            Window(
                losses=worst_in_set(scores, good),
                inclusion_probability=pi if is_told else np.ones(len(pi)),
                requests_ago=np.zeros(len(pi)),
                minimum_inclusion=0.02 if is_told else 1.0,
            )
        )
        risks.append(risk_at(found.value, experts=1))
    share, tolerance = exceeded(risks)
    assert (share <= DELTA + tolerance) is is_told, (share, np.mean(risks))


@cache
def worsened(seed: int, n: int) -> Traffic:
    """Scores that promise what a quarter of the answers no longer keeps."""
    rng = np.random.default_rng(seed)
    scores, good = requests(rng, n, experts=1)
    return scores, good & (rng.random(good.shape) > 0.25)


@pytest.mark.parametrize(("cap", "is_taken_back"), [(10.0, True), (math.inf, False)])
def test_capped_wealth_takes_a_certificate_back(
    monkeypatch: pytest.MonkeyPatch, cap: float, is_taken_back: bool
) -> None:
    """After 400 labels of worse answers. No theorem says so: algorithms.md 3.9, simulated."""
    monkeypatch.setattr(recalibrate.anytime, "CAP", cap)
    controller = BettingProcesses(alpha=ALPHA, delta=DELTA, grid=truth(1)[0])
    fresh = worst_in_set(*worsened(99, 50_000))
    risks = []
    for seed in range(40):
        before = requests(np.random.default_rng(seed), 2_000, experts=1)
        both = (np.concatenate(each) for each in zip(before, worsened(seed, 400), strict=True))
        found = controller.threshold(window(worst_in_set(*both), 2_400))
        risks.append(float(fresh.at(found.value).mean()))
    risk = float(np.mean(risks))
    assert (risk < 1.2 * ALPHA) is is_taken_back, risk
