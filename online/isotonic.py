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
    out of sample: each raw score computed before its own label was learnt. Weights are positive.
    """
    if len(raw) < MIN_PAIRS:
        return np.full(KNOTS.shape, fallback)
    # Ships no stubs; slow to import, and serving never fits.
    from scipy.optimize import isotonic_regression  # type: ignore[import-untyped]  # noqa: PLC0415

    # One point for each distinct score, as scikit-learn's fit has it; that one spends nine tenths
    # of its time on checks of its arguments, and learning fits a map every few labels.
    at, position = np.unique(raw, return_inverse=True)
    weights = np.bincount(position, weights=weight)
    means = np.bincount(position, weights=np.multiply(weight, quality)) / weights
    fitted = isotonic_regression(means, weights=weights).x
    return np.asarray(np.interp(KNOTS, at, np.clip(fitted, 0.0, 1.0)))


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
