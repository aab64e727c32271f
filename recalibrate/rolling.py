"""The default promise: conformal risk control on a weighted, discounted window (mode ``mean``).

Weights (promise.md section 6): 1/π for biased sampling, a discount per label for drift, a slow
decay per request so that λ ages when labels stop. What may be claimed: with discount 1, no decay
pull and i.i.d. labels, the CRC theorem; with discounting, the bound of Farinhas et al. (ICLR 2024)
with its total-variation term; nothing about any single λ.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from recalibrate.controller import Threshold, Window
from recalibrate.crc import Infeasible, crc_threshold
from store.records import FloatArray, Reason

FLOOR = 100.0
"""Effective labels below which the reference serves; not a setting."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingCrc:
    """Controller of mode ``mean``.

    Parameters
    ----------
    alpha
        Risk target after exploration quotas were charged: (α − q) / (1 − q).
    label_discount
        Weight of a label relative to the next newer one, in (0, 1].
    age_half_life_requests
        Requests after which a label counts half.
    floor
        Effective labels below which λ is SAFE; lower only where some labels were left out to test
        the λ of the others on them.
    """

    alpha: float
    label_discount: float
    age_half_life_requests: float
    floor: float = FLOOR

    def threshold(self, window: Window) -> Threshold:
        if not len(window):
            return Threshold.safe(Reason.SAFE_COLD, "no labels yet")
        age = self._age(window)
        inverse = 1.0 / window.inclusion_probability
        n_eff = effective_labels(inverse, age)
        if n_eff < self.floor:
            return Threshold.safe(
                Reason.SAFE_STARVED,
                f"{n_eff:.0f} of {self.floor:.0f} effective labels",
                effective_labels=n_eff,
            )
        found = crc_threshold(
            window.losses,
            age * inverse / inverse.mean(),
            test_weight=(1.0 / window.minimum_inclusion) / inverse.mean(),
            alpha=self.alpha,
        )
        if isinstance(found, Infeasible):
            return Threshold.safe(
                Reason.SAFE_INFEASIBLE,
                f"the lowest corrected risk is {found.lowest:.4f}, above {found.alpha:.4f}",
                effective_labels=n_eff,
            )
        return Threshold(
            value=found.threshold,
            effective_labels=n_eff,
            weighted_risk=found.corrected_risk,
            safe_reason=None,
            detail=f"{len(window)} labels, {n_eff:.0f} effective",
        )

    def _age(self, window: Window) -> FloatArray:
        newer = np.arange(len(window) - 1, -1, -1, dtype=np.float64)
        decay = 0.5 ** (window.requests_ago / self.age_half_life_requests)
        return np.asarray(self.label_discount**newer * decay)


def effective_labels(inverse: FloatArray, age: FloatArray) -> float:
    """Return ``(Σ a v)² / Σ a v²`` (promise.md section 6).

    Kish's size, ``(Σ a v)² / Σ (a v)²``, would not fall under a common decay, so λ would never
    age. Labels that have decayed to nothing are none.
    """
    squares = float(age @ inverse**2)
    return float(age @ inverse) ** 2 / squares if squares > 0.0 else 0.0


def charged(alpha: float, quota: float) -> float:
    """Return the target left for routing when a share ``quota`` is served outside C_λ."""
    return (alpha - quota) / (1.0 - quota)
