"""The share of acceptable answers, with the judge's error taken out by what people said.

Two ways. *Human truth first*: people's word on audited pairs is the estimate, and the judge's word
on all the others only makes it sharper (prediction-powered inference); it needs no assumption about
the judge. *Rogan-Gladen* divides the judge's error rates out; it may use an audit of other traffic,
on the assumption that the rates carry over ("transport"), which no figure here can check.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from judge.intervals import Estimate, Share, Z
from store.records import FloatArray

FEWEST = 30
"""Audited pairs below which a normal interval says nothing."""


@dataclass(frozen=True, slots=True)
class Sample:
    """Values drawn with known probabilities, as far as their ratios go."""

    values: FloatArray
    """float64[n]."""
    weights: FloatArray
    """float64[n], positive: one over the probability of being drawn, up to a common factor."""

    @property
    def mean(self) -> float:
        """Return the weighted (Hájek) mean."""
        return float(self.weights @ self.values) / float(self.weights.sum())

    def with_values(self, values: FloatArray) -> Sample:
        """Return other values of the same draws."""
        return Sample(values, self.weights)

    def covariance(self, other: Sample) -> float:
        """Return the covariance of the two means of the same draws."""
        n = len(self.weights)
        shares = self.weights / self.weights.sum()
        products = (self.values - self.mean) * (other.values - other.mean)
        return float(shares**2 @ products) * n / (n - 1)


def human_first(truth: Sample, judged: Sample, everything: Sample) -> Estimate | None:
    """Return the mean truth, from a few audited pairs and the judge's word on all.

    PPI++ (Angelopoulos, Duchi and Zrnic 2023, arXiv 2311.01453) for a mean:
    ``k mean(everything) + mean(truth - k judged)``, weighted by the known probabilities of both
    phases (the AIPW form). PPI++ takes the audited pairs and the rest apart, here they are part of
    everything, which for equal weights is the same estimate with a k that is ``1 + n / rest`` times
    theirs. k minimises the variance in [0, 1]: at 0 the judge says nothing, people's mean is left.

    Parameters
    ----------
    truth, judged
        People's word and the judge's on the same audited pairs.
    everything
        The judge's word on all judged pairs, the audited ones among them.

    Returns
    -------
    None for fewer than ``FEWEST`` audited pairs, or when people never differ: a normal interval
    would have no width.
    """
    if len(truth.values) < FEWEST or np.ptp(truth.values) == 0.0:
        return None
    k = _reliance(truth, judged, everything)
    rest = truth.with_values(truth.values - k * judged.values)
    value = k * everything.mean + rest.mean
    variance = k**2 * everything.covariance(everything) + rest.covariance(rest)
    variance += 2.0 * k * _shared(judged, rest, everything)
    return _on_odds(value, math.sqrt(max(variance, 0.0)))


def rogan_gladen(judged: Share, *, sensitivity: Share, specificity: Share) -> Estimate | None:
    """Return the true share of acceptable answers, from the judged share and the judge's errors.

    Rogan and Gladen (1978): ``(p + specificity - 1) / (sensitivity + specificity - 1)``. The
    interval takes the errors of both samples into account (Lang and Reiczigel 2014, equations 2 to
    5: each share is pulled to 1/2, then the delta method around a shifted centre). It supposes that
    the error rates are those of *this* traffic.

    Returns
    -------
    None for a judge that is no better than chance: nothing can be divided out.
    """
    power = sensitivity.value + specificity.value - 1.0
    if power <= 0.0:
        return None
    p, n = _pulled(judged, Z**2)
    q1, m1 = _pulled(sensitivity, 2.0)
    q0, m0 = _pulled(specificity, 2.0)
    slope = q1 + q0 - 1.0
    centre = (p + q0 - 1.0) / slope
    yes, no = q1 * (1.0 - q1) / m1, q0 * (1.0 - q0) / m0
    shift = 2.0 * Z**2 * (centre * yes - (1.0 - centre) * no)
    variance = p * (1.0 - p) / n + centre**2 * yes + (1.0 - centre) ** 2 * no
    half = Z * math.sqrt(variance) / abs(slope)
    low, high = centre + shift - half, centre + shift + half
    value = (judged.value + specificity.value - 1.0) / power
    return Estimate(value=_clipped(value), low=_clipped(low), high=_clipped(high))


def _reliance(truth: Sample, judged: Sample, everything: Sample) -> float:
    """Return the k in [0, 1] that minimises the variance of ``human_first``."""
    spread = everything.covariance(everything) + judged.covariance(judged)
    spread -= 2.0 * _shared(judged, judged, everything)
    gain = judged.covariance(truth) - _shared(judged, truth, everything)
    return min(max(gain / spread, 0.0), 1.0) if spread > 0.0 else 0.0


def _shared(judged: Sample, other: Sample, everything: Sample) -> float:
    """Return the covariance of the judge's mean over everything with an audited mean: the audited
    pairs are among everything, and what is drawn there moves both.
    """
    shares = judged.weights / judged.weights.sum()
    products = (judged.values - judged.mean) * (other.values - other.mean)
    n, worth = len(shares), everything.weights
    size = float(worth.sum() ** 2 / (worth**2).sum())
    return float(shares @ products) * n / (n - 1) / size


def _on_odds(value: float, deviation: float) -> Estimate:
    """Return a share with a normal interval for its log-odds, which are less skewed than it is."""
    if not 0.0 < value < 1.0:
        return Estimate(value=_clipped(value), low=0.0, high=1.0)
    odds = value / (1.0 - value)
    factor = math.exp(Z * deviation / (value * (1.0 - value)))
    low, high = odds / factor, odds * factor
    return Estimate(value=value, low=low / (1.0 + low), high=high / (1.0 + high))


def _pulled(found: Share, draws: float) -> tuple[float, float]:
    n = found.effective + draws
    return (found.value * found.effective + draws / 2.0) / n, n


def _clipped(value: float) -> float:
    return min(max(value, 0.0), 1.0)
