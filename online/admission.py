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
    members &= preferred > _best_above(scores, np.where(members, preferred, -np.inf))
    return _highest(scores, members)


def _best_above(scores: FloatArray, preferred: FloatArray) -> FloatArray:
    """Return float64[n, M]: the highest preference among a row's strictly higher scores.

    Whom a ruled-out member would rule out, its own better rules out too: one pass is enough.
    """
    order = np.argsort(-scores, axis=1, kind="stable")  # NaN last
    ranked = np.take_along_axis(scores, order, axis=1)
    highest = np.maximum.accumulate(np.take_along_axis(preferred, order, axis=1), axis=1)
    before = np.full(scores.shape, -np.inf)
    before[:, 1:] = highest[:, :-1]
    # Equal scores are not above each other: all of them take what is before the first.
    place = np.arange(scores.shape[1])
    is_first = np.ones(scores.shape, dtype=np.bool_)
    is_first[:, 1:] = ranked[:, 1:] != ranked[:, :-1]
    first = np.maximum.accumulate(np.where(is_first, place, 0), axis=1)
    found = np.empty_like(before)
    np.put_along_axis(found, order, np.take_along_axis(before, first, axis=1), axis=1)
    return found


def _highest(scores: FloatArray, members: BoolArray) -> BoolArray:
    """Return the members among a row's ``MAX_CANDIDATES`` highest member scores."""
    if scores.shape[1] <= MAX_CANDIDATES:
        return members
    ranked = np.where(members, scores, -np.inf)
    bar = np.sort(ranked, axis=1)[:, -MAX_CANDIDATES][:, None]
    return members & (ranked >= bar)
