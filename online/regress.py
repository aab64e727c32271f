"""CARGO's regressors of judged quality, learnt one label at a time (arXiv 2509.14899).

The gap is the difference of what they predict for two experts (``cargo``).

The paper fits a random forest on the embedding and fits it anew for new data. Ours is a ridge
regression (which the paper's code compares, too) on soft memberships in fixed clusters: the sums
that it is solved from take a label in as a rank-one update, so learning label by label *is* the
fit to all of them. Memberships instead of the embedding, or of a random projection of it, because a
label then moves the scores of prompts like its own and hardly any other's (DESIGN.md, 44).

Labels are forgotten geometrically and weighted by 1/π. A regressor for each category is shrunk to
the one over all: s = w s_c + (1 − w) s_all, w = n_c / (n_c + n_0) (algorithms.md 1.7, rule 5).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from online.clusters import membership
from store.records import Float32Array, FloatArray

SHARPNESS = 8.0
"""Inverse temperature of the memberships: softer than the tables', for ridge takes them apart."""
RIDGE = 1.0
FORGETTING = 0.999
"""Weight of a judged request relative to the next one, as in the tables."""
PRIOR_LABELS = 1_000.0
"""n_0: effective labels with which a category's regressor counts as much as the one over all. Any
larger number does as well on the prompts that it was chosen on (DESIGN.md, 44)."""
NOTHING_KNOWN = 0.5
_RESCALE_AT = 1e6


@dataclass(frozen=True, slots=True)
class RegressorModel:
    """What was learnt, frozen. C categories, the last of them unknown; K features; M experts."""

    centroids: Float32Array
    """float32[K, d], unit rows."""
    weights: FloatArray
    """float64[C, K, M]: both regressors and their mixture, in one linear map for each category."""
    evidence: FloatArray
    """float64[M]: effective labels behind an expert; 0 means that its score says nothing."""


def features(embeddings: npt.NDArray[np.floating], centroids: Float32Array) -> FloatArray:
    """Return float64[..., K]: what is regressed on, in the shapes of ``clusters.membership``."""
    return membership(embeddings, centroids, sharpness=SHARPNESS)


def predicted(maps: FloatArray, described: FloatArray, columns: Sequence[int]) -> FloatArray:
    """Return float64[len(columns)] in [0, 1]: predicted quality of some experts on one prompt.

    Parameters
    ----------
    maps
        float64[K, M]: those of the prompt's category.
    described
        float64[K]: the prompt's ``features``.
    """
    return np.asarray(np.clip(described @ maps[:, [*columns]], 0.0, 1.0))


def score(
    model: RegressorModel,
    embeddings: npt.NDArray[np.floating],
    categories: npt.NDArray[np.int64],
) -> FloatArray:
    """Return float64[n, M] in [0, 1]: predicted quality of float[n, d] unit rows.

    Parameters
    ----------
    categories
        int64[n]: each prompt's, from ``categories.Categories.of``.
    """
    described = features(embeddings, model.centroids)
    scores = np.empty((len(described), model.weights.shape[2]))
    for category in np.unique(categories):
        rows = categories == category
        scores[rows] = described[rows] @ model.weights[category]
    return np.clip(scores, 0.0, 1.0)


