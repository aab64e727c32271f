"""Which requests are judged, when their labels are known, and when a new λ goes into force."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.drift.pools import BoolArray, Rows
from benchmarks.drift.streams import CHANGE, REQUESTS, WARM, Scenario
from recalibrate.inputs import AGE_EVERY_REQUESTS, MIN_NEW_LABELS
from store.records import FloatArray

ACTIVE_SHARE = 0.5
"""Of the label budget, at most (promise.md section 7)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Publication:
    """A λ in force: for which positions of the stream, and how many labels stand behind it."""

    start: int
    end: int
    known: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Labels:
    """L judged requests in ledger order, the warm-up's first."""

    positions: Rows
    """int64[L]: places in the stream."""
    inclusion: FloatArray
    """float64[L]: π, known before the label."""
    is_uniform: BoolArray
    """bool[L]: drawn with a probability that does not depend on the prompt."""
    minimum_inclusion: float


def warm_up(scenario: Scenario) -> Labels:
    """Return the labels from before the stream: uniform, at the scenario's label rate."""
    return Labels(
        positions=np.arange(WARM),
        inclusion=np.full(WARM, scenario.label_rate),
        is_uniform=np.ones(WARM, dtype=bool),
        minimum_inclusion=scenario.label_rate,
    )


def sampled(scenario: Scenario, interest: FloatArray, random: np.random.Generator) -> Labels:
    """Draw the judged requests.

    Parameters
    ----------
    interest
        float64[N] > 0: where an active slice looks; only ratios matter.
    """
    share = ACTIVE_SHARE if scenario.active else 0.0
    uniform = np.full(len(interest), (1.0 - share) * scenario.label_rate)
    # Scaled by what is known before the stream begins, so that π never waits for the future.
    active = share * scenario.label_rate * interest / interest[:WARM].mean()
    pi = np.minimum(uniform + active, 1.0)
    drawn = random.random(len(pi))
    is_judged = (drawn < pi) | (np.arange(len(pi)) < WARM)
    positions = np.flatnonzero(is_judged)
    before = positions < WARM  # as many as uniform sampling judges, of all prompts alike
    return Labels(
        positions=positions,
        inclusion=np.where(before, scenario.label_rate, pi[positions]),
        is_uniform=before | (drawn < uniform)[positions],
        minimum_inclusion=float(uniform[0]),
    )


def publications(labels: Labels, scenario: Scenario, *, judged: int) -> list[Publication]:
    """Return when λ is recomputed: as the learn role does, after so many labels or requests.

    A price takes effect at once, so that the change itself is one of the times. A judged request
    brings a label for each of the ``judged`` experts, all of them ``delay`` requests after it.
    """
    arrivals = labels.positions[labels.positions >= WARM] + scenario.delay
    counts = np.searchsorted(arrivals, np.arange(WARM + REQUESTS), side="left")
    times = [WARM]
    for now in range(WARM + 1, WARM + REQUESTS):
        fresh = (counts[now] - counts[times[-1]]) * judged
        is_due = fresh >= MIN_NEW_LABELS or now - times[-1] >= AGE_EVERY_REQUESTS
        if is_due or now == WARM + CHANGE:
            times.append(now)
    ends = [*times[1:], WARM + REQUESTS]
    return [
        Publication(start=start, end=end, known=WARM + int(counts[start]))
        for start, end in zip(times, ends, strict=True)
    ]
