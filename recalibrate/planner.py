"""How many labels a risk target needs, and when they are there at a given traffic."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from recalibrate.rolling import FLOOR, charged
from recalibrate.supply import effective_after, labels_to_floor, most_effective, sampled_to_learn
from store.policy import PolicySettings

LABEL_RATE = "label_rate"


@dataclass(frozen=True, slots=True, kw_only=True)
class Prices:
    """What one judged request costs besides its served answer, in USD."""

    verdicts_usd: float
    shadow_usd: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelPlan:
    """What is to be expected; a label is a judged request."""

    alpha: float
    traffic_per_day: int
    label_rate: float
    """As planned."""
    judged_per_day: float
    limited_by: str
    """The setting that decides how many are judged: ``label_rate`` or a budget."""
    labels_to_learn: int
    """Sampled requests until experts can be scored at all."""
    labels_to_floor: int | None
    """Labels until ``FLOOR`` effective ones; None: they never come together."""
    labels_to_alpha: int | None
    """Labels until λ could leave SAFE at ``alpha`` if no answer were unacceptable; None: never."""
    labels_needed: int | None
    """The most of these: before it, the reference serves everything."""
    days: float | None
    """Until then; None: never."""
    usd: float | None
    """Until then."""
    usd_per_day: float
    effective_labels: float
    """At ``labels_needed``, of at most ``most_effective_labels``; 0: never."""
    most_effective_labels: float | None
    """However long it runs; None: without end."""
    smallest_alpha: float | None
    """The smallest target that could be certified at ``labels_needed``."""
    smallest_alpha_ever: float
    """The same, however long it runs."""
    tolerated: float | None
    """Share of unacceptable answers in the window, at ``labels_needed``, up to which a λ is
    admissible at ``alpha``."""
    least_label_rate: float | None
    """Below this rate of judged requests the labels never come together; None: at any rate."""


def plan(policy: PolicySettings, *, traffic_per_day: int, prices: Prices) -> LabelPlan:
    """Return the plan for the target and the label rate of ``policy``.

    Labels fade with each newer one and with the requests between them, so the rate that counts is
    the share that is really judged, budgets regarded.

    Parameters
    ----------
    traffic_per_day
        Requests a day, at least 1, spread evenly.
    """
    judged, limited_by = judged_per_day(policy, traffic_per_day=traffic_per_day, prices=prices)
    real = replace(policy, label_rate=judged / traffic_per_day)
    target = charged(policy.alpha, policy.ramp_quota)
    to_alpha = max(FLOOR, _least_effective(target))
    to_learn, most = sampled_to_learn(policy), most_effective(real)
    floor, certified = (labels_to_floor(0.0, policy=real, floor=n) for n in (FLOOR, to_alpha))
    needed = None if certified is None else max(to_learn, certified)
    if judged <= 0.0:
        needed = floor = certified = None
    have = 0.0 if needed is None else effective_after(needed, have=0.0, policy=real)
    request_usd = prices.verdicts_usd + prices.shadow_usd
    return LabelPlan(
        alpha=policy.alpha,
        traffic_per_day=traffic_per_day,
        label_rate=policy.label_rate,
        judged_per_day=judged,
        limited_by=limited_by,
        labels_to_learn=to_learn,
        labels_to_floor=floor,
        labels_to_alpha=certified,
        labels_needed=needed,
        days=None if needed is None else needed / judged,
        usd=None if needed is None else needed * request_usd,
        usd_per_day=judged * request_usd,
        effective_labels=have,
        most_effective_labels=most if math.isfinite(most) else None,
        smallest_alpha=smallest_alpha(have, quota=policy.ramp_quota) if have else None,
        smallest_alpha_ever=smallest_alpha(most, quota=policy.ramp_quota),
        tolerated=max(0.0, target - (1.0 - target) / have) if have else None,
        least_label_rate=_least_rate(policy, to_alpha),
    )


def judged_per_day(
    policy: PolicySettings, *, traffic_per_day: int, prices: Prices
) -> tuple[float, str]:
    """Return how many requests a day are judged, and the setting that decides it."""
    bounds = {
        LABEL_RATE: policy.label_rate * traffic_per_day,
        "judge_budget_per_day": float(policy.judge_budget_per_day),
    }
    if prices.verdicts_usd > 0.0:
        bounds["judge_usd_per_day"] = policy.judge_usd_per_day / prices.verdicts_usd
    if prices.shadow_usd > 0.0:
        bounds["shadow_usd_per_day"] = policy.shadow_usd_per_day / prices.shadow_usd
    name = min(bounds, key=lambda one: bounds[one])
    return bounds[name], name


def smallest_alpha(effective: float, *, quota: float) -> float:
    """Return the smallest target that conformal risk control can certify with uniform sampling.

    With no loss at all its corrected risk is ``1 / (n + 1)`` (recalibrate/crc.py; the weights sum
    to the effective labels, the next request's is 1); what ramps serve comes on top (promise.md
    section 4).
    """
    return quota + (1.0 - quota) / (effective + 1.0)


def _least_effective(target: float) -> float:
    """Return the effective labels below which no target of this size can be certified."""
    return 1.0 / target - 1.0


def _least_rate(policy: PolicySettings, effective: float) -> float | None:
    """Return the rate at which there are never more than ``effective``; None if at none."""
    halves = math.log2(policy.label_discount / (1.0 - 1.0 / effective))
    rate = 1.0 / (policy.age_half_life_requests * halves) if halves > 0.0 else math.inf
    return rate if rate < 1.0 else None
