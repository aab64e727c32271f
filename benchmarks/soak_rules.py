"""When a soak has passed: memory flat after warm-up, no queue that grows, nobody without answer."""

from __future__ import annotations

import warnings

import numpy as np
from scipy import stats  # type: ignore[import-untyped]  # ships none

from store.records import FloatArray

FLAT = 0.05
"""Resident memory: the median of the last third over that of the second sixth, at most."""
BACKLOG = 25.0
"""Messages by which a queue may grow over a run: half a second of traffic."""
WARM = 1.0 / 6.0


def memory_growth(seconds: FloatArray, resident: FloatArray) -> tuple[float, float, float]:
    """Return the median of the second sixth, that of the last third, and the growth between."""
    share = seconds / seconds[-1]
    early = float(np.median(resident[(share >= WARM) & (share < 2 * WARM)]))
    late = float(np.median(resident[share >= 2.0 / 3.0]))
    return early, late, late / early - 1.0


def queue_growth(seconds: FloatArray, length: FloatArray) -> float:
    """Return by how much a queue grows in the run, after warm-up: the lower end of the 95 %
    interval of its Theil–Sen slope, times the run's seconds. A peak or two do not move it.
    """
    kept = seconds >= WARM * seconds[-1]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # a queue that is always empty
        low = stats.theilslopes(length[kept], seconds[kept], alpha=0.95).low_slope
    return float(low * seconds[-1])
