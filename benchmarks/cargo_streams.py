"""Recorded labels as CARGO's regressors meet them, and the fit to all of them at once.

Settings were chosen on the training half of ``mmlupro``. Of each set the clusters are fitted on
training prompts, which takes no label; what is learnt and what is scored are the other prompts.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import numpy.typing as npt

from benchmarks.newcomer_sets import TRAIN, Recorded, Rows
from online import regress
from online.categories import NAMES, Categories
from online.clusters import CLUSTERS, fit_centroids
from online.regress import RegressorModel, Regressors
from store.records import Float32Array, FloatArray

UNKNOWN = len(NAMES) - 1


@dataclass(frozen=True)
class Stream:
    """n prompts in an order drawn at random, with what M experts made of them."""

    centroids: Float32Array
    """float32[K, d]"""
    embeddings: Float32Array
    """float32[n, d]"""
    categories: Rows
    """int64[n]"""
    quality: FloatArray
    """float64[n, M]"""

    @cached_property
    def features(self) -> FloatArray:
        """Return float64[n, K]: what is regressed on."""
        return regress.features(self.embeddings, self.centroids)

    def empty(self, experts: int) -> Regressors:
        """Return regressors without a label."""
        return Regressors(self.centroids, experts=experts, categories=len(NAMES))

    def teach(self, made: Regressors, row: int, *, experts: int) -> None:
        """Teach one prompt on which the first experts were judged."""
        known = dict(enumerate(self.quality[row, :experts].tolist()))
        made.learn(self.features[row], int(self.categories[row]), known, weight=1.0)

    def learnt(self, count: int) -> Regressors:
        """Return the regressors after the first prompts, all experts judged on each."""
        made = self.empty(self.quality.shape[1])
        for row in range(count):
            self.teach(made, row, experts=self.quality.shape[1])
        return made


def streams(data: Recorded, categories: Categories, count: int, seed: int) -> list[Stream]:
    """Return the prompts outside the training half in so many random orders."""
    half = data.rows(TRAIN)
    centroids = fit_centroids(data.embeddings[half], data.folds[half].tolist())[0]
    rest = np.flatnonzero(data.part != TRAIN)
    drawn = []
    for number in range(count):
        rows = np.random.default_rng((seed, number)).permutation(rest)
        vectors = data.embeddings[rows]
        drawn.append(Stream(centroids, vectors, categories.of(vectors), data.quality[rows]))
    return drawn


def refitted(stream: Stream, judged: npt.NDArray[np.bool_], weights: FloatArray) -> RegressorModel:
    """Return the model of the first len(judged) prompts, fitted at once and by another road.

    Weighted least squares with rows for the ridge, expert by expert, instead of normal equations.
    """
    n, experts = judged.shape
    aged = weights * regress.FORGETTING ** np.arange(n)[::-1]
    features = stream.features[:n]
    made = np.empty((len(NAMES), CLUSTERS, experts))
    for m in range(experts):
        over_all = _least_squares(features, stream.quality[:n, m], aged * judged[:, m])
        for c in range(len(NAMES)):
            own = aged * judged[:, m] * (stream.categories[:n] == c) * (c != UNKNOWN)
            share = own.sum() / (own.sum() + regress.PRIOR_LABELS)
            fit = _least_squares(features, stream.quality[:n, m], own) if share else over_all
            made[c, :, m] = share * fit + (1.0 - share) * over_all
    return RegressorModel(stream.centroids, made, aged @ judged)


def _least_squares(features: FloatArray, quality: FloatArray, weights: FloatArray) -> FloatArray:
    rows = weights > 0.0
    root = np.sqrt(weights[rows])
    mean = np.average(quality[rows], weights=weights[rows])
    ridge = np.sqrt(regress.RIDGE) * np.eye(features.shape[1])
    design = np.vstack([root[:, None] * features[rows], ridge])
    aim = np.concatenate([root * (quality[rows] - mean), np.zeros(len(ridge))])
    return np.asarray(mean + np.linalg.lstsq(design, aim)[0])
