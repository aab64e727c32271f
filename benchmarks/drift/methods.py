"""How λ follows the labels: ours, and what the literature does instead.

Every method sees the same labels, scored out of fold by the same scorer, and its λ goes into force
at the same times. What has a step size or a width got it on two sets (``choose``); ours is as
shipped.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Protocol

import numpy as np

from benchmarks.drift.streams import POLICY
from recalibrate.controller import Window
from recalibrate.crc import Infeasible, crc_threshold
from recalibrate.rolling import RollingCrc
from store.records import SAFE, FloatArray

CHOSEN_ON = ("llmrouter14", "paretobandit4")
ALPHA = POLICY.alpha


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """What is known when a λ is made."""

    window: Window
    """All labels known, under the scorer in force, oldest first."""
    since: int
    """Labels of the window that the last alarm has cut off."""
    losses: FloatArray
    """float64[k]: of the newly arrived labels, at the λ that served their requests."""
    points: FloatArray
    """float64[k]: λ at which each of these losses falls to 0, by the scores that served."""
    weights: FloatArray
    """float64[k]: their 1/π over the window's mean."""
    in_flight: int
    """Requests drawn for judging whose labels are still to come."""


class Method(Protocol):
    """A rule for λ with its memory."""

    def threshold(self, seen: Seen) -> float:
        """Return λ until the next labels have arrived."""
        ...


class Mean:
    """Ours: mode ``mean`` as shipped, the window cut by the regression alarm."""

    def threshold(self, seen: Seen) -> float:
        return discounted(seen, ALPHA)


class MeanWithLevel:
    """``mean`` with an adaptive level (ACI's step on it), which is not shipped.

    The level rises above α only while λ can still fall: else it would wind up as long as all is
    well, and be far off when it is not.
    """

    def __init__(self) -> None:
        self._level = ALPHA

    def threshold(self, seen: Seen) -> float:
        step = min(0.02, 0.4 / max(seen.in_flight, 1))
        for weight, loss in zip(seen.weights, seen.losses, strict=True):
            moved = self._level + step * weight * (ALPHA - loss)
            self._level = float(min(max(moved, 0.005), 0.5))  # no further: it has to come back
        found = discounted(seen, self._level)
        if found <= 0.0:
            self._level = min(self._level, ALPHA)
        return found


class Static:
    """Conformal risk control on the first window, frozen (Angelopoulos et al. 2024)."""

    def __init__(self) -> None:
        self._found: float | None = None

    def threshold(self, seen: Seen) -> float:
        if self._found is None:
            self._found = plain(seen.window, ALPHA)
        return self._found


class Sliding:
    """Conformal risk control on the newest labels, all alike."""

    def __init__(self, width: int) -> None:
        self._width = width

    def threshold(self, seen: Seen) -> float:
        return plain(newest(seen.window, self._width), ALPHA)


class Rolling:
    """Rolling risk control (Feldman et al. 2023, arXiv 2205.09095): λ = φ(θ), φ the sigmoid."""

    def __init__(self, step: float) -> None:
        self._step = step
        self._theta: float | None = None

    def threshold(self, seen: Seen) -> float:
        if self._theta is None:
            start = min(max(plain(seen.window, ALPHA), 0.01), 0.99)
            self._theta = math.log(start / (1.0 - start))
        self._theta += self._step * float(seen.weights @ (seen.losses - ALPHA))
        return 1.0 / (1.0 + math.exp(-self._theta))


class Decaying:
    """Steps that shrink as t^-.6 (Angelopoulos, Barber, Bates 2024, arXiv 2402.01139), on λ."""

    def __init__(self, scale: float) -> None:
        self._scale = scale
        self._count = 0
        self._found: float | None = None

    def threshold(self, seen: Seen) -> float:
        if self._found is None:
            self._found = min(plain(seen.window, ALPHA), 1.0)
        for weight, loss in zip(seen.weights, seen.losses, strict=True):
            self._count += 1
            self._found += self._scale * self._count**-0.6 * weight * (loss - ALPHA)
        return min(max(self._found, 0.0), SAFE)


