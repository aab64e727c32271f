"""The exact conformal threshold against its own definition, and the losses it is fed."""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from recalibrate.controller import Losses
from recalibrate.crc import Feasible, Infeasible, crc_threshold
from recalibrate.losses import set_fpr, worst_in_set
from store.records import FloatArray

ALPHAS = st.floats(0.01, 0.9)
# Few distinct values, so that ties are the rule; NaN is an expert without evidence.
SCORES = st.sampled_from([0.0, 0.1, 0.25, 0.5, 0.500001, 0.75, 1.0, float("nan")])


def corrected(losses: Losses, weights: FloatArray, test_weight: float, threshold: float) -> float:
    """The definition: the weighted risk with the next request's loss taken as 1."""
    return float((weights @ losses.at(threshold) + test_weight) / (weights.sum() + test_weight))


def brute_force(
    losses: Losses, weights: FloatArray, test_weight: float, alpha: float
) -> float | None:
    points = losses.points[np.isfinite(losses.points)]
    grid = np.unique(np.concatenate([[0.0], points[points >= 0.0]]))
    fine = [x for x in grid if corrected(losses, weights, test_weight, x) <= alpha + 1e-12]
    return min(fine, default=None)


@st.composite
def problems(draw: st.DrawFn) -> tuple[Losses, FloatArray, float, float]:
    n, m = draw(st.integers(0, 12)), draw(st.integers(1, 6))
    scores = draw(npst.arrays(np.float64, (n, m), elements=SCORES))
    good = draw(npst.arrays(np.bool_, (n, m)))
    weights = draw(npst.arrays(np.float64, n, elements=st.floats(0.0, 4.0)))
    stage_one = draw(npst.arrays(np.float64, n, elements=st.sampled_from([0.0, 1.0, float("nan")])))
    losses = draw(
        st.sampled_from(
            [
                worst_in_set(scores, good),
                set_fpr(scores, good),
                set_fpr(scores, good, stage_one_loss=stage_one),
            ]
        )
    )
    # Alphas of a coarse grid would meet a risk exactly, where summation order decides.
    return losses, weights, draw(st.floats(0.1, 4.0)), draw(ALPHAS)


@given(problems())
def test_the_threshold_is_the_smallest_that_meets_the_definition(
    problem: tuple[Losses, FloatArray, float, float],
) -> None:
    losses, weights, test_weight, alpha = problem
    found = crc_threshold(losses, weights, test_weight=test_weight, alpha=alpha)
    expected = brute_force(losses, weights, test_weight, alpha)
    if isinstance(found, Infeasible):
        assert expected is None or abs(corrected(losses, weights, test_weight, 2.0) - alpha) < 1e-9
    else:
        risk = corrected(losses, weights, test_weight, found.threshold)
        assert found.corrected_risk == pytest.approx(risk)
        assert risk <= alpha + 1e-12
        lower = 0.0 if expected is None else expected
        assert found.threshold == lower or risk == pytest.approx(alpha)


@given(problems(), ALPHAS)
def test_a_stricter_target_never_lowers_the_threshold(
    problem: tuple[Losses, FloatArray, float, float], other: float
) -> None:
    losses, weights, test_weight, alpha = problem
    strict, lax = (
        crc_threshold(losses, weights, test_weight=test_weight, alpha=a)
        for a in sorted((alpha, other))
    )
    if isinstance(strict, Feasible):
        assert isinstance(lax, Feasible)
        assert lax.threshold <= strict.threshold


@given(problems(), st.data())
def test_more_loss_never_lowers_the_threshold(
    problem: tuple[Losses, FloatArray, float, float], data: st.DataObject
) -> None:
    losses, weights, test_weight, alpha = problem
    less = data.draw(npst.arrays(np.float64, losses.drops.shape, elements=st.floats(0.0, 1.0)))
    smaller = replace(losses, drops=losses.drops * less, is_binary=False)
    big = crc_threshold(losses, weights, test_weight=test_weight, alpha=alpha)
    small = crc_threshold(smaller, weights, test_weight=test_weight, alpha=alpha - 1e-9)
    if isinstance(big, Feasible) and big.corrected_risk < alpha - 1e-9:
        assert isinstance(small, Feasible)
        assert small.threshold <= big.threshold


@given(problems())
def test_it_is_infeasible_exactly_when_the_constant_part_is_too_big(
    problem: tuple[Losses, FloatArray, float, float],
) -> None:
    losses, weights, test_weight, alpha = problem
    constant = (weights @ losses.floor + test_weight) / (weights.sum() + test_weight)
    found = crc_threshold(losses, weights, test_weight=test_weight, alpha=alpha)
    assert isinstance(found, Infeasible) == (constant > alpha) or constant == pytest.approx(alpha)
    if isinstance(found, Infeasible):
        assert found.lowest == pytest.approx(constant)


@pytest.mark.parametrize(("n", "feasible"), [(8, False), (9, True)])
def test_nine_labels_are_the_fewest_for_a_target_of_a_tenth(n: int, feasible: bool) -> None:
    losses = worst_in_set(np.linspace(0.1, 0.9, n)[:, None], np.ones((n, 1), dtype=bool))
    found = crc_threshold(losses, np.ones(n), test_weight=1.0, alpha=0.1)
    assert isinstance(found, Feasible) == feasible


