"""CARGO's gap and what it is worth (arXiv 2509.14899).

The paper routes to the best-scored expert when the gap to the second exceeds a τ picked on the
test set, on rank targets 0.1 apart. Here the gap (of the utility that the choice maximises) is
turned into a probability, P(the first is really acceptable against the second), learnt online from
gaps that were computed before their label was (algorithms.md 1.7, rule 4); τ is then a
probability. "Acceptable" is the promise's own word: judged at most the margin worse.
"""

from __future__ import annotations

import math

import numpy as np

from store.records import FloatArray

UNIT = 0.1
"""Gaps enter the model in tenths, so that one learning rate suits slope and intercept."""
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
    """Online logistic regression of "the first is acceptable against the second" on the gap."""

    def __init__(self) -> None:
        from river import linear_model, optim  # noqa: PLC0415  slow; serving never learns

        self._model = linear_model.LogisticRegression(
            optimizer=optim.SGD(LEARNING_RATE), intercept_lr=LEARNING_RATE
        )

    def learn(self, gap: float, *, first_holds: bool, weight: float) -> None:
        """Update with one pair; ``gap`` must predate the pair's label."""
        self._model.learn_one({"gap": gap / UNIT}, first_holds, w=weight)

    def frozen(self) -> FloatArray:
        """Return float64[2]: slope per ``UNIT`` and intercept."""
        return np.array([self._model.weights.get("gap", 0.0), self._model.intercept])


def confidence(gap: float, frozen: FloatArray) -> float:
    """Return P(first acceptable) in (0, 1); never decreasing in the gap."""
    slope, intercept = float(frozen[0]), float(frozen[1])
    return sigmoid(max(slope, 0.0) * gap / UNIT + intercept)


def sigmoid(x: float) -> float:
    """Return the logistic function without overflow."""
    return 1.0 / (1.0 + math.exp(-x)) if x >= 0.0 else math.exp(x) / (1.0 + math.exp(x))
