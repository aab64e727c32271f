"""Conformal risk control, exact on the score grid.

Angelopoulos, Bates, Fisch, Lei, Schuster (ICLR 2024), Theorem 1: for exchangeable, non-increasing,
right-continuous losses bounded by 1 and a λ_max of loss at most α,
``λ̂ = min{λ : (Σ w_i L_i(λ) + w) / (Σ w_i + w) <= α}`` has ``E[L(λ̂)] <= α`` (their eq. 4 with all
weights 1; the weighted form is their section 3, covariate shift). The expectation is over the
calibration labels and the next request; nothing is said about the chance of a bad λ̂.

CR²'s eq. 15 takes the same infimum, claims high probability for it, and is silent when it does not
exist: here ``Infeasible`` is a value.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recalibrate.controller import Losses
from store.records import FloatArray


@dataclass(frozen=True, slots=True)
class Feasible:
    """The smallest admissible threshold and its corrected risk."""

    threshold: float
    corrected_risk: float


@dataclass(frozen=True, slots=True)
class Infeasible:
    """No threshold below SAFE qualifies; ``lowest`` is the smallest corrected risk reached."""

    lowest: float
    alpha: float


def crc_threshold(
    losses: Losses, weights: FloatArray, *, test_weight: float, alpha: float
) -> Feasible | Infeasible:
    """Return the smallest λ in {0} ∪ {scores} whose corrected weighted risk is at most ``alpha``.

    The risk only changes at the losses' own points, so this grid is exact.

    Parameters
    ----------
    losses
        n step losses, in [0, 1].
    weights
        float64[n] >= 0, fixed before the labels were seen; all ones for the plain theorem.
    test_weight
        The next request's weight: 1 unweighted, its largest possible value otherwise.
    alpha
        Risk target in (0, 1).
    """
    points, mass = _descending(losses, weights)
    total = float(weights.sum()) + test_weight
    constant = float(weights @ losses.floor) + test_weight
    risk = (constant + np.concatenate([[0.0], np.cumsum(mass)])) / total
    candidates = np.concatenate([points, [0.0]])
    # Strictly greater points count, so equal ones are stepped over together.
    greater = np.searchsorted(-points, -candidates, side="left")
    admissible = np.flatnonzero((risk[greater] <= alpha) & (candidates >= 0.0))
    if admissible.size == 0:
        return Infeasible(lowest=constant / total, alpha=alpha)
    lowest = admissible[-1]  # candidates fall and the risk rises along the array
    return Feasible(float(candidates[lowest]), float(risk[greater[lowest]]))


def _descending(losses: Losses, weights: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the falling points, highest first, with the weighted drop of each."""
    flat = losses.points.ravel()
    mass = (losses.drops * weights[:, None]).ravel()
    kept = np.flatnonzero(np.isfinite(flat) & (mass > 0.0))
    order = kept[np.argsort(-flat[kept], kind="stable")]
    return flat[order], mass[order]
