"""Labels to losses in λ (promise.md section 2)."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from recalibrate.controller import Losses
from store.records import FloatArray

BoolArray = npt.NDArray[np.bool_]


def worst_in_set(scores: FloatArray, acceptable: BoolArray) -> Losses:
    """Return the loss "some member of C_λ is unacceptable".

    Monotone in λ and valid for any choice inside C_λ, so it stays right under exploration, the
    comparator and the pacer.

    Parameters
    ----------
    scores
        float64[n, M] out-of-fold scores with jitter; NaN for what never enters C_λ.
    acceptable
        bool[n, M]; an expert that was not judged counts as unacceptable.
    """
    considered = np.isfinite(scores) & ~acceptable
    worst = np.where(considered, scores, -np.inf).max(axis=1, initial=-np.inf)
    n = len(scores)
    return Losses(points=worst[:, None], drops=np.ones((n, 1)), floor=np.zeros(n), is_binary=True)


def set_fpr(
    scores: FloatArray, acceptable: BoolArray, *, stage_one_loss: FloatArray | None = None
) -> Losses:
    """Return CR²'s loss (eq. 13): the share of unacceptable experts that C_λ admits.

    With ``stage_one_loss`` (float64[n], NaN where stage 2 decides) the paper's gate is included;
    its loss does not depend on λ and can make every λ infeasible (algorithms.md 2.3, item 2).
    It bounds the set, not the served action: an empty set has loss 0 and still serves someone.
    """
    wrong = ~acceptable & np.isfinite(scores)
    count = np.maximum(wrong.sum(axis=1, keepdims=True), 1)
    drops = np.where(wrong, 1.0 / count, 0.0)
    floor = np.zeros(len(scores))
    if stage_one_loss is not None:
        gated = np.isfinite(stage_one_loss)
        drops[gated] = 0.0
        floor = np.where(gated, stage_one_loss, 0.0)
    points = np.where(wrong, scores, -np.inf)
    return Losses(points=points, drops=drops, floor=floor, is_binary=False)
