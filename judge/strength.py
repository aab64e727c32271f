"""How strong experts are, from judged pairs: Bradley-Terry, with and without the answers' length.

``logit P(first better) = strength[first] - strength[second]`` (Bradley and Terry 1952), and with
lengths ``+ effect * tanh(length difference / its spread)``; a strength is then read at equal length
(after Dubois et al. 2024, arXiv 2404.04475, with one effect for all experts instead of one each).

A tie counts as half a win for either side. A tie parameter (Davidson 1970) would estimate how often
a judge calls ties, which nobody asks, and would change no order; half a win keeps the fit a concave
logistic one, whose weights mean what they say.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from judge.intervals import CONFIDENCE, Estimate
from store.records import ExpertId, FloatArray

RIDGE = 0.01
"""Of the squared strengths, in comparisons: an expert that never lost stays finite."""
RESAMPLES = 200
_STEPS, _LONGEST_STEP, _CLOSE = 200, 2.0, 1e-9
IntArray = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparisons:
    """Judged pairs as columns, n of them."""

    experts: tuple[ExpertId, ...]
    first: IntArray
    """int64[n], places in ``experts``."""
    second: IntArray
    preference: FloatArray
    """float64[n] in [0, 1]: 1 the first is better, 0.5 tie."""
    weight: FloatArray
    """float64[n], positive: one over the probability with which the pair came to be judged."""
    prompt: IntArray
    """int64[n], any number for each prompt; verdicts on one prompt hang together."""
    longer_by: FloatArray | None = None
    """float64[n]: how much longer the first answer is, in any unit."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Strengths:
    """Fitted strengths and what resampled prompts make of them."""

    experts: tuple[ExpertId, ...]
    values: FloatArray
    """float64[m], log-odds, their mean 0."""
    resampled: FloatArray
    """float64[b, m]."""
    length_effect: Estimate | None
    """Log-odds that a much longer answer gains; None without lengths."""

    def order(self) -> list[ExpertId]:
        """Return the experts, strongest first."""
        return [self.experts[i] for i in np.argsort(-self.values, kind="stable")]

    def strength(self, expert: ExpertId) -> Estimate:
        """Return an expert's strength with its interval."""
        at = self.experts.index(expert)
        return _between(self.values[at], self.resampled[:, at])

    def against(self, expert: ExpertId, other: ExpertId) -> Estimate:
        """Return the probability that the judge prefers ``expert``, ties halved."""
        at, to = self.experts.index(expert), self.experts.index(other)
        chance = float(_sigmoid(self.values[at] - self.values[to]))
        return _between(chance, _sigmoid(self.resampled[:, at] - self.resampled[:, to]))


def components(pairs: Comparisons) -> list[list[ExpertId]]:
    """Return the groups of experts that are compared, directly or over others, largest first."""
    group = list(range(len(pairs.experts)))

    def root(i: int) -> int:
        while group[i] != i:
            group[i] = group[group[i]]
            i = group[i]
        return i

    for a, b in {*zip(pairs.first.tolist(), pairs.second.tolist(), strict=True)}:
        group[root(a)] = root(b)
    found: dict[int, list[ExpertId]] = {}
    for i, expert in enumerate(pairs.experts):
        found.setdefault(root(i), []).append(expert)
    return sorted(found.values(), key=len, reverse=True)


def evened(pairs: Comparisons) -> Comparisons:
    """Return the comparisons with weights that sum, for each two experts, to how many equally
    weighted ones would leave as much doubt (Kish).

    Weights then say within a pair what its verdicts stand for, so that those drawn for their small
    gap do not pass for all, and a pair of which one in a hundred was drawn does not outshout those
    that are always judged.
    """
    m = len(pairs.experts)
    low, high = np.minimum(pairs.first, pairs.second), np.maximum(pairs.first, pairs.second)
    of_pair = low * m + high
    total = np.bincount(of_pair, weights=pairs.weight, minlength=m * m)
    squares = np.bincount(of_pair, weights=pairs.weight**2, minlength=m * m)
    return replace(pairs, weight=pairs.weight * (total[of_pair] / squares[of_pair]))


