"""A monotone map from a raw score to judged quality, one per expert and fold."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from store.records import FloatArray

KNOTS = np.linspace(-1.0, 1.0, 33)
"""Cosines at which a fitted map is stored, so that every map has one shape."""
MIN_PAIRS = 20


def fit_knots(
    raw: Sequence[float], quality: Sequence[float], weight: Sequence[float], *, fallback: float
) -> FloatArray:
    """Return float64[33]: the weighted isotonic fit at ``KNOTS``, non-decreasing, in [0, 1].

    With fewer than ``MIN_PAIRS`` pairs the map is the constant ``fallback``. The pairs must be
    out of sample: each raw score computed before its own label was learnt.
    """
    if len(raw) < MIN_PAIRS:
        return np.full(KNOTS.shape, fallback)
    from sklearn.isotonic import IsotonicRegression  # noqa: PLC0415  slow; serving never fits

    fit = IsotonicRegression(y_min=0.0, y_max=1.0, out_of_bounds="clip")
    fit.fit(np.asarray(raw), np.asarray(quality), sample_weight=np.asarray(weight))
    return np.asarray(fit.predict(KNOTS), dtype=np.float64)


def apply_knots(raw: FloatArray, knots: FloatArray) -> FloatArray:
    """Return float64[n, M]: each column of ``raw`` by its own map of float64[M, 33].

    The same numbers as ``np.interp`` column by column, without a call for each expert.
    """
    left = np.clip(np.searchsorted(KNOTS, raw, side="right") - 1, 0, len(KNOTS) - 2)
    maps = np.arange(len(knots))
    low, high = knots[maps, left], knots[maps, left + 1]
    slope = (high - low) / (KNOTS[left + 1] - KNOTS[left])
    inside = slope * (np.maximum(raw, KNOTS[0]) - KNOTS[left]) + low
    return np.asarray(np.where(raw >= KNOTS[-1], high, inside))
