"""The maps from cosine to quality, read for a whole pool at once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from online.isotonic import KNOTS, apply_knots

EDGES = [-1.0000001, -1.0, -0.0, 0.0, float(KNOTS[7]), 1.0, 1.0000001]


@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_a_pool_of_maps_reads_as_each_map_alone(experts: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    knots = np.sort(rng.random((experts, len(KNOTS))), axis=1)
    column = np.concatenate([EDGES, rng.choice(KNOTS, 10), rng.uniform(-1.0, 1.0, 40)])
    raw = np.column_stack([rng.permutation(column) for _ in range(experts)])
    alone = np.column_stack([np.interp(raw[:, m], KNOTS, knots[m]) for m in range(experts)])
    np.testing.assert_array_max_ulp(apply_knots(raw, knots), alone, maxulp=1)
