"""Go, no-go or not yet: what mode ``apply`` would cost and risk at a target, on judged traffic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from online.costs import count_tokens
from online.state import RoutingState
from recalibrate.crossfit import (
    EVALUATED,
    SCARCE,
    Evidence,
    Stretch,
    Trial,
    stretches,
    threshold_at,
    trials,
)
from recalibrate.go import Answer, answer_of
from recalibrate.phases import ExpertShare
from recalibrate.realised import (
    Interval,
    Realised,
    ratio_of_means,
    realised_risk,
    spread,
    widened,
)
from recalibrate.supply import hours, labels_to_floor
from store.policy import PolicySettings
from store.records import FOLDS, ExpertId, FloatArray, Reason, RequestId


@dataclass(frozen=True, slots=True, kw_only=True)
class Spending:
    """What the answers to the judged requests cost, as far as it was stated."""

    stated: Mapping[tuple[RequestId, ExpertId], float]
    texts: Mapping[RequestId, str]
    """Of the prompts, for their length alone."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Outlook:
    """What is to be expected of mode ``apply`` at one risk target."""

    alpha: float
    threshold: float
    """λ by the rule in force on all labels; 2 is SAFE."""
    safe_reason: Reason | None
    effective_labels: float
    answer: Answer
    because: str
    risk: Realised | None
    """Share of requests with an unacceptable answer; None before there is anything to look at."""
    is_weighted: bool
    """π was not constant: Wilson's interval at the effective size, an approximation."""
    cost_share: Interval | None
    """Cost over always asking the reference."""
    experts: tuple[ExpertShare, ...]
    unjudged: int
    """Requests whose expert was not judged there; counted as unacceptable."""
    labels_to_floor: int | None
    """None: they never come together at this label rate."""
    labels_to_decide: int | None
    """None: decided, or no number that is looked at would decide it."""
    hours_left: float | None
    """Until both are there, at the rate of the last day; None when nobody can say."""

    @property
    def is_decided(self) -> bool:
        """Return whether the answer is go or no-go."""
        return self.answer is not Answer.NOT_YET


@dataclass(frozen=True, slots=True)
class _Figures:
    found: tuple[Trial, ...]
    weights: FloatArray
    """float64[n]: 1/π."""
    rate: float
    size: int
    """n if π is constant, else Kish's effective size."""
    cost: Interval | None


def outlook(
    given: Evidence, spending: Spending, *, alpha: float, labels_per_hour: float | None
) -> Outlook:
    """Return the outlook at one target."""
    policy = replace(given.state.policy, alpha=alpha)
    in_force = threshold_at(given, policy)
    looked_at = stretches(given, policy)
    newest = [in_force, *(looked_at[-1].thresholds.values() if looked_at else ())]
    is_short = any(t.safe_reason in SCARCE for t in newest)
    seen = None if is_short else _figures(given, looked_at, policy, spending)
    risk, cost = _with_noise(given, seen, policy, spending) if seen else (None, None)
    whole = FOLDS / (FOLDS - 1)
    least = min(t.effective_labels * (1.0 if t is in_force else whole) for t in newest)
    to_floor = labels_to_floor(least, policy=policy)
    to_decide = _to_decide(risk)
    answer, because = answer_of(
        alpha,
        is_short=is_short,
        is_safe=in_force.safe_reason is not None,
        risk=risk,
        cost=cost,
        labels_to_floor=to_floor,
        labels_to_decide=to_decide,
    )
    needed = max((n for n in (to_floor, to_decide) if n), default=None)
    return Outlook(
        alpha=alpha,
        threshold=in_force.value,
        safe_reason=in_force.safe_reason,
        effective_labels=in_force.effective_labels,
        answer=answer,
        because=because,
        risk=risk,
        is_weighted=seen is not None and float(np.ptp(seen.weights)) > 0.0,
        cost_share=cost,
        experts=_shares(seen) if seen else (),
        unjudged=sum(not t.is_judged for t in seen.found) if seen else 0,
        labels_to_floor=to_floor,
        labels_to_decide=to_decide,
        hours_left=hours(needed, labels_per_hour),
    )


def _figures(
    given: Evidence, looked_at: Sequence[Stretch], policy: PolicySettings, spending: Spending
) -> _Figures:
    """Return rate and cost share, weighted by 1/π (Horvitz-Thompson, normalised)."""
    found = trials(given, looked_at, policy, spending.texts)
    weights = np.array([1.0 / t.row.request.inclusion_probability for t in found])
    lost = np.array([t.is_unacceptable for t in found], dtype=np.float64)
    pairs = np.array([_costs(t, given.state, spending) for t in found])
    return _Figures(
        found=tuple(found),
        weights=weights,
        rate=float(weights @ lost / weights.sum()),
        size=round(float(weights.sum() ** 2 / (weights @ weights))),
        cost=ratio_of_means(weights * pairs[:, 0], weights * pairs[:, 1]),
    )


def _with_noise(
    given: Evidence, seen: _Figures, policy: PolicySettings, spending: Spending
) -> tuple[Realised, Interval | None]:
    """Return risk and cost with intervals that count the noise of the requests and that of λ.

    λ is made of judged requests too. Over a window of n of them a λ that moves along is off, on
    the scale of its target, by about √(α(1 − α)/n) whatever its memory: the longer the memory, the
    less each λ is off and the fewer different ones there are. So what the figures would be at
    targets that much lower and higher is how far they may be off for that reason.
    """
    off = math.sqrt(policy.alpha * (1.0 - policy.alpha) / seen.size)
    lowest = (policy.alpha + policy.ramp_quota) / 2.0  # a target must exceed the quota
    targets = (max(policy.alpha - off, lowest), min(policy.alpha + off, (1.0 + policy.alpha) / 2))
    near = []
    for target in targets:
        beside = replace(policy, alpha=target)
        near.append(_figures(given, stretches(given, beside), beside, spending))
    risk = realised_risk(round(seen.rate * seen.size), seen.size, alpha=policy.alpha)
    risk = widened(risk, abs(near[1].rate - near[0].rate) / 2.0, alpha=policy.alpha)
    costs = [figures.cost.value for figures in near if figures.cost is not None]
    if seen.cost is None or len(costs) < len(near):
        return risk, None
    return risk, spread(seen.cost, abs(costs[1] - costs[0]) / 2.0)


def _costs(trial: Trial, state: RoutingState, spending: Spending) -> tuple[float, float]:
    """Return what the expert and the reference cost here: both as stated, or both as expected."""
    request_id, reference = trial.row.request.request_id, state.policy.reference
    own = spending.stated.get((request_id, trial.expert))
    best = spending.stated.get((request_id, reference))
    if own is not None and best is not None:
        return own, best
    tokens = count_tokens(spending.texts.get(request_id, ""))
    return state.members[trial.expert].cost(tokens), state.members[reference].cost(tokens)


def _shares(seen: _Figures) -> tuple[ExpertShare, ...]:
    names, weights = [t.expert for t in seen.found], seen.weights
    shares = {
        name: float(weights[[n == name for n in names]].sum() / weights.sum())
        for name in set(names)
    }
    return tuple(
        ExpertShare(expert=name, requests=names.count(name), share=share)
        for name, share in sorted(shares.items(), key=lambda item: (-item[1], item[0]))
    )


def _to_decide(risk: Realised | None) -> int | None:
    if risk is None or risk.labels_needed is None or risk.labels_needed > EVALUATED:
        return None
    return max(1, risk.labels_needed - risk.requests)
