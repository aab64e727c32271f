"""Which experts C_λ can contain: certified, undominated, at most four (CR², with our repairs).

An expert that is never preferred, whatever λ, only adds to the loss ``worst_in_set``: when another
certified expert scores at least as high *and* is preferred, it is admitted whenever the first one
is. Leaving the first one out changes no deterministic choice, keeps C_λ nested in λ (the rule does
not look at λ), and lets λ fall. The same holds for an expert that is never preferred to the
reference, which may always be served.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from store.records import FloatArray

MAX_CANDIDATES = 4
"""C_λ keeps its highest scores only; still nested in λ (promise.md section 3)."""
BoolArray = npt.NDArray[np.bool_]


def preference(
    scores: FloatArray, relative_costs: FloatArray, *, policy: str, cost_weight: float
) -> FloatArray:
    """Return float64[n, M]: what the deterministic choice maximises inside C_λ ∪ {reference}."""
    if policy == "cheapest":
        return np.broadcast_to(-relative_costs, scores.shape)
    return np.asarray(scores - cost_weight * relative_costs)


def eligible(
    scores: FloatArray, preferred: FloatArray, certified: BoolArray, *, reference: int
) -> BoolArray:
    """Return bool[n, M]: the members of C_λ at λ = 0.

    Parameters
    ----------
    scores
        float64[n, M] with jitter, so that no two are equal; NaN without evidence.
    preferred
        float64[n, M] from ``preference``.
    certified
        bool[M]; the reference's entry does not matter, it is never a member.
    reference
        Its column.
    """
    members = np.isfinite(scores) & certified
    members[:, reference] = False
    # NaN compares false: a reference without a score rules nobody out.
    members &= ~(preferred[:, [reference]] >= preferred)
    for column in np.flatnonzero(certified):
        if column != reference:
            better = (scores[:, [column]] > scores) & (preferred[:, [column]] >= preferred)
            members &= ~(better & members[:, [column]])
    return _highest(scores, members)


def _highest(scores: FloatArray, members: BoolArray) -> BoolArray:
    """Return the members among a row's ``MAX_CANDIDATES`` highest member scores."""
    if scores.shape[1] <= MAX_CANDIDATES:
        return members
    ranked = np.where(members, scores, -np.inf)
    bar = np.sort(ranked, axis=1)[:, -MAX_CANDIDATES][:, None]
    return members & (ranked >= bar)
