"""A betting test that one expert has become worse than it was (design.md section 8).

An e-detector (Shin, Ramdas, Rinaldo 2023; algorithms.md 10.1): under the null, the conditional
probability of an acceptable answer never falls more than ``TOLERANCE`` below what it was at
certification or the last reset (of which a lower limit is taken: it is only estimated),
``E_t(b) = 1 + b (loss - ε)`` has mean at most 1 for every bet b in [0, 1/ε), so the
Shiryaev–Roberts process ``M_t = E_t (M_{t-1} + 1)`` stays below A for at least A labels on average.
A mixture over fixed bets is one too, and needs no tuning by drop size.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

TOLERANCE = 0.05
THRESHOLD = 10_000.0
"""A: mean labels of one expert between false alarms under the null, at least."""
_BETS = (0.1, 0.2, 0.35, 0.5, 0.7)
"""Bets as shares of their largest value 1/ε."""


def evidence_of_regression(outcomes: Sequence[int], *, baseline_floor: float) -> float:
    """Return the highest value of the process over the outcomes, in ledger order.

    Parameters
    ----------
    outcomes
        Judged y in {0, 1} of one expert on uniformly sampled requests since the last reset.
    baseline_floor
        Lower limit of P(y = 1) at certification or the last reset.
    """
    tolerated = min(1.0 - baseline_floor + TOLERANCE, 1.0)
    bets = np.array(_BETS) / tolerated
    process = np.zeros(len(bets))
    highest = 0.0
    for outcome in outcomes:
        process = (1.0 + bets * ((1 - outcome) - tolerated)) * (process + 1.0)
        highest = max(highest, float(process.mean()))
        # What lies beyond the alarm level does not matter; the cap keeps numbers finite.
        process = np.minimum(process, THRESHOLD * 1e6)
    return highest


def has_regressed(outcomes: Sequence[int], *, baseline_floor: float) -> bool:
    """Return whether the alarm level was reached."""
    return evidence_of_regression(outcomes, baseline_floor=baseline_floor) >= THRESHOLD
