"""How far the two best experts are apart, and which of them to take where that says too little."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np

from online.cargo import confidence
from online.categories import number_of
from online.comparator import features, probability
from online.regress import features as features_of
from online.regress import predicted
from online.scorer import ScorerModel, Scores
from online.state import RoutingState
from store.records import Float32Array, FloatArray


@dataclass(frozen=True, slots=True)
class Compared:
    """The two best by utility, as columns."""

    first: int
    second: int
    gap: float
    confidence: float
    """P(the first is acceptable against the second)."""
    probability: float | None
    """The comparator's P(first beats second), asked where the confidence is below τ."""

    @property
    def winner(self) -> int:
        return (
            self.second if self.probability is not None and self.probability < 0.5 else self.first
        )


def compared(
    embedding: Float32Array,
    scores: Scores,
    quality: FloatArray,
    costs: FloatArray,
    *,
    among: Collection[int],
    state: RoutingState,
    entry: int,
    category: str,
) -> Compared | None:
    """Compare the two best by utility; None where fewer than two have a score, or nobody has.

    Parameters
    ----------
    scores
        Of this prompt alone.
    quality, costs
        float64[M]: scores with jitter, and costs over the reference's for this prompt.
    among
        Columns of the experts retrieved, and the reference's.
    """
    model, utility = state.model, quality - state.policy.cost_weight * costs
    known = [i for i in among if np.isfinite(utility[i])]
    if model is None or len(known) < 2:
        return None
    first, second = sorted(known, key=lambda i: (-utility[i], i))[:2]
    gap = gap_of(model, embedding, quality, first, second, entry=entry, category=category)
    sure = confidence(gap, model.gap[entry])
    if sure >= state.policy.tau:
        return Compared(first, second, gap, sure, None)
    described = features(
        table=scores.table[0],
        calibrated=scores.calibrated[0],
        cosine=scores.cosine[0],
        relative_cost=costs,
    )
    p = probability(described[first], described[second], model.comparator[entry])
    return Compared(first, second, gap, sure, p)


def gap_of(
    model: ScorerModel,
    embedding: Float32Array,
    quality: FloatArray,
    first: int,
    second: int,
    *,
    entry: int,
    category: str,
) -> float:
    """Return how much better the first is predicted to be, in [-1, 1]; by the scores where a state
    from before the regressors serves.
    """
    if model.regressors is None:
        return float(quality[first] - quality[second])
    maps = model.regressors[entry, number_of(category)]
    described = features_of(embedding[None], model.centroids[entry])[0]
    ours, theirs = predicted(maps, described, (first, second)).tolist()
    return float(ours - theirs)
