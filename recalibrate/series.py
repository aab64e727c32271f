"""What changed along the stream: the lines that the plots draw."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recalibrate.realised import Interval, wilson
from recalibrate.stream_facts import ServedRequest, StreamFacts
from store.records import ExpertId

ROLLING = 300
"""Requests behind one point of the rolling regret."""
POINTS = 240
BINS = 60
GAP_BINS = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class RollingRegret:
    """Realised regret of the last requests before a position."""

    position: int
    rate: Interval


@dataclass(frozen=True, slots=True, kw_only=True)
class InForce:
    """λ and the effective labels behind it, from a position on."""

    position: int
    threshold: float
    effective_labels: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Traffic:
    """Who served a stretch of the stream; shares in the order of ``Series.experts``."""

    first_position: int
    last_position: int
    shares: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseStart:
    """Where a phase begins."""

    position: int
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """Everything that is drawn over the stream."""

    rolling_requests: int
    rolling_regret: tuple[RollingRegret, ...]
    in_force: tuple[InForce, ...]
    experts: tuple[ExpertId, ...]
    traffic: tuple[Traffic, ...]
    phase_starts: tuple[PhaseStart, ...]
    gap_confidences: tuple[int, ...]
    """Decisions by gap confidence, in equal bins of [0, 1]."""


def series(facts: StreamFacts) -> Series:
    """Return the stream's lines, thinned to what a plot can show."""
    requests = facts.requests
    experts = tuple(sorted({r.expert for r in requests}))
    window = min(ROLLING, max(50, len(requests) // 10))
    sure = [r.gap_confidence for r in requests if r.gap_confidence is not None]
    counts, _ = np.histogram(sure, bins=GAP_BINS, range=(0.0, 1.0))
    return Series(
        rolling_requests=window,
        rolling_regret=_rolling(requests, window, margin=facts.margin),
        in_force=_in_force(requests),
        experts=experts,
        traffic=_traffic(requests, experts),
        phase_starts=_phase_starts(requests),
        gap_confidences=tuple(counts.tolist()),
    )


def _rolling(
    requests: Sequence[ServedRequest], window: int, *, margin: float
) -> tuple[RollingRegret, ...]:
    covered = [r for r in requests if r.is_covered]
    wrong = np.concatenate([[0], np.cumsum([r.is_unacceptable(margin) for r in covered])])
    ends = range(window, len(covered) + 1, max(1, len(covered) // POINTS))
    return tuple(
        RollingRegret(
            position=covered[end - 1].position,
            rate=wilson(int(wrong[end] - wrong[end - window]), window),
        )
        for end in ends
    )


def _in_force(requests: Sequence[ServedRequest]) -> tuple[InForce, ...]:
    """Return a point at each change, and one at the stream's last request."""
    points: list[InForce] = []
    for r in requests:
        last = points[-1] if points else None
        now = (r.threshold, r.effective_labels)
        if last is None or now != (last.threshold, last.effective_labels) or r is requests[-1]:
            points.append(InForce(position=r.position, threshold=now[0], effective_labels=now[1]))
    return tuple(points)


def _traffic(requests: Sequence[ServedRequest], experts: Sequence[ExpertId]) -> tuple[Traffic, ...]:
    size = max(1, -(-len(requests) // BINS))
    stretches = [requests[i : i + size] for i in range(0, len(requests), size)]
    return tuple(
        Traffic(
            first_position=stretch[0].position,
            last_position=stretch[-1].position,
            shares=tuple(sum(r.expert == e for r in stretch) / len(stretch) for e in experts),
        )
        for stretch in stretches
    )


def _phase_starts(requests: Sequence[ServedRequest]) -> tuple[PhaseStart, ...]:
    return tuple(
        PhaseStart(position=r.position, name=r.phase)
        for i, r in enumerate(requests)
        if i == 0 or r.phase != requests[i - 1].phase
    )
