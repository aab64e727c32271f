"""The report's interval and verdicts, over simulated periods whose truth is known.

A period's truth is the share of *its* requests with an unacceptable answer, the unjudged ones too.
"""

from __future__ import annotations

from functools import cache

import numpy as np
import pytest

from recalibrate.realised import Verdict
from recalibrate.served_risk import ServedRisk, served_risk, with_holm
from store.records import ExpertId, Reason
from store.served import ServedGroup

pytestmark = pytest.mark.slow

ALPHA = 0.10
PERIODS = 1_000
CHEAP, REFERENCE = ExpertId("cheap"), ExpertId("reference")
RATES = {"constant": (0.1, 0.1), "lowered": (0.2, 0.05)}
"""π in the first and the second half of a period."""


def period(
    rng: np.random.Generator,
    *,
    requests: int,
    risk: float,
    rates: tuple[float, float],
    unreadable_share: float = 0.0,
) -> tuple[list[ServedGroup], float]:
    """Return a period's counts and its true risk; cheap answers get worse in its second half."""
    share = rng.uniform(0.3, 0.9)
    groups, lost = [], 0
    for pi, factor in zip(rates, (0.7, 1.3), strict=True):
        half = requests // 2
        cheap = int(rng.binomial(half, share))
        bad = rng.random(cheap) < factor * risk / share
        judged = rng.random(cheap) < pi
        unreadable = judged & (rng.random(cheap) < unreadable_share)
        read = judged & ~unreadable
        lost += int(bad.sum())
        groups += [
            group(CHEAP, cheap, pi, int((read & ~bad).sum()), int((read & bad).sum()), unreadable),
            group(REFERENCE, half - cheap, pi, 0, 0, np.zeros(0)),
        ]
    return groups, lost / (2 * half)


def group(
    expert: ExpertId, requests: int, pi: float, good: int, bad: int, unreadable: np.ndarray
) -> ServedGroup:
    return ServedGroup(
        tenant="default",
        category="coding",
        expert=expert,
        reference=REFERENCE,
        reason=Reason.ROUTED,
        degraded=False,
        inclusion_probability=pi,
        risk_target=ALPHA,
        requests=requests,
        sampled=good + bad + int(unreadable.sum()),
        acceptable=good,
        unacceptable=bad,
        unreadable=int(unreadable.sum()),
    )


@cache
def simulated(
    kind: str, requests: int, risk: float, unreadable: float = 0.0
) -> list[tuple[ServedRisk, float]]:
    rng = np.random.default_rng((7, requests, round(1e3 * risk)))
    drawn = [
        period(rng, requests=requests, risk=risk, rates=RATES[kind], unreadable_share=unreadable)
        for _ in range(PERIODS)
    ]
    return [(served_risk(groups, alpha=ALPHA), truth) for groups, truth in drawn]


@pytest.mark.parametrize("kind", RATES)
@pytest.mark.parametrize("requests", [1_000, 20_000])
def test_the_interval_covers_the_truth_and_is_no_wider_than_it_must(
    kind: str, requests: int
) -> None:
    covered = coverage(kind, requests)
    error = 3.0 * np.sqrt(0.05 * 0.95 / PERIODS)
    # A tenth of the period is judged, so its own share is known better than Wilson supposes.
    assert 0.95 - error <= covered <= 0.97 + error


def test_verdicts_that_cannot_be_read_widen_the_interval() -> None:
    assert coverage("constant", 20_000, unreadable=0.01) > coverage("constant", 20_000)


def coverage(kind: str, requests: int, *, unreadable: float = 0.0) -> float:
    covered = [
        found.rate is not None and found.rate.low <= truth <= found.rate.high
        for found, truth in simulated(kind, requests, 0.08, unreadable)
    ]
    return float(np.mean(covered))


def test_without_strata_a_rate_that_changed_misleads() -> None:
    """The negative control: the same labels as if π had been the same."""
    covered = []
    rng = np.random.default_rng(8)
    for _ in range(300):
        groups, truth = period(rng, requests=20_000, risk=0.08, rates=RATES["lowered"])
        blind = [
            ServedGroup(**{n: getattr(g, n) for n in g.__slots__} | {"inclusion_probability": 0.1})
            for g in groups
        ]
        found = served_risk(blind, alpha=ALPHA).rate
        assert found is not None
        covered.append(found.low <= truth <= found.high)
    assert np.mean(covered) < 0.8


def test_a_risk_well_above_the_target_is_called_not_held() -> None:
    """In at least nine of ten periods with 500 labels whose true risk is above α + .05."""
    looked_at = [
        found.verdict is Verdict.NOT_HELD
        for found, truth in simulated("constant", 10_000, 0.17)
        if truth > ALPHA + 0.05 and found.judged >= 500
    ]
    assert len(looked_at) > 300
    assert np.mean(looked_at) >= 0.9


def test_a_period_that_holds_is_hardly_ever_called_not_held() -> None:
    wrong = [
        found.verdict is Verdict.NOT_HELD
        for found, truth in simulated("constant", 20_000, ALPHA)
        if truth <= ALPHA
    ]
    assert np.mean(wrong) <= 0.025 + 3.0 * np.sqrt(0.025 * 0.975 / len(wrong))


def test_among_many_segments_that_hold_one_is_seldom_called_not_held() -> None:
    """Holm over 20 segments; each on its own says so of one report in three."""
    rng = np.random.default_rng(9)
    alone, together = [], []
    for _ in range(200):
        drawn = [
            period(rng, requests=4_000, risk=ALPHA * 0.98, rates=RATES["constant"])
            for _ in range(20)
        ]
        found = [served_risk(groups, alpha=ALPHA) for groups, truth in drawn if truth <= ALPHA]
        alone.append(any(one.verdict is Verdict.NOT_HELD for one in found))
        together.append(Verdict.NOT_HELD in with_holm(found))
    assert np.mean(alone) > 0.05
    assert np.mean(together) <= 0.025 + 3.0 * np.sqrt(0.025 * 0.975 / 200)
