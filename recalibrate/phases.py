"""What was served, what it cost and what it was worth: one phase, or the whole stream."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from recalibrate.hindsight import CertifiedAt, Hindsight, best_in_hindsight
from recalibrate.realised import Interval, Realised, ratio_of_means, realised_risk, wilson
from recalibrate.stream_facts import ServedRequest, StreamFacts, is_worse
from store.records import ExpertId, FloatArray, Reason

SAFE_MODE = frozenset({Reason.SAFE_STARVED, Reason.SAFE_INFEASIBLE, Reason.SAFE_COLD, Reason.ERROR})


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertShare:
    """How much of the traffic an expert served."""

    expert: ExpertId
    requests: int
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Shares:
    """How requests came to their expert; shares of the phase's requests."""

    safe_mode: float
    """λ was at SAFE (cold, starved, infeasible) or the decision failed."""
    no_candidate: float
    """λ was in force and no expert was above it."""
    explored: float
    ramp: float
    pinned: float
    not_routed: float
    """Served by the reference because the mode was ``observe`` or ``off``."""
    comparator_asked: float
    comparator_decided: float
    degraded: float
    sampled: float
    """Judged, or waiting to be."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Baseline:
    """What always asking one expert would have given, on its recorded answers."""

    expert: ExpertId
    is_reference: bool
    is_cheapest: bool
    """Smallest mean cost; nobody without costs."""
    requests: int
    """Those it has a recorded answer to."""
    quality: float
    regret: Interval
    cost_usd: float | None
    """Mean per request."""
    cost_share: Interval | None


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseSummary:
    """One phase, or several together."""

    name: str
    requests: int
    first_position: int | None
    last_position: int | None
    quality: float | None
    """Mean judged quality of what was served."""
    reference_quality: float | None
    cost_usd: float | None
    """Total of what was served; None without costs."""
    reference_cost_usd: float | None
    cost_share: Interval | None
    """Served cost over the cost of always asking the reference."""
    regret: Realised
    """Pinned and observed requests, those of mode off and of tenants that opted out are outside the
    promise and not counted."""
    opted_out: int
    """Requests of tenants that opted out of judging: not covered."""
    unlabelled: int
    """Covered requests with π = 0 (a budget was spent, or the ledger was away): counted in the
    regret, though no label could come of them."""
    experts: tuple[ExpertShare, ...]
    shares: Shares | None
    baselines: tuple[Baseline, ...]
    hindsight: Hindsight | None


def phase_summary(
    name: str, requests: Sequence[ServedRequest], facts: StreamFacts, certified: CertifiedAt
) -> PhaseSummary:
    """Return the figures of these requests of the stream."""
    n = len(requests)
    covered = [r for r in requests if r.is_covered]
    cost = costs([r.cost_usd for r in requests])
    base = costs([r.reference_cost_usd for r in requests])
    return PhaseSummary(
        name=name,
        requests=n,
        first_position=requests[0].position if n else None,
        last_position=requests[-1].position if n else None,
        quality=_mean([r.score for r in requests]),
        reference_quality=_mean([r.reference_score for r in requests]),
        cost_usd=None if cost is None else float(cost.sum()),
        reference_cost_usd=None if base is None else float(base.sum()),
        cost_share=None if cost is None or base is None else ratio_of_means(cost, base),
        regret=realised_risk(
            sum(r.is_unacceptable(facts.margin) for r in covered), len(covered), alpha=facts.alpha
        ),
        opted_out=sum(r.opted_out for r in requests),
        unlabelled=sum(not r.can_be_judged for r in covered),
        experts=_experts(requests),
        shares=_shares(requests) if n else None,
        baselines=_baselines(requests, facts),
        hindsight=best_in_hindsight(
            requests, certified, reference=facts.reference, alpha=facts.alpha, margin=facts.margin
        ),
    )


def costs(values: Sequence[float | None]) -> FloatArray | None:
    """Return float64[n]; None without any, and as soon as one is unknown."""
    known = [v for v in values if v is not None]
    return np.asarray(known, np.float64) if known and len(known) == len(values) else None


def _mean(values: Sequence[float]) -> float | None:
    return float(np.mean(values)) if values else None


def _experts(requests: Sequence[ServedRequest]) -> tuple[ExpertShare, ...]:
    served = Counter(r.expert for r in requests)
    return tuple(
        ExpertShare(expert=name, requests=count, share=count / len(requests))
        for name, count in sorted(served.items(), key=lambda item: (-item[1], item[0]))
    )


def _shares(requests: Sequence[ServedRequest]) -> Shares:
    n = len(requests)
    reasons = Counter(r.reason for r in requests)
    return Shares(
        safe_mode=sum(reasons[reason] for reason in SAFE_MODE) / n,
        no_candidate=reasons[Reason.NO_CANDIDATE] / n,
        explored=reasons[Reason.EXPLORED] / n,
        ramp=reasons[Reason.RAMP] / n,
        pinned=reasons[Reason.PINNED] / n,
        not_routed=(reasons[Reason.OBSERVED] + reasons[Reason.OFF]) / n,
        comparator_asked=sum(r.comparator_probability is not None for r in requests) / n,
        comparator_decided=reasons[Reason.COMPARATOR] / n,
        degraded=sum(r.degraded for r in requests) / n,
        sampled=sum(r.is_sampled for r in requests) / n,
    )


def _baselines(requests: Sequence[ServedRequest], facts: StreamFacts) -> tuple[Baseline, ...]:
    names = sorted({name for r in requests for name in r.answers})
    mean_costs = {name: _mean_cost(requests, name) for name in names}
    known = {name: cost for name, cost in mean_costs.items() if cost is not None}
    cheapest = min(known, key=lambda name: known[name], default=None)
    return tuple(_baseline(name, requests, facts, is_cheapest=name == cheapest) for name in names)


def _mean_cost(requests: Sequence[ServedRequest], name: ExpertId) -> float | None:
    found = costs([r.answers[name].cost_usd for r in requests if name in r.answers])
    return None if found is None else float(found.mean())


def _baseline(
    name: ExpertId, requests: Sequence[ServedRequest], facts: StreamFacts, *, is_cheapest: bool
) -> Baseline:
    answered = [r for r in requests if name in r.answers]
    cost = costs([r.answers[name].cost_usd for r in answered])
    base = costs([r.reference_cost_usd for r in answered])
    wrong = sum(
        is_worse(r.answers[name].score, r.reference_score, margin=facts.margin) for r in answered
    )
    return Baseline(
        expert=name,
        is_reference=name == facts.reference,
        is_cheapest=is_cheapest,
        requests=len(answered),
        quality=float(np.mean([r.answers[name].score for r in answered])),
        regret=wilson(wrong, len(answered)),
        cost_usd=None if cost is None else float(cost.mean()),
        cost_share=None if cost is None or base is None else ratio_of_means(cost, base),
    )
