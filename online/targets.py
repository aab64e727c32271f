"""From pairwise verdicts on one prompt to what CARGO's regressors learn (arXiv 2509.14899).

The paper sums an expert's wins over judges and opponents (Borda) and its code regresses the *rank*
of that sum: weights M..1 over their sum. A rank forgets by how much, so ours is the normalised sum
itself, ties kept as halves; the ranks are there for comparison (algorithms.md 1.2, 1.7).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np

from store.records import FloatArray

Vote = tuple[int, int, float]
"""Two different experts by column and how far a judge prefers the first: 1, 0.5 for a tie, 0."""


def targets(
    votes: Sequence[Vote], experts: int, *, target: Literal["borda", "cargo"] = "borda"
) -> FloatArray:
    """Return float64[experts] in [0, 1]: what each expert's regressor learns from these votes.

    An expert that no vote compares is NaN: not judged is not worst.

    Raises
    ------
    ValueError
        A vote compares an expert with itself, or its preference is outside [0, 1].
    """
    borda = soft_borda(votes, experts)
    return borda if target == "borda" else rank_weights(borda)


def soft_borda(votes: Sequence[Vote], experts: int) -> FloatArray:
    """Return float64[experts]: mean preference over the votes that an expert is in.

    With every pair before every judge it is S_i / (judges · (experts − 1)); with some pairs missing
    each expert's sum is over its own votes, where the paper drops the prompt.
    """
    sums, counts = np.zeros(experts), np.zeros(experts)
    for first, second, preference in votes:
        if first == second or not 0.0 <= preference <= 1.0:
            raise ValueError(f"no vote: {first} against {second} at {preference}")
        sums[[first, second]] += preference, 1.0 - preference
        counts[[first, second]] += 1.0
    means = np.divide(sums, counts, out=np.full(experts, np.nan), where=counts > 0.0)
    return np.asarray(means)


def rank_weights(scores: FloatArray) -> FloatArray:
    """Return float64[M]: the weight M..1 of each rank over the sum of all; NaN stays NaN.

    Ties share the better rank; the published code shares a rank too, which one it does not show.
    """
    judged = np.isfinite(scores)
    known = scores[judged]
    better = (known[None, :] > known[:, None]).sum(axis=1)
    weights = len(known) - better
    ranked = np.full(scores.shape, np.nan)
    ranked[judged] = weights / max(weights.sum(), 1)
    return ranked
