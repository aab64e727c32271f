"""Betting tests that something has become worse than it may be (design.md section 8).

E-detectors (Shin, Ramdas, Rinaldo 2023; algorithms.md 10.1): under the null, the conditional mean
of a loss in [0, 1] never lies above ``level``, ``E_t(b) = 1 + b (loss - level)`` has mean at most 1
for every bet b in [0, 1/level), so the Shiryaev–Roberts process ``M_t = E_t (M_{t-1} + 1)`` stays
below A for at least A labels on average. A mixture over fixed bets is one too, and needs no tuning
by the size of the change.

Two nulls: an expert's answers are acceptable at most ``TOLERANCE`` less often than at certification
or the last reset (of which a lower limit is taken: it is only estimated); the risk of what is
served is at most ``RISK_TOLERANCE`` above its target. Both on labels of uniformly sampled requests.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from store.records import FloatArray

TOLERANCE = 0.05
THRESHOLD = 10_000.0
"""A: mean labels of one expert between false alarms under the null, at least."""
RISK_TOLERANCE = 0.02
FROZEN_THRESHOLD, SERVED_THRESHOLD = 12_500.0, 50_000.0
"""A of the process at a λ frozen at the last reset ("the world changed") and of that at the λ that
served ("promise broken"): together one false alarm in 10,000 labels, half of what all alarms may
give (promise.md section 7). λ reacts and hides a change from the second, so the first gets most."""
_BETS = (0.1, 0.2, 0.35, 0.5, 0.7)
"""Bets as shares of their largest value 1/level."""
_RISK_BETS = (0.05, 0.1, 0.15)
"""A bet grows fastest, on average, at a risk of level + share · (1 - level): at a target of 10 %,
risks of 16 to 25 %."""
_MOST = 1e10
"""What lies beyond any alarm level does not matter; the cap keeps numbers finite."""


def evidence(losses: FloatArray, *, level: float, shares: tuple[float, ...] = _BETS) -> FloatArray:
    """Return float64[..., n]: the process after each label, in ledger order.

    Parameters
    ----------
    losses
        float64[..., n] in [0, 1].
    level
        The largest mean under the null, in (0, 1].
    shares
        The bets, as shares of the largest.
    """
    bets = np.array(shares) / level
    process = np.zeros((*losses.shape[:-1], len(bets)))
    path = np.empty(losses.shape)
    for t in range(losses.shape[-1]):
        factor = 1.0 + bets * (losses[..., t, None] - level)
        process = np.minimum(factor * (process + 1.0), _MOST)
        path[..., t] = process.mean(axis=-1)
    return path


def evidence_of_excess(losses: FloatArray, *, alpha: float) -> FloatArray:
    """Return float64[..., n]: evidence that the risk is more than ``RISK_TOLERANCE`` above α."""
    return evidence(losses, level=min(alpha + RISK_TOLERANCE, 1.0), shares=_RISK_BETS)


def evidence_of_regression(outcomes: Sequence[int], *, baseline_floor: float) -> float:
    """Return the highest value of the process over the outcomes, in ledger order.

    Parameters
    ----------
    outcomes
        Judged y in {0, 1} of one expert on uniformly sampled requests since the last reset.
    baseline_floor
        Lower limit of P(y = 1) at certification or the last reset.
    """
    losses = 1.0 - np.asarray(outcomes, dtype=np.float64)
    level = min(1.0 - baseline_floor + TOLERANCE, 1.0)
    return float(evidence(losses, level=level).max(initial=0.0))
