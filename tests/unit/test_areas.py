"""Areas on three experts worked out by hand: hull, single points, and what a router cannot beat."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.areas import Pool, aiq, area, areas, choices, points, qnc, resampled, zero_router
from store.records import FloatArray

COSTS = np.array([1.0, 2.0, 5.0])
LOW, HIGH = np.array(1.0), np.array(5.0)
ONCE = np.ones((1, 4))


def of(costs: list[float], qualities: list[float]) -> float:
    return float(area(np.array(costs), np.array(qualities), LOW, HIGH))


def pool(quality: FloatArray) -> Pool:
    cost = np.tile(COSTS, (len(quality), 1))
    return Pool(quality=quality, cost=cost, expected=COSTS / COSTS.max())


THREE = pool(np.array([[0.0, 1, 1], [1, 0, 1], [0, 1, 1], [0, 0, 0]]))
"""Means 0.25, 0.5 and 0.75."""


def test_the_area_is_the_mean_over_budgets() -> None:
    # 1 to 2: mean 0.375; 2 to 5: mean 0.625; (0.375 + 3 * 0.625) / 4.
    assert of([1, 2, 5], [0.25, 0.5, 0.75]) == pytest.approx(0.5625)
    assert of([5, 1, 2], [0.75, 0.25, 0.5]) == pytest.approx(0.5625)


def test_a_single_point_is_flat_above_and_nothing_below() -> None:
    assert of([1], [0.25]) == pytest.approx(0.25)
    assert of([2], [0.5]) == pytest.approx(0.5 * 3 / 4)
    assert of([5], [0.75]) == 0.0


def test_a_curve_that_falls_is_not_mended() -> None:
    assert of([1, 2, 5], [0.25, 0.75, 0.5]) == pytest.approx((0.5 + 3 * 0.625) / 4)
    hull = aiq(np.array([1.0, 2.0, 5.0]), np.array([0.25, 0.75, 0.5]), 1.0, 5.0)
    assert hull == pytest.approx((0.5 + 3 * 0.75) / 4)


def test_the_hull_leaves_out_what_a_mixture_beats() -> None:
    found = aiq(np.array([1.0, 2.0, 5.0]), np.array([0.2, 0.25, 0.8]), 1.0, 5.0)
    assert found == pytest.approx(0.5)
    assert of([1, 2, 5], [0.2, 0.25, 0.8]) == pytest.approx((0.225 + 3 * 0.525) / 4)
    assert aiq(np.array([1.0, 1.0]), np.array([0.2, 0.4]), 1.0, 5.0) == pytest.approx(0.4)


def test_points_outside_the_range_count_at_its_ends() -> None:
    assert of([0.5, 9], [0.2, 0.6]) == pytest.approx(0.4)


def test_qnc_is_relative_to_the_best_experts_cost() -> None:
    curve = np.array([1.0, 2.0, 4.0]), np.array([0.25, 0.5, 0.9])
    assert qnc(*curve, best=(5.0, 0.7)) == pytest.approx(3.0 / 5.0)
    assert qnc(*curve, best=(5.0, 0.2)) == pytest.approx(1.0 / 5.0)
    assert qnc(*curve, best=(5.0, 0.95)) is None


@pytest.mark.parametrize("expert", [0, 1, 2])
def test_a_router_that_is_one_expert_does_not_beat_the_zero_router(expert: int) -> None:
    always = np.full((4, 1), expert)
    assert areas(THREE, always, ONCE)[0] <= zero_router(THREE, ONCE)[0]


@given(st.integers(0, 10_000))
def test_no_expert_alone_beats_the_zero_router_and_the_oracle_does(seed: int) -> None:
    random = np.random.default_rng(seed)
    drawn = pool((random.random((30, 3)) < random.random(3)).astype(float))
    once = np.ones((1, 30))
    zero = zero_router(drawn, once)[0]
    for expert in range(3):
        assert areas(drawn, np.full((30, 1), expert), once)[0] <= zero + 1e-9
    oracle = choices(drawn.quality, drawn.expected)
    assert areas(drawn, oracle, once)[0] >= zero - 1e-3


def test_the_sweep_goes_from_the_cheapest_to_the_best_scored() -> None:
    found = choices(THREE.quality, THREE.expected)
    assert found[:, 0].tolist() == [0, 0, 0, 0]
    assert found[:, -1].tolist() == [1, 0, 1, 0]
    costs, qualities = points(THREE, found, ONCE)
    assert (costs[0, 0], qualities[0, 0]) == (1.0, 0.25)
    assert (costs[0, -1], qualities[0, -1]) == (1.5, 0.75)


def test_resamples_hold_whole_groups_and_as_many_groups_as_there_are() -> None:
    groups = np.array([0, 0, 1, 2, 2])
    drawn = resampled(groups, seed=1, count=50)
    assert drawn[0].tolist() == [1.0] * 5
    assert np.array_equal(drawn[:, 0], drawn[:, 1])
    assert np.array_equal(drawn[:, 3], drawn[:, 4])
    assert np.all(drawn[:, [0, 2, 3]].sum(axis=1) == 3)
    assert len(np.unique(drawn[1:], axis=0)) > 5
    found = areas(pool(np.tile(THREE.quality[:1], (5, 1))), np.full((5, 1), 2), drawn)
    assert np.all(found == 0.0)
