"""The betting test on one expert: it stays quiet under the null and hears a drop."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from recalibrate import drift
from recalibrate.drift import THRESHOLD, TOLERANCE, evidence, evidence_of_regression
from store.records import FloatArray


def test_the_process_by_hand() -> None:
    """Baseline .55, so ε = .5: bets b = share / .5; two losses, then an acceptable answer."""
    bets = np.array([0.1, 0.2, 0.35, 0.5, 0.7]) / 0.5
    first = (1.0 + bets * 0.5) * 1.0
    second = (1.0 + bets * 0.5) * (first + 1.0)
    third = (1.0 - bets * 0.5) * (second + 1.0)
    assert evidence_of_regression([0], baseline_floor=0.55) == pytest.approx(first.mean())
    assert evidence_of_regression([0, 0], baseline_floor=0.55) == pytest.approx(second.mean())
    assert third.mean() < second.mean()
    assert evidence_of_regression([0, 0, 1], baseline_floor=0.55) == pytest.approx(second.mean())


def test_without_outcomes_there_is_no_evidence() -> None:
    assert evidence_of_regression([], baseline_floor=0.5) == 0.0


@given(st.lists(st.integers(0, 1), max_size=60), st.floats(0.0, 1.0))
def test_a_failure_instead_of_a_success_never_weakens_the_evidence(
    outcomes: list[int], baseline: float
) -> None:
    worse = [0] * len(outcomes)
    assert evidence_of_regression(worse, baseline_floor=baseline) >= evidence_of_regression(
        outcomes, baseline_floor=baseline
    )


@given(st.floats(0.0, 1.0))
def test_every_bet_pays_at_most_its_stake_on_average_under_the_null(baseline: float) -> None:
    """E[E_t] ≤ 1 when P(unacceptable) = ε exactly: the e-detector's one condition."""
    tolerated = min(1.0 - baseline + TOLERANCE, 1.0)
    for share in drift._BETS:
        bet = share / tolerated
        assert 1.0 - bet * tolerated >= 0.0
        mean = tolerated * (1.0 + bet * (1.0 - tolerated)) + (1.0 - tolerated) * (
            1.0 - bet * tolerated
        )
        assert mean == pytest.approx(1.0)


@pytest.mark.parametrize("baseline", [0.0, 1.0])
def test_extreme_baselines_are_finite(baseline: float) -> None:
    assert np.isfinite(evidence_of_regression([0, 1] * 3_000, baseline_floor=baseline))
    assert np.isfinite(evidence_of_regression([0] * 5_000, baseline_floor=baseline))


def paths(rng: np.random.Generator, acceptable: float, *shape: int, baseline: float) -> FloatArray:
    """Return the process of each run, a run a row."""
    losses = (rng.random(shape) >= acceptable).astype(np.float64)
    return evidence(losses, level=1.0 - baseline + TOLERANCE)


@pytest.mark.slow
def test_false_alarms_are_at_least_the_level_apart_on_average() -> None:
    """At the edge of the null, with A = 200 for 10,000: mean run length at least A."""
    above = paths(np.random.default_rng(0), 0.70, 600, 2_000, baseline=0.75) >= 200.0
    lengths = np.where(above.any(axis=1), above.argmax(axis=1) + 1, 2_000)
    error = float(lengths.std(ddof=1) / np.sqrt(len(lengths)))
    assert lengths.mean() >= 200.0 - 3.0 * error


def test_an_unchanged_expert_raises_no_alarm_in_a_thousand_labels() -> None:
    found = paths(np.random.default_rng(1), 0.75, 60, 1_000, baseline=0.75)
    alarms = np.count_nonzero(found.max(axis=1) >= THRESHOLD)
    assert alarms <= 60 * 1_000 / THRESHOLD + 3.0 * (60 * 1_000 / THRESHOLD) ** 0.5


@pytest.mark.slow
def test_the_demo_s_drop_is_heard_within_four_hundred_labels() -> None:
    """From .49 to .29, in at least nine runs of ten."""
    found = paths(np.random.default_rng(2), 0.29, 200, 400, baseline=0.49)
    assert np.count_nonzero(found.max(axis=1) >= THRESHOLD) >= 180


def test_runs_side_by_side_are_what_each_is_alone() -> None:
    outcomes = np.random.default_rng(3).integers(0, 2, (4, 50))
    together = evidence((1 - outcomes).astype(np.float64), level=0.5 + TOLERANCE).max(axis=1)
    alone = [evidence_of_regression(row.tolist(), baseline_floor=0.5) for row in outcomes]
    assert together == pytest.approx(alone)
