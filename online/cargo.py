"""CARGO's gap and what it is worth (arXiv 2509.14899).

The paper routes to the best-scored expert when the gap to the second exceeds a τ picked on the
test set, on rank targets 0.1 apart. Here the two are the best by the utility that the choice
maximises, the gap is that of what the regressors predict for them (negative where the first is
weaker and cheaper), and it is turned into a probability, P(the first is really acceptable against
the second), learnt online from gaps that were computed before their label was (algorithms.md 1.7,
rule 4); τ is then a probability. "Acceptable" is the promise's own word: judged at most the margin
worse.
"""

from __future__ import annotations

import math

import numpy as np

from store.records import FloatArray

UNIT = 0.1
"""The frozen slope is per tenth of score."""
LEARNING_RATE = 0.05


ROUNDING = 1e-9
"""Judged qualities are sums of decimals: a margin that is met exactly must count as met."""


def within(shortfall: float, margin: float) -> bool:
    """Return whether an answer judged worse by ``shortfall`` is still acceptable."""
    return shortfall <= margin + ROUNDING


def outcome(lead: float, saving: float, *, margin: float) -> float:
    """Return what a judged pair says: 1 if the first should have been served, 0 if the second.

    Parameters
    ----------
    lead
        Judged quality of the first minus the second's. Beyond the margin the better one wins.
    saving
        Cost of the second minus the first's. Within the margin the cheaper one wins; 0.5 when
        they cost the same.
    """
    if not within(abs(lead), margin):
        return float(lead > 0.0)
    return 0.5 if saving == 0.0 else float(saving > 0.0)


class GapConfidence:
    """Online logistic regression of "the first is acceptable against the second" on the gap.

    Gaps are standardised as they come: where they lie far from zero and close together, plain
    gradient steps would swing intercept and slope against each other.
    """

    def __init__(self) -> None:
        from river import linear_model, optim, preprocessing  # noqa: PLC0415  serving never learns

        self._scaler = preprocessing.StandardScaler()
        self._model = linear_model.LogisticRegression(
            optimizer=optim.SGD(LEARNING_RATE), intercept_lr=LEARNING_RATE
        )

    def learn(self, gap: float, *, first_holds: bool, weight: float) -> None:
        """Update with one pair; ``gap`` must predate the pair's label."""
        self._scaler.learn_one({"gap": gap})  # type: ignore[no-untyped-call]
        scaled = self._scaler.transform_one({"gap": gap})  # type: ignore[no-untyped-call]
        self._model.learn_one(scaled, first_holds, w=weight)

    def frozen(self) -> FloatArray:
        """Return float64[2]: slope per ``UNIT``, never negative, and intercept."""
        deviation = math.sqrt(self._scaler.vars["gap"])
        steepness = max(self._model.weights.get("gap", 0.0), 0.0)
        slope = steepness / deviation if deviation > 0.0 else 0.0
        intercept = self._model.intercept - slope * self._scaler.means["gap"]
        return np.array([slope * UNIT, intercept])


def confidence(gap: float, frozen: FloatArray) -> float:
    """Return P(first acceptable) in (0, 1); never decreasing in the gap."""
    slope, intercept = float(frozen[0]), float(frozen[1])
    return sigmoid(max(slope, 0.0) * gap / UNIT + intercept)


def sigmoid(x: float) -> float:
    """Return the logistic function without overflow."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0.0 else math.exp(x) / (1.0 + math.exp(x))
