"""Cost-aware retrieval: argmax cos − cost_weight·c, with the right sign and no free experts."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from online.clusters import unit_rows
from online.retrieve import TOP_K, DescriptorIndex
from store.records import FloatArray

RNG = np.random.default_rng(5)
DESCRIPTORS = unit_rows(RNG.normal(size=(6, 4)))
COSTS = np.array([1.0, 0.5, 0.8, 0.05, 0.3, 0.9])
ALL = np.ones(6, dtype=bool)


def index() -> DescriptorIndex:
    return DescriptorIndex.build(DESCRIPTORS, COSTS, routable=ALL)


def queries(n: int) -> FloatArray:
    return unit_rows(np.random.default_rng(n).normal(size=(3, 4)))


@given(st.integers(0, 10_000))
def test_without_a_cost_weight_the_nearest_comes_first(seed: int) -> None:
    asked = queries(seed)
    found = index().search(asked, cost_weight=0.0)
    assert [row[0] for row in found] == np.argmax(asked @ DESCRIPTORS.T, axis=1).tolist()


@pytest.mark.parametrize("weight", [1e4, 1e20, 1e39, 1e300])
def test_with_a_huge_cost_weight_the_cheapest_comes_first(weight: float) -> None:
    found = index().search(queries(1), cost_weight=weight)
    assert found == [np.argsort(COSTS).tolist()] * 3


@given(st.integers(0, 10_000), st.floats(0.0, 5.0))
def test_the_order_is_by_cosine_minus_weighted_cost(seed: int, weight: float) -> None:
    asked = queries(seed)
    for query, row in zip(asked, index().search(asked, cost_weight=weight), strict=True):
        value = DESCRIPTORS @ query - weight * COSTS
        assert sorted(row) == list(range(6))
        assert np.all(np.diff(value[row]) <= 1e-5)


@pytest.mark.parametrize("cost", [0.0, -0.1, float("nan"), float("inf")])
def test_a_zero_negative_or_missing_cost_is_rejected(cost: float) -> None:
    bad = COSTS.copy()
    bad[2] = cost
    with pytest.raises(ValueError, match="cost"):
        DescriptorIndex.build(DESCRIPTORS, bad, routable=ALL)
    with pytest.raises(ValueError, match="cost"):
        index().inserted(6, DESCRIPTORS[0], cost)


def test_missing_costs_are_rejected() -> None:
    with pytest.raises(ValueError, match="cost"):
        DescriptorIndex.build(DESCRIPTORS, COSTS[:5], routable=ALL)


def test_a_descriptor_of_another_dimension_is_rejected() -> None:
    with pytest.raises(ValueError, match="5 dimensions, the index 4"):
        index().inserted(6, np.ones(5), 0.5)


def test_inserting_into_a_copy_leaves_the_serving_index_alone() -> None:
    old = index()
    grown = old.inserted(6, queries(1)[0], 0.01)
    assert (len(old), len(grown)) == (6, 7)
    assert 6 not in old.search(queries(1), cost_weight=0.0)[0]
    assert grown.search(queries(1), cost_weight=0.0)[0][0] == 6
    assert np.array_equal(old.costs, COSTS)
    assert grown.costs[-1] == 0.01


def test_experts_that_are_not_routable_are_not_found() -> None:
    routable = ALL.copy()
    routable[3] = False
    made = DescriptorIndex.build(DESCRIPTORS, COSTS, routable=routable)
    assert all(3 not in row for row in made.search(queries(2), cost_weight=9.0))


def test_an_empty_index_finds_nobody() -> None:
    made = DescriptorIndex.build(DESCRIPTORS, COSTS, routable=~ALL)
    assert made.search(queries(2), cost_weight=1.0) == [[], [], []]


def test_large_pools_come_back_cut() -> None:
    many = unit_rows(np.random.default_rng(1).normal(size=(64, 4)))
    made = DescriptorIndex.build(many, np.ones(64), routable=np.ones(64, dtype=bool))
    found = made.search(queries(1), cost_weight=0.0)
    assert [len(row) for row in found] == [TOP_K] * 3
