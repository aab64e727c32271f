"""Mode ``pac``: one λ whose risk is at most α with probability 1 − δ over the calibration set.

Risk-controlling prediction sets (Bates et al. 2021, arXiv 2101.02703, theorem 1) and
Learn-then-Test with a fixed sequence (Angelopoulos et al. 2021, arXiv 2110.01052, section 2.1;
algorithms.md 3.2 and 3.3): thresholds are tested from the safest downwards, "risk(λ) > α" at level
δ, until one is not rejected. The order is fixed beforehand, so no threshold costs another one's δ,
and the loss need not be monotone. Losses of 0 and 1 are tested by the exact binomial tail, others
by the betting process of Waudby-Smith and Ramdas.

It holds for **one** look at one frozen set of i.i.d. labels of fold 0. Asked again as labels come
it promises nothing (``anytime`` does). Departure: where π differs between labels they are thinned
to a uniform sample first; the papers have no sampling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from recalibrate.controller import Threshold, Window
from recalibrate.grid import check_grid, losses_on, thinned
from recalibrate.losses import BoolArray
from store.records import FloatArray, Reason


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FixedSequence:
    """Controller of mode ``pac``.

    Parameters
    ----------
    alpha, delta
        Risk target and the chance of missing it, both in (0, 1).
    grid
        float64[G], strictly falling, from ``grid.score_grid``.

    Raises
    ------
    ValueError
        A parameter is outside its range.
    """

    alpha: float
    delta: float
    grid: FloatArray

    def __post_init__(self) -> None:
        check_level(self.alpha, self.delta)
        check_grid(self.grid)

    def threshold(self, window: Window) -> Threshold:
        losses = thinned(window)
        n = len(losses.floor)
        if n < (needed := fewest_labels(self.alpha, self.delta)):
            return Threshold.safe(
                Reason.SAFE_STARVED if n else Reason.SAFE_COLD,
                f"{n} of at least {needed} labels after thinning",
                effective_labels=float(n),
            )
        found = losses_on(self.grid, losses)
        passed = int(np.argmin(np.append(rejected(found, self.alpha, self.delta), False)))
        if not passed:
            return Threshold.safe(
                Reason.SAFE_INFEASIBLE,
                f"risk {found[0].mean():.4f} at the safest of the thresholds: "
                f"not shown to be at most {self.alpha:.4f}",
                effective_labels=float(n),
            )
        return Threshold(
            value=float(self.grid[passed - 1]),
            effective_labels=float(n),
            weighted_risk=float(found[passed - 1].mean()),
            safe_reason=None,
            detail=f"{n} of {len(window)} labels after thinning",
        )


def check_level(alpha: float, delta: float) -> None:
    """Raise ``ValueError`` unless both lie in (0, 1)."""
    if not (0.0 < alpha < 1.0 and 0.0 < delta < 1.0):
        raise ValueError(f"alpha and delta must be in (0, 1), got {alpha} and {delta}")


def fewest_labels(alpha: float, delta: float) -> int:
    """Return how many labels without any loss it takes to reject: ``(1 − α)ⁿ <= δ``."""
    return math.ceil(math.log(delta) / math.log1p(-alpha))


def rejected(losses: FloatArray, alpha: float, delta: float) -> BoolArray:
    """Return bool[G]: whether risk > α is rejected at level δ, each threshold on its own.

    Parameters
    ----------
    losses
        float64[G, n] in [0, 1], columns in an order that does not depend on them.
    """
    if np.all((losses == 0.0) | (losses == 1.0)):
        from scipy.stats import binom  # type: ignore[import-untyped]  # noqa: PLC0415  slow, no stubs

        p_values = binom.cdf(losses.sum(axis=1), losses.shape[1], alpha)
        return np.asarray(p_values <= delta)
    return np.asarray(_wealth(losses, alpha, delta).max(axis=1) >= 1.0 / delta)


def _wealth(losses: FloatArray, alpha: float, delta: float) -> FloatArray:
    """Return float64[G, n]: the betting process against risk > α (algorithms.md 3.2).

    The bet on a label comes from the labels before it.
    """
    n = losses.shape[1]
    count = np.arange(1, n + 1)
    mean = (0.5 + np.cumsum(losses, axis=1)) / (1.0 + count)
    variance = (0.25 + np.cumsum((losses - mean) ** 2, axis=1)) / (1.0 + count)
    before = np.concatenate([np.full((len(losses), 1), 0.25), variance[:, :-1]], axis=1)
    bets = np.minimum(np.sqrt(2.0 * math.log(1.0 / delta) / (n * before)), 1.0)
    return np.cumprod(1.0 - bets * (losses - alpha), axis=1)