@pytest.mark.parametrize(("errors", "feasible"), [(9, True), (10, False)])
def test_a_first_stage_that_errs_too_often_makes_every_threshold_infeasible(
    errors: int, feasible: bool
) -> None:
    """F·e1·n/(n+1) + 1/(n+1) <= α (algorithms.md 2.3, item 2): n = 100, α = .1."""
    n = 100
    stage_one = np.full(n, np.nan)
    stage_one[:40] = 0.0
    stage_one[:errors] = 1.0
    scores = np.linspace(0.0, 1.0, n)[:, None]
    losses = set_fpr(scores, np.zeros((n, 1), dtype=bool), stage_one_loss=stage_one)
    found = crc_threshold(losses, np.ones(n), test_weight=1.0, alpha=0.1)
    assert isinstance(found, Feasible) == feasible


def test_a_score_equal_to_the_threshold_is_not_admitted() -> None:
    losses = worst_in_set(np.array([[0.5]]), np.array([[False]]))
    assert losses.at(0.5).tolist() == [0.0]
    assert losses.at(np.nextafter(0.5, 0.0)).tolist() == [1.0]


def test_tied_scores_fall_together() -> None:
    scores = np.array([[0.5]] * 4 + [[0.2]] * 16)
    bad = np.zeros((20, 1), dtype=bool)
    found = crc_threshold(worst_in_set(scores, bad), np.ones(20), test_weight=1.0, alpha=0.15)
    assert found == Feasible(0.5, 1 / 21)


def test_a_pool_that_never_errs_gives_the_lowest_threshold() -> None:
    losses = worst_in_set(np.full((50, 3), 0.7), np.ones((50, 3), dtype=bool))
    found = crc_threshold(losses, np.ones(50), test_weight=1.0, alpha=0.1)
    assert found == Feasible(0.0, 1 / 51)


def test_without_labels_nothing_is_feasible() -> None:
    none = worst_in_set(np.empty((0, 2)), np.empty((0, 2), dtype=bool))
    found = crc_threshold(none, np.empty(0), test_weight=1.0, alpha=0.5)
    assert found == Infeasible(lowest=1.0, alpha=0.5)


def test_set_fpr_is_the_admitted_share_of_the_wrong_experts() -> None:
    """CR² eq. 13 by hand: experts scored .2 .4 .6 .8, the second and the last are right."""
    losses = set_fpr(np.array([[0.2, 0.4, 0.6, 0.8]]), np.array([[False, True, False, True]]))
    assert [float(losses.at(x)[0]) for x in (0.0, 0.2, 0.5, 0.6, 0.9)] == [1.0, 0.5, 0.5, 0.0, 0.0]


def test_set_fpr_of_a_row_without_wrong_experts_is_zero() -> None:
    losses = set_fpr(np.array([[0.2, np.nan]]), np.array([[True, False]]))
    assert losses.at(0.0).tolist() == [0.0]


def test_a_gated_row_keeps_its_stage_one_loss_at_every_threshold() -> None:
    scores, wrong = np.array([[0.9], [0.9]]), np.array([[False], [False]])
    losses = set_fpr(scores, wrong, stage_one_loss=np.array([1.0, np.nan]))
    assert losses.at(0.5).tolist() == [1.0, 1.0]
    assert losses.at(2.0).tolist() == [1.0, 0.0]


def test_worst_in_set_falls_where_the_best_scored_wrong_expert_leaves() -> None:
    scores = np.array([[0.9, 0.8, np.nan, 0.6]])
    losses = worst_in_set(scores, np.array([[True, False, False, False]]))
    assert [float(losses.at(x)[0]) for x in (0.0, 0.6, 0.79, 0.8, 0.9)] == [1.0, 1.0, 1.0, 0.0, 0.0]


def test_an_expert_that_never_enters_the_set_costs_nothing() -> None:
    losses = worst_in_set(np.array([[np.nan, 0.5]]), np.array([[False, True]]))
    assert losses.at(0.0).tolist() == [0.0]


@given(problems())
def test_losses_never_rise_with_the_threshold_and_stay_in_the_unit_interval(
    problem: tuple[Losses, FloatArray, float, float],
) -> None:
    losses = problem[0]
    levels = [losses.at(x) for x in (0.0, 0.05, 0.1, 0.3, 0.5, 0.6, 0.8, 1.0, 2.0)]
    for low, high in pairwise(levels):
        assert np.all(high <= low + 1e-12)
    assert np.all(levels[0] <= 1.0 + 1e-12)
    assert np.array_equal(levels[-1], losses.floor)


@pytest.mark.parametrize("seed", range(20))
def test_unweighted_thresholds_agree_with_mapie(seed: int) -> None:
    """MAPIE's CRC on a grid made of our own candidates, the only unweighted case it can check."""
    from mapie.risk_control import methods  # noqa: PLC0415  slow to import

    rng = np.random.default_rng(seed)
    scores, good = rng.random((200, 3)), rng.random((200, 3)) < 0.8
    for losses in (worst_in_set(scores, good), set_fpr(scores, good)):
        grid = np.sort(np.append(losses.points[np.isfinite(losses.points)], 0.0))
        risks = np.column_stack([losses.at(x) for x in grid])
        _, bound = methods.get_r_hat_plus(risks, grid, "crc", None, None, None)
        theirs = methods.find_best_predict_param(grid, bound, np.array([0.1003]))
        ours = crc_threshold(losses, np.ones(200), test_weight=1.0, alpha=0.1003)
        assert isinstance(ours, Feasible)
        assert ours.threshold == theirs[0]
