"""Learning one judged request at a time: tables, descriptors, calibration, and CARGO's regressors,
gap and comparator.

The learner is a pure function of its settings and of the judged requests in ledger order:
``learner.py`` replays late ones, so the same labels give the same bits however they arrived.
"""

from __future__ import annotations

import copy
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Self

import numpy as np

from online import regress
from online.cargo import GapConfidence, outcome, within
from online.categories import NAMES, number_of
from online.clusters import membership, unit_rows
from online.comparator import Comparator, features
from online.isotonic import KNOTS, MIN_PAIRS, fit_knots
from online.regress import NOTHING_KNOWN, Regressors
from online.scorer import MIN_EVIDENCE, ScorerModel
from store.records import FOLDS, ExpertId, Float32Array, FloatArray, SampledRequest

FORGETTING = 0.999
"""Weight of a judged request relative to the next one in the tables: half-life 693 requests."""
SHRINKAGE = 4.0
"""Pseudo-labels of the expert's own mean in each cluster."""
MAX_WEIGHT = 10.0
"""Cap of a stabilised inverse-probability weight in training (λ uses the uncapped one)."""
_PAIRS_KEPT = 512
_REFIT_EVERY = 16
"""Judged requests between refits of the maps; the points depend on ledger order alone."""


@dataclass(slots=True, kw_only=True)
class JudgedRequest:
    """A sampled request with what its labels say so far."""

    request: SampledRequest
    scores: dict[ExpertId, float] = field(default_factory=dict)
    """Judged quality by expert; the reference has one too. Unreadable verdicts are absent."""
    outcomes: dict[ExpertId, int] = field(default_factory=dict)
    probed: set[ExpertId] = field(default_factory=set)
    """Experts judged here as a probe, after the fact; they do not count as sampled traffic."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnSettings:
    """What shapes learning besides the labels; a change means learning anew."""

    columns: tuple[ExpertId, ...]
    relative_costs: tuple[float, ...]
    """Expected cost over the reference's, by column."""
    cost_weight: float
    margin: float
    """How much worse a judged answer may be and still be acceptable."""


@dataclass(frozen=True, slots=True)
class _Prompt:
    """A prompt as one excluded fold's clusters see it."""

    membership: FloatArray
    """float64[K]"""
    features: FloatArray
    """float64[K]: softer, for the regressors."""
    category: int


