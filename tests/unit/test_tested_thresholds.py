"""Grids, thinning, and λ by testing: modes ``pac`` and ``anytime``."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import binom  # type: ignore[import-untyped]  # ships no stubs

from recalibrate.anytime import BettingProcesses, _bets, final_wealth, version_delta
from recalibrate.controller import RiskController, Window
from recalibrate.grid import MOST, losses_on, score_grid, thinned
from recalibrate.losses import set_fpr, worst_in_set
from recalibrate.pac import (
    FixedSequence,
    fewest_labels,
    rejected_by_betting,
    rejected_by_tail,
)
from store.records import SAFE, FloatArray, Reason

GRID = np.array([0.9, 0.6, 0.3, 0.0])
Mode = type[FixedSequence] | type[BettingProcesses]
MODES = pytest.mark.parametrize("mode", [FixedSequence, BettingProcesses])


def labels(worst: FloatArray, *, pi: float | FloatArray = 1.0, minimum: float = 1.0) -> Window:
    """One expert, unacceptable wherever its score is given; SAFE stands for acceptable."""
    scores, good = np.where(worst == SAFE, 0.5, worst)[:, None], (worst == SAFE)[:, None]
    return Window(
        losses=worst_in_set(scores, good),
        inclusion_probability=np.broadcast_to(pi, len(worst)).astype(np.float64),
        requests_ago=np.zeros(len(worst)),
        minimum_inclusion=minimum,
    )


def some(n: int, wrong: float, *, seed: int = 0) -> FloatArray:
    rng = np.random.default_rng(seed)
    return np.where(rng.random(n) < wrong, rng.random(n), SAFE)


def test_a_grid_falls_from_the_largest_score_to_0_and_is_short() -> None:
    scores = np.random.default_rng(0).random(5_000)
    grid = score_grid(scores)
    assert grid[0] == scores.max()
    assert grid[-1] == 0.0
    assert len(grid) == MOST
    assert np.all(np.diff(grid) < 0.0)
    assert score_grid(np.full(9, 0.5)).tolist() == [0.5, 0.0]
    with pytest.raises(ValueError, match="at least one score"):
        score_grid(np.array([]))


def test_scores_that_jitter_moved_out_of_their_range_make_a_grid_too() -> None:
    grid = score_grid(np.array([1.0 + 1e-9, 0.5, -1e-9]))
    assert (grid[0], grid[-1]) == (1.0, 0.0)
    FixedSequence(alpha=0.1, delta=0.1, grid=grid)


@MODES
@pytest.mark.parametrize(
    "grid", [[], [0.3, 0.6], [0.3, 0.3], [1.1, 0.0], [0.5, -0.1], [np.nan], [[0.5]]]
)
def test_other_grids_are_refused(mode: Mode, grid: list[float]) -> None:
    with pytest.raises(ValueError, match="strictly falling"):
        mode(alpha=0.1, delta=0.1, grid=np.array(grid))


@MODES
@pytest.mark.parametrize(("alpha", "delta"), [(0.0, 0.1), (1.0, 0.1), (0.1, 0.0), (0.1, 1.0)])
def test_levels_outside_their_range_are_refused(mode: Mode, alpha: float, delta: float) -> None:
    with pytest.raises(ValueError, match="must be in"):
        mode(alpha=alpha, delta=delta, grid=GRID)


def test_thinning_keeps_the_share_that_a_constant_probability_would() -> None:
    pi = np.repeat([0.02, 0.2], [500, 5_000])
    kept = thinned(labels(np.linspace(0.0, 0.99, 5_500), pi=pi, minimum=0.02)).points[:, 0]
    assert np.count_nonzero(kept < 0.09) == 500, "the least likely ones all stay"
    assert 400 < len(kept) - 500 < 600
    whole = labels(some(50, 0.5))
    assert np.array_equal(thinned(whole).points, whole.losses.points)


def test_labels_less_likely_than_the_settings_say_are_refused() -> None:
    """What none of them was drawn of would be missing: π_min must not come from the labels."""
    with pytest.raises(ValueError, match="less likely"):
        thinned(labels(np.linspace(0.0, 0.99, 10), pi=np.repeat([0.02, 0.2], 5), minimum=0.1))


def test_no_bet_knows_its_own_label_to_the_last_bit() -> None:
    """A loss of the float next to α, then one of 0 or of 1: the bet on it is the same."""
    almost = np.nextafter(0.1, 0.0)
    good, bad = _bets(0.1 - np.array([[almost, 0.0], [almost, 1.0]]), largest=0.5)[:, 1]
    assert good == bad


def test_betting_has_no_end_of_range() -> None:
    assert rejected_by_betting(np.zeros((1, 20_000)), 0.1, 0.1).tolist() == [True]


def test_a_window_that_grows_keeps_what_it_kept() -> None:
    whole, pi = np.linspace(0.0, 0.99, 400), np.tile([0.1, 0.4], 200)
    more = thinned(labels(whole, pi=pi, minimum=0.1)).points
    fewer = thinned(labels(whole[:300], pi=pi[:300], minimum=0.1)).points
    assert np.array_equal(more[: len(fewer)], fewer)


def test_a_fixed_sequence_stops_at_the_first_threshold_that_is_not_rejected() -> None:
    """Risk .02 above .6, .5 between .3 and .6; what lies below is not looked at."""
    worst = np.repeat([0.7, 0.5, SAFE], [4, 96, 100])
    found = FixedSequence(alpha=0.1, delta=0.1, grid=GRID).threshold(labels(worst))
    assert found.value == 0.6
    assert found.weighted_risk == 0.02
    assert found.safe_reason is None


@pytest.mark.parametrize("seed", range(10))
def test_its_test_is_the_binomial_tail_for_losses_of_0_and_1(seed: int) -> None:
    """And never weaker than MAPIE's Hoeffding-Bentkus bound."""
    from mapie.risk_control import methods  # noqa: PLC0415  slow to import

    losses = losses_on(GRID, labels(some(150, 0.12, seed=seed)).losses)
    tails = binom.cdf(losses.sum(axis=1), 150, 0.1)
    assert rejected_by_tail(losses, 0.1, 0.1).tolist() == (tails <= 0.1).tolist()
    bound = methods.compute_hoeffding_bentkus_p_value(losses.mean(axis=1), 150, 0.1)
    assert np.all(tails <= bound.ravel() + 1e-12)


