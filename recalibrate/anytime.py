"""Mode ``anytime``: λ that may be asked for after every label.

Active, anytime-valid risk-controlling prediction sets (Xu, Karampatziakis, Mineiro, NeurIPS 2024,
arXiv 2406.10490; algorithms.md 3.9): one betting process per threshold against "risk(λ) >= α",

    W_t(λ) = min(W_{t-1}(λ) · (1 + b_t(λ) (α − L_t(λ))), cap),    0 <= b_t <= 1 / (2 (1 − α)),

b_t from earlier labels only. Certified is every λ at and above which all processes stand at 1/δ.
For a loss that does not rise with λ, a wrong λ needs the process of the largest wrong one to get
there, so by Ville's inequality P(ever certified, though its risk is above α) <= δ: over all labels
and looks at once, without a correction for the number of thresholds.

Assumptions: one frozen scorer, i.i.d. labels of fold 0 behind the watermark, a monotone loss. A new
scorer or a new π_min begins every process anew, at ``version_delta``.

Departures: labels are thinned to a uniform sample instead of weighted (no 1/π that would shrink the
bets; unlabelled requests need not be stored); certification is live and wealth is capped, so that a
λ that has become wrong loses its certificate. Truncating keeps the inequality; what is said under
drift is simulation, no theorem.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from recalibrate.controller import Threshold, Window
from recalibrate.grid import Levels, losses_on, thinned
from store.records import FloatArray, Reason

CAP = 10.0
"""Times 1/δ: the most wealth that later losses have to undo."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class BettingProcesses(Levels):
    """Controller of mode ``anytime``; its grid stays as long as the scorer does."""

    def threshold(self, window: Window) -> Threshold:
        losses = losses_on(self.grid, thinned(window))
        if not losses.shape[1]:
            return Threshold.safe(Reason.SAFE_COLD, "no labels yet")
        enough = 1.0 / self.delta
        wealth = final_wealth(losses, self.alpha, cap=CAP * enough)
        return self.lowest(
            wealth >= enough,
            losses,
            window=window,
            hopeless=f"evidence {wealth[0]:.3g} of {enough:.3g} at the safest threshold",
        )


def final_wealth(losses: FloatArray, alpha: float, *, cap: float) -> FloatArray:
    """Return float64[G]: each threshold's process after all labels.

    Parameters
    ----------
    losses
        float64[G, n] in [0, 1], columns in ledger order.
    cap
        Where wealth is cut off, above 1.
    """
    gains = alpha - losses
    bets = _bets(gains, largest=0.5 / (1.0 - alpha))
    path = np.cumsum(np.log1p(bets * gains), axis=1)
    # Cutting off at every step takes away, in all, the furthest that the uncut path ever went over.
    cut = np.maximum((path - math.log(cap)).max(axis=1), 0.0)
    return np.asarray(np.exp(path[:, -1] - cut))


def _bets(gains: FloatArray, *, largest: float) -> FloatArray:
    """Return float64[G, n]: Σ g / (Σ g + Σ g²) of the labels before, clipped (the paper's bet)."""
    # Shifted, not less their own: rounding would let a label's gain into its own bet.
    nothing = np.zeros((len(gains), 1))
    total = np.hstack([nothing, np.cumsum(gains, axis=1)[:, :-1]])
    squares = np.hstack([nothing, np.cumsum(gains**2, axis=1)[:, :-1]])
    positive = total > 0.0
    share = np.divide(total, total + squares, out=np.zeros_like(total), where=positive)
    return np.asarray(np.minimum(share, largest))


def version_delta(delta: float, version: int) -> float:
    """Return δ of the k-th scorer, 6 δ / (π² k²): over all versions they add up to δ."""
    if version < 1:
        raise ValueError(f"versions count from 1, got {version}")
    return 6.0 * delta / (math.pi * version) ** 2