class Aci:
    """Adaptive conformal inference (Gibbs, Candès 2021) on the level of a sliding window."""

    def __init__(self, step: float, width: int) -> None:
        self._step, self._width = step, width
        self._level = ALPHA

    def threshold(self, seen: Seen) -> float:
        self._level += self._step * float(seen.weights @ (ALPHA - seen.losses))
        return plain(newest(seen.window, self._width), self._level)


class DtAci:
    """Dynamically tuned ACI (Gibbs, Candès 2024): steps weighted by their pinball losses."""

    STEPS = np.array([0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128])
    MIXING = 1e-3
    RATE = 2.72

    def __init__(self, width: int) -> None:
        self._width = width
        self._levels = np.full(len(self.STEPS), ALPHA)
        self._weights = np.full(len(self.STEPS), 1.0 / len(self.STEPS))
        self._before = np.empty(0)

    def threshold(self, seen: Seen) -> float:
        for point, weight in zip(seen.points, seen.weights, strict=True):
            self._learn(self._level_of(float(point)), float(weight))
        window = newest(seen.window, self._width)
        self._before = window.losses.points[:, 0]
        return plain(window, float(self._weights @ self._levels))

    def _level_of(self, point: float) -> float:
        """Return the highest level at which the label's loss would have been 0."""
        if not np.isfinite(point):
            return 1.0
        return float(np.count_nonzero(self._before >= point) + 1) / (len(self._before) + 1)

    def _learn(self, level: float, weight: float) -> None:
        off = level - self._levels
        pinball = ALPHA * off - np.minimum(off, 0.0)
        self._weights = self._weights * np.exp(-self.RATE * weight * pinball)
        self._weights /= self._weights.sum()
        self._weights = (1.0 - self.MIXING) * self._weights + self.MIXING / len(self._weights)
        # A level above the label's own would have lost.
        self._levels = self._levels + self.STEPS * weight * (ALPHA - (off < 0.0))


class Reference:
    """The reference serves everything."""

    def threshold(self, seen: Seen) -> float:
        return SAFE


OURS, WITH_LEVEL = "mean (ours)", "mean with an adaptive level (not shipped)"
STATIC, REFERENCE = "static CRC", "always the reference"
METHODS: dict[str, Callable[[], Method]] = {
    OURS: Mean,
    WITH_LEVEL: MeanWithLevel,
    STATIC: Static,
    "sliding window CRC": partial(Sliding, 100),
    "rolling risk control": partial(Rolling, 2.0),
    "ACI": partial(Aci, 0.05, 500),
    "DtACI": partial(DtAci, 100),
    "decaying steps": partial(Decaying, 5.0),
    REFERENCE: Reference,
}


def discounted(seen: Seen, level: float) -> float:
    """Return λ by the shipped controller on what the alarm has left of the window."""
    controller = RollingCrc(
        alpha=level,
        label_discount=POLICY.label_discount,
        age_half_life_requests=POLICY.age_half_life_requests,
    )
    return controller.threshold(newest(seen.window, len(seen.window) - seen.since)).value


def newest(window: Window, count: int) -> Window:
    """Return the window's newest labels."""
    kept = slice(max(len(window) - count, 0), None)
    return replace(
        window,
        losses=window.losses[kept],
        inclusion_probability=window.inclusion_probability[kept],
        requests_ago=window.requests_ago[kept],
    )


def plain(window: Window, level: float) -> float:
    """Return λ by conformal risk control without discount; SAFE where no λ will do."""
    inverse = 1.0 / window.inclusion_probability
    weights = inverse / inverse.mean()
    test_weight = (1.0 / window.minimum_inclusion) / float(inverse.mean())
    found = crc_threshold(window.losses, weights, test_weight=test_weight, alpha=level)
    return SAFE if isinstance(found, Infeasible) else found.threshold
