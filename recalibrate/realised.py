"""Estimates with their 95 % intervals, and the three-state verdict on the promise."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import NormalDist
from typing import Any

import numpy as np

from store.records import FloatArray

CONFIDENCE = 0.95
_Z = NormalDist().inv_cdf(0.5 + CONFIDENCE / 2.0)


class Verdict(StrEnum):
    """What the interval says about the promise."""

    HELD = "held"
    NOT_HELD = "not held"
    NOT_DECIDED = "not decided"


@dataclass(frozen=True, slots=True, kw_only=True)
class Interval:
    """An estimate with a 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Realised:
    """Realised regret of a set of requests against the risk target."""

    requests: int
    unacceptable: int
    rate: Interval | None
    """Wilson; None without requests."""
    verdict: Verdict
    labels_needed: int | None
    """While not decided: judged answers after which this same rate would decide it; None when no
    number would (the rate is the target, or there is none)."""


def realised_risk(unacceptable: int, requests: int, *, alpha: float) -> Realised:
    """Return the share of unacceptable answers with its Wilson interval and verdict."""
    if requests == 0:
        return Realised(
            requests=0,
            unacceptable=0,
            rate=None,
            verdict=Verdict.NOT_DECIDED,
            labels_needed=None,
        )
    rate = wilson(unacceptable, requests)
    verdict = verdict_of(rate, alpha)
    undecided = verdict is Verdict.NOT_DECIDED
    return Realised(
        requests=requests,
        unacceptable=unacceptable,
        rate=rate,
        verdict=verdict,
        labels_needed=labels_needed(rate.value, alpha) if undecided else None,
    )


def widened(risk: Realised, deviation: float, *, alpha: float) -> Realised:
    """Return the risk with a further independent standard deviation in interval and verdict.

    More labels shrink both parts alike, so the labels needed grow with the interval's square.
    """
    if risk.rate is None:
        return risk
    rate = spread(risk.rate, deviation)
    verdict = verdict_of(rate, alpha)
    needed = None
    if verdict is Verdict.NOT_DECIDED and (narrow := labels_needed(rate.value, alpha)) is not None:
        growth = ((rate.high - rate.low) / (risk.rate.high - risk.rate.low)) ** 2
        needed = max(risk.requests + 1, math.ceil(growth * narrow))
    return replace(risk, rate=rate, verdict=verdict, labels_needed=needed)


def spread(found: Interval, deviation: float) -> Interval:
    """Return the interval with a further independent standard deviation, never below 0."""
    low = found.value - math.hypot(found.value - found.low, _Z * deviation)
    high = found.value + math.hypot(found.high - found.value, _Z * deviation)
    return Interval(value=found.value, low=max(low, 0.0), high=high)


def wilson(successes: int, trials: int) -> Interval:
    """Return the share with its Wilson 95 % interval; ``trials`` must be positive."""
    found = _binomial_test(successes, trials).proportion_ci(CONFIDENCE, method="wilson")
    return Interval(value=successes / trials, low=float(found.low), high=float(found.high))


def posterior(successes: int, trials: int) -> Interval:
    """Return a share's mean and central 95 % interval after a uniform prior, without trials too."""
    # Slow to import, as below.
    from scipy.stats import beta  # type: ignore[import-untyped]  # noqa: PLC0415  no stubs

    after = beta(1 + successes, 1 + trials - successes)
    tail = (1.0 - CONFIDENCE) / 2.0
    return Interval(
        value=float(after.mean()), low=float(after.ppf(tail)), high=float(after.ppf(1.0 - tail))
    )


def at_least(successes: int, trials: int, *, confidence: float) -> float:
    """Return the exact one-sided lower limit of a share; ``trials`` must be positive."""
    test = _binomial_test(successes, trials, alternative="greater")
    return float(test.proportion_ci(confidence, method="exact").low)


def _binomial_test(successes: int, trials: int, *, alternative: str = "two-sided") -> Any:
    # Slow to import, and a process that only serves needs no interval.
    from scipy.stats import binomtest  # noqa: PLC0415

    return binomtest(successes, trials, alternative=alternative)


def ratio_of_means(numerator: FloatArray, denominator: FloatArray) -> Interval | None:
    """Return mean(numerator) / mean(denominator) with its interval over requests.

    Delta method for a ratio of paired means: the variance is that of the residuals
    ``numerator − ratio × denominator``, so what both share cancels. None without requests or with
    a denominator of 0.
    """
    n = len(numerator)
    base = float(denominator.mean()) if n else 0.0
    if base <= 0.0:
        return None
    ratio = float(numerator.mean()) / base
    spread = float((numerator - ratio * denominator).std(ddof=1)) if n > 1 else 0.0
    half = _Z * spread / (math.sqrt(n) * base)
    return Interval(value=ratio, low=max(ratio - half, 0.0), high=ratio + half)


def verdict_of(rate: Interval, alpha: float) -> Verdict:
    """Return what an interval says about a target."""
    if rate.high <= alpha:
        return Verdict.HELD
    if rate.low > alpha:
        return Verdict.NOT_HELD
    return Verdict.NOT_DECIDED


def labels_needed(rate: float, alpha: float) -> int | None:
    """Return the n at which Wilson's interval around this rate ends at α; None: at none.

    Wilson's interval inverts the score test: it excludes α iff
    ``|rate − α| > z √(α(1 − α) / n)``.
    """
    distance = abs(rate - alpha)
    if np.isclose(distance, 0.0):
        return None
    return math.ceil(_Z**2 * alpha * (1.0 - alpha) / distance**2)
