"""Realised risk of a period, from the labels of sampled traffic (promise.md section 9).

The reference's own requests are known 0. What another expert served is a Bernoulli sample with
probability π, constant within a stratum; a stratum's share has Wilson's interval, and strata are
put together by the counts of *all* their requests (square-and-add of the limits' distances: Zou and
Donner 2008, "MOVER"), so that a label rate that changed within the period biases nothing.

Departure: promise.md asks for AIPW with a betting interval where π varies. Ours takes few values (a
rate by policy, 0 when money is out), so strata need neither a predictor nor a bounded 1/π. A
sampler with a π of each request's own would need the betting interval.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import NormalDist

from recalibrate.realised import (
    CONFIDENCE,
    Interval,
    Verdict,
    labels_needed,
    verdict_of,
    wilson,
)
from store.records import OUTSIDE_PROMISE
from store.served import ServedGroup

_NORMAL = NormalDist()


@dataclass(frozen=True, slots=True, kw_only=True)
class ServedRisk:
    """Share of a period's requests with an unacceptable answer, against the target."""

    requests: int
    """Routed: neither pinned nor observed."""
    by_reference: int
    judged: int
    """Answers of other experts with a verdict or with one that could not be read."""
    unreadable: int
    waiting: int
    """Sampled answers of other experts that have no label yet."""
    uncovered: int
    """Served by other experts with no chance of a label: the promise says nothing of them, and they
    are left out."""
    rate: Interval | None
    """95 %; unreadable verdicts are acceptable at its lower end and not at its upper. None without
    requests."""
    verdict: Verdict
    labels_needed: int | None
    """Judged answers after which this same rate would decide; None: decided, or no number would."""
    excess: float
    """How far the rate lies above the target, in standard errors towards it; for Holm."""

    @property
    def covered(self) -> int:
        """Return how many requests the rate is about."""
        return self.requests - self.uncovered


@dataclass(frozen=True, slots=True)
class _Stratum:
    requests: int
    acceptable: int
    unacceptable: int
    unreadable: int

    @property
    def judged(self) -> int:
        return self.acceptable + self.unacceptable + self.unreadable


def served_risk(groups: Sequence[ServedGroup], *, alpha: float) -> ServedRisk:
    """Return the realised risk of these requests."""
    routed = [g for g in groups if g.reason not in OUTSIDE_PROMISE]
    others = [g for g in routed if g.expert != g.reference]
    covered = [g for g in others if g.inclusion_probability > 0.0]
    by_reference = sum(g.requests for g in routed if g.expert == g.reference)
    strata = _strata(covered)
    total = by_reference + sum(s.requests for s in strata)
    rate = _rate(strata, total) if total else None
    verdict = verdict_of(rate, alpha) if rate else Verdict.NOT_DECIDED
    judged = sum(s.judged for s in strata)
    needed = _needed(rate, alpha, (total - by_reference) / total) if judged and rate else None
    return ServedRisk(
        requests=sum(g.requests for g in routed),
        by_reference=by_reference,
        judged=judged,
        unreadable=sum(s.unreadable for s in strata),
        waiting=sum(g.sampled for g in covered) - judged,
        uncovered=sum(g.requests for g in others) - sum(g.requests for g in covered),
        rate=rate,
        verdict=verdict,
        labels_needed=needed if verdict is Verdict.NOT_DECIDED else None,
        excess=_excess(rate, alpha),
    )


def with_holm(found: Sequence[ServedRisk]) -> list[Verdict]:
    """Return the segments' verdicts together: of all that lie above, those that Holm lets stand.

    Looking at fifty segments, one or two are above the target by chance alone; the chance that
    *any* segment is called "not held" that holds stays under ``(1 − CONFIDENCE) / 2``.
    """
    verdicts = [one.verdict for one in found]
    order = sorted(range(len(found)), key=lambda i: -found[i].excess)
    stands = True
    for rank, i in enumerate(order):
        stands = stands and _NORMAL.cdf(-found[i].excess) <= (1.0 - CONFIDENCE) / 2 / (
            len(found) - rank
        )
        if verdicts[i] is Verdict.NOT_HELD and not stands:
            verdicts[i] = Verdict.NOT_DECIDED
    return verdicts


def _strata(groups: Sequence[ServedGroup]) -> list[_Stratum]:
    sums: dict[float, list[int]] = defaultdict(lambda: [0, 0, 0, 0])
    for g in groups:
        counts = (g.requests, g.acceptable, g.unacceptable, g.unreadable)
        sums[g.inclusion_probability] = [
            a + b for a, b in zip(sums[g.inclusion_probability], counts, strict=True)
        ]
    return [_Stratum(*counts) for counts in sums.values()]


def _rate(strata: Sequence[_Stratum], total: int) -> Interval:
    value = below = above = 0.0
    otherwise = _pooled(strata)
    for one in strata:
        share, found = one.requests / total, _share(one, otherwise=otherwise)
        value += share * found.value
        below += (share * (found.value - found.low)) ** 2
        above += (share * (found.high - found.value)) ** 2
    low, high = value - math.sqrt(below), value + math.sqrt(above)
    return Interval(value=value, low=max(low, 0.0), high=min(high, 1.0))


def _pooled(strata: Sequence[_Stratum]) -> float:
    """Return the share over all that was read; half, the middle of what is possible, of nothing."""
    readable = sum(one.acceptable + one.unacceptable for one in strata)
    return sum(one.unacceptable for one in strata) / readable if readable else 0.5


def _share(one: _Stratum, *, otherwise: float) -> Interval:
    """Return the share of unacceptable answers.

    A stratum without a label may be anything; its estimate, not its interval, is the others'.
    """
    if not one.judged:
        return Interval(value=otherwise, low=0.0, high=1.0)
    readable = one.acceptable + one.unacceptable
    return Interval(
        value=one.unacceptable / readable if readable else otherwise,
        low=wilson(one.unacceptable, one.judged).low,
        high=wilson(one.unacceptable + one.unreadable, one.judged).high,
    )


def _needed(rate: Interval, alpha: float, share: float) -> int | None:
    """Return how many labels of other experts' answers, a share of the requests, would decide."""
    among, target = rate.value / share, alpha / share
    return labels_needed(among, target) if target < 1.0 else None


def _excess(rate: Interval | None, alpha: float) -> float:
    if rate is None or rate.value <= rate.low:
        return 0.0
    z = _NORMAL.inv_cdf((1.0 + CONFIDENCE) / 2)
    return z * (rate.value - alpha) / (rate.value - rate.low)
