"""λ by testing one threshold after another: a grid without labels, labels without bias."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recalibrate.controller import Losses, Threshold, Window
from recalibrate.losses import BoolArray
from store.records import FloatArray, Reason

MOST = 200
"""Thresholds on a grid (promise.md section 2)."""
_SEED = 20_261_201


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Levels:
    """What modes ``pac`` and ``anytime`` share: parameters, and λ from the thresholds' tests.

    Parameters
    ----------
    alpha, delta
        Risk target and the chance of missing it, both in (0, 1).
    grid
        float64[G], at most ``MOST`` strictly falling thresholds in [0, 1], from ``score_grid``.

    Raises
    ------
    ValueError
        A parameter is outside its range.
    """

    alpha: float
    delta: float
    grid: FloatArray

    def __post_init__(self) -> None:
        if not (0.0 < self.alpha < 1.0 and 0.0 < self.delta < 1.0):
            raise ValueError(
                f"alpha and delta must be in (0, 1), got {self.alpha} and {self.delta}"
            )
        grid = self.grid
        inside = grid.ndim == 1 and 0 < len(grid) <= MOST and grid[-1] >= 0.0 and grid[0] <= 1.0
        if not inside or not np.all(np.diff(grid) < 0.0):
            raise ValueError(f"a grid has 1 to {MOST} strictly falling thresholds in [0, 1]")

    def lowest(
        self, passed: BoolArray, losses: FloatArray, *, window: Window, hopeless: str
    ) -> Threshold:
        """Return the last threshold before the first whose test did not pass (bool[G])."""
        n = losses.shape[1]
        count = int(np.argmin(np.append(passed, False)))
        if not count:
            return Threshold.safe(Reason.SAFE_INFEASIBLE, hopeless, effective_labels=float(n))
        return Threshold(
            value=float(self.grid[count - 1]),
            effective_labels=float(n),
            weighted_risk=float(losses[count - 1].mean()),
            safe_reason=None,
            detail=f"{n} of {len(window)} labels after thinning",
        )


def score_grid(scores: FloatArray) -> FloatArray:
    """Return at most ``MOST`` falling thresholds: quantiles of scores, then 0.

    Parameters
    ----------
    scores
        Finite scores of requests without labels, or of those that trained the scorer, cut to
        [0, 1] (jitter may leave it); never of the labels that are to be tested, whose own scores
        would make the grid data.

    Raises
    ------
    ValueError
        There is no score.
    """
    if not scores.size:
        raise ValueError("a grid needs at least one score")
    quantiles = np.quantile(np.clip(scores, 0.0, 1.0), np.linspace(1.0, 0.0, MOST - 1))
    return np.unique(np.append(quantiles, 0.0))[::-1]


def thinned(window: Window) -> Losses:
    """Return the losses of labels that are kept with probability π_min / π.

    What is left is a sample whose chance does not depend on the prompt, so that its plain mean is
    that of the traffic and exact tests need no weights. The draws come from a fixed stream by
    position: independent of every label, and the same in a replay of a window that only grows. One
    that loses its oldest labels, or whose π_min falls, is drawn anew: a process over it has to
    begin again.

    π_min is the window's ``minimum_inclusion``, of all settings behind it. Taken from the labels it
    would leave out what was seldom drawn exactly when none of it was drawn.

    Raises
    ------
    ValueError
        A label is less likely than π_min.
    """
    least = window.minimum_inclusion
    if np.any(window.inclusion_probability < least):
        raise ValueError(f"a label is less likely than the smallest probability, {least}")
    draws = np.random.default_rng(_SEED).random(len(window))
    kept = draws * window.inclusion_probability < least
    return window.losses[kept]


def losses_on(grid: FloatArray, losses: Losses) -> FloatArray:
    """Return float64[G, n]: every label's loss at every threshold."""
    return np.stack([losses.at(float(threshold)) for threshold in grid])
