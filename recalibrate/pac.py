"""Mode ``pac``: one λ whose risk is at most α with probability 1 − δ over the calibration set.

Risk-controlling prediction sets (Bates et al. 2021, arXiv 2101.02703, theorem 1) and
Learn-then-Test with a fixed sequence (Angelopoulos et al. 2021, arXiv 2110.01052, section 2.1;
algorithms.md 3.2 and 3.3): thresholds are tested from the safest downwards, "risk(λ) > α" at level
δ, until one is not rejected. The order is fixed beforehand, so no threshold costs another one's δ,
and the loss need not be monotone. A loss that only knows 0 and 1 is tested by the exact binomial
tail, any other by the betting process of Waudby-Smith and Ramdas.

It holds for **one** look at one frozen set of i.i.d. labels of fold 0. Asked again as labels come
it promises nothing (``anytime`` does). Departure: where π differs between labels they are thinned
to a uniform sample first; the papers have no sampling.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from recalibrate.controller import Threshold, Window
from recalibrate.grid import Levels, losses_on, thinned
from recalibrate.losses import BoolArray
from store.records import FloatArray, Reason


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class FixedSequence(Levels):
    """Controller of mode ``pac``."""

    def threshold(self, window: Window) -> Threshold:
        kept = thinned(window)
        n = len(kept.floor)
        if n < (needed := fewest_labels(self.alpha, self.delta)):
            return Threshold.safe(
                Reason.SAFE_STARVED if n else Reason.SAFE_COLD,
                f"{n} of at least {needed} labels after thinning",
                effective_labels=float(n),
            )
        losses = losses_on(self.grid, kept)
        rejected = rejected_by_tail if kept.is_binary else rejected_by_betting
        return self.lowest(
            rejected(losses, self.alpha, self.delta),
            losses,
            window=window,
            hopeless=f"risk {losses[0].mean():.4f} at the safest of the thresholds: "
            f"not shown to be at most {self.alpha:.4f}",
        )


def fewest_labels(alpha: float, delta: float) -> int:
    """Return how many labels without any loss it takes to reject: ``(1 − α)ⁿ <= δ``."""
    return math.ceil(math.log(delta) / math.log1p(-alpha))


def rejected_by_tail(losses: FloatArray, alpha: float, delta: float) -> BoolArray:
    """Return bool[G]: whether risk > α is rejected at level δ, each threshold on its own.

    Exact where a loss can be nothing but 0 and 1. Losses that could lie between and happen not to
    must not come here: a test chosen by the labels it tests keeps no level.

    Parameters
    ----------
    losses
        float64[G, n], each 0 or 1.

    Raises
    ------
    ValueError
        A loss lies between.
    """
    if not np.all((losses == 0.0) | (losses == 1.0)):
        raise ValueError("the binomial tail is for losses of 0 and 1")
    from scipy.stats import binom  # type: ignore[import-untyped]  # noqa: PLC0415  slow, no stubs

    return np.asarray(binom.cdf(losses.sum(axis=1), losses.shape[1], alpha) <= delta)


def rejected_by_betting(losses: FloatArray, alpha: float, delta: float) -> BoolArray:
    """Return bool[G] for any losses in [0, 1]: where the process ever reaches 1/δ.

    Parameters
    ----------
    losses
        float64[G, n], columns in an order that does not depend on them.
    """
    return np.asarray(_log_wealth(losses, alpha, delta).max(axis=1) >= -math.log(delta))


def _log_wealth(losses: FloatArray, alpha: float, delta: float) -> FloatArray:
    """Return float64[G, n]: the betting process against risk > α (algorithms.md 3.2), as a log.

    The bet on a label comes from the labels before it.
    """
    n = losses.shape[1]
    count = np.arange(1, n + 1)
    mean = (0.5 + np.cumsum(losses, axis=1)) / (1.0 + count)
    variance = (0.25 + np.cumsum((losses - mean) ** 2, axis=1)) / (1.0 + count)
    before = np.concatenate([np.full((len(losses), 1), 0.25), variance[:, :-1]], axis=1)
    bets = np.minimum(np.sqrt(2.0 * math.log(1.0 / delta) / (n * before)), 1.0)
    return np.cumsum(np.log1p(-bets * (losses - alpha)), axis=1)