class Regressors:
    """The sums of one excluded fold's labels: what all its regressors are solved from.

    An expert's labels are not another's, so each would need a Gram matrix of its own; but experts
    that were always judged together have the same one. They share it until a label parts them. The
    one over all categories is the sum of theirs, so that a label is added once.

    Parameters
    ----------
    centroids
        float32[K, d], unit rows or zero ones, fitted without the excluded fold.
    experts
        How many there are.
    categories
        How many there are, the unknown last: it has no regressor of its own, for its prompts are
        alike in nothing but being far from the others.
    """

    def __init__(self, centroids: Float32Array, *, experts: int, categories: int) -> None:
        k = len(centroids)
        self._centroids = centroids
        self._grams = [np.zeros((categories, k, k))]
        self._gram_of = [0] * experts
        self._moments = np.zeros((categories, k, experts))
        self._one = 1.0
        """The weight, in the sums, of a label that is learnt now and has weight one."""

    def learn(
        self,
        described: FloatArray,
        category: int,
        known: Mapping[int, float],
        *,
        weight: float,
    ) -> None:
        """Take in one judged request; everything learnt before counts ``FORGETTING`` times as much.

        Parameters
        ----------
        described
            float64[K]: the prompt's ``features`` by these centroids.
        known
            Judged quality in [0, 1] by column; experts that were not judged are absent.
        weight
            1/π, stabilised and capped by the caller.
        """
        self._age()
        weighted = (weight * self._one) * described
        square = np.outer(weighted, described)
        for gram in self._shared_by(known):
            self._grams[gram][category] += square
        self._moments[category][:, [*known]] += np.outer(weighted, [*known.values()])

    def frozen(self) -> RegressorModel:
        """Return the model as it stands; solved here, not when a label is learnt."""
        evidence = np.array([self._grams[gram].sum() for gram in self._gram_of]) / self._one
        weights = self.weights(range(len(self._moments)))
        return RegressorModel(self._centroids, weights, evidence)

    def weights(self, categories: Sequence[int]) -> FloatArray:
        """Return float64[len(categories), K, M]: the maps of these categories alone, solved now."""
        used, gram_of = np.unique(self._gram_of, return_inverse=True)
        grams = np.stack([self._grams[number] for number in used]) / self._one
        moments = np.moveaxis(self._moments, 2, 0) / self._one
        over_all = solved(grams.sum(axis=1), moments.sum(axis=1), gram_of)
        made = np.empty((len(categories), over_all.shape[1], over_all.shape[0]))
        for place, category in enumerate(categories):
            labels = grams[:, category].sum(axis=(1, 2))[gram_of, None]
            if category == grams.shape[1] - 1 or not labels.any():  # unknown has none of its own
                made[place] = over_all.T
                continue
            share = labels / (labels + PRIOR_LABELS)
            own = solved(grams[:, category], moments[:, category], gram_of)
            made[place] = (share * own + (1.0 - share) * over_all).T
        return made

    def _age(self) -> None:
        """Forget: a label's weight grows instead of all the sums' shrinking at every label."""
        self._one /= FORGETTING
        if self._one > _RESCALE_AT:
            self._grams = [gram / self._one for gram in self._grams]
            self._moments /= self._one
            self._one = 1.0

    def _shared_by(self, known: Mapping[int, float]) -> set[int]:
        """Return the Gram matrices of exactly these experts, parted from the others' if need be."""
        for number in {self._gram_of[column] for column in known}:
            sharing = [c for c, held in enumerate(self._gram_of) if held == number]
            if any(column not in known for column in sharing):
                self._grams.append(self._grams[number].copy())
                for column in sharing:
                    if column in known:
                        self._gram_of[column] = len(self._grams) - 1
        return {self._gram_of[column] for column in known}


def solved(grams: FloatArray, moments: FloatArray, gram_of: npt.NDArray[np.intp]) -> FloatArray:
    """Return float64[M, K]: ridge weights of quality on memberships, around each expert's mean.

    Memberships sum to one, so the Gram matrix's sums are the labels, by cluster and in all, and the
    mean can be added to every weight. Without labels every weight is ``NOTHING_KNOWN``. Inverted
    once for each Gram matrix, all together: a pool judged in part has one for each expert.

    Parameters
    ----------
    grams
        float64[G, K, K]: Σ w φ φᵀ.
    moments
        float64[M, K]: Σ w φ q.
    gram_of
        int[M]: which is whose.
    """
    inverse = np.linalg.inv(grams + RIDGE * np.eye(grams.shape[1]))
    labels = grams.sum(axis=(1, 2))[gram_of, None]
    mean = moments.sum(axis=1, keepdims=True) / np.maximum(labels, np.finfo(np.float64).tiny)
    away = moments - grams.sum(axis=2)[gram_of] * mean
    weights = mean + np.einsum("mkl,ml->mk", inverse[gram_of], away)
    return np.where(labels > 0.0, weights, NOTHING_KNOWN)
