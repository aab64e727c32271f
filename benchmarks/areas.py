"""Quality against cost over a pool's fixed range: area, AIQ, QNC, peak, and their resampling.

A router's curve is what it makes of the prompts as its cost weight sweeps; its points are mean
cost and mean quality. The range is that of the pool, from its cheapest to its dearest expert,
whoever is compared: CSCR's AUDC takes it from the routers compared, so that it changes with them.
Definitions: UniRoute (arXiv 2502.08773) and RouterBench (arXiv 2403.12031).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from store.records import FloatArray

WEIGHTS = np.concatenate([[1e9], np.geomspace(1e4, 1e-3, 46), [0.0]])
"""Cost weights that a sweep tries, per cost of the dearest expert; the cheapest end first."""
RESAMPLES = 1_000


@dataclass(frozen=True, slots=True)
class Pool:
    """What M experts would do on n prompts: the columns in order of cost, the cheapest first."""

    quality: FloatArray
    """float64[n, M] in [0, 1]."""
    cost: FloatArray
    """float64[n, M] in USD."""
    expected: FloatArray
    """float64[M]: what a router knows of the costs, over the dearest expert's; ascending."""


def choices(scores: FloatArray, expected: FloatArray) -> npt.NDArray[np.int64]:
    """Return int64[n, L]: the expert of the best ``score - weight * cost`` at each weight.

    Equal ones go to the cheapest.
    """
    return np.stack([np.argmax(scores - w * expected, axis=1) for w in WEIGHTS], axis=1)


def area(costs: FloatArray, qualities: FloatArray, low: FloatArray, high: FloatArray) -> FloatArray:
    """Return float64[...]: the mean of the curve over budgets from low to high.

    Linear between neighbouring points, and flat beyond the dearest: what is not needed is not
    spent. Budgets below the cheapest point buy nothing and count 0. No hull is taken: a curve that
    falls has fallen.

    Parameters
    ----------
    costs, qualities
        float64[..., L]: points in any order; those outside the range count at its ends.
    low, high
        float64[...]: of the pool's cheapest and dearest expert.
    """
    order = np.argsort(costs, axis=-1, kind="stable")
    x = np.clip(np.take_along_axis(costs, order, -1), low[..., None], high[..., None])
    y = np.take_along_axis(qualities, order, -1)
    between = ((x[..., 1:] - x[..., :-1]) * (y[..., 1:] + y[..., :-1]) / 2.0).sum(axis=-1)
    return np.asarray((between + (high - x[..., -1]) * y[..., -1]) / (high - low))


def aiq(costs: FloatArray, qualities: FloatArray, low: float, high: float) -> float:
    """Return RouterBench's AIQ: the area under the non-decreasing hull of points float64[L].

    The hull lets two neighbours be mixed at random, and its corners are chosen knowing the result.
    """
    corners: list[tuple[float, float]] = []
    for x, y in sorted(zip(np.clip(costs, low, high), qualities, strict=True)):
        if corners and y <= corners[-1][1]:
            continue
        if corners and x == corners[-1][0]:
            corners.pop()
        while len(corners) > 1 and _is_below(corners[-1], corners[-2], (x, y)):
            corners.pop()
        corners.append((float(x), float(y)))
    hull = np.array(corners)
    return float(area(hull[:, 0], hull[:, 1], np.array(low), np.array(high)))


def qnc(costs: FloatArray, qualities: FloatArray, best: tuple[float, float]) -> float | None:
    """Return UniRoute's QNC: the least cost at which the curve is as good as the best expert, over
    that expert's cost; None if it never is. ``best`` is the expert's cost and quality.
    """
    order = np.argsort(costs, kind="stable")
    x, y = costs[order], qualities[order]
    reached = np.flatnonzero(y >= best[1] - 1e-12)
    if not len(reached):
        return None
    i = int(reached[0])
    if i == 0:
        return float(x[0] / best[0])
    share = (best[1] - y[i - 1]) / (y[i] - y[i - 1])
    return float((x[i - 1] + share * (x[i] - x[i - 1])) / best[0])


def points(
    pool: Pool, chosen: npt.NDArray[np.int64], weights: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return mean costs and qualities float64[B, L] of chosen experts int64[n, L], the prompts
    weighted by each row of float64[B, n].
    """
    total = weights.sum(axis=1, keepdims=True)
    cost = np.take_along_axis(pool.cost, chosen, axis=1)
    quality = np.take_along_axis(pool.quality, chosen, axis=1)
    return weights @ cost / total, weights @ quality / total


def areas(pool: Pool, chosen: npt.NDArray[np.int64], weights: FloatArray) -> FloatArray:
    """Return float64[B]: the area under each weighting of the prompts, the range weighted too."""
    costs, qualities = points(pool, chosen, weights)
    singles = weights @ pool.cost / weights.sum(axis=1, keepdims=True)
    return area(costs, qualities, singles.min(axis=1), singles.max(axis=1))


def zero_router(pool: Pool, weights: FloatArray) -> FloatArray:
    """Return float64[B]: the AIQ of the single experts, mixed at random, knowing the result."""
    total = weights.sum(axis=1, keepdims=True)
    costs, qualities = weights @ pool.cost / total, weights @ pool.quality / total
    ends = zip(costs, qualities, strict=True)
    return np.array([aiq(c, q, float(c.min()), float(c.max())) for c, q in ends])


def resampled(groups: npt.NDArray[np.int64], seed: int, count: int = RESAMPLES) -> FloatArray:
    """Return float64[1 + B, n]: how often each resample holds each prompt; the first row is ones.

    Whole groups of near-duplicates are drawn; every method is then weighted by the same rows.
    """
    kinds = int(groups.max()) + 1
    drawn = np.random.default_rng(seed).multinomial(kinds, np.full(kinds, 1.0 / kinds), size=count)
    return np.concatenate([np.ones((1, len(groups))), drawn[:, groups].astype(np.float64)])


def _is_below(
    middle: tuple[float, float], left: tuple[float, float], right: tuple[float, float]
) -> bool:
    """Return whether the middle corner lies on or below the line between its neighbours."""
    (x0, y0), (x1, y1), (x2, y2) = left, middle, right
    return (y1 - y0) * (x2 - x0) <= (y2 - y0) * (x1 - x0)