@pytest.mark.parametrize("seed", range(10))
def test_losses_between_are_tested_by_betting(seed: int) -> None:
    rng = np.random.default_rng(seed)
    losses = losses_on(GRID, set_fpr(rng.random((400, 3)), rng.random((400, 3)) < 0.9))
    found = []
    for row in losses:
        spread, wealth, best, total = 0.25, 1.0, 1.0, 0.0
        for count, loss in enumerate(row, start=1):
            bet = min(1.0, math.sqrt(2.0 * math.log(10.0) / (len(row) * spread)))
            wealth *= 1.0 - bet * (loss - 0.15)
            best, total = max(best, wealth), total + loss
            away = (loss - (0.5 + total) / (1 + count)) ** 2
            spread = (spread * count + away) / (1 + count)
        found.append(best >= 10.0)
    assert np.any((losses > 0.0) & (losses < 1.0)), "not what the binomial tail is for"
    assert rejected_by_betting(losses, 0.15, 0.1).tolist() == found
    assert found[0], "hardly anything is above .9"


def test_the_loss_and_not_the_labels_chooses_the_test() -> None:
    """Where 22 labels happen to show only 0, a loss that could lie between is still bet on."""
    scores, good = np.full((22, 2), 0.5), np.full((22, 2), True)
    found = {}
    for loss in (worst_in_set, set_fpr):
        window = replace(labels(np.full(22, SAFE)), losses=loss(scores, good))
        found[loss] = FixedSequence(alpha=0.1, delta=0.1, grid=GRID).threshold(window).value
    assert found == {worst_in_set: 0.0, set_fpr: SAFE}
    with pytest.raises(ValueError, match="losses of 0 and 1"):
        rejected_by_tail(np.array([[0.0, 0.5]]), 0.1, 0.1)


@MODES
def test_no_labels_and_hopeless_ones_are_safe_with_a_reason(mode: Mode) -> None:
    controller: RiskController = mode(alpha=0.1, delta=0.1, grid=GRID)
    assert controller.threshold(labels(np.array([]))).safe_reason is Reason.SAFE_COLD
    hopeless = controller.threshold(labels(np.full(200, 0.95)))
    assert (hopeless.value, hopeless.safe_reason) == (SAFE, Reason.SAFE_INFEASIBLE)


def test_it_says_how_many_labels_it_takes_at_least() -> None:
    assert fewest_labels(0.1, 0.1) == 22
    controller = FixedSequence(alpha=0.1, delta=0.1, grid=GRID)
    few = controller.threshold(labels(np.full(21, SAFE)))
    assert few.safe_reason is Reason.SAFE_STARVED
    assert "21 of at least 22" in few.detail
    assert controller.threshold(labels(np.full(22, SAFE))).value == 0.0


@pytest.mark.parametrize("cap", [20.0, 1e3, math.inf])
def test_wealth_is_cut_off_at_every_step(cap: float) -> None:
    rng = np.random.default_rng(2)
    losses = (rng.random((6, 400)) < np.linspace(0.0, 0.15, 6)[:, None]).astype(np.float64)
    expected = np.ones(6)
    for g, row in enumerate(losses):
        total = squares = 0.0
        for loss in row:
            gain = 0.1 - loss
            bet = min(total / (total + squares), 0.5 / 0.9) if total > 0.0 else 0.0
            expected[g] = min(expected[g] * (1.0 + bet * gain), cap)
            total, squares = total + gain, squares + gain**2
    np.testing.assert_allclose(final_wealth(losses, 0.1, cap=cap), expected, rtol=1e-9)


def test_a_label_is_never_bet_on_with_its_own_loss() -> None:
    """All wealth before the last label, whatever that label says, is the same."""
    losses = np.zeros((2, 50))
    losses[1, -1] = 1.0
    good, bad = final_wealth(losses, 0.1, cap=math.inf)
    before = final_wealth(losses[:1, :-1], 0.1, cap=math.inf)[0]
    bet = 0.5 / 0.9
    assert good == pytest.approx(before * (1.0 + bet * 0.1))
    assert bad == pytest.approx(before * (1.0 - bet * 0.9))


def test_enough_evidence_certifies_what_holds_and_nothing_else() -> None:
    controller = BettingProcesses(alpha=0.1, delta=0.1, grid=GRID)
    assert controller.threshold(labels(some(3_000, 0.05))).value == 0.0
    worst = np.repeat([0.7, 0.5, SAFE], [100, 900, 2_000])
    assert controller.threshold(labels(np.random.default_rng(3).permutation(worst))).value == 0.6


def test_versions_share_delta() -> None:
    assert sum(version_delta(0.1, k) for k in range(1, 20_000)) == pytest.approx(0.1, rel=1e-3)
    with pytest.raises(ValueError, match="from 1"):
        version_delta(0.1, 0)
