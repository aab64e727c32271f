"""The maps from cosine to quality, read for a whole pool at once."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from sklearn.isotonic import IsotonicRegression

from online.isotonic import KNOTS, MIN_PAIRS, apply_knots, fit_knots

EDGES = [-1.0000001, -1.0, -0.0, 0.0, float(KNOTS[7]), 1.0, 1.0000001]


@given(st.integers(1, 5), st.integers(0, 2**32 - 1))
def test_a_pool_of_maps_reads_as_each_map_alone(experts: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    knots = np.sort(rng.random((experts, len(KNOTS))), axis=1)
    column = np.concatenate([EDGES, rng.choice(KNOTS, 10), rng.uniform(-1.0, 1.0, 40)])
    raw = np.column_stack([rng.permutation(column) for _ in range(experts)])
    alone = np.column_stack([np.interp(raw[:, m], KNOTS, knots[m]) for m in range(experts)])
    np.testing.assert_array_max_ulp(apply_knots(raw, knots), alone, maxulp=1)


@given(st.integers(MIN_PAIRS, 400), st.sampled_from([1, 2, 8]), st.integers(0, 2**32 - 1))
def test_a_map_is_what_scikit_learn_fits(pairs: int, digits: int, seed: int) -> None:
    """Few digits make many ties, which are one point of the fit."""
    rng = np.random.default_rng(seed)
    raw = np.round(rng.uniform(-1.0, 1.0, pairs), digits)
    quality = np.round(rng.random(pairs), digits)
    weight = rng.uniform(0.01, 10.0, pairs)
    theirs = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    theirs.fit(raw, quality, sample_weight=weight)
    ours = fit_knots(raw.tolist(), quality.tolist(), weight.tolist(), fallback=0.5)
    np.testing.assert_allclose(ours, theirs.predict(KNOTS), rtol=0.0, atol=1e-12)
    assert (np.diff(ours) >= -1e-12).all()
