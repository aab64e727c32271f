"""How many labels a target needs: the plan against the rule in force itself."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recalibrate.controller import Losses, Threshold, Window
from recalibrate.planner import LabelPlan, Prices, plan, smallest_alpha
from recalibrate.rolling import FLOOR, RollingCrc, charged
from recalibrate.supply import labels_to_floor
from store.policy import PolicySettings
from store.records import Reason
from tests.factories import settings

FREE = Prices(verdicts_usd=0.0, shadow_usd=0.0)
NO_FADING: dict[str, Any] = {"label_discount": 1.0, "age_half_life_requests": 1_000_000_000}


def planned(*, prices: Prices = FREE, **changes: Any) -> LabelPlan:
    return plan(settings(**changes), traffic_per_day=10_000, prices=prices)


def served(n: int, policy: PolicySettings, *, losses: int = 0) -> Threshold:
    """Return λ by the rule in force after ``n`` labels, of which so many would be lost at any λ."""
    floor = np.zeros(n)
    floor[:losses] = 1.0
    window = Window(
        losses=Losses(
            floor=floor,
            points=np.full((n, 1), -np.inf),
            drops=np.zeros((n, 1)),
            is_binary=False,
        ),
        inclusion_probability=np.full(n, policy.label_rate),
        requests_ago=np.arange(n - 1, -1, -1) / policy.label_rate,
        minimum_inclusion=policy.label_rate,
    )
    return RollingCrc(
        alpha=charged(policy.alpha, policy.ramp_quota),
        label_discount=policy.label_discount,
        age_half_life_requests=policy.age_half_life_requests,
    ).threshold(window)


@pytest.mark.parametrize(
    "changes", [{}, {"alpha": 0.017}, {"alpha": 0.018, "label_rate": 0.2}, {"alpha": 0.3}]
)
def test_one_label_fewer_and_the_rule_stays_at_safe(changes: dict[str, float]) -> None:
    policy = settings(**changes)
    labels = plan(policy, traffic_per_day=1_000, prices=FREE).labels_to_alpha
    assert labels is not None
    assert served(labels - 1, policy).safe_reason is not None
    assert served(labels, policy).safe_reason is None


@given(st.integers(101, 2_000), st.floats(0.0, 0.01))
def test_the_smallest_target_is_where_the_rule_ends(n: int, quota: float) -> None:
    least = smallest_alpha(float(n), quota=quota)
    policy = settings(**NO_FADING, ramp_quota=quota, alpha=least * 1.001)
    assert served(n, policy).safe_reason is None
    tighter = settings(**NO_FADING, ramp_quota=quota, alpha=quota + (least - quota) * 0.999)
    assert served(n, tighter).safe_reason is Reason.SAFE_INFEASIBLE


def test_what_is_tolerated_is_what_the_rule_tolerates() -> None:
    policy = settings(**NO_FADING)
    found = plan(policy, traffic_per_day=1_000, prices=FREE)
    n = found.labels_needed
    assert n is not None
    assert found.tolerated is not None
    lost = int(found.tolerated * n)
    assert served(n, policy, losses=lost).safe_reason is None
    assert served(n, policy, losses=lost + 1).safe_reason is Reason.SAFE_INFEASIBLE


def test_labels_days_and_dollars_by_hand() -> None:
    found = planned(label_rate=0.05, prices=Prices(verdicts_usd=0.01, shadow_usd=0.02))
    assert (found.judged_per_day, found.limited_by) == (500, "label_rate")
    assert (found.labels_to_learn, found.labels_needed) == (500, 500)
    assert found.labels_to_floor == labels_to_floor(0.0, policy=settings(label_rate=0.05))
    assert found.days == pytest.approx(1.0)
    assert found.usd == pytest.approx(15.0)
    assert found.usd_per_day == pytest.approx(15.0)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("judge_budget_per_day", {"judge_budget_per_day": 100}),
        ("judge_usd_per_day", {"judge_usd_per_day": 1.0}),
        ("shadow_usd_per_day", {"shadow_usd_per_day": 2.0}),
    ],
)
def test_a_budget_bounds_what_is_judged_and_slows_the_plan(
    name: str, changes: dict[str, Any]
) -> None:
    prices = Prices(verdicts_usd=0.01, shadow_usd=0.02)
    found = planned(label_rate=0.05, prices=prices, **changes)
    assert found.limited_by == name
    assert found.judged_per_day == pytest.approx(100)
    assert found.days is not None
    assert found.days >= 5.0


def test_a_target_that_the_memory_cannot_hold_is_never_reached() -> None:
    found = planned(alpha=0.012, label_rate=0.05)
    assert (found.labels_needed, found.days, found.usd) == (None, None, None)
    assert found.labels_to_floor is not None
    assert found.alpha < found.smallest_alpha_ever
    assert found.least_label_rate is None
    forgetful = planned(label_rate=0.006)
    assert forgetful.labels_needed is None
    assert forgetful.least_label_rate is not None
    assert planned(label_rate=forgetful.least_label_rate * 0.99).labels_needed is None
    assert planned(label_rate=forgetful.least_label_rate * 1.01).labels_needed is not None


def test_nothing_judged_is_never() -> None:
    found = planned(judge_budget_per_day=0)
    assert (found.judged_per_day, found.labels_needed, found.labels_to_floor) == (0, None, None)


def test_a_memory_without_end_has_no_least_target_but_the_quota() -> None:
    found = planned(**NO_FADING)
    assert found.labels_to_floor == FLOOR + 1, "the half-life is long, not endless"
    assert found.smallest_alpha_ever == pytest.approx(0.01, abs=1e-6)
