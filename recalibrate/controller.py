"""The port of risk control: what every mode (mean, pac, anytime) answers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import numpy.typing as npt

from store.records import SAFE, FloatArray, Reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Losses:
    """Step losses of n labels in λ: ``floor + Σ drops[points > λ]``, so non-increasing in λ.

    A strict ``score > λ`` makes them right-continuous, as the theorem asks.
    """

    points: FloatArray
    """float64[n, J]: where a loss falls as λ rises; -inf pads."""
    drops: FloatArray
    """float64[n, J] >= 0: by how much."""
    floor: FloatArray
    """float64[n] in [0, 1]: what no λ can remove (0 unless a fixed gate serves on its own)."""
    is_binary: bool
    """Whether the loss's definition, not what these labels happen to show, allows only 0 and 1."""

    def at(self, threshold: float) -> FloatArray:
        """Return float64[n]: each label's loss at λ."""
        above = self.points > threshold
        return np.asarray(self.floor + np.where(above, self.drops, 0.0).sum(axis=1))

    def __getitem__(self, kept: slice | npt.NDArray[np.bool_]) -> Losses:
        """Return the losses of some labels, in the same order."""
        points, drops, floor = self.points[kept], self.drops[kept], self.floor[kept]
        return replace(self, points=points, drops=drops, floor=floor)


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """The labels behind one recalibration, in ledger order."""

    losses: Losses
    inclusion_probability: FloatArray
    """float64[n] in (0, 1]."""
    requests_ago: FloatArray
    """float64[n] >= 0: requests decided since the labelled one."""
    minimum_inclusion: float
    """The smallest π that the settings in force can give."""

    def __len__(self) -> int:
        return len(self.inclusion_probability)


@dataclass(frozen=True, slots=True, kw_only=True)
class Threshold:
    """λ with what is behind it; SAFE is a value with a reason, never a warning."""

    value: float
    effective_labels: float
    weighted_risk: float | None
    """The corrected empirical risk at λ; None without labels."""
    safe_reason: Reason | None
    detail: str

    @classmethod
    def safe(cls, reason: Reason, detail: str, *, effective_labels: float = 0.0) -> Threshold:
        """Return the threshold that lets the reference serve everything."""
        return cls(
            value=SAFE,
            effective_labels=effective_labels,
            weighted_risk=None,
            safe_reason=reason,
            detail=detail,
        )


class RiskController(Protocol):
    """Maps a window of labels to a threshold; pure, so that a log replays to the same λ."""

    def threshold(self, window: Window) -> Threshold:
        """Return λ for this window."""
        ...
