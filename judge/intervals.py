"""Shares and means with their 95 % intervals, for samples drawn with known probabilities."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from dataclasses import dataclass
from statistics import NormalDist

import numpy as np

from store.records import FloatArray

CONFIDENCE = 0.95
_TAIL = (1.0 - CONFIDENCE) / 2.0
Z = NormalDist().inv_cdf(1.0 - _TAIL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """A figure with its 95 % interval."""

    value: float
    low: float
    high: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Share(Estimate):
    """A share of something that was drawn, weighted back to what it was drawn from."""

    drawn: int
    effective: float
    """How many equally weighted draws would leave as much doubt."""
    at_most: float
    """One-sided 95 % upper limit."""


def share(yes: FloatArray, no: FloatArray, *, typical: tuple[float, float] = (1.0, 1.0)) -> Share:
    """Return the share of what counts, from the weights of the draws that do and that do not.

    A draw's weight is one over the probability with which it was drawn. Given that it was drawn, a
    member counts with odds that are those of the population times the ratio of the two sides' mean
    weights. So the exact (Clopper-Pearson) limits of the drawn share, with its odds scaled back,
    are exact for the population's as long as weights differ between the sides only; where they
    differ within a side, its size is Kish's effective one, an approximation.

    Parameters
    ----------
    yes, no
        float64[n1] and float64[n0], positive, not both empty.
    typical
        The mean weight of a side that nothing was drawn from.
    """
    # Ships no stubs; slow to import, and the processes that serve never audit.
    from scipy.stats import beta  # type: ignore[import-untyped]  # noqa: PLC0415

    ones, zeros = _kish(yes), _kish(no)
    weight_one = float(yes.mean()) if yes.size else typical[0]
    weight_zero = float(no.mean()) if no.size else typical[1]

    def scaled(drawn: float) -> float:
        above, below = weight_one * drawn, weight_zero * (1.0 - drawn)
        return above / (above + below)

    def upper(tail: float) -> float:
        return scaled(float(beta.ppf(1.0 - tail, ones + 1.0, zeros))) if zeros else 1.0

    value = float(yes.sum()) / float(yes.sum() + no.sum())
    return Share(
        value=value,
        low=scaled(float(beta.ppf(_TAIL, ones, zeros + 1.0))) if ones else 0.0,
        high=upper(_TAIL),
        drawn=yes.size + no.size,
        effective=_worth(value, ones, zeros),
        at_most=upper(1.0 - CONFIDENCE),
    )


def mean_by_group(values: FloatArray, groups: Sequence[Hashable]) -> Estimate | None:
    """Return the mean with an interval over groups, within which values may hang together.

    The linearised variance of a mean of clusters of unequal size. None for fewer than two groups.
    """
    names, index = np.unique(np.array([str(g) for g in groups]), return_inverse=True)
    if names.size < 2:
        return None
    mean = float(values.mean())
    by_group = np.bincount(index, weights=values - mean)
    correction = names.size / (names.size - 1)
    half = Z * math.sqrt(correction * float((by_group**2).sum())) / values.size
    return Estimate(value=mean, low=mean - half, high=mean + half)


def _kish(weights: FloatArray) -> float:
    """Return Kish's effective size."""
    return float(weights.sum() ** 2 / (weights**2).sum()) if weights.size else 0.0


def _worth(value: float, ones: float, zeros: float) -> float:
    """Return the size of a plain sample whose share has this one's variance (delta method)."""
    if not ones or not zeros:
        return ones + zeros
    return 1.0 / (value * (1.0 - value) * (1.0 / ones + 1.0 / zeros))