class OnlineLearner:
    """All five fold entries side by side.

    Parameters
    ----------
    centroids
        float32[5, K, d] from ``clusters.fit_centroids``.
    """

    def __init__(self, centroids: Float32Array, settings: LearnSettings) -> None:
        k, m = centroids.shape[1], len(settings.columns)
        self._centroids = centroids
        self._settings = settings
        self._column = {name: i for i, name in enumerate(settings.columns)}
        self._costs = np.array(settings.relative_costs)
        self._sums = np.zeros((FOLDS, k, m))
        self._counts = np.zeros((FOLDS, k, m))
        self._pairs: list[list[deque[tuple[float, float, float]]]] = [
            [deque(maxlen=_PAIRS_KEPT) for _ in range(m)] for _ in range(FOLDS)
        ]
        self._knots = np.full((FOLDS, m, len(KNOTS)), 0.5)
        self._regressors = [
            Regressors(centres, experts=m, categories=len(NAMES)) for centres in centroids
        ]
        self._maps = np.full((FOLDS, len(NAMES), k, m), NOTHING_KNOWN)
        """Solved with the isotonic maps, for the gaps that are learnt from until the next time."""
        self._gaps = [GapConfidence() for _ in range(FOLDS)]
        self._comparators = [Comparator() for _ in range(FOLDS)]
        self._inverse_mean = 0.0
        self._seen = 0

    def copy(self) -> Self:
        """Return an independent learner in the same state."""
        return copy.deepcopy(self)

    def learn(self, judged: JudgedRequest) -> None:
        """Take in one judged request; fold 0 and requests without a score teach nothing."""
        fold = judged.request.fold
        known = {self._column[e]: s for e, s in judged.scores.items() if e in self._column}
        if fold == 0 or not known:
            return
        weight = self._weight(judged.request.inclusion_probability)
        entries = [e for e in range(FOLDS) if e != fold]
        weights = membership(judged.request.embedding, self._centroids)
        described = regress.features(judged.request.embedding, self._centroids)
        category = number_of(judged.request.category)
        table, descriptors = self._table(), self._descriptors()
        for e in entries:  # everything below sees the tables as they were before this label
            prompt = _Prompt(weights[e], described[e], category)
            self._learn_out_of_sample(e, prompt, table[e], descriptors[e], known, weight)
        self._sums *= FORGETTING
        self._counts *= FORGETTING
        for column, quality in known.items():
            self._sums[entries, :, column] += weight * weights[entries] * quality
            self._counts[entries, :, column] += weight * weights[entries]
        for e in entries:
            self._regressors[e].learn(described[e], category, known, weight=weight)
        self._seen += 1
        if self._seen % _REFIT_EVERY == 0:
            self._refit()

    def frozen(self) -> ScorerModel:
        """Return the scorer as it stands; the arrays are copies."""
        return ScorerModel(
            columns=self._settings.columns,
            relative_costs=self._costs.copy(),
            centroids=self._centroids,
            table=self._table(),
            evidence=self._counts.sum(axis=1),
            descriptors=self._descriptors(),
            calibration=self._knots.copy(),
            gap=np.stack([g.frozen() for g in self._gaps]),
            comparator=np.stack([c.frozen() for c in self._comparators]),
            regressors=self._solved(),
        )

    def _solved(self) -> FloatArray:
        return np.stack([r.weights(range(len(NAMES))) for r in self._regressors])

    def _weight(self, inclusion_probability: float) -> float:
        """Return the stabilised 1/π: relative to its running mean, capped."""
        inverse = 1.0 / inclusion_probability
        step = max(1.0 / (self._seen + 1), 1.0 - FORGETTING)
        self._inverse_mean += step * (inverse - self._inverse_mean)
        return min(inverse / self._inverse_mean, MAX_WEIGHT)

    def _table(self) -> FloatArray:
        means = self._means()
        return (self._sums + SHRINKAGE * means[:, None, :]) / (self._counts + SHRINKAGE)

    def _means(self) -> FloatArray:
        totals = self._counts.sum(axis=1)
        return np.where(totals > 0.0, self._sums.sum(axis=1) / np.maximum(totals, 1e-12), 0.5)

    def _descriptors(self) -> FloatArray:
        """Return float64[5, M, K]: profiles around the expert's own mean, unit length.

        The level is left to the calibration map; what is kept is where the expert is better.
        """
        profile = self._table() - self._means()[:, None, :]
        return unit_rows(np.swapaxes(profile, 1, 2))

    def _learn_out_of_sample(
        self,
        e: int,
        prompt: _Prompt,
        table: FloatArray,
        descriptors: FloatArray,
        known: Mapping[int, float],
        weight: float,
    ) -> None:
        cosine = unit_rows(prompt.membership) @ descriptors.T
        from_table = prompt.membership @ table
        calibrated = np.array(
            [np.interp(c, KNOTS, self._knots[e, m]) for m, c in enumerate(cosine)]
        )
        ready = self._counts[e].sum(axis=0) >= MIN_EVIDENCE
        self._learn_pair(e, prompt, cosine, from_table, calibrated, ready, known, weight)
        for column, quality in known.items():
            self._pairs[e][column].append((float(cosine[column]), quality, weight))

    def _learn_pair(
        self,
        e: int,
        prompt: _Prompt,
        cosine: FloatArray,
        table: FloatArray,
        calibrated: FloatArray,
        ready: FloatArray,
        known: Mapping[int, float],
        weight: float,
    ) -> None:
        """Teach gap and comparator the two best by predicted utility, if both were judged."""
        quality = (table + calibrated) / 2.0
        utility = np.where(ready, quality - self._settings.cost_weight * self._costs, -np.inf)
        if int(np.count_nonzero(ready)) < 2:
            return
        first, second = (int(i) for i in np.argsort(-utility, kind="stable")[:2])
        if first not in known or second not in known:
            return
        lead = known[first] - known[second]
        margin = self._settings.margin
        maps = self._maps[e, prompt.category]
        ours, theirs = regress.predicted(maps, prompt.features, (first, second)).tolist()
        self._gaps[e].learn(
            ours - theirs,
            first_holds=within(-lead, margin),
            weight=weight,
        )
        described = features(
            table=table, calibrated=calibrated, cosine=cosine, relative_cost=self._costs
        )
        saving = float(self._costs[second] - self._costs[first])
        self._comparators[e].learn(
            described[first],
            described[second],
            beats=outcome(lead, saving, margin=margin),
            weight=weight,
        )

    def _refit(self) -> None:
        self._maps = self._solved()
        means = self._means()
        for e in range(FOLDS):
            for m, pairs in enumerate(self._pairs[e]):
                if len(pairs) >= MIN_PAIRS:
                    raw, quality, weight = zip(*pairs, strict=True)
                    self._knots[e, m] = fit_knots(raw, quality, weight, fallback=means[e, m])
                else:
                    self._knots[e, m] = means[e, m]
