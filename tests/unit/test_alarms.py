"""Baselines and alarms of one expert: exact limits, one alarm a drop, and no deafness after one."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from scipy.stats import beta  # type: ignore[import-untyped]  # ships no stubs

from online.learn import JudgedRequest
from recalibrate.alarms import BASELINE_CONFIDENCE, regressions, with_baselines
from store.records import (
    Alert,
    Baseline,
    Expert,
    ExpertStatus,
)
from tests.factories import CHEAP, NOON, STRONG, expert, sampled

CYCLE = 25


def rows_of(outcomes: list[int]) -> list[JudgedRequest]:
    return [
        JudgedRequest(request=sampled(n), outcomes={CHEAP: y})
        for n, y in enumerate(outcomes, start=1)
    ]


def draws(rng: np.random.Generator, chance: float, count: int) -> list[int]:
    return [int(x) for x in rng.random(count) < chance]


def watched(outcomes: list[int], *, certified_at: int) -> tuple[Expert, list[tuple[int, Alert]]]:
    """Cycle after cycle over growing labels; return the expert and (label, alert) pairs."""
    rows = rows_of(outcomes)
    known = expert(status=ExpertStatus.CERTIFIED)
    found: list[tuple[int, Alert]] = []
    for end in range(certified_at, len(rows) + 1, CYCLE):
        (known,) = with_baselines([known], rows[:end], reference=STRONG)
        (known,), alerts = regressions([known], rows[:end], now=NOON)
        found += [(end, alert) for alert in alerts]
    return known, found


def test_a_baseline_is_the_exact_lower_limit_of_the_share() -> None:
    outcomes = [1] * 90 + [0] * 30
    known, alerts = watched(outcomes, certified_at=120)
    limit = beta.ppf(1.0 - BASELINE_CONFIDENCE, 90, 31)
    assert known.baseline.floor == pytest.approx(limit)
    assert (known.baseline.seq, known.baseline.reference) == (120, STRONG)
    assert alerts == []


def test_too_few_labels_make_no_baseline() -> None:
    assert watched([1] * 99, certified_at=99)[0].baseline == Baseline()


def test_one_drop_is_alarmed_once_and_the_test_goes_on_at_the_new_level() -> None:
    rng = np.random.default_rng(0)
    once = 0
    for _ in range(20):
        outcomes = draws(rng, 0.79, 350) + draws(rng, 0.47, 800)
        known, alerts = watched(outcomes, certified_at=150)
        assert alerts
        assert alerts[0][0] > 350
        once += len(alerts) == 1
        assert known.baseline.floor is not None
        assert known.baseline.floor < 0.55
    assert once >= 18


def test_after_a_short_outage_a_later_drop_is_heard() -> None:
    rng = np.random.default_rng(1)
    for _ in range(10):
        outcomes = draws(rng, 0.8, 300) + [0] * 25 + draws(rng, 0.8, 300) + draws(rng, 0.3, 300)
        _, alerts = watched(outcomes, certified_at=150)
        assert any(end > 625 for end, _ in alerts)


def test_an_expert_that_is_not_certified_is_not_watched() -> None:
    rows = rows_of([1] * 200 + [0] * 200)
    certified = expert(status=ExpertStatus.CERTIFIED)
    (known,) = with_baselines([certified], rows[:200], reference=STRONG)
    paused = replace(known, status=ExpertStatus.PAUSED)
    (paused,) = with_baselines([paused], rows, reference=STRONG)
    assert regressions([paused], rows, now=NOON) == ([paused], [])
    assert len(regressions([known], rows, now=NOON)[1]) == 1
