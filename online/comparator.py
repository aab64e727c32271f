"""The pairwise comparator that decides when the gap is too small to trust (CARGO, section 1.7).

P(A beats B | x) = sigmoid(w · (f(x, A) − f(x, B))): antisymmetric by construction, unlike the
paper's classifier on one-hot ids, and usable for an expert that joined a minute ago because the
features are descriptions, not names. "Beats" is ``cargo.outcome``: the better answer, or the
cheaper of two that are acceptable against each other.
"""

from __future__ import annotations

import numpy as np

from online.cargo import sigmoid
from store.records import FloatArray

FEATURES = ("table", "calibrated_cosine", "cosine", "cost")
_SCALE = np.array([10.0, 10.0, 1.0, 1.0])
LEARNING_RATE = 0.02


def features(
    *, table: FloatArray, calibrated: FloatArray, cosine: FloatArray, relative_cost: FloatArray
) -> FloatArray:
    """Return float64[M, 4] descriptions of M experts on one prompt, scaled to order one."""
    described: FloatArray = np.column_stack([table, calibrated, cosine, relative_cost]) * _SCALE
    return described


class Comparator:
    """Online logistic regression without intercept on the difference of two descriptions."""

    def __init__(self) -> None:
        from river import linear_model, optim  # noqa: PLC0415  slow; serving never learns

        self._model = linear_model.LogisticRegression(
            optimizer=optim.SGD(LEARNING_RATE), intercept_lr=0.0
        )

    def learn(self, first: FloatArray, second: FloatArray, *, beats: float, weight: float) -> None:
        """Update with one judged pair; ``beats`` is from ``cargo.outcome``."""
        x = dict(zip(FEATURES, (first - second).tolist(), strict=True))
        for outcome, share in ((True, beats), (False, 1.0 - beats)):
            if share > 0.0:
                self._model.learn_one(x, outcome, w=weight * share)

    def frozen(self) -> FloatArray:
        """Return float64[4] weights."""
        return np.array([self._model.weights.get(name, 0.0) for name in FEATURES])


def probability(first: FloatArray, second: FloatArray, weights: FloatArray) -> float:
    """Return P(first beats second); ``probability(a, b) + probability(b, a) == 1``."""
    return sigmoid(float((first - second) @ weights))
