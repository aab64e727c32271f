"""What tests of one λ after another need: a grid without labels, and labels without bias."""

from __future__ import annotations

import numpy as np

from recalibrate.controller import Losses, Window
from store.records import FloatArray

MOST = 200
"""Thresholds on a grid (promise.md section 2)."""
_SEED = 20_261_201


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


def check_grid(grid: FloatArray) -> None:
    """Raise ``ValueError`` unless thresholds fall strictly, lie in [0, 1] and are few enough."""
    inside = grid.ndim == 1 and 0 < len(grid) <= MOST and grid[-1] >= 0.0 and grid[0] <= 1.0
    if not inside or not np.all(np.diff(grid) < 0.0):
        raise ValueError(f"a grid has 1 to {MOST} strictly falling thresholds in [0, 1]")


def thinned(window: Window) -> Losses:
    """Return the losses of labels that are kept with probability π_min / π.

    What is left is a sample whose chance does not depend on the prompt, so that its plain mean is
    that of the traffic and exact tests need no weights. The draws come from a fixed stream by
    position: independent of every label, and the same in a replay of a window that only grows. One
    that loses its oldest labels, or whose smallest π falls, is drawn anew: a process over it has to
    begin again. Labels from settings with a smaller π lower π_min.
    """
    least = min(window.minimum_inclusion, float(window.inclusion_probability.min(initial=1.0)))
    draws = np.random.default_rng(_SEED).random(len(window))
    kept = draws * window.inclusion_probability < least
    losses = window.losses
    return Losses(points=losses.points[kept], drops=losses.drops[kept], floor=losses.floor[kept])


def losses_on(grid: FloatArray, losses: Losses) -> FloatArray:
    """Return float64[G, n]: every label's loss at every threshold."""
    return np.stack([losses.at(float(threshold)) for threshold in grid])