def strengths(
    pairs: Comparisons, *, rng: np.random.Generator, resamples: int = RESAMPLES
) -> Strengths | None:
    """Return the experts' strengths, with 95 % intervals by resampling whole prompts.

    None when no chain of comparisons leads from some expert to another (``components`` says which):
    their strengths have no common scale.
    """
    if len(components(pairs)) != 1:
        return None
    columns = _columns(pairs)
    fitted = _fit(pairs, pairs.weight, columns, np.zeros(len(pairs.experts) + columns.shape[0]))
    _, prompt = np.unique(pairs.prompt, return_inverse=True)
    count = int(prompt.max()) + 1
    drawn = np.empty((resamples, fitted.size))
    for i in range(resamples):
        times = np.bincount(rng.integers(count, size=count), minlength=count)[prompt]
        drawn[i] = _fit(pairs, pairs.weight * times, columns, fitted)
    m = len(pairs.experts)
    effect = _between(fitted[m], drawn[:, m]) if columns.shape[0] else None
    return Strengths(
        experts=pairs.experts,
        values=_centred(fitted[:m]),
        resampled=_centred(drawn[:, :m]),
        length_effect=effect,
    )


def _columns(pairs: Comparisons) -> FloatArray:
    """Return the further regressors, float64[0 or 1, n]."""
    if pairs.longer_by is None:
        return np.empty((0, len(pairs.first)))
    spread = float(pairs.longer_by.std())
    return np.tanh(pairs.longer_by / spread if spread else pairs.longer_by)[None, :]


def _fit(
    pairs: Comparisons, weight: FloatArray, columns: FloatArray, start: FloatArray
) -> FloatArray:
    """Return the maximum of the weighted, slightly penalised likelihood by Newton's method.

    A step is cut where it is long: far from the maximum the curvature says too little.
    """
    m, found = len(pairs.experts), start.copy()
    weight = weight / weight[weight > 0.0].mean()
    for _ in range(_STEPS):
        chance = _sigmoid(found[pairs.first] - found[pairs.second] + found[m:] @ columns)
        slope = _gradient(pairs, weight * (pairs.preference - chance), columns) - RIDGE * found
        bend = _curvature(pairs, weight * chance * (1.0 - chance), columns)
        step = np.linalg.solve(bend + RIDGE * np.eye(found.size), slope)
        longest = float(np.abs(step).max())
        found += step * min(1.0, _LONGEST_STEP / longest) if longest else 0.0
        if longest < _CLOSE:
            break
    return found


def _gradient(pairs: Comparisons, pull: FloatArray, columns: FloatArray) -> FloatArray:
    m = len(pairs.experts)
    up = np.bincount(pairs.first, weights=pull, minlength=m)
    down = np.bincount(pairs.second, weights=pull, minlength=m)
    return np.concatenate([up - down, columns @ pull])


def _curvature(pairs: Comparisons, mass: FloatArray, columns: FloatArray) -> FloatArray:
    m = len(pairs.experts)
    met = np.bincount(pairs.first * m + pairs.second, weights=mass, minlength=m * m)
    met = met.reshape(m, m)
    both = met + met.T
    among = np.diag(both.sum(axis=1)) - both
    mixed = np.array(
        [
            np.bincount(pairs.first, weights=mass * column, minlength=m)
            - np.bincount(pairs.second, weights=mass * column, minlength=m)
            for column in columns
        ]
    ).reshape(len(columns), m)
    return np.block([[among, mixed.T], [mixed, (columns * mass) @ columns.T]])


def _between(value: float | np.floating, resampled: FloatArray) -> Estimate:
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(resampled, [tail, 1.0 - tail])
    return Estimate(value=float(value), low=float(low), high=float(high))


def _centred(values: FloatArray) -> FloatArray:
    centred: FloatArray = values - values.mean(axis=-1, keepdims=True)
    return centred


def _sigmoid(x: FloatArray) -> FloatArray:
    odds: FloatArray = 0.5 * (1.0 + np.tanh(0.5 * x))
    return odds
