"""What the λ of a run served: regret, loss of the set, cost; and the best λ in hindsight."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.drift.loop import Path
from benchmarks.drift.methods import ALPHA
from benchmarks.drift.pools import Rows
from benchmarks.drift.streams import CHANGE, REQUESTS, WARM, Stream
from recalibrate.crc import Infeasible, crc_threshold
from recalibrate.losses import worst_in_set
from store.records import SAFE, FloatArray

PHASES = {
    "before": slice(0, CHANGE),
    "first 1.5k after": slice(CHANGE, CHANGE + 1_500),
    "to 4k after": slice(CHANGE + 1_500, CHANGE + 4_000),
    "later": slice(CHANGE + 4_000, REQUESTS),
    "all": slice(0, REQUESTS),
}
BEFORE, FIRST, SECOND, LATE, ALL = range(len(PHASES))
HINDSIGHT, BY_REGRET = "best λ in hindsight", "best λ in hindsight, by regret"
_GRID = 60
"""Thresholds that the hindsight by regret tries; regret is not monotone in λ."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One method on one stream, by phase."""

    regret: FloatArray
    """float64[5]: share of requests whose served answer was unacceptable."""
    set_loss: FloatArray
    """float64[5]: share of requests with somebody unacceptable in C_λ."""
    cost: FloatArray
    """float64[5]: of what was served, over that of the reference's answers; NaN without costs."""
    cheap: FloatArray
    """float64[5]: share of requests that another expert than the reference served."""
    safe: float
    """Share of requests with λ at SAFE."""


def figures(path: Path, stream: Stream) -> dict[str, Figures]:
    """Return the figures of every method, and of the best fixed λ."""
    thresholds = {
        **path.thresholds,
        HINDSIGHT: np.full(REQUESTS, best_by_set(path)),
        BY_REGRET: np.full(REQUESTS, best_by_regret(path, stream)),
    }
    return {name: measured(path, stream, one) for name, one in thresholds.items()}


def measured(path: Path, stream: Stream, threshold: FloatArray) -> Figures:
    """Return what float64[T] thresholds served."""
    chosen, at = served(path, threshold), np.arange(REQUESTS)
    cost = stream.cost[WARM:]
    paid = cost[at, chosen]
    bad = ~stream.acceptable[WARM:][at, chosen]
    return Figures(
        regret=_by_phase(bad),
        set_loss=_by_phase(path.points > threshold),
        cost=_by_phase(paid) / _by_phase(cost[:, -1]),
        cheap=_by_phase(chosen != cost.shape[1] - 1),
        safe=float(np.mean(threshold >= SAFE)),
    )


def served(path: Path, threshold: FloatArray) -> Rows:
    """Return int64[T]: the column of the highest utility in C_λ ∪ {reference}, as ``route``."""
    inside = path.members & (path.quality > threshold[:, None])
    inside[:, -1] = True
    return np.asarray(np.argmax(np.where(inside, path.utility, -np.inf), axis=1))


def best_by_set(path: Path) -> float:
    """Return the lowest fixed λ whose loss ``worst_in_set`` on the whole stream is at most α."""
    scores = path.points[:, None]
    losses = worst_in_set(scores, np.zeros(scores.shape, dtype=bool))
    found = crc_threshold(losses, np.ones(len(scores)), test_weight=0.0, alpha=ALPHA)
    return SAFE if isinstance(found, Infeasible) else found.threshold


def best_by_regret(path: Path, stream: Stream) -> float:
    """Return the cheapest fixed λ of a grid whose regret on the whole stream is at most α.

    As ``recalibrate/hindsight.py`` has it; without costs, that with the fewest of the reference's
    answers.
    """
    scores = path.quality[path.members]
    grid = [SAFE, *np.quantile(scores, np.linspace(1.0, 0.0, _GRID))] if scores.size else [SAFE]
    found = [(measured(path, stream, np.full(REQUESTS, one)), one) for one in grid]
    held = [(f, one) for f, one in found if f.regret[ALL] <= ALPHA]
    return min(held, key=lambda pair: _dearness(pair[0]))[1]


def _dearness(found: Figures) -> float:
    cost = float(found.cost[ALL])
    return cost if np.isfinite(cost) else -float(found.cheap[ALL])


def _by_phase(values: np.ndarray) -> FloatArray:
    return np.array([float(np.mean(values[kept])) for kept in PHASES.values()])
